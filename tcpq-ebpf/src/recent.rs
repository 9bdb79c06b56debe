//! Where each CPU has found listeners lately: most events are a listener's that had one just
//! before, and comparing two numbers is a tenth of a look-up in a hash table.

use core::arch::asm;

use crate::{
    count,
    maps::{GENERATION, RECENT, this_cpu},
    read::Sock,
};

/// Listeners that each CPU remembers: a power of two.
const PER_CPU: usize = 16;

/// What one CPU remembers.
#[repr(C)]
pub(crate) struct Recents {
    /// Where an address becomes a number, see [`Place::of`].
    address: u64,
    listeners: [Recent; PER_CPU],
}

/// One of them. What is true of it is true as long as no listener has come or gone since.
#[repr(C)]
struct Recent {
    sk: u64,
    /// The generation in which it was found, above its slot: one word, so that a program that
    /// interrupts another one sees both of one time.
    found: u64,
}

/// Where a listener would be remembered on this CPU.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    entry: *mut Recent,
    /// Read before anything is looked up.
    generation: u32,
}

impl Place {
    #[inline(always)]
    pub(crate) fn of(sk: Sock) -> Option<Self> {
        let generation = GENERATION.get_ptr(0)?;
        let recents = RECENT.get_ptr_mut(this_cpu())?;
        // SAFETY: integers of map values, and a projection within one. A program that interrupts
        // this one may leave its own address here: then its entry is looked at, and not found
        // to be this socket's.
        unsafe {
            // The verifier lets nobody compute with what it knows to be a socket's address. What
            // has been through a map is a number to it.
            core::ptr::write_volatile(&raw mut (*recents).address, sk.0);
            let address = core::ptr::read_volatile(&raw const (*recents).address);
            // Of an address of a slab's object, the highest bits of its product with 2^64 divided
            // by the golden ratio (Knuth, The Art of Computer Programming, 6.4).
            let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PER_CPU.ilog2());
            Some(Self {
                entry: (&raw mut (*recents).listeners).cast::<Recent>().add(hash as usize),
                generation: core::ptr::read_volatile(generation) as u32,
            })
        }
    }

    /// The slot of the listener at `sk`, if it was found here in this generation.
    #[inline(always)]
    pub(crate) fn slot(self, sk: Sock) -> Option<u32> {
        // SAFETY: whole integers of a map value; a program that has interrupted this one may
        // write them.
        let (at, found) = unsafe {
            (
                core::ptr::read_volatile(&raw const (*self.entry).sk),
                core::ptr::read_volatile(&raw const (*self.entry).found),
            )
        };
        let slot = found as u32;
        let is_it = at == sk.0 && found >> 32 == u64::from(self.generation);
        // If the two words are not of one listener, neither is its tenant.
        (is_it && count::belongs(slot, sk)).then_some(slot)
    }

    /// Remembers where the listener at `sk` was found.
    #[inline(always)]
    pub(crate) fn note(self, sk: Sock, slot: u32) {
        // SAFETY: as in `slot`.
        unsafe {
            core::ptr::write_volatile(&raw mut (*self.entry).sk, sk.0);
            core::ptr::write_volatile(
                &raw mut (*self.entry).found,
                u64::from(self.generation) << 32 | u64::from(slot),
            );
        }
    }
}

/// A listener is about to come, or has gone: nothing that was found before holds.
#[inline(always)]
pub(crate) fn forget_all() {
    let Some(generation) = GENERATION.get_ptr_mut(0) else { return };
    // SAFETY: an aligned integer of a map value.
    unsafe {
        asm!("lock *(u64 *)({} + 0) += {}", in(reg) generation, in(reg) 1_u64, options(nostack));
    }
}
