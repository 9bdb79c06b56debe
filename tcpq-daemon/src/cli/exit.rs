//! Exit codes: a contract, listed in the README.

use crate::{
    app::{listen::ListenError, run_dir::RunDirError},
    cli::{config::file::ConfigError, explain::find::NotOne},
    kernel::error::KernelError,
};

/// Anything without a code of its own.
pub(super) const FAILURE: u8 = 1;
/// What was asked for means more than one thing; clap's code for wrong usage, too.
const USAGE: u8 = 2;
/// A capability is missing.
const NO_PRIVILEGE: u8 = 3;
/// The kernel lacks something that nothing can replace.
const UNSUPPORTED_KERNEL: u8 = 4;
/// The listen address is taken.
const ADDRESS_IN_USE: u8 = 5;
/// Another daemon is running.
const ALREADY_RUNNING: u8 = 6;

/// The code for an error, by what caused it.
pub(super) fn code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<clap::Error>() {
        return u8::try_from(error.exit_code()).unwrap_or(FAILURE);
    }
    for cause in error.chain() {
        if cause.is::<ConfigError>() {
            return USAGE;
        }
        if let Some(error) = cause.downcast_ref::<KernelError>() {
            return match error {
                KernelError::Privilege { .. } | KernelError::Denied { .. } => NO_PRIVILEGE,
                KernelError::NoBtf { .. }
                | KernelError::BadBtf { .. }
                | KernelError::Unsupported { .. } => UNSUPPORTED_KERNEL,
                KernelError::NoProcfs { .. }
                | KernelError::Object { .. }
                | KernelError::Map { .. }
                | KernelError::Read { .. } => FAILURE,
            };
        }
        match cause.downcast_ref::<ListenError>() {
            Some(ListenError::InUse { .. }) => return ADDRESS_IN_USE,
            Some(
                ListenError::Unusable { .. }
                | ListenError::NoneInherited
                | ListenError::NotInherited { .. },
            ) => return FAILURE,
            None => {}
        }
        match cause.downcast_ref::<NotOne>() {
            Some(NotOne::Several { .. }) => return USAGE,
            Some(NotOne::None { .. }) => return FAILURE,
            None => {}
        }
        if let Some(RunDirError::Taken { .. }) = cause.downcast_ref() {
            return ALREADY_RUNNING;
        }
    }
    FAILURE
}

/// Whether the reader of our output went away (`tcpq list | head -1`): no failure.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
