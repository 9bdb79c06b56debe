//! The running kernel's structs, by BTF: the offsets that the programs are given.

use tcpq_common::globals::Globals;

use crate::kernel::btf::{Btf, BtfError};

/// Sets each named field to the offset of a member.
macro_rules! offsets {
    ($btf:expr, $globals:expr, $( $field:ident = $structure:literal . $path:literal ),+ $(,)?) => {
        $( $globals.$field = $btf.member($structure, $path)?.byte_offset; )+
    };
}

/// Everything the programs cannot do without.
pub fn required(btf: &Btf, globals: &mut Globals) -> Result<(), BtfError> {
    offsets!(btf, globals,
        skc_family = "sock"."__sk_common.skc_family",
        skc_state = "sock"."__sk_common.skc_state",
        skc_num = "sock"."__sk_common.skc_num",
        skc_rcv_saddr = "sock"."__sk_common.skc_rcv_saddr",
        skc_v6_rcv_saddr = "sock"."__sk_common.skc_v6_rcv_saddr",
        skc_hash = "sock"."__sk_common.skc_hash",
        skc_net = "sock"."__sk_common.skc_net",
        sk_protocol = "sock"."sk_protocol",
        sk_drops = "sock"."sk_drops",
        sk_ack_backlog = "sock"."sk_ack_backlog",
        sk_max_ack_backlog = "sock"."sk_max_ack_backlog",
        icsk_qlen = "inet_connection_sock"."icsk_accept_queue.qlen",
        icsk_defer_accept = "inet_connection_sock"."icsk_accept_queue.rskq_defer_accept",
        net_inum = "net"."ns.inum",
        net_syncookies = "net"."ipv4.sysctl_tcp_syncookies",
        net_max_syn_backlog = "net"."ipv4.sysctl_max_syn_backlog",
        net_abort_on_overflow = "net"."ipv4.sysctl_tcp_abort_on_overflow",
        net_somaxconn = "net"."core.sysctl_somaxconn",
        net_local_ports = "net"."ipv4.ip_local_ports.range",
        task_leader = "task_struct"."group_leader",
        task_comm = "task_struct"."comm",
        task_pid = "task_struct"."thread_pid",
        pid_level = "pid"."level",
        pid_numbers = "pid"."numbers",
        upid_namespace = "upid"."ns",
        pid_namespace_inum = "pid_namespace"."ns.inum",
        skb_head = "sk_buff"."head",
        skb_end = "sk_buff"."end",
        skb_len = "sk_buff"."len",
        skb_network_header = "sk_buff"."network_header",
        skb_transport_header = "sk_buff"."transport_header",
        skb_protocol = "sk_buff"."protocol",
        shinfo_gso_segs = "skb_shared_info"."gso_segs",
    );
    // struct upid is a number and a pointer (include/linux/pid.h).
    let namespace = btf.member("upid", "ns")?;
    globals.upid_size = namespace.byte_offset + namespace.size;
    // Since Linux 6.8 both ports are in one u32, so that they are read at once.
    globals.net_local_ports_packed =
        (btf.member("net", "ipv4.ip_local_ports.range")?.size == 4).into();
    // Before Linux 5.12 the cookie is an atomic that is set when someone asks for it.
    if btf.member("net", "net_cookie.counter").is_ok() {
        offsets!(btf, globals, net_hash_mix = "net"."hash_mix");
    } else {
        offsets!(btf, globals, net_cookie = "net"."net_cookie");
    }
    Ok(())
}

/// What finding sockets among open files needs.
pub fn files(btf: &Btf, globals: &mut Globals) -> Result<(), BtfError> {
    offsets!(btf, globals,
        file_inode = "file"."f_inode",
        file_private_data = "file"."private_data",
        inode_mode = "inode"."i_mode",
        socket_sk = "socket"."sk",
    );
    // Without MPTCP there is nothing to follow.
    if let Ok(first) = btf.member("mptcp_sock", "first") {
        globals.mptcp_first = first.byte_offset;
    }
    Ok(())
}

/// What finding an open file by its number needs.
pub fn descriptors(btf: &Btf, globals: &mut Globals) -> Result<(), BtfError> {
    offsets!(btf, globals,
        task_files = "task_struct"."files",
        files_table = "files_struct"."fdt",
        table_size = "fdtable"."max_fds",
        table_files = "fdtable"."fd",
    );
    Ok(())
}

/// What reading a request of io_uring needs.
pub fn uring(btf: &Btf, globals: &mut Globals) -> Result<(), BtfError> {
    offsets!(btf, globals,
        kiocb_file = "io_kiocb"."file",
        kiocb_result = "io_kiocb"."cqe.res",
    );
    Ok(())
}

/// Where a system call's number and arguments are, in registers that the kernel has saved.
#[cfg(target_arch = "x86_64")]
const REGISTERS: (&str, [&str; 2]) = ("orig_ax", ["di", "si"]);
#[cfg(target_arch = "aarch64")]
const REGISTERS: (&str, [&str; 2]) = ("syscallno", ["regs", "regs"]);

/// `THREAD_SIZE` of x86-64 (arch/x86/include/asm/page_64_types.h) without KASAN, with which
/// no number of a call is found where one is looked for: then nothing is told.
const STACK_BYTES: u32 = 16 * 1024;

/// What reading the arguments of the running system call needs.
pub fn registers(btf: &Btf, globals: &mut Globals) -> Result<(), BtfError> {
    let (call, [first, second]) = REGISTERS;
    let first = btf.member("pt_regs", first)?.byte_offset;
    let second = btf.member("pt_regs", second)?.byte_offset;
    // On aarch64 arguments are in an array of registers.
    let second = if cfg!(target_arch = "aarch64") { second + 8 } else { second };
    // `bpf_task_pt_regs` finds them since Linux 5.15. Before, on x86-64, they are at the
    // top of the task's stack (`task_pt_regs`, arch/x86/include/asm/processor.h).
    if btf.enum_value(None, "BPF_FUNC_task_pt_regs").is_none() {
        let last = btf.member("pt_regs", "ss")?;
        globals.task_stack = btf.member("task_struct", "stack")?.byte_offset;
        globals.stack_to_registers = STACK_BYTES.saturating_sub(last.byte_offset + last.size);
    }
    globals.registers_first = first;
    globals.registers_second = second;
    let number = |call| u32::try_from(call).unwrap_or(0);
    globals.listen_call = number(libc::SYS_listen);
    globals.accept_call = number(libc::SYS_accept);
    globals.accept4_call = number(libc::SYS_accept4);
    globals.registers_call = btf.member("pt_regs", call)?.byte_offset;
    Ok(())
}

/// What following a request to its listener needs.
pub fn handshake(btf: &Btf, globals: &mut Globals) -> Result<(), BtfError> {
    offsets!(btf, globals,
        rsk_listener = "request_sock"."__req_common.skc_listener",
        rsk_sk = "request_sock"."sk",
    );
    Ok(())
}

/// What telling a connection's wait needs.
pub fn established(btf: &Btf, globals: &mut Globals) -> Result<(), String> {
    globals.tcp_established = microseconds(btf, "tcp_sock", "rcvq_space.time")?;
    Ok(())
}

/// What telling a handshake's time needs.
pub fn synack_sent(btf: &Btf, globals: &mut Globals) -> Result<(), String> {
    globals.tcp_synack_sent = microseconds(btf, "tcp_request_sock", "snt_synack")?;
    Ok(())
}

/// A time of 64 bits: a kernel that kept it in another unit would have another size for it.
fn microseconds(btf: &Btf, structure: &str, path: &str) -> Result<u32, String> {
    let member = btf.member(structure, path).map_err(|error| error.to_string())?;
    if member.size == 8 && member.bit.is_none() {
        return Ok(member.byte_offset);
    }
    Err(format!("{structure}.{path} is no time of 64 bits in this kernel"))
}

/// What finding a CPU's offset by a per-CPU array needs.
pub fn per_cpu_arrays(btf: &Btf, globals: &mut Globals) -> Result<(), BtfError> {
    offsets!(btf, globals, bpf_array_pptrs = "bpf_array"."pptrs");
    Ok(())
}

/// What reading the kernel's own counters needs, but for the per-CPU base.
pub fn counters(btf: &Btf, globals: &mut Globals) -> Result<(), String> {
    let statistics = btf.member("net", "mib.net_statistics").map_err(|error| error.to_string())?;
    let array = btf.member("linux_mib", "mibs").map_err(|error| error.to_string())?;
    globals.net_statistics = statistics.byte_offset;
    let offset = |name: &str| {
        // `unsigned long mibs[__LINUX_MIB_MAX]`, include/net/snmp.h.
        btf.enum_value(None, name)
            .and_then(|index| u32::try_from(index).ok())
            .and_then(|index| index.checked_mul(8)?.checked_add(array.byte_offset))
            .ok_or_else(|| format!("BTF has no {name}"))
    };
    // The programs read both at once.
    let neighbours = |first: &str, second: &str| {
        let (at, next) = (offset(first)?, offset(second)?);
        if next == at + 8 {
            return Ok(at);
        }
        Err(format!("{second} does not follow {first} in this kernel"))
    };
    globals.mib_listen_overflows =
        neighbours("LINUX_MIB_LISTENOVERFLOWS", "LINUX_MIB_LISTENDROPS")?;
    globals.mib_cookies_received =
        neighbours("LINUX_MIB_SYNCOOKIESRECV", "LINUX_MIB_SYNCOOKIESFAILED")?;
    globals.mib_queue_full_drops = offset("LINUX_MIB_TCPREQQFULLDROP")?;
    globals.mib_cookies_sent = offset("LINUX_MIB_SYNCOOKIESSENT")?;
    Ok(())
}
