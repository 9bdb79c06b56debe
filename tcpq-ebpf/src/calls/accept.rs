//! accept() fails: why, and at which listener.
//!
//! EMFILE is decided before the TCP code is reached: the kernel takes a descriptor first.
//! So this is asked of the whole call, and only once it has failed.

use tcpq_common::totals::AcceptError;

use crate::{
    count::{self, field as count_field},
    globals::global,
    lifecycle::Pending,
    read::{File, or_zero},
    task::{self, Task},
};

/// include/uapi/asm-generic/errno-base.h and errno.h.
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ECANCELED: i32 = 125;
/// From here on errors are the kernel's own, as ERESTARTSYS (include/linux/errno.h).
const INTERNAL: i32 = 512;

/// `__sys_accept4(fd, ...)` returned: the calls accept() and accept4().
#[inline(always)]
pub(crate) fn returned(fd: u32, result: i32) {
    if is_failure(result) {
        failed(Task::current().file(fd), result);
    }
}

/// The same, where the arguments are not seen.
#[inline(always)]
pub(crate) fn returned_unseen(result: i32) {
    if is_failure(result)
        && let Some(fd) = task::accepting_descriptor()
    {
        failed(Task::current().file(fd), result);
    }
}

/// `io_accept(req, issue_flags)` of io_uring returned. What goes wrong early, and in a request
/// of many accepts, it returns; else it returns 0 and leaves the result in the request.
#[inline(always)]
pub(crate) fn uring_returned(request: u64, result: i32) {
    let result = if result == 0 { or_zero(request, global!(kiocb_result)) } else { result };
    if is_failure(result) {
        failed(File(or_zero(request, global!(kiocb_file))), result);
    }
}

/// No connection, a signal, or io_uring's word to its caller (`IOU_STOP_MULTISHOT` is
/// `-ECANCELED`, the others are beyond [`INTERNAL`]): nobody's failure.
#[inline(always)]
fn is_failure(result: i32) -> bool {
    result < 0
        && result > -INTERNAL
        && result != -EAGAIN
        && result != -EINTR
        && result != -ECANCELED
}

/// Whoever shuts a listener down makes those who wait in accept() fail: not counted, as the
/// socket does not listen any more.
#[inline(always)]
fn failed(file: File, result: i32) {
    let Some(sk) = file.tcp_socket() else { return };
    if !sk.is_tcp_listener() {
        return;
    }
    let Some(listener) = count::credit(sk, Pending::NONE) else { return };
    let totals = listener.totals;
    if result == -EMFILE {
        totals.add(count_field!(accept_errors[AcceptError::Emfile as usize]), 1);
    } else if result == -ENFILE {
        totals.add(count_field!(accept_errors[AcceptError::Enfile as usize]), 1);
    } else if result == -ENOMEM {
        totals.add(count_field!(accept_errors[AcceptError::Enomem as usize]), 1);
    } else if result == -EINVAL {
        totals.add(count_field!(accept_errors[AcceptError::Einval as usize]), 1);
    } else if result == -EACCES {
        totals.add(count_field!(accept_errors[AcceptError::Eacces as usize]), 1);
    } else {
        totals.add(count_field!(accept_errors[AcceptError::Other as usize]), 1);
    }
}
