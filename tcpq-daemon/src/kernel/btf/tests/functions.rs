//! Arities and enum values.

use super::builder::{Blob, ENUM, ENUM64, FLAG, PTR, TYPEDEF, sample};

#[test]
fn functions_have_their_named_parameters() {
    let btf = sample().read();
    assert_eq!(btf.function_arity("two"), Some(2));
    assert_eq!(btf.function_arity("print"), Some(1), "the ... is no parameter");
    assert_eq!(btf.function_arity("absent"), None);
    assert_eq!(btf.function_arity("outer"), None, "a struct is no function");
    assert!(btf.has_function("two"));
    assert!(!btf.has_function("tw"));
    assert!(!btf.has_function("two "));
    assert!(!btf.has_function("outer"));
}

#[test]
fn functions_of_one_name_must_agree() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    blob.function("same", &[int, int]);
    blob.function("same", &[int, int]);
    blob.function("differs", &[int]);
    blob.function("differs", &[int, int]);
    let btf = blob.read();
    assert_eq!(btf.function_arity("same"), Some(2));
    assert_eq!(btf.function_arity("differs"), None);
    assert!(btf.has_function("differs"));
}

#[test]
fn a_function_returns_something_or_nothing() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let alias = blob.alias(TYPEDEF, "bool", int);
    let nothing = blob.alias(TYPEDEF, "nothing", 0);
    for (name, result) in [("int", int), ("bool", alias), ("void", 0), ("alias", nothing)] {
        blob.function_returning(name, result);
    }
    blob.function_returning("differs", int);
    blob.function_returning("differs", 0);
    let btf = blob.read();
    for (name, returns) in [
        ("int", Some(true)),
        ("bool", Some(true)),
        ("void", Some(false)),
        ("alias", Some(false)),
        ("differs", None),
        ("absent", None),
    ] {
        assert_eq!(btf.function_returns(name), returns, "{name}");
    }
}

#[test]
fn tracepoints_hide_their_own_parameter() {
    let mut blob = sample();
    blob.tracepoint("bare", &[1]);
    blob.tracepoint("impossible", &[]);
    let int = blob.int("int", 4);
    let pointer = blob.alias(PTR, "", int);
    blob.alias(TYPEDEF, "btf_trace_pointer", pointer);
    blob.alias(TYPEDEF, "btf_trace_value", int);
    let btf = blob.read();
    assert_eq!(btf.tracepoint_arity("three"), Some(3));
    assert_eq!(btf.tracepoint_arity("bare"), Some(0));
    for odd in ["impossible", "pointer", "value", "absent", ""] {
        assert_eq!(btf.tracepoint_arity(odd), None, "{odd}");
    }
}

#[test]
fn enum_values_have_the_sign_of_their_enum() {
    let mut blob = sample();
    blob.enumeration(ENUM, "plain", &[("HIGH", 0xffff_ffff)]);
    blob.enumeration(ENUM64 | FLAG, "wide", &[("LOW", u64::MAX - 1)]);
    blob.enumeration(ENUM64, "huge", &[("FITS", i64::MAX as u64), ("TOO_LARGE", 1 << 63)]);
    let btf = blob.read();
    for (name, variant, value) in [
        (Some("state"), "ON", Some(1)),
        (Some("state"), "BROKEN", Some(-1)),
        (None, "BROKEN", Some(-1)),
        (None, "SMALL", Some(2)),
        (None, "LARGE", Some(1 << 40)),
        (Some("plain"), "HIGH", Some(0xffff_ffff)),
        (Some("wide"), "LOW", Some(-2)),
        (None, "FITS", Some(i64::MAX)),
        (None, "TOO_LARGE", None),
        (Some("state"), "SMALL", None),
        (Some("absent"), "ON", None),
        (Some("outer"), "first", None),
        (None, "absent", None),
        (None, "", None),
    ] {
        assert_eq!(btf.enum_value(name, variant), value, "{name:?} {variant}");
    }
}

#[test]
fn enums_of_one_name_are_all_searched() {
    let mut blob = Blob::new();
    blob.enumeration(ENUM, "twice", &[("ONE", 1)]);
    blob.enumeration(ENUM, "twice", &[("ONE", 10), ("TWO", 2)]);
    let btf = blob.read();
    assert_eq!(btf.enum_value(Some("twice"), "ONE"), Some(1));
    assert_eq!(btf.enum_value(Some("twice"), "TWO"), Some(2));
}

#[test]
fn more_variants_than_16_bits_count() {
    // Kernels before 7.1 could not write this.
    let mut blob = Blob::new();
    let mut variants = vec![("FILLER", 0); 70_000];
    variants.push(("LAST", 7));
    blob.enumeration(ENUM, "long", &variants);
    blob.function("after", &[]);
    let btf = blob.read();
    assert_eq!(btf.enum_value(Some("long"), "LAST"), Some(7));
    assert!(btf.has_function("after"));
}
