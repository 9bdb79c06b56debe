//! Who has a listener open: a walk over the open files of every process, made by the
//! kernel. A listener that was not known becomes known by it.

use std::{
    io::{self, Read as _},
    os::fd::AsFd as _,
};

use aya::programs::Iter;
use tcpq_common::iterator::HolderRow;

use crate::kernel::{
    attach::Attached, error::KernelError, readout::decode, syscall::BoundIterator,
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
        let mut rows = Vec::new();
        // Row by row, for the kernel holds what it has shown until the read returns.
        let mut row = [0; size_of::<HolderRow>()];
        loop {
            match file.read(&mut row) {
                Ok(0) => return Ok(rows),
                Ok(length) if length < row.len() => {
                    return Err(failed(io::Error::other(format!("a row of {length} bytes"))));
                }
                Ok(_) => {
                    let row: HolderRow = decode(&row, "open files of processes")?;
                    rows.extend((row != HolderRow::ZERO).then_some(row));
                }
                // The kernel breaks off with EAGAIN after a million objects that wrote nothing.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}
