//! What crosses the kernel boundary: map keys and values, ring records, and the
//! read-only globals that carry one running kernel's offsets into the programs.
//!
//! Both halves are built from the same commit and shipped as one file, so there
//! is no versioning: a type changes in both at once. What is proven at compile
//! time is that a type has no padding and no invalid bit pattern ([`wire!`]);
//! what is checked at run time is the size of each record and its kind.

#![no_std]
// An instruction that the compiler may not leave out has no other name on this target.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![allow(unnameable_types, reason = "zerocopy's derives declare helper enums")]

pub mod globals;
pub mod histogram;
pub mod iterator;
pub mod layout;
pub mod listener;
pub mod record;
pub mod totals;

/// `TCP_LISTEN` of the kernel's `include/net/tcp_states.h`; ABI since Linux 2.6.
pub const TCP_LISTEN: u8 = 10;
/// `AF_INET`.
pub const AF_INET: u16 = 2;
/// `AF_INET6`.
pub const AF_INET6: u16 = 10;
