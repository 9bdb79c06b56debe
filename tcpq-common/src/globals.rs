//! The running kernel's layout, written into the programs' read-only data before
//! they are loaded.
//!
//! aya has no CO-RE relocation for Rust. The daemon reads the offsets from the
//! kernel's BTF and freezes them; the verifier then sees constants, so a branch
//! on an absent field costs nothing.

use crate::wire;

wire! {
    /// Byte offsets are from the start of the named struct unless said otherwise.
    pub struct Globals {
        /// Kernel address of `__per_cpu_offset[]`; 0 where it is hidden.
        pub per_cpu_offset: u64,
        /// The functions that add to `sk_drops` and then free the packet: first
        /// address, and first address after it. Empty where there is none.
        pub dropping_functions: [[u64; 2]; 4],
        /// `cookie_v4_check` and `cookie_v6_check`, likewise.
        pub cookie_functions: [[u64; 2]; 2],

        /// `sock.__sk_common.skc_family`, u16.
        pub skc_family: u32,
        /// `sock.__sk_common.skc_state`, u8.
        pub skc_state: u32,
        /// `sock.__sk_common.skc_num`, u16: local port in host order.
        pub skc_num: u32,
        /// `sock.__sk_common.skc_rcv_saddr`, be32.
        pub skc_rcv_saddr: u32,
        /// `sock.__sk_common.skc_v6_rcv_saddr`, 16 bytes.
        pub skc_v6_rcv_saddr: u32,
        /// `sock.__sk_common.skc_hash`, u32: of the connection's addresses and ports, with a
        /// secret of the kernel's.
        pub skc_hash: u32,
        /// `sock.__sk_common.skc_net`, pointer.
        pub skc_net: u32,
        /// `sock.sk_protocol`, u16.
        pub sk_protocol: u32,
        /// `sock.sk_drops`, atomic.
        pub sk_drops: u32,
        /// `sock.sk_ack_backlog`, u32.
        pub sk_ack_backlog: u32,
        /// `sock.sk_max_ack_backlog`, u32.
        pub sk_max_ack_backlog: u32,
        /// `inet_connection_sock.icsk_accept_queue.qlen`, atomic.
        pub icsk_qlen: u32,
        /// `inet_connection_sock.icsk_accept_queue.rskq_defer_accept`, u8.
        pub icsk_defer_accept: u32,

        /// `request_sock.__req_common.skc_listener`, pointer.
        pub rsk_listener: u32,
        /// `request_sock.sk`, pointer: the child, once it is in the accept queue.
        pub rsk_sk: u32,

        /// `tcp_sock.rcvq_space.time`, u64: microseconds of the monotonic clock. Set when the
        /// socket is established, and by nothing else before its data is read; 0 where it is
        /// not known.
        pub tcp_established: u32,
        /// `tcp_request_sock.snt_synack`, u64: microseconds of the monotonic clock, when the
        /// first SYN-ACK was sent; 0 where it is not known.
        pub tcp_synack_sent: u32,

        /// `net.ns.inum`, u32.
        pub net_inum: u32,
        /// `net.net_cookie`, u64; 0 where a namespace has none until someone asks for it
        /// (before Linux 5.12).
        pub net_cookie: u32,
        /// `net.hash_mix`, u32: a random number of each namespace.
        pub net_hash_mix: u32,
        /// `net.mib.net_statistics`, pointer to per-CPU `struct linux_mib`.
        pub net_statistics: u32,
        /// `net.ipv4.sysctl_tcp_syncookies`, u8.
        pub net_syncookies: u32,
        /// `net.ipv4.sysctl_max_syn_backlog`, int.
        pub net_max_syn_backlog: u32,
        /// `net.ipv4.sysctl_tcp_abort_on_overflow`, u8.
        pub net_abort_on_overflow: u32,
        /// `net.core.sysctl_somaxconn`, int.
        pub net_somaxconn: u32,
        /// `net.ipv4.ip_local_ports.range`: two ints, or one u32 with the last port in the
        /// upper half.
        pub net_local_ports: u32,
        /// 1: `net_local_ports` is one u32 (since Linux 6.8).
        pub net_local_ports_packed: u32,

        /// Byte offset of `LINUX_MIB_LISTENOVERFLOWS` in `struct linux_mib`, which
        /// `LINUX_MIB_LISTENDROPS` follows.
        pub mib_listen_overflows: u32,
        /// Byte offset of `LINUX_MIB_TCPREQQFULLDROP`.
        pub mib_queue_full_drops: u32,
        /// Byte offset of `LINUX_MIB_SYNCOOKIESSENT`.
        pub mib_cookies_sent: u32,
        /// Byte offset of `LINUX_MIB_SYNCOOKIESRECV`, which
        /// `LINUX_MIB_SYNCOOKIESFAILED` follows.
        pub mib_cookies_received: u32,
        /// `bpf_array.pptrs`, array of per-CPU pointers.
        pub bpf_array_pptrs: u32,

        /// `sk_buff.head`, pointer.
        pub skb_head: u32,
        /// `sk_buff.end`, u32 offset from head.
        pub skb_end: u32,
        /// `sk_buff.len`, u32.
        pub skb_len: u32,
        /// `sk_buff.network_header`, u16 offset from head.
        pub skb_network_header: u32,
        /// `sk_buff.transport_header`, u16 offset from head.
        pub skb_transport_header: u32,
        /// `sk_buff.protocol`, be16.
        pub skb_protocol: u32,
        /// `skb_shared_info.gso_segs`, u16.
        pub shinfo_gso_segs: u32,

        /// `file.f_inode`, pointer.
        pub file_inode: u32,
        /// `file.private_data`, pointer.
        pub file_private_data: u32,
        /// `inode.i_mode`, u16.
        pub inode_mode: u32,
        /// `socket.sk`, pointer.
        pub socket_sk: u32,
        /// `mptcp_sock.first`, pointer to the TCP socket that listens for an MPTCP one; 0
        /// where the kernel has no MPTCP.
        pub mptcp_first: u32,

        /// `task_struct.group_leader`, pointer.
        pub task_leader: u32,
        /// `task_struct.comm`, 16 bytes.
        pub task_comm: u32,
        /// `task_struct.thread_pid`, pointer to `struct pid`.
        pub task_pid: u32,
        /// `pid.level`, u32.
        pub pid_level: u32,
        /// `pid.numbers`, array of `struct upid`.
        pub pid_numbers: u32,
        /// Size of `struct upid`, whose first member is the number.
        pub upid_size: u32,
        /// `upid.ns`, pointer.
        pub upid_namespace: u32,
        /// `pid_namespace.ns.inum`, u32.
        pub pid_namespace_inum: u32,
        /// Inode number of the daemon's pid namespace.
        pub own_pid_namespace: u32,
        /// `task_struct.stack`, pointer. 0: the kernel has `bpf_task_pt_regs`.
        pub task_stack: u32,
        /// From there to the registers that the task had when it entered the kernel.
        pub stack_to_registers: u32,
        /// Offset of the number of the system call in `struct pt_regs`; 0 where it is not
        /// known how registers are kept.
        pub registers_call: u32,
        /// Offset of the system call's second argument in `struct pt_regs`.
        pub registers_second: u32,
        /// Offset of the system call's first argument in `struct pt_regs`.
        pub registers_first: u32,
        /// The number of `listen()`.
        pub listen_call: u32,
        /// The number of `accept()`.
        pub accept_call: u32,
        /// The number of `accept4()`.
        pub accept4_call: u32,

        /// `task_struct.files`, pointer.
        pub task_files: u32,
        /// `files_struct.fdt`, pointer.
        pub files_table: u32,
        /// `fdtable.max_fds`, u32.
        pub table_size: u32,
        /// `fdtable.fd`, pointer to an array of pointers to files.
        pub table_files: u32,
        /// `io_kiocb.file`, pointer: what an io_uring request is about.
        pub kiocb_file: u32,
        /// `io_kiocb.cqe.res`, i32: its result.
        pub kiocb_result: u32,

        /// `SKB_DROP_REASON_TCP_LISTEN_OVERFLOW`; 0 where the kernel has none.
        pub reason_listen_overflow: u32,
        /// `SKB_DROP_REASON_NOT_SPECIFIED`; 0 where the kernel has none.
        pub reason_not_specified: u32,
        /// `SKB_DROP_REASON_NO_SOCKET`; 0 where the kernel has none.
        pub reason_no_socket: u32,
        /// `kfree_skb` passes the receiving socket (`rx_sk`): 1, else 0.
        pub kfree_has_rx_sk: u32,
        /// Possible CPUs.
        pub cpus: u32,

        /// Records a listener may send at once, on one CPU.
        pub record_burst: u32,
        /// Nanoseconds that one record costs in the rate limit; 0 turns it off.
        pub record_interval_ns: u32,
        /// Always 0; keeps the size a multiple of 8.
        pub reserved: [u32; 2],
    }
}
