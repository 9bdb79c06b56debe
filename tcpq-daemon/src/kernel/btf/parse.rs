//! From bytes to a table of where each type starts.
//!
//! Every length and offset is checked here against the bytes that are there, once. What one type
//! says about another (its member's type, its name) is checked where it is followed.

use std::ops::Range;

use super::{
    error::{BtfError, Part},
    record::{Record, Shape, word},
};

/// A distribution's kernel has 4 to 12 MB of BTF. This bounds memory, not kernels.
pub(super) const MAX_BYTES: u64 = 64 << 20;

const MAGIC: u16 = 0xeb9f;

/// Up to and with the string section's length; all kernels have at least this much header.
const MIN_HEADER_LEN: usize = 24;

/// With the layout section's offset and length, which kernels have from 7.1 on.
const LAYOUT_HEADER_LEN: usize = 32;

pub(super) struct Table {
    pub(super) types: Vec<u32>,
    pub(super) strings: Range<usize>,
}

pub(super) fn parse(data: &[u8]) -> Result<Table, BtfError> {
    if data.len() as u64 > MAX_BYTES {
        return Err(BtfError::TooLarge { limit: MAX_BYTES });
    }
    let header = Header::read(data)?;
    let types = header.section(data, Part::TypeSection)?;
    let strings = header.section(data, Part::StringSection)?;
    let layouts = header.section(data, Part::LayoutSection)?;

    match data[strings.clone()] {
        // The empty string opens every base table; a module's table goes on where the kernel's
        // ends and has no need of another one.
        [first, ..] if first != 0 => return Err(BtfError::NotBase),
        [.., 0] => {}
        _ => return Err(BtfError::UnterminatedStrings),
    }
    let types = locate_types(data, types, &data[layouts])?;
    Ok(Table { types, strings })
}

/// `struct btf_header`. Offsets count from the end of the header.
struct Header<'a> {
    words: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(data: &'a [u8]) -> Result<Self, BtfError> {
        let cut_short = |available: usize| BtfError::CutShort {
            part: Part::Header,
            needed: MIN_HEADER_LEN as u64,
            available: available as u64,
        };
        let (magic, rest) = data.split_first_chunk().ok_or_else(|| cut_short(data.len()))?;
        match u16::from_le_bytes(*magic) {
            MAGIC => {}
            other if other == MAGIC.swap_bytes() => return Err(BtfError::ForeignEndian),
            found => return Err(BtfError::NotBtf { found }),
        }
        // Flags (the fourth byte) have no meaning yet.
        match rest.first() {
            None | Some(1) => {}
            Some(&found) => return Err(BtfError::UnknownVersion { found }),
        }
        let len = word(data, 4).ok_or_else(|| cut_short(data.len()))? as usize;
        // A longer header is a newer one: the fields that are known stay where they are.
        match data.get(..len) {
            Some(words) if len >= MIN_HEADER_LEN => Ok(Self { words }),
            _ => Err(cut_short(len.min(data.len()))),
        }
    }

    /// Where the section lies in `data`.
    fn section(&self, data: &[u8], part: Part) -> Result<Range<usize>, BtfError> {
        let header_len = self.words.len();
        let at = match part {
            Part::Header | Part::Type { .. } => return Ok(0..0),
            Part::TypeSection => 8,
            Part::StringSection => 16,
            Part::LayoutSection if header_len < LAYOUT_HEADER_LEN => return Ok(0..0),
            Part::LayoutSection => 24,
        };
        let field = |at| u64::from(word(self.words, at).unwrap_or(0));
        // Three 32-bit numbers cannot overflow 64 bits.
        let start = header_len as u64 + field(at);
        let needed = start + field(at + 4);
        let available = data.len() as u64;
        match (usize::try_from(start), usize::try_from(needed)) {
            (Ok(start), Ok(end)) if needed <= available => Ok(start..end),
            _ => Err(BtfError::CutShort { part, needed, available }),
        }
    }
}

/// The one pass over the type section. Types have different lengths and no index, so that the
/// n-th one can only be found by walking over those before it.
fn locate_types(data: &[u8], section: Range<usize>, layouts: &[u8]) -> Result<Vec<u32>, BtfError> {
    // A type takes about 24 bytes on average; a wrong guess costs one more allocation.
    let mut types = Vec::with_capacity(section.len() / 24);
    let section_end = section.end as u64;
    let mut at = section.start as u64;
    while at < section_end {
        let id = u32::try_from(types.len() + 1).unwrap_or(u32::MAX);
        let cut_short =
            |needed| BtfError::CutShort { part: Part::Type { id }, needed, available: section_end };
        let too_large = |_| BtfError::TooLarge { limit: MAX_BYTES };
        let start = u32::try_from(at).map_err(too_large)?;

        let record =
            Record::read(&data[..section.end], start as usize).ok_or_else(|| cut_short(at + 12))?;
        let shape = match record.kind() {
            Some(kind) => kind.shape(),
            None => described_shape(layouts, record.raw_kind())
                .ok_or(BtfError::UnknownKind { id, kind: record.raw_kind() })?,
        };
        let end = at + record.len(shape);
        if end > section_end {
            return Err(cut_short(end));
        }
        types.push(start);
        at = end;
    }
    Ok(types)
}

/// Since 7.1 a kernel may describe the length of each kind it uses, so that kinds yet to be
/// invented can be stepped over: `struct btf_layout`, one per kind. Kind 0 is no type.
fn described_shape(layouts: &[u8], kind: u32) -> Option<Shape> {
    let (entries, _) = layouts.as_chunks::<4>();
    let &[fixed, element, _flags, _] = entries.get(kind as usize)?;
    (kind != 0).then_some(Shape { fixed, element })
}
