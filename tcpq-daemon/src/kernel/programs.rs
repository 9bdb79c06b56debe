//! The table of hooks: which programs make one up, on which backend.

use crate::model::hooks::Backend;

/// A hook that is attached or not as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Listeners open, by the function that makes them.
    ListenStart,
    /// Listeners close, by the function that empties their queue.
    ListenStop,
    /// Listeners open and close, by tracepoint: runs at each change of any socket's state.
    SetState,
    /// SYNs over IPv4, and what became of them.
    SynV4,
    /// SYNs over IPv6.
    SynV6,
    /// SYNs to an MPTCP listener over IPv4.
    SynMptcpV4,
    /// SYNs to an MPTCP listener over IPv6.
    SynMptcpV6,
    /// Requests allocated for a SYN.
    RequestAlloc,
    /// Requests that enter the SYN queue, unless they are there already.
    RequestQueued,
    /// The same, where the function does not say so (before Linux 6.1 and in some later ones).
    RequestQueuedVoid,
    /// Peers asked for under backlog pressure.
    PeerProven,
    /// Children made over IPv4: by final ACKs, cookies and Fast Open.
    ChildV4,
    /// Children made over IPv6.
    ChildV6,
    /// Packets for a request, the final ACK among them.
    CheckRequest,
    /// Cookies over IPv4.
    CookieV4,
    /// Cookies over IPv6.
    CookieV6,
    /// Cookies over IPv4, and the children they make.
    CookieAckV4,
    /// Cookies over IPv6, and the children they make.
    CookieAckV6,
    /// ICMP errors that name a request.
    RequestError,
    /// Requests dropped by a packet, an ICMP error or an operator.
    QueueDrop,
    /// Requests that leave the SYN queue, since Linux 6.1.
    RequestDropped,
    /// Requests that leave the SYN queue, before.
    RequestUnlinked,
    /// Sockets killed by an operator.
    Abort,
    /// Handshakes that reach the accept queue.
    Hashdance,
    /// Cookies and Fast Open that reach the accept queue.
    QueueAdd,
    /// Requests that move to another listener.
    RequestClone,
    /// Connections reset because the listener closed.
    ChildForget,
    /// accept() returns; by breakpoint: begins.
    Accept,
    /// accept() returns, where the kernel preempts itself: two programs, of which one may be
    /// skipped.
    AcceptByEither,
    /// What accept() returned becomes a program's.
    SockGraft,
    /// The call accept() or accept4() returns, with or without one.
    AcceptCall,
    /// The same of io_uring.
    UringAccept,
    /// Anything that reaches the accept queue, by tracepoint.
    DataReady,
    /// Refused final ACKs, by tracepoint.
    KfreeSkb,
    /// SYN-ACKs sent again.
    SynackAgain,
    /// Sockets destroyed: the last of a closed listener's `sk_drops`.
    DestroySock,
    /// Listeners of one namespace.
    IterTcp,
    /// Listeners held by visible processes.
    IterTaskFile,
    /// Readout of live listeners.
    ReadListeners,
    /// Readout of the kernel's own counters.
    ReadAudit,
    /// Where each CPU's own memory is.
    LocateCpus,
}

impl Hook {
    /// The kernel function, tracepoint or iterator target; of what the daemon runs itself, what
    /// it is for.
    pub const fn target(self) -> &'static str {
        match self {
            Self::ListenStart => "inet_csk_listen_start",
            Self::ListenStop => "inet_csk_listen_stop",
            Self::SetState => "inet_sock_set_state",
            Self::SynV4 => "tcp_v4_conn_request",
            Self::SynV6 => "tcp_v6_conn_request",
            Self::SynMptcpV4 => "subflow_v4_conn_request",
            Self::SynMptcpV6 => "subflow_v6_conn_request",
            Self::RequestAlloc => "inet_reqsk_alloc",
            Self::RequestQueued | Self::RequestQueuedVoid => "inet_csk_reqsk_queue_hash_add",
            Self::PeerProven => "tcp_peer_is_proven",
            Self::ChildV4 => "tcp_v4_syn_recv_sock",
            Self::ChildV6 => "tcp_v6_syn_recv_sock",
            Self::CheckRequest => "tcp_check_req",
            Self::CookieV4 | Self::CookieAckV4 => "cookie_v4_check",
            Self::CookieV6 | Self::CookieAckV6 => "cookie_v6_check",
            Self::RequestError => "tcp_req_err",
            Self::QueueDrop => "inet_csk_reqsk_queue_drop",
            Self::RequestDropped => "__inet_csk_reqsk_queue_drop",
            Self::RequestUnlinked => "reqsk_queue_unlink",
            Self::Abort => "tcp_abort",
            Self::Hashdance => "inet_csk_complete_hashdance",
            Self::QueueAdd => "inet_csk_reqsk_queue_add",
            Self::RequestClone => "inet_reqsk_clone",
            Self::ChildForget => "inet_child_forget",
            Self::Accept | Self::AcceptByEither => "inet_csk_accept",
            Self::SockGraft => "security_sock_graft",
            Self::AcceptCall => "__sys_accept4",
            Self::UringAccept => "io_accept",
            Self::DataReady => "sk_data_ready",
            Self::KfreeSkb => "kfree_skb",
            Self::SynackAgain => "tcp_retransmit_synack",
            Self::DestroySock => "tcp_destroy_sock",
            Self::IterTcp => "tcp",
            Self::IterTaskFile => "task_file",
            Self::ReadListeners => "listeners",
            Self::ReadAudit => "audit",
            Self::LocateCpus => "cpu",
        }
    }

    /// Every hook on a kernel function.
    pub const FUNCTIONS: [Self; 31] = [
        Self::ListenStart,
        Self::ListenStop,
        Self::SynV4,
        Self::SynV6,
        Self::SynMptcpV4,
        Self::SynMptcpV6,
        Self::RequestAlloc,
        Self::RequestQueued,
        Self::RequestQueuedVoid,
        Self::PeerProven,
        Self::ChildV4,
        Self::ChildV6,
        Self::CheckRequest,
        Self::CookieV4,
        Self::CookieV6,
        Self::CookieAckV4,
        Self::CookieAckV6,
        Self::RequestError,
        Self::QueueDrop,
        Self::RequestDropped,
        Self::RequestUnlinked,
        Self::Abort,
        Self::Hashdance,
        Self::QueueAdd,
        Self::RequestClone,
        Self::ChildForget,
        Self::Accept,
        Self::AcceptByEither,
        Self::SockGraft,
        Self::AcceptCall,
        Self::UringAccept,
    ];

    /// Every hook on a tracepoint.
    pub const TRACEPOINTS: [Self; 5] =
        [Self::SetState, Self::DataReady, Self::KfreeSkb, Self::SynackAgain, Self::DestroySock];

    /// It runs when the daemon reads, not on events.
    pub const fn is_run_by_us(self) -> bool {
        matches!(
            self,
            Self::IterTcp
                | Self::IterTaskFile
                | Self::ReadListeners
                | Self::ReadAudit
                | Self::LocateCpus
        )
    }

    /// The numbers of arguments that the programs were written for.
    const fn known_arities(self) -> &'static [usize] {
        match self {
            Self::ListenStop | Self::RequestUnlinked => &[1],
            Self::ListenStart => &[1, 2],
            Self::SynV4
            | Self::SynV6
            | Self::SynMptcpV4
            | Self::SynMptcpV6
            | Self::PeerProven
            | Self::CookieV4
            | Self::CookieV6
            | Self::CookieAckV4
            | Self::CookieAckV6
            | Self::QueueDrop
            | Self::Abort
            | Self::RequestClone
            | Self::SockGraft
            | Self::UringAccept => &[2],
            Self::RequestAlloc
            | Self::RequestError
            | Self::RequestDropped
            | Self::QueueAdd
            | Self::ChildForget
            | Self::RequestQueuedVoid => &[3],
            Self::RequestQueued => &[2, 3],
            Self::Hashdance | Self::AcceptCall => &[4],
            Self::CheckRequest => &[5, 6],
            Self::ChildV4 | Self::ChildV6 => &[6, 7],
            Self::Accept | Self::AcceptByEither => &[2, 4],
            _ => &[],
        }
    }
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Entry of a function by trampoline.
    Fentry,
    /// Exit of a function by trampoline.
    Fexit,
    /// Entry of a function by breakpoint.
    Kprobe,
    /// Return of a function by breakpoint.
    Kretprobe,
    /// A BTF tracepoint.
    Tracepoint,
    /// An iterator: loaded, opened per use.
    Iterator,
    /// Loaded as a program of a raw tracepoint, and run by the daemon.
    TestRun,
}

/// One program of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in the object.
    pub name: &'static str,
    /// How it is attached.
    pub attachment: Attachment,
}

/// The programs of one hook, by their common name, in the order they are attached: exit
/// first, so that no call is opened whose end is not seen.
macro_rules! hook {
    (fentry $name:literal) => {
        const { &[program(concat!("fe_", $name), Attachment::Fentry)] }
    };
    (fexit $name:literal) => {
        const { &[program(concat!("fx_", $name), Attachment::Fexit)] }
    };
    (fexit $first:literal $second:literal) => {
        const {
            &[
                program(concat!("fx_", $first), Attachment::Fexit),
                program(concat!("fx_", $second), Attachment::Fexit),
            ]
        }
    };
    (fentry fexit $name:literal) => {
        hook!(fentry $name fexit $name)
    };
    (fentry $entry:literal fexit $exit:literal) => {
        const {
            &[
                program(concat!("fx_", $exit), Attachment::Fexit),
                program(concat!("fe_", $entry), Attachment::Fentry),
            ]
        }
    };
    (kprobe $name:literal) => {
        const { &[program(concat!("kp_", $name), Attachment::Kprobe)] }
    };
    (kretprobe $name:literal) => {
        const { &[program(concat!("kr_", $name), Attachment::Kretprobe)] }
    };
    (kprobe kretprobe $name:literal) => {
        const {
            &[
                program(concat!("kr_", $name), Attachment::Kretprobe),
                program(concat!("kp_", $name), Attachment::Kprobe),
            ]
        }
    };
    (tracepoint $name:literal) => {
        const { &[program(concat!("tp_", $name), Attachment::Tracepoint)] }
    };
    (iterator $name:literal) => {
        const { &[program(concat!("it_", $name), Attachment::Iterator)] }
    };
    (test_run $name:literal) => {
        const { &[program(concat!("rt_", $name), Attachment::TestRun)] }
    };
}

const fn program(name: &'static str, attachment: Attachment) -> Program {
    Program { name, attachment }
}

/// The programs of a hook on a backend. `arity` is the function's, by BTF: it decides
/// where the return value is. The error says why there are none.
pub fn programs(hook: Hook, backend: Backend, arity: usize) -> Result<&'static [Program], String> {
    let found = match backend {
        Backend::Fentry | Backend::Kprobe if !hook.known_arities().contains(&arity) => {
            let known: Vec<_> = hook.known_arities().iter().map(ToString::to_string).collect();
            let (target, known) = (hook.target(), known.join(" and "));
            return Err(format!("{target} has {arity} arguments here, known are {known}"));
        }
        Backend::Fentry => by_trampoline(hook, arity),
        Backend::Kprobe if hook == Hook::UringAccept => {
            return Err("a return probe does not see which request it was".to_owned());
        }
        Backend::Kprobe => by_breakpoint(hook),
        Backend::Tracepoint => by_tracepoint(hook),
        Backend::Iterator => by_iterator(hook),
        Backend::TestRun => by_test_run(hook),
    };
    found.ok_or_else(|| format!("{} has no {backend} program", hook.target()))
}

fn by_trampoline(hook: Hook, arity: usize) -> Option<&'static [Program]> {
    Some(match hook {
        Hook::ListenStart if arity == 1 => hook!(fentry "listen_start" fexit "listen_start_1"),
        Hook::ListenStart => hook!(fentry "listen_start" fexit "listen_start_2"),
        Hook::ListenStop => hook!(fentry "listen_stop"),
        Hook::SynV4 => hook!(fentry fexit "syn_v4"),
        Hook::SynV6 => hook!(fentry fexit "syn_v6"),
        Hook::SynMptcpV4 => hook!(fentry fexit "syn_mptcp_v4"),
        Hook::SynMptcpV6 => hook!(fentry fexit "syn_mptcp_v6"),
        Hook::RequestAlloc => hook!(fexit "request_alloc"),
        Hook::RequestQueued if arity == 2 => hook!(fexit "request_queued_2"),
        Hook::RequestQueued => hook!(fexit "request_queued_3"),
        Hook::RequestQueuedVoid => hook!(fexit "request_queued"),
        Hook::PeerProven => hook!(fexit "peer_proven"),
        Hook::ChildV4 if arity == 6 => hook!(fentry "child_v4" fexit "child_v4_6"),
        Hook::ChildV4 => hook!(fentry "child_v4" fexit "child_v4_7"),
        Hook::ChildV6 if arity == 6 => hook!(fentry "child_v6" fexit "child_v6_6"),
        Hook::ChildV6 => hook!(fentry "child_v6" fexit "child_v6_7"),
        Hook::CheckRequest => hook!(fentry fexit "check_request"),
        Hook::CookieV4 => hook!(fentry fexit "cookie_v4"),
        Hook::CookieV6 => hook!(fentry fexit "cookie_v6"),
        Hook::CookieAckV4 => hook!(fentry fexit "cookie_ack_v4"),
        Hook::CookieAckV6 => hook!(fentry fexit "cookie_ack_v6"),
        Hook::RequestError => hook!(fentry fexit "request_error"),
        Hook::QueueDrop => hook!(fentry fexit "queue_drop"),
        Hook::RequestDropped => hook!(fexit "request_dropped"),
        Hook::RequestUnlinked => hook!(fexit "request_unlinked"),
        Hook::Abort => hook!(fentry "abort"),
        Hook::Hashdance => hook!(fexit "hashdance"),
        Hook::QueueAdd => hook!(fexit "queue_add"),
        Hook::RequestClone => hook!(fexit "request_clone"),
        Hook::ChildForget => hook!(fentry "child_forget"),
        Hook::Accept if arity == 2 => hook!(fexit "accept_2"),
        Hook::Accept => hook!(fexit "accept_4"),
        Hook::AcceptByEither if arity == 2 => hook!(fexit "accept_first_2" "accept_second_2"),
        Hook::AcceptByEither => hook!(fexit "accept_first_4" "accept_second_4"),
        Hook::AcceptCall => hook!(fexit "accept_call"),
        Hook::UringAccept => hook!(fexit "uring_accept"),
        _ => return None,
    })
}

fn by_breakpoint(hook: Hook) -> Option<&'static [Program]> {
    Some(match hook {
        Hook::SynV4 => hook!(kprobe kretprobe "syn_v4"),
        Hook::SynV6 => hook!(kprobe kretprobe "syn_v6"),
        Hook::SynMptcpV4 => hook!(kprobe kretprobe "syn_mptcp_v4"),
        Hook::SynMptcpV6 => hook!(kprobe kretprobe "syn_mptcp_v6"),
        Hook::RequestAlloc => hook!(kretprobe "request_alloc"),
        Hook::RequestQueued => hook!(kretprobe "request_queued_if"),
        Hook::RequestQueuedVoid => hook!(kretprobe "request_queued"),
        Hook::PeerProven => hook!(kretprobe "peer_proven"),
        Hook::ChildV4 => hook!(kprobe kretprobe "child_v4"),
        Hook::ChildV6 => hook!(kprobe kretprobe "child_v6"),
        Hook::CookieV4 => hook!(kprobe kretprobe "cookie_v4"),
        Hook::CookieV6 => hook!(kprobe kretprobe "cookie_v6"),
        Hook::RequestError => hook!(kprobe kretprobe "request_error"),
        Hook::QueueDrop => hook!(kprobe kretprobe "queue_drop"),
        Hook::RequestDropped => hook!(kprobe kretprobe "request_dropped"),
        Hook::RequestUnlinked => hook!(kprobe kretprobe "request_unlinked"),
        Hook::Abort => hook!(kprobe "abort"),
        Hook::Hashdance => hook!(kprobe kretprobe "hashdance"),
        Hook::QueueAdd => hook!(kprobe kretprobe "queue_add"),
        Hook::RequestClone => hook!(kprobe kretprobe "request_clone"),
        Hook::ChildForget => hook!(kprobe "child_forget"),
        Hook::Accept => hook!(kprobe "accept"),
        Hook::SockGraft => hook!(kprobe "sock_graft"),
        Hook::AcceptCall => hook!(kretprobe "accept_call"),
        _ => return None,
    })
}

fn by_tracepoint(hook: Hook) -> Option<&'static [Program]> {
    Some(match hook {
        Hook::SetState => hook!(tracepoint "set_state"),
        Hook::DataReady => hook!(tracepoint "data_ready"),
        Hook::KfreeSkb => hook!(tracepoint "kfree_skb"),
        Hook::SynackAgain => hook!(tracepoint "synack_again"),
        Hook::DestroySock => hook!(tracepoint "destroy_sock"),
        _ => return None,
    })
}

fn by_iterator(hook: Hook) -> Option<&'static [Program]> {
    Some(match hook {
        Hook::IterTcp => hook!(iterator "tcp"),
        Hook::IterTaskFile => hook!(iterator "task_file"),
        _ => return None,
    })
}

fn by_test_run(hook: Hook) -> Option<&'static [Program]> {
    Some(match hook {
        Hook::ReadListeners => hook!(test_run "listeners"),
        Hook::ReadAudit => hook!(test_run "audit"),
        Hook::LocateCpus => hook!(test_run "cpu"),
        _ => return None,
    })
}
