//! tcpq's kernel side: entry points per backend, one core.
//!
//! An entry point (`attach/`) takes arguments out of its context and calls the
//! core with plain addresses. The core (`calls`, `lifecycle`, `count`, `observe`, `audit`,
//! `emit`) does not know which backend runs it. Kernel memory is read in `read`, through
//! `bpf_probe_read_kernel`, so that all program types share it; what a connection's programs
//! read each time, a trampoline's entry point reads in `direct` and hands over.
//!
//! Every program is in this one object; the daemon loads only those its plan
//! names, so a helper that an old kernel lacks does no harm in a program that
//! stays unloaded there.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// An atomic addition has no other name in Rust on this target.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod attach;
#[cfg(target_arch = "bpf")]
mod audit;
#[cfg(target_arch = "bpf")]
mod calls;
#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod direct;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod globals;
#[cfg(target_arch = "bpf")]
mod lifecycle;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod mib;
#[cfg(target_arch = "bpf")]
mod observe;
#[cfg(target_arch = "bpf")]
mod read;
#[cfg(target_arch = "bpf")]
mod recent;
#[cfg(target_arch = "bpf")]
mod task;

/// Only the BPF target has programs; elsewhere this makes the workspace check and lint.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Most helpers used here are open only to GPL-compatible programs.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
