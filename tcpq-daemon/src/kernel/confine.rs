//! Calls that a running daemon never makes: whoever took it over could not make them either.
//!
//! A list of what is forbidden, not of what is allowed: what the libraries call changes with
//! their versions, and a monitor that a new libc stops is worse than one that may call more.
//! Landlock is not used: a process in a Landlock domain may not look at processes outside of it
//! (security/landlock/task.c), which is how owners of listeners are found.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Programs, namespaces, mounts, modules, clocks, keys, other processes' memory.
const NEVER: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
];

/// Commands of bpf(2) that load and attach; those that read stay. include/uapi/linux/bpf.h.
const LOADING: [u64; 4] = [
    5,  // BPF_PROG_LOAD
    8,  // BPF_PROG_ATTACH
    17, // BPF_RAW_TRACEPOINT_OPEN
    18, // BPF_BTF_LOAD
];

/// Why nothing is forbidden.
#[derive(Debug, thiserror::Error)]
#[error("system calls that are not needed cannot be forbidden")]
pub struct ConfineError(#[from] seccompiler::Error);

/// Forbids them to every thread, until the end: they fail with EPERM.
pub fn all_threads() -> Result<(), ConfineError> {
    Ok(seccompiler::apply_filter_all_threads(&program()?)?)
}

fn program() -> Result<BpfProgram, seccompiler::Error> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        NEVER.iter().map(|call| (*call, Vec::new())).collect();
    let loads = LOADING.map(|command| {
        let is_it = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command)?;
        SeccompRule::new(vec![is_it])
    });
    rules.insert(libc::SYS_bpf, loads.into_iter().collect::<Result<_, _>>()?);
    let forbidden = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, forbidden, arch)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::{io, os::fd::AsFd as _, process::Command, thread};

    use rustix::thread::{move_into_link_name_space, set_no_new_privs};

    use super::*;

    #[test]
    fn what_is_forbidden_fails_and_the_rest_goes_on() {
        // Of this thread only.
        let tried = thread::spawn(|| {
            set_no_new_privs(true).unwrap();
            seccompiler::apply_filter(&program().unwrap()).unwrap();
            let file = std::fs::File::open("/proc/self/ns/net").unwrap();
            let namespace = move_into_link_name_space(file.as_fd(), None);
            let read = std::fs::read_to_string("/proc/self/status");
            (Command::new("true").status(), namespace, read.is_ok())
        });
        let (started, namespace, reads) = tried.join().unwrap();
        assert_eq!(started.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(namespace.unwrap_err(), rustix::io::Errno::PERM);
        assert!(reads);
    }
}
