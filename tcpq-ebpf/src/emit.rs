//! Records to the daemon, each listener limited on its own.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tcpq_common::{
    listener::{Listener, ListenerKey},
    record::{Kind, Record},
    totals::Loss,
};

use crate::{
    count::{CpuTotals, field},
    globals::global,
    maps::{RECORDS, lose},
    read::{Client, Sock},
};

/// Whether a listener may send another record now; if not, that is counted.
///
/// The rate limit is a virtual scheduling algorithm (ITU-T I.371, "GCRA"), per
/// CPU: one listener under a flood cannot fill the ring for the others.
#[inline(always)]
pub(crate) fn is_within_limit(totals: CpuTotals) -> bool {
    // SAFETY: the helper has no arguments and cannot fail.
    let now = unsafe { bpf_ktime_get_ns() };
    let interval = u64::from(global!(record_interval_ns));
    let ahead = interval * u64::from(global!(record_burst));
    if totals.get(field!(limiter_tat_ns)) > now + ahead {
        totals.add(field!(records_suppressed), 1);
        return false;
    }
    totals.update(field!(limiter_tat_ns), |due| if due > now { due } else { now } + interval);
    true
}

/// Sends a record.
#[inline(always)]
pub(crate) fn record(listener: &Listener, sk: Sock, kind: Kind, client: Client) {
    let Some(mut entry) = RECORDS.reserve::<Record>(0) else {
        lose(Loss::RingFull);
        return;
    };
    // SAFETY: the helper has no arguments and cannot fail.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    entry.write(Record {
        at_ns,
        key: ListenerKey { sk: sk.0, born_ns: listener.born_ns },
        kind: kind as u32,
        accept_queue_length: sk.accept_queue_length(),
        accept_queue_limit: sk.accept_queue_limit(),
        syn_queue_length: sk.syn_queue_length(),
        client_address: client.address,
        client_port: client.port,
        client_family: client.family,
        netns: listener.netns,
        address: listener.address,
        port: listener.port,
        family: listener.family,
        reserved: 0,
    });
    entry.submit(0);
}
