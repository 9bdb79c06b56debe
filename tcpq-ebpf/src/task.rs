//! Processes: who has called, who has a file, and what a system call was given.

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs,
};

use crate::{
    globals::global,
    read::{File, field, or_zero},
};

/// How deep the daemon's pid namespace may be nested; the initial one is level 0. The kernel
/// allows 32 (`MAX_PID_NS_LEVEL`), but each level costs the verifier's time at every start,
/// and nobody runs a host's daemon eight containers deep.
const MAX_LEVEL: u32 = 7;

/// Address of a `struct task_struct`.
#[derive(Clone, Copy)]
pub(crate) struct Task(pub(crate) u64);

/// A process by its first thread.
#[derive(Clone, Copy)]
pub(crate) struct Process(u64);

impl Task {
    /// The task that runs now: in a system call the one that made it.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        // SAFETY: the helper has no arguments and cannot fail.
        Self(unsafe { bpf_get_current_task() })
    }

    #[inline(always)]
    pub(crate) fn process(self) -> Process {
        Process(or_zero(self.0, global!(task_leader)))
    }

    /// What it has open under a number.
    #[inline(always)]
    pub(crate) fn file(self, fd: u32) -> File {
        let files: u64 = or_zero(self.0, global!(task_files));
        let table: u64 = or_zero(files, global!(files_table));
        let size: u32 = or_zero(table, global!(table_size));
        if fd >= size {
            return File(0);
        }
        let first: u64 = or_zero(table, global!(table_files));
        File(or_zero(first.wrapping_add(u64::from(fd) * 8), 0))
    }
}

impl Process {
    /// Its number in the daemon's pid namespace; 0: it has none there.
    #[inline(always)]
    pub(crate) fn number(self) -> u32 {
        let pid: u64 = or_zero(self.0, global!(task_pid));
        let levels: u32 = or_zero(pid, global!(pid_level));
        for level in 0..=MAX_LEVEL {
            if level > levels {
                break;
            }
            let at = pid + u64::from(global!(pid_numbers) + level * global!(upid_size));
            let namespace: u64 = or_zero(at, global!(upid_namespace));
            let inode: u32 = or_zero(namespace, global!(pid_namespace_inum));
            if inode == global!(own_pid_namespace) {
                return or_zero(at, 0);
            }
        }
        0
    }

    /// `comm`, NUL-padded.
    #[inline(always)]
    pub(crate) fn name(self) -> [u8; 16] {
        or_zero(self.0, global!(task_comm))
    }
}

/// The backlog that the running `listen()` was given, before `net.core.somaxconn`: only
/// the registers that the task had when it entered the kernel have it still. `None`:
/// the socket listens by another way (io_uring, a kernel thread, a 32-bit process).
#[inline(always)]
pub(crate) fn requested_backlog() -> Option<i32> {
    let call = Call::running()?;
    if call.number != global!(listen_call) {
        return None;
    }
    field::<u64>(call.registers, global!(registers_second)).map(|backlog| backlog as i32)
}

/// The descriptor that the running `accept()` or `accept4()` was given. `None`: as in
/// [`requested_backlog`].
#[inline(always)]
pub(crate) fn accepting_descriptor() -> Option<u32> {
    let call = Call::running()?;
    if call.number != global!(accept_call) && call.number != global!(accept4_call) {
        return None;
    }
    field::<u64>(call.registers, global!(registers_first)).map(|fd| fd as u32)
}

/// A system call, as the registers have it that the task entered the kernel with.
#[derive(Clone, Copy)]
struct Call {
    /// Address of a `struct pt_regs`.
    registers: u64,
    number: u32,
}

impl Call {
    #[inline(always)]
    fn running() -> Option<Self> {
        if global!(registers_call) == 0 {
            return None;
        }
        let registers = if global!(task_stack) == 0 {
            // SAFETY: the helpers take and return the kernel's own pointers.
            unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as u64 }
        } else {
            let stack: u64 = field(Task::current().0, global!(task_stack))?;
            stack + u64::from(global!(stack_to_registers))
        };
        let number: u64 = field(registers, global!(registers_call))?;
        Some(Self { registers, number: number as u32 })
    }
}
