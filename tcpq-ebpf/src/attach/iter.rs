//! Iterators: they find the listeners that were there before, and read out live
//! ones in bulk, a few system calls for all of them.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_map_lookup_percpu_elem, bpf_seq_write};
use tcpq_common::{
    iterator::{AuditRow, HolderRow, ListenerNow, ListenerRow},
    listener::{Listener, Origin},
};

use crate::{
    audit,
    calls::CpuState,
    globals::global,
    lifecycle::{self, Pending},
    maps::{AUDIT_TARGET, CPU_CELLS, CPU_STATE},
    read::{File, Sock, field},
    task::Task,
};

/// Files of one process that one read(2) of the walk may go past and hold.
const FILES_AT_ONCE: u32 = 64;

/// `struct bpf_iter_meta`, include/linux/bpf.h.
#[repr(C)]
struct Meta {
    seq: *mut aya_ebpf::bindings::seq_file,
    session_id: u64,
    seq_num: u64,
}

/// `struct bpf_iter__tcp`, net/ipv4/tcp_ipv4.c.
#[repr(C)]
struct TcpContext {
    meta: *const Meta,
    sk_common: *const c_void,
}

/// `struct bpf_iter__task_file`, kernel/bpf/task_iter.c.
#[repr(C)]
struct TaskFileContext {
    meta: *const Meta,
    task: *const c_void,
    fd: u64,
    file: *const c_void,
}

/// `struct bpf_iter__bpf_map_elem`, kernel/bpf/map_iter.c.
#[repr(C)]
struct MapElementContext {
    meta: *const Meta,
    map: *const c_void,
    key: *const c_void,
    value: *const c_void,
}

/// Every TCP socket of the network namespace that opened the iterator.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
fn it_tcp(ctx: *const TcpContext) -> i32 {
    // SAFETY: the kernel passes a valid context; the pointer may be null at the end.
    let sk = Sock(unsafe { (*ctx).sk_common } as u64);
    if sk.0 != 0 && sk.is_tcp_listener() {
        lifecycle::track(sk, Origin::Discovered, Pending::NONE);
    }
    0
}

/// Every open file of every process of the pid namespace that opened the iterator.
///
/// Writes one [`HolderRow`] for each listener's: who has it.
///
/// The kernel holds each file that it shows until the daemon's read(2) returns: a listener
/// that its process closes meanwhile goes on listening until then. A read ends with the first
/// row, so a listener is held for a moment only; [`HolderRow::ZERO`] ends one that found none.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
fn it_task_file(ctx: *const TaskFileContext) -> i32 {
    // SAFETY: as above.
    let (meta, task, fd, file) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).fd, (*ctx).file) };
    if file.is_null() || task.is_null() {
        return 0;
    }
    let sk = File(file as u64).tcp_socket().filter(|sk| sk.is_tcp_listener());
    let Some(sk) = sk else {
        if fd as u32 % FILES_AT_ONCE == 0 {
            write(meta, &HolderRow::ZERO);
        }
        return 0;
    };
    lifecycle::track(sk, Origin::Discovered, Pending::NONE);
    let process = Task(task as u64).process();
    let row = HolderRow { sk: sk.0, pid: process.number(), fd: fd as u32, name: process.name() };
    write(meta, &row);
    0
}

#[inline(always)]
fn write(meta: *const Meta, row: &HolderRow) {
    // SAFETY: `seq` is valid while the program runs, and so is the row. What does not
    // fit the buffer is undone as a whole, and the kernel calls again for this file.
    unsafe {
        let bytes = size_of::<HolderRow>() as u32;
        bpf_seq_write((*meta).seq, core::ptr::from_ref(row).cast_mut().cast(), bytes);
    }
}

/// Each entry of `LISTENERS`: one [`ListenerRow`] with the queues as they are now.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
fn it_listeners(ctx: *const MapElementContext) -> i32 {
    // SAFETY: the kernel passes a valid context; key and value are null at the
    // end, else they point to one entry of the map this iterator was made for.
    let (meta, key, value) = unsafe { ((*ctx).meta, (*ctx).key, (*ctx).value) };
    if key.is_null() || value.is_null() {
        return 0;
    }
    // SAFETY: as above; the map's keys are addresses of sockets.
    let sk = Sock(unsafe { *key.cast::<u64>() });
    let net = sk.net();
    let now = ListenerNow {
        net: net.0,
        accept_queue_length: sk.accept_queue_length(),
        accept_queue_limit: sk.accept_queue_limit(),
        syn_queue_length: sk.syn_queue_length(),
        sk_drops: sk.drops(),
        max_syn_backlog: net.max_syn_backlog(),
        syncookies: net.syncookies(),
        state: sk.state().unwrap_or(0).into(),
        port: sk.port().unwrap_or(0).into(),
        somaxconn: net.somaxconn(),
        abort_on_overflow: net.aborts_on_overflow().into(),
        ephemeral_ports: net.ephemeral_ports(),
        defer_accept: sk.defer_accept().into(),
    };
    const { assert!(size_of::<ListenerRow>() == 8 + size_of::<Listener>() + size_of::<ListenerNow>()) };
    // SAFETY: `seq` is valid while the program runs, and so are key, value and
    // stack. What does not fit the buffer is undone as a whole, and the kernel
    // calls the program again for this entry.
    unsafe {
        bpf_seq_write((*meta).seq, key.cast_mut(), 8);
        bpf_seq_write((*meta).seq, value.cast_mut(), size_of::<Listener>() as u32);
        let bytes = size_of::<ListenerNow>() as u32;
        bpf_seq_write((*meta).seq, (&raw const now).cast_mut().cast(), bytes);
    }
    0
}

/// Each entry of `CPU_STATE`, one per CPU: one [`AuditRow`] of the namespace that is in
/// `AUDIT_TARGET`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
fn it_audit(ctx: *const MapElementContext) -> i32 {
    // SAFETY: as in `it_listeners`.
    let (meta, key, value) = unsafe { ((*ctx).meta, (*ctx).key, (*ctx).value) };
    if key.is_null() || value.is_null() {
        return 0;
    }
    let Some(target) = AUDIT_TARGET.get(0) else { return 0 };
    // SAFETY: as above; the map is an array, whose keys are u32 and whose values are
    // passed in place, not copied.
    let cpu = unsafe { *key.cast::<u32>() };
    let mut row = audit::row(target, cpu, value.cast::<CpuState>());
    // SAFETY: as in `it_listeners`.
    unsafe {
        bpf_seq_write((*meta).seq, (&raw mut row).cast(), size_of::<AuditRow>() as u32);
    }
    0
}

/// Each entry of `CPU_CELLS`, one per CPU: learns that CPU's offset. A per-CPU pointer
/// plus the CPU's offset is an address, so offset = address of the cell on that CPU -
/// the array's per-CPU pointer. For kernels that show no `__per_cpu_offset`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
fn it_cpus(ctx: *const MapElementContext) -> i32 {
    // SAFETY: as in `it_listeners`.
    let (map, key, value) = unsafe { ((*ctx).map, (*ctx).key, (*ctx).value) };
    if map.is_null() || key.is_null() || value.is_null() {
        return 0;
    }
    // SAFETY: as above; the map is an array, whose keys are u32.
    let cpu = unsafe { *key.cast::<u32>() };
    let pointers = (map as u64).wrapping_add(u64::from(global!(bpf_array_pptrs)));
    let Some(base) = field::<u64>(pointers.wrapping_add(u64::from(cpu) * 8), 0) else { return 0 };
    let Some(state) = CPU_STATE.get_ptr_mut(cpu) else { return 0 };
    // SAFETY: the map, the key and the CPU are valid; the helper checks the CPU.
    let cell = unsafe {
        bpf_map_lookup_percpu_elem(
            (&raw const CPU_CELLS).cast_mut().cast(),
            (&raw const cpu).cast(),
            cpu,
        )
    };
    if cell.is_null() {
        return 0;
    }
    // SAFETY: a field of a map value that nothing else writes; volatile, so that the
    // address is read back as a number: arithmetic on a pointer is not for programs.
    unsafe {
        let slot = &raw mut (*state).per_cpu_offset;
        core::ptr::write_volatile(slot, cell as u64);
        let address = core::ptr::read_volatile(slot);
        core::ptr::write_volatile(slot, address.wrapping_sub(base));
    }
    0
}
