//! The only reads of kernel memory: typed views over addresses, `None` or 0 on a fault.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{self, bpf_probe_read_kernel};
use tcpq_common::{AF_INET, AF_INET6, TCP_LISTEN};

use crate::globals::global;

/// `TCP_NEW_SYN_RECV` of include/net/tcp_states.h.
const TCP_NEW_SYN_RECV: u8 = 12;
/// `IPPROTO_TCP`.
const IPPROTO_TCP: u16 = 6;
/// `IPPROTO_MPTCP`.
const IPPROTO_MPTCP: u16 = 262;
/// `ETH_P_IP` and `ETH_P_IPV6`, `include/uapi/linux/if_ether.h`.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// `S_IFMT` and `S_IFSOCK`, include/uapi/linux/stat.h.
const S_IFMT: u16 = 0xf000;
const S_IFSOCK: u16 = 0xc000;
/// Offsets of the source address in the IPv4 and IPv6 headers (RFC 791, RFC 8200).
const IPV4_SADDR: u64 = 12;
const IPV6_SADDR: u64 = 8;

#[inline(always)]
fn at<T: Copy>(base: u64, offset: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails instead of faulting; `T`
    // is an integer or byte array, so any bytes are valid.
    unsafe { bpf_probe_read_kernel((base as *const u8).wrapping_add(offset as usize).cast()) }.ok()
}

#[inline(always)]
pub(crate) fn field<T: Copy>(base: u64, offset: u32) -> Option<T> {
    at(base, u64::from(offset))
}

/// As [`field`], and zero on a fault: the helper leaves zeroes then. Without a branch, as the
/// verifier would walk all that comes after it twice.
#[inline(always)]
pub(crate) fn or_zero<T: Copy>(base: u64, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    let from = (base as *const u8).wrapping_add(offset as usize);
    // SAFETY: as in `at`; the helper writes all of the value in any case.
    unsafe {
        helpers::generated::bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            from.cast(),
        );
        value.assume_init()
    }
}

/// Address of a `struct sock`.
#[derive(Clone, Copy)]
pub(crate) struct Sock(pub(crate) u64);

impl Sock {
    #[inline(always)]
    pub(crate) fn state(self) -> Option<u8> {
        field(self.0, global!(skc_state))
    }

    #[inline(always)]
    pub(crate) fn is_tcp_listener(self) -> bool {
        self.state() == Some(TCP_LISTEN) && self.is_tcp()
    }

    /// TCP over IPv4 or IPv6: DCCP, SCTP, SMC and MPTCP share hooks with it.
    #[inline(always)]
    pub(crate) fn is_tcp(self) -> bool {
        field::<u16>(self.0, global!(sk_protocol)) == Some(IPPROTO_TCP)
            && matches!(self.family(), Some(AF_INET | AF_INET6))
    }

    /// Multipath TCP: what a program has open, with a TCP socket behind it.
    #[inline(always)]
    pub(crate) fn is_mptcp(self) -> bool {
        field::<u16>(self.0, global!(sk_protocol)) == Some(IPPROTO_MPTCP)
    }

    #[inline(always)]
    pub(crate) fn family(self) -> Option<u16> {
        field(self.0, global!(skc_family))
    }

    #[inline(always)]
    pub(crate) fn port(self) -> Option<u16> {
        field(self.0, global!(skc_num))
    }

    #[inline(always)]
    pub(crate) fn port_or_zero(self) -> u16 {
        or_zero(self.0, global!(skc_num))
    }

    /// Local address, IPv4 in the first four bytes.
    #[inline(always)]
    pub(crate) fn address(self, family: u16) -> Option<[u8; 16]> {
        if family == AF_INET6 {
            return field(self.0, global!(skc_v6_rcv_saddr));
        }
        field::<[u8; 4]>(self.0, global!(skc_rcv_saddr)).map(widen)
    }

    /// Null on a fault, and reads from it fail. Not an `Option`: LLVM leaves the
    /// payload of `None` unset on the stack, and the verifier of Linux 5.10 does not
    /// see that it is never read then.
    #[inline(always)]
    pub(crate) fn net(self) -> Net {
        Net(or_zero(self.0, global!(skc_net)))
    }

    #[inline(always)]
    pub(crate) fn drops(self) -> u32 {
        or_zero(self.0, global!(sk_drops))
    }

    #[inline(always)]
    pub(crate) fn accept_queue_length(self) -> u32 {
        or_zero(self.0, global!(sk_ack_backlog))
    }

    #[inline(always)]
    pub(crate) fn accept_queue_limit(self) -> u32 {
        or_zero(self.0, global!(sk_max_ack_backlog))
    }

    #[inline(always)]
    pub(crate) fn syn_queue_length(self) -> u32 {
        or_zero(self.0, global!(icsk_qlen))
    }

    /// See [`syn_queue_limit`].
    #[inline(always)]
    pub(crate) fn syn_queue_limit(self) -> u32 {
        let net = self.net();
        syn_queue_limit(self.accept_queue_limit(), net.syncookies(), net.max_syn_backlog())
    }

    /// When it was established, microseconds of the monotonic clock; 0: not yet, or the layout
    /// is not known.
    #[inline(always)]
    pub(crate) fn established_us(self) -> u64 {
        or_zero(self.0, global!(tcp_established))
    }

    #[inline(always)]
    pub(crate) fn defer_accept(self) -> u8 {
        or_zero(self.0, global!(icsk_defer_accept))
    }

    #[inline(always)]
    pub(crate) fn defers_accept(self) -> bool {
        self.defer_accept() != 0
    }
}

/// The length at which the kernel calls its SYN queue full: `inet_csk_reqsk_queue_is_full`
/// compares with the accept queue's limit; with SYN cookies off `tcp_conn_request` also
/// keeps the last quarter of `tcp_max_syn_backlog` for proven peers.
#[inline(always)]
pub(crate) fn syn_queue_limit(limit: u32, syncookies: u32, max_syn_backlog: u32) -> u32 {
    let open_to_all = max_syn_backlog - (max_syn_backlog >> 2);
    if syncookies == 0 && open_to_all < limit { open_to_all } else { limit }
}

/// Address of a `struct file`; 0 is none.
#[derive(Clone, Copy)]
pub(crate) struct File(pub(crate) u64);

impl File {
    /// The TCP socket behind it; of MPTCP's the one that listens for it, which has no file of
    /// its own. A file is a socket's if its inode says so; `bpf_sock_from_file` would tell
    /// too, but Linux 5.10 lacks it.
    #[inline(always)]
    pub(crate) fn tcp_socket(self) -> Option<Sock> {
        let inode: u64 = field(self.0, global!(file_inode))?;
        let mode: u16 = field(inode, global!(inode_mode))?;
        if mode & S_IFMT != S_IFSOCK {
            return None;
        }
        // Null for a socket's name opened with O_PATH.
        let socket: u64 = field(self.0, global!(file_private_data))?;
        if socket == 0 {
            return None;
        }
        let sk: u64 = field(socket, global!(socket_sk))?;
        if sk != 0 && global!(mptcp_first) != 0 && Sock(sk).is_mptcp() {
            return Some(Sock(field(sk, global!(mptcp_first))?));
        }
        (sk != 0).then_some(Sock(sk))
    }
}

/// Address of a `struct net`.
#[derive(Clone, Copy)]
pub(crate) struct Net(pub(crate) u64);

impl Net {
    /// See [`tcpq_common::listener::Tenant::netns_id`].
    #[inline(always)]
    pub(crate) fn id(self) -> u64 {
        if global!(net_cookie) != 0 {
            return or_zero(self.0, global!(net_cookie));
        }
        let random: u32 = or_zero(self.0, global!(net_hash_mix));
        u64::from(random) << 32 | u64::from(self.inode())
    }

    #[inline(always)]
    pub(crate) fn aborts_on_overflow(self) -> bool {
        or_zero::<u8>(self.0, global!(net_abort_on_overflow)) != 0
    }

    #[inline(always)]
    pub(crate) fn inode(self) -> u32 {
        or_zero(self.0, global!(net_inum))
    }

    #[inline(always)]
    pub(crate) fn syncookies(self) -> u32 {
        or_zero::<u8>(self.0, global!(net_syncookies)).into()
    }

    #[inline(always)]
    pub(crate) fn max_syn_backlog(self) -> u32 {
        or_zero(self.0, global!(net_max_syn_backlog))
    }

    #[inline(always)]
    pub(crate) fn somaxconn(self) -> u32 {
        or_zero(self.0, global!(net_somaxconn))
    }

    /// The first and the last port that the kernel gives to who asks for none.
    #[inline(always)]
    pub(crate) fn ephemeral_ports(self) -> [u16; 2] {
        let [first, last]: [u32; 2] = if global!(net_local_ports_packed) == 1 {
            let both: u32 = or_zero(self.0, global!(net_local_ports));
            [both & 0xffff, both >> 16]
        } else {
            or_zero(self.0, global!(net_local_ports))
        };
        [first as u16, last as u16]
    }
}

/// Address of a `struct request_sock`.
#[derive(Clone, Copy)]
pub(crate) struct Request(pub(crate) u64);

impl Request {
    /// The listener it came to; after a migration the one it was taken over by.
    #[inline(always)]
    pub(crate) fn listener(self) -> Sock {
        Sock(or_zero(self.0, global!(rsk_listener)))
    }

    /// Its child, once that is in the accept queue; else 0.
    #[inline(always)]
    pub(crate) fn child(self) -> u64 {
        or_zero(self.0, global!(rsk_sk))
    }

    /// When its first SYN-ACK was sent, microseconds of the monotonic clock.
    #[inline(always)]
    pub(crate) fn synack_sent_us(self) -> u64 {
        or_zero(self.0, global!(tcp_synack_sent))
    }

    /// It is a request: `tcp_abort` takes any socket.
    #[inline(always)]
    pub(crate) fn is_in_handshake(self) -> bool {
        Sock(self.0).state() == Some(TCP_NEW_SYN_RECV)
    }
}

/// The sender of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) address: [u8; 16],
    pub(crate) port: u16,
    pub(crate) family: u16,
}

impl Client {
    pub(crate) const NONE: Self = Self { address: [0; 16], port: 0, family: 0 };
}

/// Address of a `struct sk_buff` that holds a TCP segment.
#[derive(Clone, Copy)]
pub(crate) struct Skb(pub(crate) u64);

impl Skb {
    /// Family by the packet, not by the socket: a dual-stack listener gets both.
    #[inline(always)]
    pub(crate) fn client(self) -> Option<Client> {
        let head: u64 = field(self.0, global!(skb_head))?;
        let network = head + u64::from(field::<u16>(self.0, global!(skb_network_header))?);
        let transport = head + u64::from(field::<u16>(self.0, global!(skb_transport_header))?);
        let port = u16::from_be(at(transport, 0)?);
        match u16::from_be(field(self.0, global!(skb_protocol))?) {
            ETH_P_IP => {
                Some(Client { address: widen(at(network, IPV4_SADDR)?), port, family: AF_INET })
            }
            ETH_P_IPV6 => {
                Some(Client { address: at(network, IPV6_SADDR)?, port, family: AF_INET6 })
            }
            _ => None,
        }
    }

    /// What `sk_drops_add` adds for this packet: `max(1, gso_segs)`.
    #[inline(always)]
    pub(crate) fn drop_weight(self) -> Option<u32> {
        let head: u64 = field(self.0, global!(skb_head))?;
        let end: u32 = field(self.0, global!(skb_end))?;
        let segments: u16 = at(head + u64::from(end), u64::from(global!(shinfo_gso_segs)))?;
        Some(if segments == 0 { 1 } else { u32::from(segments) })
    }

    /// The flags byte of the TCP header (RFC 9293 §3.1) and the length of the payload.
    #[inline(always)]
    pub(crate) fn tcp_flags_and_payload(self) -> Option<(u8, u32)> {
        let head: u64 = field(self.0, global!(skb_head))?;
        let transport = head + u64::from(field::<u16>(self.0, global!(skb_transport_header))?);
        let [data_offset, flags]: [u8; 2] = at(transport, 12)?;
        let header = u32::from(data_offset >> 4) * 4;
        // tcp_v4_rcv has pulled the network header: skb->len is TCP header and payload.
        let length: u32 = field(self.0, global!(skb_len))?;
        Some((flags, length.saturating_sub(header)))
    }
}

#[inline(always)]
fn widen(v4: [u8; 4]) -> [u8; 16] {
    let mut wide = [0; 16];
    wide[0] = v4[0];
    wide[1] = v4[1];
    wide[2] = v4[2];
    wide[3] = v4[3];
    wide
}
