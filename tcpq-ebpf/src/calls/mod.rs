//! What the hooked calls did, judged from inside them.
//!
//! Per CPU a call of each kind is open at most once: softirq TCP does not nest on a
//! CPU. One kind may run inside another: a SYN may create a child (TCP Fast Open), and
//! a cookie's check does. Of nested calls of one kind (an IPv6 function forwards to the
//! IPv4 one) the outermost owns what happens.

pub(crate) mod accept;
pub(crate) mod ack;
pub(crate) mod cookie;
pub(crate) mod icmp;
pub(crate) mod queue;
pub(crate) mod request;
pub(crate) mod syn;

use tcpq_common::record::Kind;

use crate::{
    count::{self, Credit},
    emit,
    read::{Client, Skb, Sock},
};

/// What one CPU is in the middle of.
#[repr(C)]
pub(crate) struct CpuState {
    /// `__per_cpu_offset[cpu]`; 0 = not known yet.
    pub(crate) per_cpu_offset: u64,
    /// Calls begun so far: the audit sees by it whether one came in between.
    begun: u64,
    /// A SYN.
    syn: syn::Call,
    /// The final ACK of a queued request.
    ack: ack::Call,
    /// An ACK that may be a cookie's.
    cookie: cookie::Call,
    /// An ICMP error that names a request.
    icmp: icmp::Call,
    /// The request that `inet_csk_reqsk_queue_drop` is called for; 0 = none.
    dropping: u64,
    /// The request whose child was refused last.
    refused: u64,
    /// Arguments that a kprobe's return probe cannot see.
    pub(crate) stash: Stash,
}

/// What a kprobe leaves for its return probe; 0 = nothing.
#[repr(C)]
pub(crate) struct Stash {
    pub(crate) hashdance_sk: u64,
    pub(crate) hashdance_request: u64,
    pub(crate) queue_add_sk: u64,
    pub(crate) dropped_sk: u64,
    pub(crate) dropped_request: u64,
    pub(crate) cloned_request: u64,
    pub(crate) clone_listener: u64,
}

/// What the audit wants to know of a CPU.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) begun: u64,
    open: u32,
}

impl Look {
    #[inline(always)]
    pub(crate) fn is_idle(self) -> bool {
        self.open == NONE
    }
}

impl CpuState {
    /// Looks at a CPU's state from another one.
    #[inline(always)]
    pub(crate) fn look(state: *const Self) -> Look {
        // SAFETY: whole integers of a map value that outlives the program; they change
        // meanwhile, hence volatile.
        unsafe {
            Look {
                begun: core::ptr::read_volatile(&raw const (*state).begun),
                open: core::ptr::read_volatile(&raw const (*state).syn.opened_by)
                    | core::ptr::read_volatile(&raw const (*state).ack.opened_by)
                    | core::ptr::read_volatile(&raw const (*state).cookie.opened_by)
                    | core::ptr::read_volatile(&raw const (*state).icmp.opened_by),
            }
        }
    }
}

/// `opened_by`: no call is open.
const NONE: u32 = 0;

/// The functions that open a call; one bit each, so that a set of them is a mask.
pub(crate) mod function {
    /// `tcp_v4_conn_request`.
    pub(crate) const SYN_V4: u32 = 1 << 0;
    /// `tcp_v6_conn_request`.
    pub(crate) const SYN_V6: u32 = 1 << 1;
    /// `subflow_v4_conn_request` (MPTCP).
    pub(crate) const SYN_MPTCP_V4: u32 = 1 << 2;
    /// `subflow_v6_conn_request`.
    pub(crate) const SYN_MPTCP_V6: u32 = 1 << 3;
    /// `tcp_v4_syn_recv_sock`.
    pub(crate) const CHILD_V4: u32 = 1 << 4;
    /// `tcp_v6_syn_recv_sock`.
    pub(crate) const CHILD_V6: u32 = 1 << 5;
    /// `tcp_check_req`.
    pub(crate) const CHECK_REQUEST: u32 = 1 << 6;
    /// `cookie_v4_check`.
    pub(crate) const COOKIE_V4: u32 = 1 << 7;
    /// `cookie_v6_check`.
    pub(crate) const COOKIE_V6: u32 = 1 << 8;
    /// `tcp_req_err`.
    pub(crate) const REQUEST_ERROR: u32 = 1 << 9;
}

/// What the end of a call means.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    /// The call that is open.
    Own,
    /// A function that the open call's function called: not the end yet.
    Inner,
    /// No call is open, and there could be none: its entry is not hooked yet.
    NotYet,
    /// No call is open: the entry program was skipped.
    Unpaired,
}

/// `seen`: the functions whose entry has been seen on this CPU.
#[inline(always)]
fn ending(opened_by: u32, function: u32, seen: u32) -> Ending {
    if opened_by == function {
        Ending::Own
    } else if opened_by != NONE {
        Ending::Inner
    } else if seen & function == 0 {
        Ending::NotYet
    } else {
        Ending::Unpaired
    }
}

/// Sends a record of what a packet did to a listener. In a flood that is almost never: whose
/// packet it was is read after the limit has let it through.
#[inline(always)]
pub(crate) fn report(listener: Credit, sk: Sock, skb: Skb, kind: Kind) {
    if emit::is_within_limit(listener.totals)
        && let Some(described) = count::described(sk)
    {
        emit::record(described, sk, kind, skb.client().unwrap_or(Client::NONE));
    }
}
