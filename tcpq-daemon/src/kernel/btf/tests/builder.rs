//! Builds BTF by hand, also such as no compiler would write.

use std::collections::HashMap;

pub(super) const INT: u32 = 1;
pub(super) const PTR: u32 = 2;
pub(super) const ARRAY: u32 = 3;
pub(super) const STRUCT: u32 = 4;
pub(super) const UNION: u32 = 5;
pub(super) const ENUM: u32 = 6;
pub(super) const FWD: u32 = 7;
pub(super) const TYPEDEF: u32 = 8;
pub(super) const VOLATILE: u32 = 9;
pub(super) const CONST: u32 = 10;
pub(super) const FUNC: u32 = 12;
pub(super) const FUNC_PROTO: u32 = 13;
pub(super) const TYPE_TAG: u32 = 18;
pub(super) const ENUM64: u32 = 19;

/// `kind_flag`: members hold bit fields, or an enum is signed.
pub(super) const FLAG: u32 = 1 << 31;

/// The types of a blob so far. Each method that adds a type returns its id.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) types: Vec<u8>,
    pub(super) strings: Vec<u8>,
    offsets: HashMap<String, u32>,
    count: u32,
}

impl Blob {
    pub(super) fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], offsets: HashMap::new(), count: 0 }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        *self.offsets.entry(name.to_owned()).or_insert_with(|| {
            let offset = u32::try_from(self.strings.len()).unwrap();
            self.strings.extend_from_slice(name.as_bytes());
            self.strings.push(0);
            offset
        })
    }

    /// All names so far, with where they are.
    pub(super) fn names(&self) -> Vec<(String, u32)> {
        let mut names: Vec<_> = self.offsets.clone().into_iter().collect();
        // A hash map's order differs between runs; a test's must not.
        names.sort_unstable();
        names
    }

    /// The id that the next type gets, for types that refer forward or to themselves.
    pub(super) fn next_id(&self) -> u32 {
        self.count + 1
    }

    /// Any type at all. `kind` may have the flag; `last` is the size or the type; `more` follows.
    pub(super) fn raw(&mut self, name: &str, kind: u32, vlen: u32, last: u32, more: &[u32]) -> u32 {
        let flag = kind & FLAG;
        let info = flag | (kind & !FLAG) << 24 | vlen;
        for word in [self.name(name), info, last].iter().chain(more) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    pub(super) fn int(&mut self, name: &str, bytes: u32) -> u32 {
        self.raw(name, INT, 0, bytes, &[bytes * 8])
    }

    /// A type that only refers to another one.
    pub(super) fn alias(&mut self, kind: u32, name: &str, target: u32) -> u32 {
        self.raw(name, kind, 0, target, &[])
    }

    pub(super) fn array(&mut self, element: u32, len: u32) -> u32 {
        self.raw("", ARRAY, 0, 0, &[element, 0, len])
    }

    /// A struct or union, members given as name, type and offset word.
    pub(super) fn aggregate(
        &mut self,
        kind: u32,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let words: Vec<u32> = members
            .iter()
            .flat_map(|&(member, ty, offset)| [self.name(member), ty, offset])
            .collect();
        self.raw(name, kind, u32::try_from(members.len()).unwrap(), size, &words)
    }

    pub(super) fn enumeration(&mut self, kind: u32, name: &str, variants: &[(&str, u64)]) -> u32 {
        let wide = kind & !FLAG == ENUM64;
        let mut words = Vec::new();
        for &(variant, value) in variants {
            words.extend([self.name(variant), u32::try_from(value & 0xffff_ffff).unwrap()]);
            words.extend(wide.then_some(u32::try_from(value >> 32).unwrap()));
        }
        let size = if wide { 8 } else { 4 };
        self.raw(name, kind, u32::try_from(variants.len()).unwrap(), size, &words)
    }

    /// A prototype whose parameters are of these types; 0 as the last one makes it variadic.
    pub(super) fn prototype(&mut self, parameters: &[u32]) -> u32 {
        let parameter = self.name("argument");
        let words: Vec<u32> =
            parameters.iter().flat_map(|&ty| [if ty == 0 { 0 } else { parameter }, ty]).collect();
        self.raw("", FUNC_PROTO, u32::try_from(parameters.len()).unwrap(), 0, &words)
    }

    /// A function without parameters, by the type that it returns.
    pub(super) fn function_returning(&mut self, name: &str, result: u32) -> u32 {
        let prototype = self.raw("", FUNC_PROTO, 0, result, &[]);
        self.alias(FUNC, name, prototype)
    }

    pub(super) fn function(&mut self, name: &str, parameters: &[u32]) -> u32 {
        let prototype = self.prototype(parameters);
        self.alias(FUNC, name, prototype)
    }

    pub(super) fn tracepoint(&mut self, name: &str, parameters: &[u32]) -> u32 {
        let prototype = self.prototype(parameters);
        let pointer = self.alias(PTR, "", prototype);
        self.alias(TYPEDEF, &format!("btf_trace_{name}"), pointer)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        assemble(&self.types, &self.strings, None)
    }

    pub(super) fn read(&self) -> super::super::Btf {
        super::super::Btf::from_bytes(self.bytes()).unwrap()
    }
}

/// The offset word of a bit field, in a struct with the flag.
pub(super) fn bit_field(width: u32, bit: u32) -> u32 {
    width << 24 | bit
}

/// A blob of these sections, with the header that they need.
pub(super) fn assemble(types: &[u8], strings: &[u8], layouts: Option<&[u8]>) -> Vec<u8> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let mut words = vec![0, len(types), len(types), len(strings)];
    words.extend(layouts.iter().flat_map(|it| [len(types) + len(strings), len(it)]));
    let header_len = 8 + 4 * u32::try_from(words.len()).unwrap();
    words.insert(0, header_len);

    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend_from_slice(types);
    bytes.extend_from_slice(strings);
    bytes.extend_from_slice(layouts.unwrap_or_default());
    bytes
}

/// One of everything, cycles included: what the tests damage.
pub(super) fn sample() -> Blob {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let long = blob.int("long", 8);
    let volatile = blob.alias(VOLATILE, "", int);
    let constant = blob.alias(CONST, "", volatile);
    let alias = blob.alias(TYPEDEF, "alias_t", constant);
    let pointer = blob.alias(PTR, "", alias);
    let array = blob.array(alias, 6);
    let tuple = blob.aggregate(STRUCT, "", 8, &[("left", int, 0), ("right", int, 32)]);
    let either = blob.aggregate(UNION, "", 8, &[("", tuple, 0), ("both", long, 0)]);
    let inner = blob.aggregate(
        STRUCT | FLAG,
        "inner",
        8,
        &[("whole", int, 0), ("bits", int, bit_field(3, 33))],
    );
    let inner = blob.alias(TYPE_TAG, "tag", inner);
    blob.aggregate(
        STRUCT,
        "outer",
        64,
        &[
            ("first", alias, 0),
            ("", either, 64),
            ("inner", inner, 128),
            ("pointer", pointer, 192),
            ("list", array, 256),
        ],
    );
    blob.enumeration(ENUM | FLAG, "state", &[("ON", 1), ("BROKEN", 0xffff_ffff)]);
    blob.enumeration(ENUM, "", &[("SMALL", 2)]);
    blob.enumeration(ENUM64, "", &[("LARGE", 1 << 40)]);
    blob.function("two", &[int, pointer]);
    blob.function("print", &[pointer, 0]);
    blob.tracepoint("three", &[pointer, int, int, long]);
    blob.raw("gone", FWD, 0, 0, &[]);
    let cycle = blob.next_id();
    blob.alias(TYPEDEF, "cycle_t", cycle);
    let own = blob.next_id();
    blob.aggregate(UNION, "cycle", 4, &[("", own, 0), ("", own, 32), ("inside", cycle, 0)]);
    blob
}
