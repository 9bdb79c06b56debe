//! Listeners come and go: who is tracked, from when, and what is kept at the end.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tcpq_common::{
    listener::{Listener, ListenerKey, Origin, Retired},
    record::Kind,
    totals::{Loss, Totals},
};

use crate::{
    emit,
    maps::{LISTENERS, RETIRED, TOTALS, lose},
    read::{Client, Sock},
};

/// `BPF_NOEXIST`.
const NOEXIST: u64 = 1;

/// What an event has already added to a socket's own counters when it makes the
/// listener known: left out of the base, so that the event itself is counted.
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    pub(crate) drops: u32,
    pub(crate) queued: u32,
}

impl Pending {
    pub(crate) const NONE: Self = Self { drops: 0, queued: 0 };
}

/// The listener at `sk`, made known now if it was not.
#[inline(always)]
pub(crate) fn listener(sk: Sock, pending: Pending) -> Option<&'static mut Listener> {
    if let Some(found) = LISTENERS.get_ptr_mut(sk.0) {
        // SAFETY: map values live as long as the program; a concurrent delete
        // leaves the memory in place (preallocated).
        return Some(unsafe { &mut *found });
    }
    if !sk.is_tcp_listener() {
        lose(Loss::Late);
        return None;
    }
    track(sk, Origin::FirstEvent, pending);
    // SAFETY: as above.
    LISTENERS.get_ptr_mut(sk.0).map(|found| unsafe { &mut *found })
}

/// Makes `sk` known; what is known already stays as it is.
#[inline(always)]
pub(crate) fn track(sk: Sock, origin: Origin, pending: Pending) {
    let Some(fresh) = describe(sk, origin, pending) else {
        lose(Loss::Unreadable);
        return;
    };
    match LISTENERS.insert(sk.0, fresh, NOEXIST) {
        Ok(()) => {
            let key = ListenerKey { sk: sk.0, born_ns: fresh.born_ns };
            if TOTALS.insert(key, Totals::ZERO, NOEXIST).is_err() {
                lose(Loss::TotalsFull);
            }
        }
        // -E2BIG and -ENOMEM are losses; -EEXIST is another CPU that was faster.
        Err(error) if error != -17 => lose(Loss::ListenersFull),
        Err(_) => {}
    }
}

#[inline(always)]
fn describe(sk: Sock, origin: Origin, pending: Pending) -> Option<Listener> {
    let family = sk.family()?;
    // SAFETY: the helper has no arguments and cannot fail.
    let now = unsafe { bpf_ktime_get_ns() };
    Some(Listener {
        born_ns: now,
        address: sk.address(family)?,
        netns: sk.net().inode(),
        drops_base: sk.drops().wrapping_sub(pending.drops),
        queued_base: sk.accept_queue_length().saturating_sub(pending.queued),
        port: sk.port()?,
        family,
        origin: origin as u32,
        reserved: 0,
    })
}

/// CLOSE to LISTEN.
#[inline(always)]
pub(crate) fn opened(sk: Sock) {
    // Only there if its close was missed; a new life must not inherit it.
    if LISTENERS.get_ptr(sk.0).is_some() {
        retire(sk);
    }
    track(sk, Origin::Opened, Pending::NONE);
    if let Some(listener) = LISTENERS.get_ptr_mut(sk.0) {
        // SAFETY: as in `listener`.
        emit::record(unsafe { &mut *listener }, sk, Kind::ListenerOpened, Client::NONE);
    }
}

/// LISTEN to CLOSE.
#[inline(always)]
pub(crate) fn closed(sk: Sock) {
    if let Some(listener) = LISTENERS.get_ptr_mut(sk.0) {
        // SAFETY: as in `listener`.
        emit::record(unsafe { &mut *listener }, sk, Kind::ListenerClosed, Client::NONE);
        retire(sk);
    }
}

/// Moves a listener to `RETIRED`, where the daemon finds its last totals.
#[inline(always)]
fn retire(sk: Sock) {
    // SAFETY: the entry is only removed below, by this program.
    let Some(listener) = (unsafe { LISTENERS.get(sk.0) }) else {
        return;
    };
    let listener = *listener;
    let key = ListenerKey { sk: sk.0, born_ns: listener.born_ns };
    // SAFETY: the helper has no arguments and cannot fail.
    let closed_ns = unsafe { bpf_ktime_get_ns() };
    let retired = Retired {
        listener,
        closed_ns,
        sk_drops: sk.drops(),
        accept_queue_length: sk.accept_queue_length(),
        syncookies: sk.net().syncookies(),
        reserved: 0,
    };
    if RETIRED.insert(key, retired, 0).is_err() {
        lose(Loss::RetiredFull);
    }
    if LISTENERS.remove(sk.0).is_err() {
        lose(Loss::Late);
    }
}
