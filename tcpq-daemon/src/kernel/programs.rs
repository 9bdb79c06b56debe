//! The table of hooks: which programs make one up, on which backend.

use crate::model::hooks::Backend;

/// A hook that is attached or not as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Listeners open and close.
    SetState,
    /// SYNs, and what became of them.
    ConnRequest,
    /// Final ACKs over IPv4.
    SynRecvV4,
    /// Final ACKs over IPv6.
    SynRecvV6,
    /// Handshakes that reach the accept queue.
    Hashdance,
    /// Cookies and Fast Open that reach the accept queue.
    QueueAdd,
    /// accept() returns.
    Accept,
    /// Anything that reaches the accept queue, by tracepoint.
    DataReady,
    /// Refused final ACKs, by tracepoint.
    KfreeSkb,
    /// Listeners of one namespace.
    IterTcp,
    /// Listeners held by visible processes.
    IterTaskFile,
    /// Readout of live listeners.
    IterListeners,
    /// Readout of totals.
    IterTotals,
}

impl Hook {
    /// The kernel function, tracepoint or iterator target.
    pub const fn target(self) -> &'static str {
        match self {
            Self::SetState => "inet_sock_set_state",
            Self::ConnRequest => "tcp_conn_request",
            Self::SynRecvV4 => "tcp_v4_syn_recv_sock",
            Self::SynRecvV6 => "tcp_v6_syn_recv_sock",
            Self::Hashdance => "inet_csk_complete_hashdance",
            Self::QueueAdd => "inet_csk_reqsk_queue_add",
            Self::Accept => "inet_csk_accept",
            Self::DataReady => "sk_data_ready",
            Self::KfreeSkb => "kfree_skb",
            Self::IterTcp => "tcp",
            Self::IterTaskFile => "task_file",
            Self::IterListeners | Self::IterTotals => "bpf_map_elem",
        }
    }

    /// Every hook on a kernel function.
    pub const FUNCTIONS: [Self; 6] = [
        Self::ConnRequest,
        Self::SynRecvV4,
        Self::SynRecvV6,
        Self::Hashdance,
        Self::QueueAdd,
        Self::Accept,
    ];

    /// Every hook on a tracepoint.
    pub const TRACEPOINTS: [Self; 3] = [Self::SetState, Self::DataReady, Self::KfreeSkb];
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Entry of a function by trampoline.
    Fentry,
    /// Exit of a function by trampoline.
    Fexit,
    /// Entry of a function by breakpoint; the same for its return probe.
    Kprobe,
    /// A BTF tracepoint.
    Tracepoint,
    /// An iterator: loaded, opened per use.
    Iterator,
}

/// One program of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in the object.
    pub name: &'static str,
    /// How it is attached.
    pub attachment: Attachment,
}

const fn program(name: &'static str, attachment: Attachment) -> Program {
    Program { name, attachment }
}

/// The programs of a hook on a backend, in the order they are attached: exit first, so
/// that no call is opened whose end is not seen. `arity`
/// is the function's, by BTF: it decides where the return value is.
///
/// `None`: there is no such program, for the reason given.
pub fn programs(hook: Hook, backend: Backend, arity: usize) -> Result<&'static [Program], String> {
    use Attachment::{Fentry, Fexit, Iterator, Kprobe, Tracepoint};
    const FE_CONN: &[Program] =
        &[program("fx_conn_request", Fexit), program("fe_conn_request", Fentry)];
    const FE_V4: &[Program] =
        &[program("fx_syn_recv_v4", Fexit), program("fe_syn_recv_v4", Fentry)];
    const FE_V6: &[Program] =
        &[program("fx_syn_recv_v6", Fexit), program("fe_syn_recv_v6", Fentry)];
    const KP_CONN: &[Program] =
        &[program("kr_conn_request", Kprobe), program("kp_conn_request", Kprobe)];
    const KP_V4: &[Program] =
        &[program("kr_syn_recv_v4", Kprobe), program("kp_syn_recv_v4", Kprobe)];
    const KP_V6: &[Program] =
        &[program("kr_syn_recv_v6", Kprobe), program("kp_syn_recv_v6", Kprobe)];
    const KP_HASHDANCE: &[Program] =
        &[program("kr_hashdance", Kprobe), program("kp_hashdance", Kprobe)];
    const KP_QUEUE_ADD: &[Program] =
        &[program("kr_queue_add", Kprobe), program("kp_queue_add", Kprobe)];

    let wrong_arity = |known: &str| {
        Err(format!("{} has {arity} arguments here, known are {known}", hook.target()))
    };
    match (hook, backend) {
        (Hook::SynRecvV4 | Hook::SynRecvV6, Backend::Fentry | Backend::Kprobe)
            if !matches!(arity, 6 | 7) =>
        {
            wrong_arity("6 and 7")
        }
        (Hook::ConnRequest | Hook::Hashdance, Backend::Fentry | Backend::Kprobe) if arity != 4 => {
            wrong_arity("4")
        }
        (Hook::QueueAdd, Backend::Fentry | Backend::Kprobe) if arity != 3 => wrong_arity("3"),

        (Hook::ConnRequest, Backend::Fentry) => Ok(FE_CONN),
        (Hook::SynRecvV4, Backend::Fentry) => Ok(FE_V4),
        (Hook::SynRecvV6, Backend::Fentry) => Ok(FE_V6),
        (Hook::Hashdance, Backend::Fentry) => Ok(const { &[program("fx_hashdance", Fexit)] }),
        (Hook::QueueAdd, Backend::Fentry) => Ok(const { &[program("fx_queue_add", Fexit)] }),
        (Hook::Accept, Backend::Fentry) => match arity {
            2 => Ok(const { &[program("fx_accept_2", Fexit)] }),
            4 => Ok(const { &[program("fx_accept_4", Fexit)] }),
            _ => wrong_arity("2 and 4"),
        },

        (Hook::ConnRequest, Backend::Kprobe) => Ok(KP_CONN),
        (Hook::SynRecvV4, Backend::Kprobe) => Ok(KP_V4),
        (Hook::SynRecvV6, Backend::Kprobe) => Ok(KP_V6),
        (Hook::Hashdance, Backend::Kprobe) => Ok(KP_HASHDANCE),
        (Hook::QueueAdd, Backend::Kprobe) => Ok(KP_QUEUE_ADD),
        (Hook::Accept, Backend::Kprobe) => {
            Err("a return probe on a function that sleeps loses returns when many threads wait in \
             accept()"
                .to_owned())
        }

        (Hook::SetState, Backend::Tracepoint) => {
            Ok(const { &[program("tp_set_state", Tracepoint)] })
        }
        (Hook::DataReady, Backend::Tracepoint) => {
            Ok(const { &[program("tp_data_ready", Tracepoint)] })
        }
        (Hook::KfreeSkb, Backend::Tracepoint) => {
            Ok(const { &[program("tp_kfree_skb", Tracepoint)] })
        }

        (Hook::IterTcp, Backend::Iterator) => Ok(const { &[program("it_tcp", Iterator)] }),
        (Hook::IterTaskFile, Backend::Iterator) => {
            Ok(const { &[program("it_task_file", Iterator)] })
        }
        (Hook::IterListeners, Backend::Iterator) => {
            Ok(const { &[program("it_listeners", Iterator)] })
        }
        (Hook::IterTotals, Backend::Iterator) => Ok(const { &[program("it_totals", Iterator)] }),

        (hook, backend) => Err(format!("{} has no {backend} program", hook.target())),
    }
}
