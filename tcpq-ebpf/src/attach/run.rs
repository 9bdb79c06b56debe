//! Programs that the daemon runs itself, by `BPF_PROG_TEST_RUN`: they read kernel memory for it,
//! some rows for each call, and leave them in maps that it sees as memory. Programs of raw
//! tracepoints can be run so since Linux 5.10, and need not be attached; what they are asked
//! is their context.

use aya_ebpf::helpers::bpf_map_lookup_percpu_elem;
use tcpq_common::{
    iterator::{
        AUDIT_ROWS, AuditAsked, AuditRow, CpuAsked, LISTENER_ROWS, ListenerNow, ListenerRow,
        ListenersAsked,
    },
    listener::Listener,
};

use crate::{
    audit, count,
    globals::global,
    lifecycle,
    maps::{AUDIT_ROWS_READ, CPU_CELLS, CPU_STATE, LISTENER_ROWS_READ},
    read::{Sock, field, or_zero},
};

/// [`LISTENER_ROWS`] slots: one row for each that is a live listener's, with the queues as they
/// are now.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/listeners")]
fn rt_listeners(ctx: *const ListenersAsked) -> i32 {
    // SAFETY: the kernel refuses to run a program on less than it reads.
    let first = unsafe { (*ctx).first_slot } as u32;
    for index in 0..LISTENER_ROWS {
        let Some(row) = LISTENER_ROWS_READ.get_ptr_mut(index) else { return 0 };
        read_listener(first.wrapping_add(index), row);
    }
    0
}

/// A function of its own to the verifier, too: what is not known on one way through the loop's
/// body would be kept for its next turn, where it may not be read.
#[inline(never)]
fn read_listener(slot: u32, row: *mut ListenerRow) {
    // SAFETY: a map value that is the daemon's, who waits for this program.
    let row = unsafe { &mut *row };
    row.sk = 0;
    let Some(tenant) = count::tenant(slot) else { return };
    let sk = Sock(tenant.sk);
    if sk.0 == 0 {
        return;
    }
    // A closed one has left the map, and waits for the daemon elsewhere.
    let Some(listener) = lifecycle::entry(sk) else { return };
    if listener.slot != slot {
        return;
    }
    copy(listener, &mut row.listener);
    let net = sk.net();
    row.now = ListenerNow {
        net: net.0,
        accept_queue_length: sk.accept_queue_length(),
        accept_queue_limit: sk.accept_queue_limit(),
        syn_queue_length: sk.syn_queue_length(),
        sk_drops: sk.drops(),
        max_syn_backlog: net.max_syn_backlog(),
        syncookies: net.syncookies(),
        state: or_zero::<u8>(sk.0, global!(skc_state)).into(),
        port: sk.port_or_zero().into(),
        somaxconn: net.somaxconn(),
        abort_on_overflow: net.aborts_on_overflow().into(),
        ephemeral_ports: net.ephemeral_ports(),
        defer_accept: sk.defer_accept().into(),
    };
    row.sk = sk.0;
}

/// Word by word: by itself the compiler calls a function that copies bytes.
#[inline(always)]
fn copy(from: &Listener, to: &mut Listener) {
    const WORDS: usize = size_of::<Listener>() / size_of::<u64>();
    const { assert!(size_of::<Listener>() % size_of::<u64>() == 0) };
    let from = core::ptr::from_ref(from).cast::<u64>();
    let to = core::ptr::from_mut(to).cast::<u64>();
    for word in 0..WORDS {
        // SAFETY: within both; a concurrent write to the port is whole.
        unsafe {
            core::ptr::write_volatile(to.add(word), core::ptr::read_volatile(from.add(word)))
        };
    }
}

/// [`AUDIT_ROWS`] CPUs: one row of a namespace for each that there is.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/audit")]
fn rt_audit(ctx: *const AuditAsked) -> i32 {
    // SAFETY: as in `rt_listeners`.
    let (target, first) = unsafe { ((*ctx).target, (*ctx).first_cpu as u32) };
    for index in 0..AUDIT_ROWS {
        let cpu = first.wrapping_add(index);
        if cpu >= global!(cpus) {
            break;
        }
        let Some(state) = CPU_STATE.get_ptr(cpu) else { break };
        let Some(row) = AUDIT_ROWS_READ.get_ptr_mut(index) else { break };
        let read: AuditRow = audit::row(&target, cpu, state);
        // SAFETY: as in `rt_listeners`.
        unsafe { *row = read };
    }
    0
}

/// Learns one CPU's offset. A per-CPU pointer plus the CPU's offset is an address, so offset =
/// address of the cell of `CPU_CELLS` on that CPU - the array's per-CPU pointer. For kernels
/// that show no `__per_cpu_offset`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/cpu")]
fn rt_cpu(ctx: *const CpuAsked) -> i32 {
    // SAFETY: as in `rt_listeners`.
    let cpu = unsafe { (*ctx).cpu } as u32;
    let Some(state) = CPU_STATE.get_ptr_mut(cpu) else { return 0 };
    let key = 0_u32;
    // SAFETY: the map and the key are valid; the helper checks the CPU.
    let cell = unsafe {
        let cells = (&raw const CPU_CELLS).cast_mut().cast();
        bpf_map_lookup_percpu_elem(cells, (&raw const key).cast(), cpu)
    };
    if cell.is_null() {
        return 0;
    }
    // SAFETY: a field of a map value that nothing else writes.
    let slot = unsafe { &raw mut (*state).per_cpu_offset };
    // To the program the map is what the kernel calls `struct bpf_array`.
    let pointers = number_of(slot, (&raw const CPU_CELLS) as u64)
        .wrapping_add(u64::from(global!(bpf_array_pptrs)));
    let base: Option<u64> = field(pointers, 0);
    let address = number_of(slot, cell as u64);
    // SAFETY: as above; 0 is an offset that is not known.
    unsafe {
        core::ptr::write_volatile(slot, base.map_or(0, |base| address.wrapping_sub(base)));
    }
    0
}

/// An address as a number: arithmetic on a pointer is not for programs, but what has been through
/// a map is none to the verifier.
#[inline(always)]
fn number_of(cell: *mut u64, pointer: u64) -> u64 {
    // SAFETY: an integer of a map value.
    unsafe {
        core::ptr::write_volatile(cell, pointer);
        core::ptr::read_volatile(cell)
    }
}
