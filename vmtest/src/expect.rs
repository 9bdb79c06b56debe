//! Which hook each kernel must get for each signal. Stated, not derived: a
//! backend that is lost without anyone noticing is what this table is against.

use crate::{bench::Target, daemon::Backend};

/// What `tcpq doctor` must say of one signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The signal.
    pub signal: &'static str,
    /// `fentry`, `kprobe`, `tracepoint`, `iterator`, `test_run` or `none`.
    pub backend: &'static str,
    /// `exact`, `derived` or `absent`.
    pub exactness: &'static str,
}

const fn expected(
    signal: &'static str,
    backend: &'static str,
    exactness: &'static str,
) -> Expected {
    Expected { signal, backend, exactness }
}

/// Signals that no choice of backend changes.
const ALWAYS: [Expected; 4] = [
    expected("listeners_at_start", "iterator", "exact"),
    expected("queue_lengths", "test_run", "exact"),
    expected("owners", "iterator", "exact"),
    expected("synack_retransmits", "tracepoint", "exact"),
];

/// What is seen as listen() is called. Not by a kprobe, which the kernel may skip.
const LIFE_BY_FENTRY: [Expected; 2] = life_by("fentry");
const LIFE_BY_TRACEPOINT: [Expected; 2] = life_by("tracepoint");

const fn life_by(backend: &'static str) -> [Expected; 2] {
    [
        expected("listener_lifecycle", backend, "exact"),
        expected("backlog_requested", backend, "exact"),
    ]
}

/// Trampolines. Where a function has one argument too many for them (6.1, security),
/// another function of the same path is taken.
const FENTRY: [Expected; 14] = [
    expected("syns_received", "fentry", "exact"),
    expected("overflow_syn", "fentry", "exact"),
    expected("overflow_ack", "fentry", "exact"),
    expected("overflow_cookie", "fentry", "exact"),
    expected("listen_drops", "fentry", "exact"),
    expected("syn_drops", "fentry", "exact"),
    expected("requests_lost", "fentry", "exact"),
    expected("cookies_sent", "fentry", "exact"),
    expected("cookies_checked", "fentry", "exact"),
    expected("enqueued", "fentry", "exact"),
    expected("accepts", "fentry", "exact"),
    expected("accept_errors", "fentry", "exact"),
    expected("abandoned", "fentry", "exact"),
    expected("audit", "test_run", "exact"),
];

/// What is observed by the same programs.
const OBSERVED_BY_FENTRY: [Expected; 5] = observed_by("fentry");
const OBSERVED_BY_KPROBE: [Expected; 5] = observed_by("kprobe");

const fn observed_by(backend: &'static str) -> [Expected; 5] {
    [
        expected("accept_wait", backend, "exact"),
        expected("abandoned_wait", backend, "exact"),
        expected("handshake_time", backend, "exact"),
        expected("accept_queue_fill", backend, "exact"),
        expected("syn_queue_fill", backend, "exact"),
    ]
}

/// A tracepoint tells of a connection that has entered the queue, and of nothing else.
const OBSERVED_BY_TRACEPOINT: [Expected; 5] = [
    expected("accept_wait", "none", "absent"),
    expected("abandoned_wait", "none", "absent"),
    expected("handshake_time", "none", "absent"),
    expected("accept_queue_fill", "tracepoint", "derived"),
    expected("syn_queue_fill", "none", "absent"),
];

/// A kretprobe on the sleeping `accept()` would miss returns: its entry is seen, and what its
/// callers call next. Of its errors some are missed.
const KPROBE: [Expected; 14] = [
    expected("syns_received", "kprobe", "exact"),
    expected("overflow_syn", "kprobe", "exact"),
    expected("overflow_ack", "kprobe", "exact"),
    expected("overflow_cookie", "kprobe", "exact"),
    expected("listen_drops", "kprobe", "exact"),
    expected("syn_drops", "kprobe", "exact"),
    expected("requests_lost", "kprobe", "exact"),
    expected("cookies_sent", "kprobe", "exact"),
    expected("cookies_checked", "kprobe", "exact"),
    expected("enqueued", "kprobe", "exact"),
    expected("accepts", "kprobe", "exact"),
    expected("accept_errors", "kprobe", "derived"),
    expected("abandoned", "kprobe", "exact"),
    expected("audit", "test_run", "exact"),
];

/// No hook sees a SYN refused; its count is won from `sk_drops`.
const TRACEPOINT: [Expected; 14] = [
    expected("syns_received", "none", "absent"),
    expected("overflow_syn", "tracepoint", "derived"),
    expected("overflow_ack", "tracepoint", "derived"),
    expected("overflow_cookie", "tracepoint", "derived"),
    expected("listen_drops", "tracepoint", "derived"),
    expected("syn_drops", "none", "absent"),
    expected("requests_lost", "none", "absent"),
    expected("cookies_sent", "none", "absent"),
    expected("cookies_checked", "none", "absent"),
    expected("enqueued", "tracepoint", "derived"),
    expected("accepts", "tracepoint", "derived"),
    expected("accept_errors", "none", "absent"),
    expected("abandoned", "tracepoint", "derived"),
    expected("audit", "test_run", "derived"),
];

/// What the daemon must choose on `target` when told `backend`. Only 6.12 is
/// asked with a backend forced; `None` means that there is no statement.
pub fn plan(target: Target, backend: Backend) -> Option<Vec<Expected>> {
    let (life, counted, observed) = match (backend, target) {
        (
            Backend::Auto,
            Target::V5_10
            | Target::V6_1
            | Target::V6_1Main
            | Target::V6_12
            | Target::V6_18
            | Target::V7_1
            | Target::V7_2
            | Target::V7,
        )
        | (Backend::Fentry, Target::V6_12) => (LIFE_BY_FENTRY, FENTRY, OBSERVED_BY_FENTRY),
        (Backend::Kprobe, Target::V6_12) => (LIFE_BY_TRACEPOINT, KPROBE, OBSERVED_BY_KPROBE),
        (Backend::Auto, Target::Host) | (Backend::Tracepoint, Target::V6_12) => {
            (LIFE_BY_TRACEPOINT, TRACEPOINT, OBSERVED_BY_TRACEPOINT)
        }
        (Backend::Fentry | Backend::Kprobe | Backend::Tracepoint, _) => return None,
    };
    let all = ALWAYS.into_iter().chain(life).chain(counted).chain(observed);
    Some(all.map(|expected| differing(target, expected)).collect())
}

/// Where a kernel differs from the others of its backend: before 6.0 io_uring's accept is
/// inlined.
fn differing(target: Target, of_most: Expected) -> Expected {
    match (target, of_most.signal) {
        (Target::V5_10, "accept_errors") => expected("accept_errors", "fentry", "derived"),
        _ => of_most,
    }
}

/// The series that shows a signal: its name, and a label where it is one of several. A
/// histogram's are there from the first observation on.
pub fn series_of(signal: &str) -> Option<(&'static str, Option<(&'static str, &'static str)>)> {
    const OVERFLOWS: &str = "tcpq_accept_queue_overflows_total";
    Some(match signal {
        "syns_received" => ("tcpq_syns_received_total", None),
        "overflow_syn" => (OVERFLOWS, Some(("stage", "syn"))),
        "overflow_ack" => (OVERFLOWS, Some(("stage", "ack"))),
        "overflow_cookie" => (OVERFLOWS, Some(("stage", "cookie"))),
        "listen_drops" => ("tcpq_listen_drops_total", None),
        "enqueued" => ("tcpq_accept_queue_enqueued_total", None),
        "accepts" => ("tcpq_accepts_total", None),
        "accept_errors" => ("tcpq_accept_errors_total", Some(("errno", "EMFILE"))),
        "abandoned" => ("tcpq_accept_queue_abandoned_total", None),
        "syn_drops" => ("tcpq_syn_drops_total", None),
        "requests_lost" => ("tcpq_requests_lost_total", None),
        "cookies_sent" => ("tcpq_syn_cookies_sent_total", None),
        "cookies_checked" => ("tcpq_syn_cookies_validated_total", None),
        "synack_retransmits" => ("tcpq_synack_retransmits_total", None),
        "queue_lengths" => ("tcpq_accept_queue_length", None),
        "audit" => ("tcpq_netns_listen_drops_total", None),
        "owners" => ("tcpq_listener_info", None),
        "backlog_requested" => ("tcpq_backlog_requested", None),
        "accept_wait" => ("tcpq_accept_wait_seconds_count", None),
        "abandoned_wait" => ("tcpq_accept_queue_abandoned_wait_seconds_count", None),
        "handshake_time" => ("tcpq_handshake_seconds_count", None),
        "accept_queue_fill" => ("tcpq_accept_queue_fill_ratio_count", None),
        "syn_queue_fill" => ("tcpq_syn_queue_fill_ratio_count", None),
        "listeners_at_start" | "listener_lifecycle" => ("tcpq_listener_sockets", None),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_states_every_signal_once() {
        for target in Target::ALL {
            let plan = plan(target, Backend::Auto).unwrap();
            let mut signals: Vec<_> = plan.iter().map(|expected| expected.signal).collect();
            signals.sort_unstable();
            signals.dedup();
            assert_eq!(signals.len(), 25, "{}", target.label());
            assert!(signals.iter().all(|signal| series_of(signal).is_some()));
        }
    }

    #[test]
    fn absent_means_no_backend() {
        let observed =
            OBSERVED_BY_FENTRY.iter().chain(&OBSERVED_BY_KPROBE).chain(&OBSERVED_BY_TRACEPOINT);
        let counted = TRACEPOINT.iter().chain(&KPROBE).chain(&FENTRY).chain(&ALWAYS);
        for expected in counted.chain(observed) {
            assert_eq!(expected.backend == "none", expected.exactness == "absent");
        }
    }
}
