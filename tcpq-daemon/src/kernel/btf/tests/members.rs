//! Offsets, sizes and bits, in structs built by hand.

use super::builder::{
    ARRAY, Blob, CONST, FLAG, FUNC, FWD, INT, PTR, STRUCT, TYPE_TAG, TYPEDEF, UNION, VOLATILE,
    bit_field, sample,
};
use crate::kernel::btf::{BitField, BtfError, Member};

fn bytes(byte_offset: u32, size: u32) -> Member {
    Member { byte_offset, size, bit: None }
}

fn bits(byte_offset: u32, size: u32, bit_offset: u8, width: u8) -> Member {
    Member { byte_offset, size, bit: Some(BitField { bit_offset, width }) }
}

#[test]
fn members_are_found_through_anonymous_ones_and_qualifiers() {
    let btf = sample().read();
    for (path, expected) in [
        ("first", bytes(0, 4)),
        ("left", bytes(8, 4)),
        ("right", bytes(12, 4)),
        ("both", bytes(8, 8)),
        ("inner", bytes(16, 8)),
        ("inner.whole", bytes(16, 4)),
        ("inner.bits", bits(20, 1, 1, 3)),
        ("pointer", bytes(24, 8)),
        ("list", bytes(32, 24)),
    ] {
        assert_eq!(btf.member("outer", path).unwrap(), expected, "{path}");
    }
}

#[test]
fn a_path_may_start_at_a_union_or_a_typedef() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let atomic = blob.aggregate(STRUCT, "", 4, &[("counter", int, 0)]);
    blob.alias(TYPEDEF, "atomic_t", atomic);
    blob.aggregate(UNION, "either", 8, &[("one", int, 0), ("other", atomic, 32)]);
    let btf = blob.read();
    assert_eq!(btf.member("atomic_t", "counter").unwrap(), bytes(0, 4));
    assert_eq!(btf.member("either", "other.counter").unwrap(), bytes(4, 4));
}

#[test]
fn bit_fields_are_the_fewest_bytes_that_hold_them() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    blob.aggregate(
        STRUCT | FLAG,
        "packed",
        8,
        &[
            ("plain", int, 32),
            ("bit", int, bit_field(1, 7)),
            ("across", int, bit_field(2, 15)),
            ("three", int, bit_field(10, 23)),
            ("byte", int, bit_field(8, 24)),
        ],
    );
    let btf = blob.read();
    for (path, expected) in [
        ("plain", bytes(4, 4)),
        ("bit", bits(0, 1, 7, 1)),
        ("across", bits(1, 2, 7, 2)),
        ("three", bits(2, 3, 7, 10)),
        ("byte", bits(3, 1, 0, 8)),
    ] {
        assert_eq!(btf.member("packed", path).unwrap(), expected, "{path}");
    }
}

#[test]
fn without_the_flag_the_integer_says_how_wide_a_bit_field_is() {
    let mut blob = Blob::new();
    let narrow = blob.raw("narrow", INT, 0, 4, &[5]);
    let shifted = blob.raw("shifted", INT, 0, 4, &[2 << 16 | 3]);
    blob.aggregate(STRUCT, "old", 8, &[("narrow", narrow, 9), ("shifted", shifted, 16)]);
    let btf = blob.read();
    assert_eq!(btf.member("old", "narrow").unwrap(), bits(1, 1, 1, 5));
    assert_eq!(btf.member("old", "shifted").unwrap(), bits(2, 1, 2, 3));
}

#[test]
fn sizes_follow_arrays_qualifiers_and_enums() {
    let mut blob = Blob::new();
    let short = blob.int("short", 2);
    let row = blob.array(short, 3);
    let row = blob.alias(CONST, "", row);
    let grid = blob.array(row, 5);
    let flexible = blob.array(short, 0);
    let pointer_to_gone = blob.next_id() + 1;
    blob.raw("gone", FWD, 0, 0, &[]);
    blob.alias(PTR, "", pointer_to_gone - 1);
    let pointers = blob.array(pointer_to_gone, 4);
    let tiny = blob.raw("tiny", super::builder::ENUM, 0, 1, &[]);
    blob.aggregate(
        STRUCT,
        "sizes",
        80,
        &[
            ("grid", grid, 0),
            ("pointers", pointers, 256),
            ("tiny", tiny, 512),
            ("flexible", flexible, 640),
        ],
    );
    let btf = blob.read();
    assert_eq!(btf.member("sizes", "grid").unwrap(), bytes(0, 30));
    assert_eq!(btf.member("sizes", "pointers").unwrap(), bytes(32, 32));
    assert_eq!(btf.member("sizes", "tiny").unwrap(), bytes(64, 1));
    assert_eq!(btf.member("sizes", "flexible").unwrap(), bytes(80, 0));
}

#[test]
fn of_several_structs_the_first_with_the_path_answers() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    blob.aggregate(STRUCT, "twice", 8, &[("common", int, 0)]);
    blob.aggregate(STRUCT, "twice", 8, &[("common", int, 32), ("rare", int, 0)]);
    let btf = blob.read();
    assert_eq!(btf.member("twice", "common").unwrap(), bytes(0, 4));
    assert_eq!(btf.member("twice", "rare").unwrap(), bytes(0, 4));
}

#[test]
fn absence_names_what_is_missing() {
    let btf = sample().read();
    for (structure, path, message) in [
        ("nothing", "first", "the kernel's BTF has no struct or union `nothing`"),
        ("", "first", "the kernel's BTF has no struct or union ``"),
        ("int", "first", "the kernel's BTF has no struct or union `int`"),
        ("outer", "lost", "the kernel's `outer` has no `lost` (missing: `lost`)"),
        ("outer", "", "the kernel's `outer` has no `` (missing: ``)"),
        ("outer", "inner.", "the kernel's `outer` has no `inner.` (missing: ``)"),
        ("outer", "inner.lost", "the kernel's `outer` has no `inner.lost` (missing: `lost`)"),
        // Pointers are for the program to follow.
        ("outer", "pointer.x", "the kernel's `outer` has no `pointer.x` (missing: `x`)"),
        ("outer", "inner.bits.x", "the kernel's `outer` has no `inner.bits.x` (missing: `x`)"),
        ("alias_t", "x", "the kernel's `alias_t` has no `x` (missing: `x`)"),
    ] {
        let error = btf.member(structure, path).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(error.is_absence(), "{error}");
    }
}

#[test]
fn cycles_end() {
    let btf = sample().read();
    let error = btf.member("cycle_t", "any").unwrap_err();
    assert!(matches!(error, BtfError::Endless { .. }), "{error}");
    assert!(!error.is_absence());
    let error = btf.member("cycle", "any").unwrap_err();
    assert!(matches!(error, BtfError::Endless { .. }), "{error}");

    let mut blob = Blob::new();
    let own = blob.next_id();
    blob.array(own, 1);
    blob.aggregate(STRUCT, "holder", 8, &[("list", own, 0)]);
    let error = blob.read().member("holder", "list").unwrap_err();
    assert!(matches!(error, BtfError::Endless { .. }), "{error}");
}

#[test]
fn members_that_multiply_at_each_level_are_given_up() {
    let mut blob = Blob::new();
    // 20 levels, each 100 times the one below: not deep, and not to be walked.
    let mut below = blob.aggregate(STRUCT, "", 0, &[]);
    for _ in 0..20 {
        below = blob.aggregate(STRUCT, "", 0, &[("", below, 0); 100]);
    }
    blob.aggregate(STRUCT, "bomb", 0, &[("", below, 0)]);
    let error = blob.read().member("bomb", "any").unwrap_err();
    assert!(matches!(error, BtfError::TooManySteps { .. }), "{error}");
}

#[test]
fn nonsense_is_neither_an_answer_nor_an_absence() {
    let mut blob = Blob::new();
    let long = blob.int("long", 8);
    let gone = blob.raw("gone", FWD, 0, 0, &[]);
    let function = blob.alias(FUNC, "function", 0);
    let vast = blob.raw("", ARRAY, 0, 0, &[long, 0, u32::MAX]);
    let far = blob.aggregate(STRUCT, "", 0, &[("end", long, u32::MAX - 7)]);
    let mut further = far;
    for _ in 0..9 {
        further = blob.aggregate(STRUCT, "", 0, &[("", further, u32::MAX - 7)]);
    }
    let unknown = blob.alias(VOLATILE, "", 99_999);
    blob.aggregate(
        STRUCT,
        "nonsense",
        8,
        &[
            ("dangling", 77_777, 0),
            ("dangling_behind", unknown, 0),
            ("void", 0, 0),
            ("gone", gone, 0),
            ("function", function, 0),
            ("vast", vast, 0),
            ("between", long, 3),
            ("further", further, 0),
        ],
    );
    let btf = blob.read();
    for (path, message) in [
        ("dangling", "a BTF type refers to type 77777, which does not exist"),
        ("dangling_behind", "a BTF type refers to type 99999, which does not exist"),
        ("void", "BTF type 0 has no size"),
        ("gone", "BTF type 2 has no size"),
        ("function", "BTF type 3 has no size"),
        ("vast", "BTF type 4 has no size"),
        ("between", "`nonsense.between` is not at an offset that a kernel could use"),
        ("further.end", "`nonsense.further.end` is not at an offset that a kernel could use"),
    ] {
        let error = btf.member("nonsense", path).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(!error.is_absence(), "{error}");
    }
}

#[test]
fn what_nobody_knows_outweighs_what_is_not_there() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    blob.aggregate(STRUCT, "twice", 8, &[("other", int, 0)]);
    let tagged = blob.alias(TYPE_TAG, "tag", 88_888);
    blob.aggregate(STRUCT, "twice", 8, &[("wanted", tagged, 0)]);
    let error = blob.read().member("twice", "wanted").unwrap_err();
    assert!(matches!(error, BtfError::DanglingType { id: 88_888 }), "{error}");
}
