//! Finding types by name.
//!
//! A kernel names about 75 000 types that may be asked for. Their hashes, sorted, take 8 bytes
//! each and one allocation; the names themselves stay in the string table and are compared there.

use std::hash::{DefaultHasher, Hasher};

use super::{
    Btf, TypeId,
    record::{Kind, Record},
};

/// The upper half of each entry is the hash of a name, the lower half the id of the type: sorting
/// them as numbers keeps types of one name in the table's order.
#[derive(Default)]
pub(super) struct NameIndex {
    entries: Vec<u64>,
}

impl NameIndex {
    pub(super) fn build(btf: &Btf) -> Self {
        let mut entries: Vec<u64> = (1u32..)
            .zip(&btf.types)
            .filter_map(|(id, &at)| {
                let record = Record::read(&btf.data, at as usize)?;
                let tail = btf.string_tail(record.name)?;
                let name = tail.split(|&byte| byte == 0).next()?;
                let wanted = is_findable(record.kind()?) && !name.is_empty();
                wanted.then(|| hash(name) | u64::from(id))
            })
            .collect();
        entries.sort_unstable();
        Self { entries }
    }

    /// Types that may have this name, in the table's order.
    fn candidates(&self, name: &str) -> impl Iterator<Item = TypeId> {
        let hash = hash(name.as_bytes());
        let first = self.entries.partition_point(|&entry| entry < hash);
        self.entries[first..]
            .iter()
            .take_while(move |&&entry| entry & HASH == hash)
            .filter_map(|&entry| u32::try_from(entry & !HASH).ok().map(TypeId))
    }
}

impl Btf {
    /// All types of this name and one of these kinds, in the table's order. Names are not unique:
    /// C has scopes, and a kernel is built from thousands of files.
    pub(super) fn named<'a>(
        &'a self,
        name: &'a str,
        kinds: &'a [Kind],
    ) -> impl Iterator<Item = (TypeId, Record<'a>)> {
        self.names.candidates(name).filter_map(move |id| {
            let record = self.record(id)?;
            let matches = kinds.contains(&record.kind()?) && self.name_is(record.name, name);
            matches.then_some((id, record))
        })
    }
}

/// The kinds that somebody asks for by name.
fn is_findable(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Func | Kind::Typedef
    )
}

const HASH: u64 = 0xffff_ffff_0000_0000;

/// Leaves the lower half free for an id.
fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.finish() & HASH
}
