//! One type as it lies in the bytes: its kind, its length, its members.
//!
//! Nothing here follows a reference from one type to another.

use super::TypeId;

/// `struct btf_type`: name, info, and a size or a type, 32 bits each.
const COMMON_LEN: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Fwd,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::Datasec,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            _ => return None,
        })
    }

    /// What follows the common part. A function has a `vlen` too (its linkage), but no elements.
    pub(super) const fn shape(self) -> Shape {
        let (fixed, element) = match self {
            Self::Int | Self::Var | Self::DeclTag => (4, 0),
            Self::Array => (12, 0),
            Self::Enum | Self::FuncProto => (0, 8),
            Self::Struct | Self::Union | Self::Datasec | Self::Enum64 => (0, 12),
            Self::Ptr
            | Self::Fwd
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Func
            | Self::Float
            | Self::TypeTag => (0, 0),
        };
        Shape { fixed, element }
    }

    /// Kinds that stand before another type without changing how it lies in memory.
    pub(super) const fn is_transparent(self) -> bool {
        matches!(
            self,
            Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag
        )
    }
}

/// How many bytes follow the common part of a type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) fixed: u8,
    pub(super) element: u8,
}

/// A type, with the bytes that follow its common part.
pub(super) struct Record<'a> {
    pub(super) name: u32,
    info: u32,
    size_or_type: u32,
    after: &'a [u8],
}

/// A member of a struct or union. The bit is counted from the start of that struct.
pub(super) struct RawMember {
    pub(super) name: u32,
    pub(super) ty: TypeId,
    pub(super) bit: u32,
    /// Set for a bit field only, and only where the struct stores it here.
    pub(super) width: u8,
}

/// How an integer lies in its bytes. Other than whole bytes from bit 0 on means a bit field in the
/// way older compilers wrote it.
pub(super) struct IntLayout {
    pub(super) bit: u8,
    pub(super) width: u8,
}

impl<'a> Record<'a> {
    pub(super) fn read(data: &'a [u8], at: usize) -> Option<Self> {
        let (common, after) = data.get(at..)?.split_first_chunk::<COMMON_LEN>()?;
        Some(Self {
            name: word(common, 0)?,
            info: word(common, 4)?,
            size_or_type: word(common, 8)?,
            after,
        })
    }

    /// Kernel 7.1 widened the kind from 5 to 7 bits and `vlen` from 16 to 24, out of bits that had
    /// to be zero before, so that one mask reads all versions.
    pub(super) fn raw_kind(&self) -> u32 {
        self.info >> 24 & 0x7f
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        Kind::from_raw(self.raw_kind())
    }

    /// How many elements (members, values, parameters) follow.
    fn vlen(&self) -> usize {
        (self.info & 0x00ff_ffff) as usize
    }

    fn flag(&self) -> bool {
        self.info >> 31 == 1
    }

    /// How many bytes this record takes. At most 12 + 255 + 2^24 * 255, which is below 2^33.
    pub(super) fn len(&self, shape: Shape) -> u64 {
        COMMON_LEN as u64 + u64::from(shape.fixed) + u64::from(shape.element) * self.vlen() as u64
    }

    /// Sound for the kinds that store a size.
    pub(super) fn size(&self) -> u32 {
        self.size_or_type
    }

    /// Sound for the kinds that store a type.
    pub(super) fn target(&self) -> TypeId {
        TypeId(self.size_or_type)
    }

    pub(super) fn is_aggregate(&self) -> bool {
        matches!(self.kind(), Some(Kind::Struct | Kind::Union))
    }

    /// The members of a struct or union; none for any other kind.
    pub(super) fn members(&self) -> impl Iterator<Item = RawMember> {
        let packed = self.flag();
        let count = if self.is_aggregate() { self.vlen() } else { 0 };
        self.elements::<12>(count).map(move |element| {
            let [name, ty, offset] = words(element);
            // With the flag, the top byte is the width of a bit field, or 0 for a plain member.
            let (bit, width) =
                if packed { (offset & 0x00ff_ffff, offset.to_be_bytes()[0]) } else { (offset, 0) };
            RawMember { name, ty: TypeId(ty), bit, width }
        })
    }

    /// The name and the value of each variant of an enum; none for any other kind.
    pub(super) fn variants(&self) -> impl Iterator<Item = (u32, Option<i64>)> {
        let signed = self.flag();
        let narrow = if self.kind() == Some(Kind::Enum) { self.vlen() } else { 0 };
        let wide = if self.kind() == Some(Kind::Enum64) { self.vlen() } else { 0 };
        let narrow = self.elements::<8>(narrow).map(move |element| {
            let [name, value] = words(element);
            let value = if signed { i64::from(value.cast_signed()) } else { i64::from(value) };
            (name, Some(value))
        });
        let wide = self.elements::<12>(wide).map(move |element| {
            let [name, low, high] = words(element);
            let value = u64::from(high) << 32 | u64::from(low);
            let value = if signed { Some(value.cast_signed()) } else { i64::try_from(value).ok() };
            (name, value)
        });
        narrow.chain(wide)
    }

    /// How many parameters a function prototype names. The `...` of a variadic one is stored as a
    /// last parameter without name and type; it is not counted.
    pub(super) fn parameter_count(&self) -> Option<usize> {
        if self.kind() != Some(Kind::FuncProto) {
            return None;
        }
        let last = self.elements::<8>(self.vlen()).last();
        let variadic = last.is_some_and(|element| words(element) == [0, 0]);
        Some(self.vlen() - usize::from(variadic))
    }

    /// The element type and the length of an array.
    pub(super) fn array(&self) -> Option<(TypeId, u32)> {
        if self.kind() != Some(Kind::Array) {
            return None;
        }
        Some((TypeId(word(self.after, 0)?), word(self.after, 8)?))
    }

    pub(super) fn int_layout(&self) -> Option<IntLayout> {
        if self.kind() != Some(Kind::Int) {
            return None;
        }
        let [_encoding, bit, _unused, width] = word(self.after, 0)?.to_be_bytes();
        Some(IntLayout { bit, width })
    }

    fn elements<const LEN: usize>(&self, count: usize) -> impl Iterator<Item = &'a [u8; LEN]> {
        self.after.as_chunks::<LEN>().0.iter().take(count)
    }
}

/// The little-endian word at byte `at`.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// All of an element as words. `LEN` is 4 times `WORDS` wherever this is called; a word without
/// its bytes would read as 0.
fn words<const LEN: usize, const WORDS: usize>(element: &[u8; LEN]) -> [u32; WORDS] {
    const { assert!(LEN == 4 * WORDS, "an element is whole words") };
    std::array::from_fn(|index| word(element, 4 * index).unwrap_or(0))
}
