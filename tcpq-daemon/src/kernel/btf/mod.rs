//! What the running kernel says about its own types: a small reader of base (vmlinux) BTF.
//!
//! Offsets, arities and enum values move between kernels and between distributions' builds of one
//! version, so they are looked up, never assumed. `parse` turns bytes into a table of where each
//! type starts, `record` reads one type of that table, `names` finds types by name, and `query`
//! and `member` answer the questions tcpq has. `error` says what can be wrong.
//!
//! The bytes are not trusted, although they usually come from the kernel: a path may be given by
//! hand, and a future kernel may write what this reader has never seen. Whatever the bytes, every
//! call returns, in bounded time and memory; `tests/fuzz.rs` holds it to that.
//!
//! The format: <https://docs.kernel.org/bpf/btf.html>, `include/uapi/linux/btf.h`.

mod error;
mod member;
mod names;
mod parse;
mod query;
mod record;
#[cfg(test)]
mod tests;

use std::{fs::File, io::Read, ops::Range, path::Path, sync::Arc};

pub use self::{
    error::{BtfError, Part},
    member::{BitField, Member},
};
use self::{names::NameIndex, parse::MAX_BYTES, record::Record};

/// The types of one kernel, ready to be asked.
pub struct Btf {
    data: Arc<[u8]>,
    /// Where in `data` each type starts; the type with id 1 is the first one. Id 0 is `void` and
    /// has no record.
    types: Vec<u32>,
    strings: Range<usize>,
    names: NameIndex,
}

/// The number of a type within its table. Any number may be in the bytes, so one of these is a
/// question to the table and not a proof that the type exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TypeId(u32);

impl Btf {
    /// The bytes of a file, which others may read, too.
    pub fn read(path: &Path) -> Result<Arc<[u8]>, BtfError> {
        let mut data = Vec::new();
        // One byte above the limit is enough to learn that there is too much.
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut data))
            .map_err(|source| BtfError::Read { path: path.to_owned(), source })?;
        Ok(data.into())
    }

    pub fn from_bytes(data: impl Into<Arc<[u8]>>) -> Result<Self, BtfError> {
        let data = data.into();
        let table = parse::parse(&data)?;
        let mut btf =
            Self { data, types: table.types, strings: table.strings, names: NameIndex::default() };
        btf.names = NameIndex::build(&btf);
        Ok(btf)
    }

    /// How many types there are, `void` left out.
    pub fn type_count(&self) -> usize {
        self.types.len()
    }

    /// The record of a type; nothing for `void` and for an id that is not in the table.
    fn record(&self, id: TypeId) -> Option<Record<'_>> {
        let index = (id.0 as usize).checked_sub(1)?;
        Record::read(&self.data, *self.types.get(index)? as usize)
    }

    /// The strings from `offset` on: the first NUL ends the one that starts there. Nothing for an
    /// offset outside of the table.
    fn string_tail(&self, offset: u32) -> Option<&[u8]> {
        self.data.get(self.strings.clone())?.get(offset as usize..)
    }

    /// Compares without first looking for the end of the string in the table.
    fn name_is(&self, offset: u32, wanted: &str) -> bool {
        self.string_tail(offset)
            .and_then(|tail| tail.strip_prefix(wanted.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Btf")
            .field("bytes", &self.data.len())
            .field("types", &self.types.len())
            .finish_non_exhaustive()
    }
}
