//! Loads through a pointer whose type the verifier knows: an argument, or the result, of a
//! function with a trampoline, or an argument of a BTF tracepoint. A few instructions, where `read` calls a helper for each.
//!
//! Such a pointer must not be computed with, and only what lies within its declared type can
//! be read. An address that turns out to be none reads as 0 (`BPF_PROBE_MEM`).

use aya_ebpf::helpers::{bpf_skc_to_tcp_request_sock, bpf_skc_to_tcp_sock};

use crate::{calls::queue::Fill, globals::global, read};

/// A `struct sock *` as a trampoline's or a tracepoint's context has it.
#[derive(Clone, Copy)]
pub(crate) struct TypedSock(pub(crate) u64);

/// A `struct request_sock *` as a trampoline's context has it.
#[derive(Clone, Copy)]
pub(crate) struct TypedRequest(pub(crate) u64);

/// Loads a field of the struct that an address is of.
macro_rules! load {
    ($base:expr, $field:ident) => {{
        let offset = global!($field) as usize;
        // SAFETY: the verifier rejects it unless it knows the address as a pointer to a struct
        // that has such a field.
        unsafe { core::ptr::read_volatile(($base as *const u8).wrapping_add(offset).cast()) }
    }};
}

impl TypedSock {
    /// `skc_state`: `TCP_LISTEN` and its like.
    #[inline(always)]
    pub(crate) fn state(self) -> u8 {
        load!(self.0, skc_state)
    }

    /// The accept queue as it is now.
    #[inline(always)]
    pub(crate) fn accept_queue(self) -> Fill {
        Fill { length: load!(self.0, sk_ack_backlog), limit: load!(self.0, sk_max_ack_backlog) }
    }

    /// Of an established connection: a number that few others have at the same time.
    #[inline(always)]
    pub(crate) fn hash(self) -> u32 {
        load!(self.0, skc_hash)
    }

    /// See [`read::Sock::syn_queue_limit`].
    #[inline(always)]
    pub(crate) fn syn_queue_limit(self) -> u32 {
        let net: u64 = load!(self.0, skc_net);
        let syncookies: u8 = load!(net, net_syncookies);
        let limit = load!(self.0, sk_max_ack_backlog);
        read::syn_queue_limit(limit, syncookies.into(), load!(net, net_max_syn_backlog))
    }

    /// See [`read::Sock::syn_queue_length`].
    #[inline(always)]
    pub(crate) fn syn_queue_length(self) -> u32 {
        self.as_tcp().map_or(0, |tcp| load!(tcp, icsk_qlen))
    }

    /// See [`read::Sock::established_us`].
    #[inline(always)]
    pub(crate) fn established_us(self) -> u64 {
        self.as_tcp().map_or(0, |tcp| load!(tcp, tcp_established))
    }

    /// The same pointer as one to the whole `struct tcp_sock`.
    #[inline(always)]
    fn as_tcp(self) -> Option<u64> {
        // SAFETY: the helper checks what kind of socket it is.
        let tcp = unsafe { bpf_skc_to_tcp_sock(self.0 as *mut _) } as u64;
        if tcp == 0 { None } else { Some(tcp) }
    }
}

impl TypedRequest {
    /// See [`read::Request::synack_sent_us`].
    #[inline(always)]
    pub(crate) fn synack_sent_us(self) -> u64 {
        // SAFETY: the helper checks what kind of socket it is.
        let request = unsafe { bpf_skc_to_tcp_request_sock(self.0 as *mut _) } as u64;
        if request == 0 {
            // Whoever stacks a protocol on TCP (MPTCP) has a `sk_prot` of its own.
            return read::Request(self.0).synack_sent_us();
        }
        load!(request, tcp_synack_sent)
    }
}
