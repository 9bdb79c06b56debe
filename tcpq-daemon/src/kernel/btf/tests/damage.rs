//! Headers and sections that are not what they should be.

use std::path::Path;

use super::builder::{Blob, assemble, sample};
use crate::kernel::btf::{Btf, BtfError};

/// What the reader says about these bytes.
fn complaint(bytes: Vec<u8>) -> String {
    Btf::from_bytes(bytes).unwrap_err().to_string()
}

fn patched(at: usize, word: u32) -> Vec<u8> {
    let mut bytes = sample().bytes();
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    bytes
}

#[test]
fn what_is_not_btf_is_named() {
    assert_eq!(
        complaint(vec![0x7f, b'E', b'L', b'F']),
        "not BTF: it starts with 0x457f instead of 0xeb9f",
    );
    assert_eq!(
        complaint(vec![0xeb, 0x9f, 1, 0, 0, 0, 0, 24]),
        "this BTF was written for a big-endian machine; tcpq reads little-endian BTF only",
    );
    assert_eq!(complaint(patched(0, 0x0002_eb9f)), "BTF of version 2; tcpq knows version 1");
    let mut module = Blob::new();
    module.strings = b"name\0".to_vec();
    assert_eq!(
        complaint(module.bytes()),
        "this is a module's BTF, which means nothing without the kernel's; give the kernel's",
    );
}

#[test]
fn a_header_that_is_cut_or_lies_is_refused() {
    let cut_short = |at| {
        format!(
            "the BTF is cut short: its header should end at byte 24, but byte {at} is the last \
             there can be"
        )
    };
    assert_eq!(complaint(Vec::new()), cut_short(0));
    for len in 1..24 {
        assert_eq!(complaint(sample().bytes()[..len].to_vec()), cut_short(len));
    }
    assert_eq!(complaint(patched(4, 23)), cut_short(23));
}

#[test]
fn sections_end_within_the_bytes() {
    let len = sample().bytes().len();
    let huge = u32::MAX;
    for (at, part) in [(8, "type"), (12, "type"), (16, "string"), (20, "string")] {
        let message = complaint(patched(at, huge));
        assert!(message.contains(&format!("its {part} section")), "{message}");
        assert!(message.contains(&format!("byte {len} is the last")), "{message}");
    }
    let mut bytes = assemble(&sample().types, &sample().strings, Some(&[0; 8]));
    bytes[28] = 9;
    assert!(complaint(bytes).contains("its layout section"));
}

#[test]
fn strings_end_within_their_section() {
    let mut blob = sample();
    blob.strings.pop();
    assert_eq!(complaint(blob.bytes()), "the BTF strings do not end with a NUL byte");
    blob.strings.clear();
    assert_eq!(complaint(blob.bytes()), "the BTF strings do not end with a NUL byte");
}

#[test]
fn types_end_within_their_section() {
    let blob = sample();
    for len in 0..blob.types.len() {
        match Btf::from_bytes(assemble(&blob.types[..len], &blob.strings, None)) {
            Ok(btf) => assert!(btf.type_count() < blob.next_id() as usize - 1, "{len}"),
            Err(error) => {
                assert!(matches!(error, BtfError::CutShort { .. }), "{error}");
                assert!(error.to_string().contains("its type "), "{error}");
            }
        }
    }
}

#[test]
fn no_cut_is_taken_for_the_whole() {
    // The strings are the last section, so that each cut leaves too little.
    let bytes = sample().bytes();
    for len in 0..bytes.len() {
        Btf::from_bytes(bytes[..len].to_vec()).unwrap_err();
    }
}

#[test]
fn an_empty_table_is_valid() {
    let btf = Blob::new().read();
    assert_eq!(btf.type_count(), 0);
    assert!(!btf.has_function("any"));
    assert!(btf.member("any", "member").unwrap_err().is_absence());
}

#[test]
fn a_name_outside_of_the_strings_matches_nothing() {
    let mut blob = sample();
    blob.strings = vec![0];
    let btf = blob.read();
    assert!(!btf.has_function("two"));
    assert_eq!(btf.enum_value(None, "ON"), None);
    assert!(btf.member("outer", "first").unwrap_err().is_absence());
}

#[test]
fn kinds_of_the_future_are_stepped_over_where_the_kernel_says_how() {
    const NEW: u32 = 100;
    let mut blob = Blob::new();
    blob.raw("new", NEW, 2, 0, &[1, 2, 3]);
    let int = blob.int("int", 4);
    blob.function("after", &[int]);
    assert_eq!(
        complaint(blob.bytes()),
        "BTF type 1 is of kind 100, which tcpq does not know, and the BTF does not say how long \
         it is",
    );

    // 4 bytes, and 4 more for each of the two elements.
    let mut layouts = vec![0; 4 * (NEW as usize + 1)];
    layouts[400..402].copy_from_slice(&[4, 4]);
    let btf = Btf::from_bytes(assemble(&blob.types, &blob.strings, Some(&layouts))).unwrap();
    assert_eq!(btf.function_arity("after"), Some(1));
    let short = assemble(&blob.types, &blob.strings, Some(&layouts[..400]));
    assert!(complaint(short).contains("of kind 100"));
}

#[test]
fn a_longer_header_is_read_as_far_as_it_is_known() {
    let blob = sample();
    let mut bytes = blob.bytes();
    bytes.splice(24..24, [0xff; 8]);
    bytes[4] = 24 + 8;
    // Read as the place of a layout section, these 8 bytes are out of bounds.
    assert!(complaint(bytes.clone()).contains("its layout section"));
    bytes.drain(28..32);
    bytes[4] = 24 + 4;
    assert_eq!(Btf::from_bytes(bytes).unwrap().function_arity("two"), Some(2));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Btf::read(Path::new("/nonexistent/btf")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the kernel's type information (BTF) from /nonexistent/btf",
    );
    assert!(!error.is_absence());
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_file_without_end_is_refused() {
    let bytes = Btf::read(Path::new("/dev/zero")).unwrap();
    let error = Btf::from_bytes(bytes).unwrap_err();
    assert_eq!(error.to_string(), "more than 67108864 bytes of BTF are refused");
}
