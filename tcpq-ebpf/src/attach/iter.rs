//! Iterators: they find the listeners that were there before, and who has them.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_seq_write;
use tcpq_common::{iterator::HolderRow, listener::Origin};

use crate::{
    lifecycle::{self, Pending},
    read::{File, Sock},
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
