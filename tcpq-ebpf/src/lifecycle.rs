//! Listeners come and go: who is tracked, from when, and what is kept at the end.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tcpq_common::{
    histogram::Histograms,
    listener::{End, Life, Listener, ListenerKey, Origin, Retired},
    record::Kind,
    totals::{Loss, Totals},
};

use crate::{
    audit, emit,
    maps::{HISTOGRAMS, LAST_LIVES, LISTENERS, RETIRED, TOTALS, lose},
    read::{Client, Sock},
    task::{self, Task},
};

/// `TCP_CLOSE` of include/net/tcp_states.h.
const TCP_CLOSE: u8 = 7;
/// `BPF_NOEXIST`.
const NOEXIST: u64 = 1;
/// Not on the stack, where there is no room for it.
static NO_TOTALS: Totals = Totals::ZERO;
/// Likewise.
static NO_HISTOGRAMS: Histograms = Histograms::ZERO;
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

/// The life of the listener at `sk`, made known now if it was not; of one that has
/// closed, its last life. All zero: there was none.
#[inline(always)]
pub(crate) fn life(sk: Sock, pending: Pending) -> Life {
    let mut found = LISTENERS.get_ptr_mut(sk.0);
    if found.is_none() {
        if !sk.is_tcp_listener() {
            return last_life(sk);
        }
        track(sk, Origin::FirstEvent, pending);
        found = LISTENERS.get_ptr_mut(sk.0);
    }
    let Some(listener) = found else { return closing(sk).unwrap_or(Life::ZERO) };
    // SAFETY: a map value, valid for as long as the program runs, even if the entry is
    // deleted meanwhile (preallocated maps re-use, they do not free); its fields are
    // read and written one by one.
    unsafe {
        if (*listener).port == 0 {
            // listen() on an unbound socket enters LISTEN before it has a port.
            (*listener).port = sk.port().unwrap_or(0);
        }
        Life { born_ns: (*listener).born_ns, netns_id: (*listener).netns_id }
    }
}

/// The totals of a closed listener stay until nothing can be on its way to it: an event
/// that was on its way during the close finds them.
#[inline(always)]
pub(crate) fn last_life(sk: Sock) -> Life {
    match LAST_LIVES.get_ptr(sk.0) {
        // SAFETY: as in `life`; a concurrent close of the same socket is its next life.
        Some(life) => unsafe { Life { born_ns: (*life).born_ns, netns_id: (*life).netns_id } },
        None => {
            lose(Loss::Late);
            Life::ZERO
        }
    }
}

/// The life of a listener that has closed, of which the kernel says still that it listens: it
/// raises the tracepoint before it stores the state. A new life would have been opened, and be
/// known.
#[inline(always)]
fn closing(sk: Sock) -> Option<Life> {
    let life = LAST_LIVES.get_ptr(sk.0)?;
    // SAFETY: as in `life`.
    let life = unsafe { Life { born_ns: (*life).born_ns, netns_id: (*life).netns_id } };
    RETIRED.get_ptr(ListenerKey { sk: sk.0, born_ns: life.born_ns }).map(|_| life)
}

/// Makes `sk` known; what is known already stays as it is.
#[inline(always)]
pub(crate) fn track(sk: Sock, origin: Origin, pending: Pending) {
    if LISTENERS.get_ptr(sk.0).is_some() {
        return;
    }
    if origin != Origin::Opened && closing(sk).is_some() {
        return;
    }
    let Some(mut fresh) = describe(sk, origin, pending) else {
        lose(Loss::Unreadable);
        return;
    };
    if origin == Origin::Opened {
        note_opener(&mut fresh);
    }
    // Totals first: who finds the listener must find them.
    let key = ListenerKey { sk: sk.0, born_ns: fresh.born_ns };
    audit::begin(fresh.netns_id, sk.net(), origin == Origin::Opened);
    if TOTALS.insert(key, &NO_TOTALS, NOEXIST).is_err() {
        lose(Loss::ListenersFull);
        return;
    }
    if HISTOGRAMS.insert(key, &NO_HISTOGRAMS, NOEXIST).is_err() {
        lose(Loss::HistogramsFull);
    }
    if let Err(error) = LISTENERS.insert(sk.0, fresh, NOEXIST) {
        // Another CPU was faster, or there is no room.
        if error != EEXIST {
            lose(Loss::ListenersFull);
        }
        if TOTALS.remove(key).is_err() {
            lose(Loss::TotalsMissing);
        }
        // If there was no room for it, that has been counted.
        let _ = HISTOGRAMS.remove(key);
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
    let life = Life { born_ns: retired.listener.born_ns, netns_id: retired.listener.netns_id };
    if LAST_LIVES.insert(sk.0, life, 0).is_err() {
        lose(Loss::Late);
    }
    if LISTENERS.remove(sk.0).is_err() {
        lose(Loss::Late);
    }
}
