//! Programs that the daemon runs to read kernel memory, and the rows that they leave.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::programs::RawTracePoint;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::kernel::{
    attach::Attached,
    error::KernelError,
    mapped::Mapped,
    readout::{read_error, take},
    syscall,
};

/// One such program. It is run by one thread only: its rows are those of its last run.
pub(super) struct Reader<T: aya::Pod> {
    program: OwnedFd,
    rows: Mapped<T>,
    /// What is read, for messages.
    what: &'static str,
}

impl<T: FromBytes + IntoBytes + aya::Pod> Reader<T> {
    /// Of a loaded program and the map that it writes to.
    pub(super) fn new(
        attached: &mut Attached,
        name: &'static str,
        map: &'static str,
        what: &'static str,
    ) -> Result<Self, KernelError> {
        let unsupported = |why: String| KernelError::Unsupported { what: "BPF_PROG_TEST_RUN", why };
        let program = attached
            .ebpf
            .program(name)
            .ok_or_else(|| unsupported(format!("the object has no {name}")))?;
        let program: &RawTracePoint =
            program.try_into().map_err(|error| unsupported(format!("{error}")))?;
        let fd = program.fd().map_err(|error| unsupported(error.to_string()))?;
        let program =
            fd.as_fd().try_clone_to_owned().map_err(|source| KernelError::Read { what, source })?;
        let rows = Mapped::new(take(attached, map)?)
            .map_err(|source| KernelError::Read { what, source })?;
        Ok(Self { program, rows, what })
    }

    /// Runs it, and looks at the first `count` of its rows.
    pub(super) fn read<A: IntoBytes + Immutable>(
        &mut self,
        asked: &A,
        count: usize,
    ) -> Result<impl Iterator<Item = Result<T, KernelError>>, KernelError> {
        let Self { program, rows, what } = self;
        syscall::test_run(program.as_fd(), asked)
            .map_err(|source| KernelError::Read { what, source })?;
        let what: &'static str = what;
        Ok((0..count.min(rows.capacity()))
            .map(move |index| rows.read(index).map_err(|error| read_error(what, error))))
    }
}
