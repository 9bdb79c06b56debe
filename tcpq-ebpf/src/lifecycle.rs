//! Listeners come and go: who is tracked, from when, and what is kept at the end.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tcpq_common::{
    listener::{End, Life, Listener, ListenerKey, Origin, Retired},
    record::Kind,
    totals::Loss,
};

use crate::{
    audit, count, emit,
    maps::{FREE_SLOTS, HISTOGRAMS, LAST_LIVES, LISTENERS, RETIRED, TENANTS, lose},
    mib::Mib,
    read::{Client, Sock},
    recent::{self, Place},
    task::{self, Task},
};

/// `TCP_CLOSE` of include/net/tcp_states.h.
const TCP_CLOSE: u8 = 7;
/// `BPF_NOEXIST`.
const NOEXIST: u64 = 1;
/// Stands for the slot of a listener that is not known. Not an `Option`, see [`Sock::net`].
pub(crate) const NO_SLOT: u32 = u32::MAX;
/// `-EEXIST`.
const EEXIST: i32 = -17;

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

/// The slot of the listener at `sk`, made known now if it was not; of one that has closed, that
/// of its last life.
#[inline(always)]
pub(crate) fn slot(sk: Sock, pending: Pending) -> u32 {
    let Some(place) = Place::of(sk) else { return NO_SLOT };
    if let Some(slot) = place.slot(sk) {
        return slot;
    }
    let mut found = LISTENERS.get_ptr_mut(sk.0);
    if found.is_none() {
        if !sk.is_tcp_listener() {
            return last_slot(sk);
        }
        track(sk, Origin::FirstEvent, pending);
        found = LISTENERS.get_ptr_mut(sk.0);
    }
    let Some(listener) = found else { return closing(sk) };
    // SAFETY: a map value, valid for as long as the program runs, even if the entry is
    // deleted meanwhile (preallocated maps re-use, they do not free); its fields are
    // read and written one by one.
    let (slot, port) = unsafe {
        if (*listener).port == 0 {
            // listen() on an unbound socket enters LISTEN before it has a port.
            (*listener).port = sk.port_or_zero();
        }
        ((*listener).slot, (*listener).port)
    };
    if count::belongs(slot, sk) {
        if port != 0 {
            place.note(sk, slot);
        }
        return slot;
    }
    // The listener closed between finding its entry and reading it, and the entry was another
    // one's by then. Its last life was noted before.
    last_slot(sk)
}

/// The slot of a closed listener stays its own until nothing can be on its way to it: an event
/// that was on its way during the close finds it.
#[inline(always)]
fn last_slot(sk: Sock) -> u32 {
    let Some(life) = LAST_LIVES.get_ptr(sk.0) else {
        lose(Loss::Late);
        return NO_SLOT;
    };
    // SAFETY: fields of a map value; a concurrent close of the same socket is its next life.
    let (slot, born_ns) = unsafe { ((*life).slot, (*life).born_ns) };
    let is_its_own =
        count::tenant(slot).is_some_and(|tenant| tenant.sk == sk.0 && tenant.born_ns == born_ns);
    if !is_its_own {
        lose(Loss::TotalsMissing);
        return NO_SLOT;
    }
    slot
}

/// The slot of a listener that has closed, of which the kernel says still that it listens: it
/// raises the tracepoint before it stores the state. A new life would have been opened, and be
/// known.
#[inline(always)]
fn closing(sk: Sock) -> u32 {
    let Some(life) = LAST_LIVES.get_ptr(sk.0) else { return NO_SLOT };
    // SAFETY: as in `last_slot`.
    let (slot, born_ns) = unsafe { ((*life).slot, (*life).born_ns) };
    if RETIRED.get_ptr(ListenerKey { sk: sk.0, born_ns }).is_some() { slot } else { NO_SLOT }
}

/// Makes `sk` known; what is known already stays as it is.
#[inline(always)]
pub(crate) fn track(sk: Sock, origin: Origin, pending: Pending) {
    if LISTENERS.get_ptr(sk.0).is_some() {
        return;
    }
    if origin != Origin::Opened && closing(sk) != NO_SLOT {
        return;
    }
    let Some(mut fresh) = describe(sk, origin, pending) else {
        lose(Loss::Unreadable);
        return;
    };
    if origin == Origin::Opened {
        note_opener(&mut fresh);
    }
    let Ok(Some(slot)) = FREE_SLOTS.pop() else {
        lose(Loss::ListenersFull);
        return;
    };
    fresh.slot = slot;
    // First: who finds the listener must find its slot to be its own.
    move_in(sk, &fresh);
    audit::begin(fresh.netns_id, sk.net(), origin == Origin::Opened);
    if HISTOGRAMS.get_ptr(slot).is_none() {
        lose(Loss::HistogramsFull);
    }
    // Before it can be found: what was found at its address was another one.
    recent::forget_all();
    if let Err(error) = LISTENERS.insert(sk.0, fresh, NOEXIST) {
        // Another CPU was faster, or there is no room.
        if error != EEXIST {
            lose(Loss::ListenersFull);
        }
        move_out(slot);
    }
}

/// Makes a slot the listener's.
#[inline(always)]
fn move_in(sk: Sock, listener: &Listener) {
    let Some(tenant) = TENANTS.get_ptr_mut(listener.slot) else { return };
    // SAFETY: fields of a map value that nobody else writes: the slot was taken from the free
    // ones. The daemon looks at `sk` first, which is written last.
    unsafe {
        (*tenant).born_ns = listener.born_ns;
        (*tenant).netns_id = listener.netns_id;
        (*tenant).counters = Mib::base(sk.net());
        core::ptr::write_volatile(&raw mut (*tenant).sk, sk.0);
    }
}

/// Gives back a slot that nothing was counted in.
#[inline(always)]
fn move_out(slot: u32) {
    let Some(tenant) = TENANTS.get_ptr_mut(slot) else { return };
    // SAFETY: as in `move_in`.
    unsafe { core::ptr::write_volatile(&raw mut (*tenant).sk, 0) };
    if FREE_SLOTS.push(slot, 0).is_err() {
        // There is room for all of them.
        lose(Loss::ListenersFull);
    }
}

#[inline(always)]
fn describe(sk: Sock, origin: Origin, pending: Pending) -> Option<Listener> {
    let family = sk.family()?;
    // SAFETY: the helper has no arguments and cannot fail.
    let now = unsafe { bpf_ktime_get_ns() };
    Some(Listener {
        born_ns: now,
        netns_id: sk.net().id(),
        address: sk.address(family)?,
        netns: sk.net().inode(),
        drops_base: sk.drops().wrapping_sub(pending.drops),
        queued_base: if origin == Origin::Opened {
            // listen() empties it.
            0
        } else {
            sk.accept_queue_length().saturating_sub(pending.queued)
        },
        port: sk.port()?,
        family,
        origin: origin as u32,
        limit_base: sk.accept_queue_limit(),
        ..Listener::ZERO
    })
}

/// Only inside `listen()`: any other event may run on anybody's back.
#[inline(always)]
fn note_opener(listener: &mut Listener) {
    let process = Task::current().process();
    listener.opener_pid = process.number();
    listener.opener_name = process.name();
    if let Some(backlog) = task::requested_backlog() {
        listener.requested = backlog;
        listener.is_requested_known = 1;
    }
}

/// Entry of `inet_csk_listen_start`.
#[inline(always)]
pub(crate) fn listen_begins(sk: Sock) {
    if sk.is_tcp() {
        opened(sk);
    }
}

/// Its exit: a socket that could not listen has closed.
#[inline(always)]
pub(crate) fn listen_ends(sk: Sock, result: i32) {
    if result != 0 {
        closed(sk);
    }
}

/// Entry of `inet_csk_listen_stop`.
#[inline(always)]
pub(crate) fn listener_stops(sk: Sock) {
    closed(sk);
}

/// CLOSE to LISTEN.
#[inline(always)]
pub(crate) fn opened(sk: Sock) {
    // Only there if its close was missed; a new life must not inherit it.
    if let Some(listener) = known(sk) {
        let retired = Retired {
            listener,
            sk_drops: listener.drops_base,
            accept_queue_length: 0,
            syn_queue_length: 0,
            syncookies: 0,
            end: End::Missed as u32,
            is_final: 1,
        };
        retire(sk, &retired);
    }
    track(sk, Origin::Opened, Pending::NONE);
    if let Some(listener) = known(sk) {
        emit::record(&listener, sk, Kind::ListenerOpened, Client::NONE);
    }
}

/// LISTEN to CLOSE.
#[inline(always)]
pub(crate) fn closed(sk: Sock) {
    let Some(listener) = known(sk) else { return };
    emit::record(&listener, sk, Kind::ListenerClosed, Client::NONE);
    let retired = Retired {
        listener,
        sk_drops: sk.drops(),
        accept_queue_length: sk.accept_queue_length(),
        syn_queue_length: sk.syn_queue_length(),
        syncookies: sk.net().syncookies(),
        end: End::Seen as u32,
        is_final: 0,
    };
    retire(sk, &retired);
}

/// It listened, and is not destroyed yet: packets that were on their way when it closed
/// still end at it.
#[inline(always)]
pub(crate) fn is_closing(sk: Sock) -> bool {
    if sk.state() != Some(TCP_CLOSE) {
        return false;
    }
    let Some(life) = LAST_LIVES.get_ptr(sk.0) else { return false };
    // SAFETY: a field of a map value.
    let key = ListenerKey { sk: sk.0, born_ns: unsafe { (*life).born_ns } };
    // SAFETY: plain integers; only `is_final` changes, from 0 to 1.
    unsafe { RETIRED.get(key) }.is_some_and(|retired| retired.is_final == 0)
}

/// A socket is destroyed. If it listened, packets that were on their way when it closed
/// have been dropped since. Only the first time: then the address is free for others.
#[inline(always)]
pub(crate) fn destroyed(sk: Sock) {
    let Some(life) = LAST_LIVES.get_ptr(sk.0) else { return };
    // SAFETY: a field of a map value.
    let key = ListenerKey { sk: sk.0, born_ns: unsafe { (*life).born_ns } };
    let Some(retired) = RETIRED.get_ptr_mut(key) else { return };
    // SAFETY: fields of a map value; nothing else writes them after the close.
    unsafe {
        if (*retired).is_final == 0 {
            (*retired).is_final = 1;
            (*retired).sk_drops = sk.drops();
        }
    }
}

/// A copy of what is remembered of a listener.
#[inline(always)]
pub(crate) fn known(sk: Sock) -> Option<Listener> {
    entry(sk).copied()
}

/// What is remembered of a listener; another one's, should it close now.
#[inline(always)]
pub(crate) fn entry(sk: Sock) -> Option<&'static Listener> {
    // SAFETY: the value is plain integers; a concurrent write to its port is whole.
    unsafe { LISTENERS.get(sk.0) }
}

/// What is remembered of a listener that has closed.
#[inline(always)]
pub(crate) fn retired(sk: Sock) -> Option<&'static Listener> {
    let life = LAST_LIVES.get_ptr(sk.0)?;
    // SAFETY: a field of a map value.
    let key = ListenerKey { sk: sk.0, born_ns: unsafe { (*life).born_ns } };
    // SAFETY: plain integers; only `is_final` changes.
    unsafe { RETIRED.get(key) }.map(|retired| &retired.listener)
}

/// Moves a listener to `RETIRED`, where the daemon finds its last totals.
#[inline(always)]
fn retire(sk: Sock, retired: &Retired) {
    let key = ListenerKey { sk: sk.0, born_ns: retired.listener.born_ns };
    if RETIRED.insert(key, retired, 0).is_err() {
        lose(Loss::RetiredFull);
    }
    // Before the entry goes: a concurrent event must find one of the two.
    let Listener { born_ns, slot, .. } = retired.listener;
    let life = Life { born_ns, slot, reserved: 0 };
    if LAST_LIVES.insert(sk.0, life, 0).is_err() {
        lose(Loss::Late);
    }
    if LISTENERS.remove(sk.0).is_err() {
        lose(Loss::Late);
    }
    // After that: whoever still finds it notes so with a generation that is over.
    recent::forget_all();
}
