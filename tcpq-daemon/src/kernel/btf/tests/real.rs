//! A real kernel's types, against what a C compiler and bpftool say about them.
//!
//! The blob is cut from a kernel, the facts are not made with this reader:
//! `tests/fixtures/btf/README.md`. The whole BTF of each kernel of the matrix is read in the VMs.

use crate::kernel::btf::{BitField, Btf, Member};

pub(super) const BLOB: &[u8] =
    include_bytes!("../../../../tests/fixtures/btf/vmlinux-6.18.44-x86_64.btf");
pub(super) const FACTS: &str =
    include_str!("../../../../tests/fixtures/btf/vmlinux-6.18.44-x86_64.facts");

#[test]
fn every_fact_holds() {
    let btf = Btf::from_bytes(BLOB.to_vec()).unwrap();
    let number = |text: &str| text.parse::<u32>().unwrap();
    let narrow = |text: &str| text.parse::<u8>().unwrap();
    let mut checked = 0;
    for line in FACTS.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        match *columns.as_slice() {
            ["member", structure, path, offset, size] => {
                let expected =
                    Member { byte_offset: number(offset), size: number(size), bit: None };
                assert_eq!(btf.member(structure, path).unwrap(), expected, "{line}");
            }
            ["bits", structure, path, offset, bit, width] => {
                let field = btf.member(structure, path).unwrap();
                let expected = BitField { bit_offset: narrow(bit), width: narrow(width) };
                assert_eq!(field.byte_offset, number(offset), "{line}");
                assert_eq!(field.bit, Some(expected), "{line}");
            }
            ["value", variant, value] => {
                assert_eq!(btf.enum_value(None, variant), value.parse().ok(), "{line}");
            }
            ["function", name, arity] => {
                assert!(btf.has_function(name), "{line}");
                assert_eq!(btf.function_arity(name), arity.parse().ok(), "{line}");
            }
            ["tracepoint", name, arity] => {
                assert_eq!(btf.tracepoint_arity(name), arity.parse().ok(), "{line}");
            }
            _ => panic!("a fact of no known form: {line}"),
        }
        checked += 1;
    }
    assert_eq!(checked, 84, "facts went missing");
}

#[test]
fn what_never_moved_is_where_it_was() {
    let btf = Btf::from_bytes(BLOB.to_vec()).unwrap();
    for (path, byte_offset, size) in [
        ("__sk_common.skc_num", 14, 2),
        ("__sk_common.skc_family", 16, 2),
        ("__sk_common.skc_state", 18, 1),
        ("__sk_common.skc_net", 48, 8),
        ("__sk_common.skc_v6_rcv_saddr", 72, 16),
    ] {
        let expected = Member { byte_offset, size, bit: None };
        assert_eq!(btf.member("sock", path).unwrap(), expected, "{path}");
    }
}

#[test]
fn what_this_kernel_lacks_is_absent() {
    let btf = Btf::from_bytes(BLOB.to_vec()).unwrap();
    assert!(btf.member("sock", "sk_no_such_field").unwrap_err().is_absence());
    assert!(btf.member("no_such_struct", "field").unwrap_err().is_absence());
    // Gone from kernels since 4.4; and only a forward declaration in this cut.
    assert!(btf.member("listen_sock", "qlen").unwrap_err().is_absence());
    assert!(btf.member("request_sock_ops", "family").unwrap_err().is_absence());
    assert_eq!(btf.function_arity("reqsk_queue_unlink"), None);
    assert_eq!(btf.tracepoint_arity("no_such_tracepoint"), None);
    assert_eq!(btf.enum_value(None, "LINUX_MIB_NO_SUCH"), None);
}
