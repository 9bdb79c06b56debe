//! Where in a struct a member is, and how large.

use super::{
    Btf, BtfError, TypeId,
    query::MAX_DEPTH,
    record::{IntLayout, Kind, RawMember, Record},
};

/// All kernels that tcpq runs on are 64-bit ones; BTF itself does not say.
const POINTER_SIZE: u32 = 8;

/// How many members one question may look at. The largest struct of a kernel has some hundreds,
/// anonymous ones included; only damaged BTF has members that multiply without end.
const MAX_STEPS: u32 = 1 << 18;

/// A member of a struct: the bytes to load, and the bits among them where it is a bit field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// From the start of the struct that was asked about.
    pub byte_offset: u32,
    /// The size of the member's type; for a bit field, the fewest bytes from `byte_offset` on that
    /// hold all of it (3 is possible, which is no size for a load).
    pub size: u32,
    pub bit: Option<BitField>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitField {
    /// From the lowest bit of the byte at the member's offset: 0 to 7.
    pub bit_offset: u8,
    pub width: u8,
}

/// What is asked, for the errors, and how much may still be spent on the answer.
struct Search<'q> {
    structure: &'q str,
    path: &'q str,
    steps_left: u32,
}

/// A type at a position. The bit counts from the start of the struct that was asked about.
#[derive(Clone, Copy)]
struct Place {
    ty: TypeId,
    bit: u64,
    width: u8,
}

impl Btf {
    /// Looks up `path` in the struct, union or typedef of one named `structure`.
    ///
    /// The components of the path are separated by dots: `__sk_common.skc_family`. Anonymous
    /// members are looked through, as C does, and so are typedefs and qualifiers; pointers are
    /// not. Where several types have this name, the first that has the path answers.
    pub fn member(&self, structure: &str, path: &str) -> Result<Member, BtfError> {
        let mut search = Search { structure, path, steps_left: MAX_STEPS };
        let mut failure: Option<BtfError> = None;
        let tagged = self.named(structure, &[Kind::Struct, Kind::Union]);
        for (id, _) in tagged.chain(self.named(structure, &[Kind::Typedef])) {
            match self.member_of(id, &mut search) {
                Ok(member) => return Ok(member),
                Err(error @ BtfError::TooManySteps { .. }) => return Err(error),
                // "Nobody knows" outweighs "not here".
                Err(error) if failure.as_ref().is_none_or(BtfError::is_absence) => {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(|| BtfError::NoStructure { structure: structure.to_owned() }))
    }

    fn member_of(&self, root: TypeId, search: &mut Search<'_>) -> Result<Member, BtfError> {
        let mut place = Place { ty: root, bit: 0, width: 0 };
        for component in search.path.split('.') {
            place = self
                .find(place, component, 0, search)?
                .ok_or_else(|| search.no_member(component))?;
        }
        self.describe(place, search)
    }

    /// Looks for a name among the members of the struct at `place`, and among those of its
    /// anonymous members.
    fn find(
        &self,
        place: Place,
        name: &str,
        depth: u32,
        search: &mut Search<'_>,
    ) -> Result<Option<Place>, BtfError> {
        search.step()?;
        if depth > MAX_DEPTH {
            return Err(BtfError::Endless { id: place.ty.0 });
        }
        let Some(record) = self.resolve(place.ty)? else {
            return Ok(None);
        };
        for RawMember { name: member_name, ty, bit, width } in record.members() {
            search.step()?;
            // At most 32 bits more for each component and each depth: far from 64.
            let member = Place { ty, bit: place.bit + u64::from(bit), width };
            if self.name_is(member_name, "") {
                if let Some(found) = self.find(member, name, depth + 1, search)? {
                    return Ok(Some(found));
                }
            } else if self.name_is(member_name, name) {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }

    fn describe(&self, place: Place, search: &Search<'_>) -> Result<Member, BtfError> {
        if place.width != 0 {
            return bit_field(place.bit, place.width).ok_or_else(|| search.absurd_offset());
        }
        // Before BTF had room for the width in the struct, a bit field was a member of an integer
        // type that is narrower than its bytes.
        if let Some(layout) = self.resolve(place.ty)?.as_ref().and_then(odd_int) {
            let bit = place.bit + u64::from(layout.bit);
            return bit_field(bit, layout.width).ok_or_else(|| search.absurd_offset());
        }
        let size = self.size_of(place.ty)?;
        match u32::try_from(place.bit / 8) {
            Ok(byte_offset)
                if place.bit.is_multiple_of(8) && byte_offset.checked_add(size).is_some() =>
            {
                Ok(Member { byte_offset, size, bit: None })
            }
            _ => Err(search.absurd_offset()),
        }
    }

    /// The size of a type in memory.
    fn size_of(&self, start: TypeId) -> Result<u32, BtfError> {
        let sizeless = || BtfError::Sizeless { id: start.0 };
        let (mut ty, mut count) = (start, 1u32);
        for _ in 0..MAX_DEPTH {
            let record = self.resolve(ty)?.ok_or_else(sizeless)?;
            let size = match record.kind() {
                Some(Kind::Array) => {
                    let (element, len) = record.array().ok_or_else(sizeless)?;
                    count = count.checked_mul(len).ok_or_else(sizeless)?;
                    ty = element;
                    continue;
                }
                Some(Kind::Ptr) => POINTER_SIZE,
                Some(
                    Kind::Int
                    | Kind::Struct
                    | Kind::Union
                    | Kind::Enum
                    | Kind::Enum64
                    | Kind::Float,
                ) => record.size(),
                // A forward declaration, a function: C has no member of such a type.
                _ => return Err(sizeless()),
            };
            return count.checked_mul(size).ok_or_else(sizeless);
        }
        Err(BtfError::Endless { id: start.0 })
    }
}

/// The layout of an integer that does not fill its bytes.
fn odd_int(record: &Record<'_>) -> Option<IntLayout> {
    let layout = record.int_layout()?;
    let whole = layout.bit == 0 && u64::from(layout.width) == u64::from(record.size()) * 8;
    (!whole && layout.width != 0).then_some(layout)
}

/// A bit field, or nothing where it lies beyond any struct.
fn bit_field(bit: u64, width: u8) -> Option<Member> {
    let byte_offset = u32::try_from(bit / 8).ok()?;
    let bit_offset = u8::try_from(bit % 8).ok()?;
    let size = (u32::from(bit_offset) + u32::from(width)).div_ceil(8);
    byte_offset.checked_add(size)?;
    Some(Member { byte_offset, size, bit: Some(BitField { bit_offset, width }) })
}

impl Search<'_> {
    fn step(&mut self) -> Result<(), BtfError> {
        match self.steps_left.checked_sub(1) {
            Some(left) => self.steps_left = left,
            None => {
                return Err(BtfError::TooManySteps {
                    structure: self.structure.to_owned(),
                    path: self.path.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn no_member(&self, component: &str) -> BtfError {
        BtfError::NoMember {
            structure: self.structure.to_owned(),
            path: self.path.to_owned(),
            component: component.to_owned(),
        }
    }

    fn absurd_offset(&self) -> BtfError {
        BtfError::AbsurdOffset { structure: self.structure.to_owned(), path: self.path.to_owned() }
    }
}
