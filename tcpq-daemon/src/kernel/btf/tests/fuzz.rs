//! Any bytes at all: the reader may refuse them, but it returns.
//!
//! `PROPTEST_CASES=100000 cargo test btf::tests::fuzz` looks longer.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    builder::{Blob, FLAG, assemble, sample},
    real,
};
use crate::kernel::btf::Btf;

/// Reads, and asks everything that the undamaged blobs could answer.
fn exercise(bytes: Vec<u8>) {
    let Ok(btf) = Btf::from_bytes(bytes) else {
        return;
    };
    for (structure, path) in [
        ("outer", "first"),
        ("outer", "left"),
        ("outer", "inner.bits"),
        ("outer", "list"),
        ("outer", "absent"),
        ("inner", "whole"),
        ("alias_t", "x"),
        ("cycle", "inside"),
        ("cycle_t", "inside"),
        ("gone", ""),
        ("", ""),
    ] {
        drop(btf.member(structure, path));
    }
    for line in real::FACTS.lines() {
        let mut columns = line.split('\t').skip(1);
        let (name, path) = (columns.next().unwrap_or(""), columns.next().unwrap_or(""));
        drop(btf.member(name, path));
        btf.function_arity(name);
        btf.tracepoint_arity(name);
    }
    for name in ["two", "print", "three", "outer", ""] {
        btf.has_function(name);
        btf.function_arity(name);
        btf.tracepoint_arity(name);
    }
    for variant in ["ON", "BROKEN", "SMALL", "LARGE", "LINUX_MIB_LISTENDROPS", "absent", ""] {
        btf.enum_value(None, variant);
        btf.enum_value(Some("state"), variant);
        btf.enum_value(Some("skb_drop_reason"), variant);
    }
}

/// Types of the right length, with the sample's names and with references to each other at random:
/// the header and the walk over the table have nothing to object to.
fn types() -> impl Strategy<Value = Blob> {
    let names = sample().names();
    let offsets: Vec<u32> = names.iter().map(|&(_, offset)| offset).collect();
    let mut names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
    names.push(String::new());

    let word = prop_oneof![
        4 => 0u32..24,
        3 => proptest::sample::select(offsets),
        1 => Just(0),
        1 => any::<u32>(),
    ];
    // Structs and what may lie between them are worth more than the rest.
    let kind = prop_oneof![Just(4u32), Just(5), Just(8), Just(3), 1u32..20];
    let flag = prop_oneof![Just(0), Just(FLAG)];
    let name = proptest::sample::select(names);
    let record = (name, kind, flag, 0u32..6, word.clone(), vec(word, 3 * 6));
    vec(record, 0..40).prop_map(|records| {
        let mut blob = sample();
        let more = blob.types.len();
        for (name, kind, flag, vlen, last, words) in records {
            let vlen_words = vlen as usize;
            let len = match kind {
                1 | 14 | 17 => 1,
                3 => 3,
                6 | 13 => 2 * vlen_words,
                4 | 5 | 15 | 19 => 3 * vlen_words,
                _ => 0,
            };
            blob.raw(&name, kind | flag, vlen, last, &words[..len]);
        }
        // The random ones come first: of several with one name the first is asked.
        blob.types.rotate_left(more);
        blob
    })
}

#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, u8),
    Word(Index, u32),
    Cut(Index, Index),
    Repeat(Index, Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        8 => any::<(Index, u8)>().prop_map(|(at, byte)| Damage::Byte(at, byte)),
        16 => (any::<Index>(), prop_oneof![0u32..64, any::<u32>()])
            .prop_map(|(at, word)| Damage::Word(at, word)),
        1 => any::<(Index, Index)>().prop_map(|(from, to)| Damage::Cut(from, to)),
        1 => any::<(Index, Index, Index)>().prop_map(|(from, to, at)| Damage::Repeat(from, to, at)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damages: &[Damage]) {
    for damage in damages {
        if bytes.len() < 4 {
            return;
        }
        let len = bytes.len();
        let range = |from: &Index, to: &Index| {
            let (from, to) = (from.index(len), to.index(len));
            from.min(to)..from.max(to)
        };
        match damage {
            Damage::Byte(at, byte) => bytes[at.index(len)] = *byte,
            // All but the strings is words, from the first byte on.
            Damage::Word(at, word) => {
                let at = at.index(len / 4) * 4;
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            Damage::Cut(from, to) => drop(bytes.drain(range(from, to))),
            Damage::Repeat(from, to, at) => {
                let piece = bytes[range(from, to)].to_vec();
                let at = at.index(len);
                bytes.splice(at..at, piece);
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..512)) {
        exercise(bytes);
    }

    #[test]
    fn arbitrary_bytes_behind_a_magic(bytes in vec(any::<u8>(), 0..512)) {
        let mut all = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        all.extend(bytes);
        exercise(all);
    }

    #[test]
    fn arbitrary_types(blob in types()) {
        exercise(blob.bytes());
    }

    #[test]
    fn arbitrary_lengths(
        blob in types(),
        layouts in vec(any::<u8>(), 4 * 128),
        new_kind in 20u32..128,
        cut in 0usize..2000,
    ) {
        let mut blob = blob;
        let at = 4 * new_kind as usize;
        let len = usize::from(layouts[at]) + 2 * usize::from(layouts[at + 1]);
        blob.raw("new", new_kind, 2, 0, &[]);
        blob.types.resize(blob.types.len() + len, 0xff);
        blob.types.rotate_right(12 + len);
        exercise(assemble(&blob.types, &blob.strings, Some(&layouts)));
        let cut = cut.min(blob.types.len());
        exercise(assemble(&blob.types[..cut], &blob.strings, Some(&layouts[..at])));
    }

    #[test]
    fn a_damaged_sample(damages in vec(damage(), 1..8)) {
        let mut bytes = sample().bytes();
        apply(&mut bytes, &damages);
        exercise(bytes);
    }

    /// The lengths are made right again, so that the damage gets past the header.
    #[test]
    fn damaged_sections(types in vec(damage(), 0..8), strings in vec(damage(), 0..3)) {
        let mut blob = sample();
        apply(&mut blob.types, &types);
        apply(&mut blob.strings, &strings);
        blob.strings[0] = 0;
        blob.strings.push(0);
        exercise(blob.bytes());
    }

    #[test]
    fn a_damaged_kernel(damages in vec(damage(), 1..8)) {
        let mut bytes = real::BLOB.to_vec();
        apply(&mut bytes, &damages);
        exercise(bytes);
    }
}

#[test]
fn a_real_blob_cut_anywhere() {
    for len in 0..real::BLOB.len() {
        assert!(Btf::from_bytes(real::BLOB[..len].to_vec()).is_err(), "{len}");
    }
}
