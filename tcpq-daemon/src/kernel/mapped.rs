//! An array of the kernel side as memory (`BPF_F_MMAPABLE`, since Linux 5.5): read and cleared
//! without a system call. While one on a map runs, the kernel skips kprobe programs on its CPU.

use std::{io, os::fd::AsFd as _, ptr};

use aya::maps::{Array, IterableMap as _, MapData};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use zerocopy::{FromBytes, IntoBytes};

/// A map's values are written a word at a time, and read so.
type Word = u64;

/// The beginning of an array that programs write to.
pub(super) struct Mapped<T: aya::Pod> {
    array: Array<MapData, T>,
    /// Values in all.
    capacity: usize,
    /// Where the first ones are; null: nowhere yet.
    base: *mut Word,
    /// How many of them. Mapped pages count as the daemon's own memory, used or not: hence no
    /// more than are in use.
    window: usize,
}

// SAFETY: the memory is the kernel's and stays where it is; only `&mut self` moves the window.
#[expect(unsafe_code, reason = "a raw pointer is not Send")]
unsafe impl<T: aya::Pod> Send for Mapped<T> {}

impl<T: FromBytes + IntoBytes + aya::Pod> Mapped<T> {
    const WORDS: usize = size_of::<T>() / size_of::<Word>();
    const WHOLE: () = assert!(size_of::<T>().is_multiple_of(size_of::<Word>()));

    pub(super) fn new(array: Array<MapData, T>) -> io::Result<Self> {
        let () = Self::WHOLE;
        let capacity = usize::try_from(array.len()).map_err(io::Error::other)?;
        Ok(Self { array, capacity, base: ptr::null_mut(), window: 0 })
    }

    /// Values in all.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes the first `wanted` values readable, as far as there are so many.
    pub(super) fn reach(&mut self, wanted: usize) -> io::Result<()> {
        let wanted = wanted.min(self.capacity);
        if wanted <= self.window {
            return Ok(());
        }
        // In powers of two: listeners come one by one.
        let wanted = wanted.next_power_of_two().min(self.capacity);
        let bytes = wanted * size_of::<T>();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        #[expect(unsafe_code, reason = "aya has no call for this")]
        let base = unsafe {
            mmap(ptr::null_mut(), bytes, access, MapFlags::SHARED, self.array.map().fd().as_fd(), 0)
        }?;
        self.unmap();
        self.base = base.cast();
        self.window = wanted;
        Ok(())
    }

    /// A value as it is now, each word of it whole; `None`: beyond what is mapped.
    pub(super) fn read(&self, index: usize) -> Option<T> {
        let first = self.words(index)?;
        let mut value = T::new_zeroed();
        for (word, bytes) in value.as_mut_bytes().chunks_exact_mut(size_of::<Word>()).enumerate() {
            // SAFETY: within the mapping and aligned; programs write meanwhile, hence volatile.
            #[expect(unsafe_code, reason = "memory of the kernel's")]
            let word = unsafe { ptr::read_volatile(first.add(word)) };
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        Some(value)
    }

    /// Makes a value zero, its first word first.
    pub(super) fn clear(&mut self, index: usize) {
        let Some(first) = self.words(index) else { return };
        for word in 0..Self::WORDS {
            // SAFETY: as in `read`.
            #[expect(unsafe_code, reason = "memory of the kernel's")]
            unsafe {
                ptr::write_volatile(first.add(word), 0);
            }
        }
    }

    fn words(&self, index: usize) -> Option<*mut Word> {
        if index >= self.window {
            return None;
        }
        // SAFETY: within the mapping.
        #[expect(unsafe_code, reason = "memory of the kernel's")]
        Some(unsafe { self.base.add(index * Self::WORDS) })
    }
}

impl<T: aya::Pod> Mapped<T> {
    fn unmap(&mut self) {
        if self.base.is_null() {
            return;
        }
        // SAFETY: what was mapped, as long as it was; no reference into it is ever made.
        #[expect(unsafe_code, reason = "aya has no call for this")]
        let gone = unsafe { munmap(self.base.cast(), self.window * size_of::<T>()) };
        debug_assert!(gone.is_ok(), "{gone:?}");
        self.base = ptr::null_mut();
        self.window = 0;
    }
}

impl<T: aya::Pod> Drop for Mapped<T> {
    fn drop(&mut self) {
        self.unmap();
    }
}
