//! Signals, the hooks behind them, and how far each can be trusted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something tcpq tells about a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// A listener opened or closed.
    ListenerLifecycle,
    /// Listeners that were there before tcpq.
    ListenersAtStart,
    /// Who has the listener open.
    Owners,
    /// The backlog that listen() was asked for.
    BacklogRequested,
    /// Both queues' lengths and limits.
    QueueLengths,
    /// SYNs that reached the listener.
    SynsReceived,
    /// Overflows at the SYN.
    OverflowSyn,
    /// Overflows at the final ACK.
    OverflowAck,
    /// Overflows at a SYN cookie's ACK.
    OverflowCookie,
    /// ListenDrops.
    ListenDrops,
    /// Dropped SYNs that are no overflows, by reason.
    SynDrops,
    /// Requests that left the SYN queue without completing, by reason.
    RequestsLost,
    /// SYN cookies sent.
    CookiesSent,
    /// SYN cookies that came back, valid or not.
    CookiesChecked,
    /// SYN-ACKs sent again.
    SynackRetransmits,
    /// Connections that entered the accept queue.
    Enqueued,
    /// Connections that accept() took.
    Accepts,
    /// Connections lost in the queue when the listener closed.
    Abandoned,
    /// How long connections waited for accept().
    AcceptWait,
    /// How long connections waited that were lost when the listener closed.
    AbandonedWait,
    /// How long handshakes took.
    HandshakeTime,
    /// How full the accept queue was, with each connection that entered it.
    AcceptQueueFill,
    /// How full the SYN queue was, with each request that entered it.
    SynQueueFill,
    /// accept() failed.
    AcceptErrors,
    /// The kernel's own counters beside ours.
    Audit,
}

impl Signal {
    /// Its name in labels and in `doctor --json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ListenerLifecycle => "listener_lifecycle",
            Self::ListenersAtStart => "listeners_at_start",
            Self::Owners => "owners",
            Self::BacklogRequested => "backlog_requested",
            Self::QueueLengths => "queue_lengths",
            Self::SynsReceived => "syns_received",
            Self::OverflowSyn => "overflow_syn",
            Self::OverflowAck => "overflow_ack",
            Self::OverflowCookie => "overflow_cookie",
            Self::ListenDrops => "listen_drops",
            Self::SynDrops => "syn_drops",
            Self::RequestsLost => "requests_lost",
            Self::CookiesSent => "cookies_sent",
            Self::CookiesChecked => "cookies_checked",
            Self::SynackRetransmits => "synack_retransmits",
            Self::Enqueued => "enqueued",
            Self::Accepts => "accepts",
            Self::Abandoned => "abandoned",
            Self::AcceptWait => "accept_wait",
            Self::AbandonedWait => "abandoned_wait",
            Self::HandshakeTime => "handshake_time",
            Self::AcceptQueueFill => "accept_queue_fill",
            Self::SynQueueFill => "syn_queue_fill",
            Self::AcceptErrors => "accept_errors",
            Self::Audit => "audit",
        }
    }
}

/// A way to hook the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// BPF trampolines: fentry and fexit.
    Fentry,
    /// kprobe and kretprobe.
    Kprobe,
    /// BTF tracepoints.
    Tracepoint,
    /// BPF iterators.
    Iterator,
    /// Programs that the daemon runs (`BPF_PROG_TEST_RUN`).
    TestRun,
}

impl Backend {
    /// Its name in labels, flags and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
            Self::Iterator => "iterator",
            Self::TestRun => "test_run",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How far a signal's figure can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exactness {
    /// Counted where the kernel counts it.
    Exact,
    /// Computed from other figures of the kernel; the reason says its limits.
    Derived,
    /// Not available: the series does not exist.
    Absent,
}

impl Exactness {
    /// Its name in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Derived => "derived",
            Self::Absent => "absent",
        }
    }
}

/// What the plan says of one signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignalPlan {
    /// The signal.
    pub signal: Signal,
    /// The hooks behind it, for people; empty if absent.
    pub hook: String,
    /// The backend, `none` if absent.
    #[serde(serialize_with = "backend_or_none")]
    pub backend: Option<Backend>,
    /// Exact, derived or absent.
    pub exactness: Exactness,
    /// Why it is not exact, or not by the first choice.
    pub reason: Option<String>,
}

impl SignalPlan {
    /// The label value of the backend.
    pub fn backend_name(&self) -> &'static str {
        self.backend.map_or("none", Backend::name)
    }
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde prescribes it")]
fn backend_or_none<S: serde::Serializer>(
    backend: &Option<Backend>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(backend.map_or("none", Backend::name))
}
