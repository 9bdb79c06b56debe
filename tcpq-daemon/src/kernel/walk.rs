//! Who has a listener open: a walk over the open files of every process, made by the
//! kernel. A listener that was not known becomes known by it.

use std::{
    io::{self, Read as _},
    os::fd::AsFd as _,
};

use aya::programs::Iter;
use tcpq_common::iterator::HolderRow;

use crate::kernel::{
    attach::Attached,
    error::KernelError,
    readout::{complete, decode},
    syscall::BoundIterator,
};

/// The walk, ready to be made again and again, from any thread.
#[derive(Debug)]
pub struct FileWalk(BoundIterator);

impl FileWalk {
    /// Binds the loaded iterator.
    pub fn new(attached: &Attached) -> io::Result<Self> {
        let program = attached
            .ebpf
            .program("it_task_file")
            .ok_or_else(|| io::Error::other("the object has no such iterator"))?;
        let program: &Iter = program.try_into().map_err(io::Error::other)?;
        let program = program.fd().map_err(io::Error::other)?;
        BoundIterator::over_all(program.as_fd()).map(Self)
    }

    /// Every open file that is a TCP listener now, of the processes that are visible in
    /// this pid namespace.
    pub fn walk(&self) -> Result<Vec<HolderRow>, KernelError> {
        let failed = |source| KernelError::Read { what: "open files of processes", source };
        let mut file = self.0.open().map_err(failed)?;
        let mut bytes = Vec::new();
        // The kernel breaks off with EAGAIN after a million objects that wrote nothing.
        while let Err(error) = file.read_to_end(&mut bytes) {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(failed(error));
            }
        }
        let (rows, rest) = bytes.as_chunks::<{ size_of::<HolderRow>() }>();
        complete(rest, "open files of processes")?;
        rows.iter().map(|row| decode(row, "open files of processes")).collect()
    }
}
