//! The running kernel's layout, frozen before the programs are loaded.

use aya_ebpf::Global;
use tcpq_common::globals::Globals;

/// Overridden by the daemon (`EbpfLoader::override_global`).
#[unsafe(no_mangle)]
pub(crate) static GLOBALS: Global<Globals> = Global::new(Globals::ZERO);

/// Reads one field. `Global::load` would copy the whole struct to the stack;
/// a volatile read of one field is a constant to the verifier.
macro_rules! global {
    ($field:ident) => {{
        // SAFETY: `Global<T>` is a transparent cell around `T` that nothing
        // writes after load; the read is in bounds and aligned.
        unsafe {
            core::ptr::read_volatile(
                &raw const (*(&raw const $crate::globals::GLOBALS
                    as *const tcpq_common::globals::Globals))
                    .$field,
            )
        }
    }};
}
pub(crate) use global;
