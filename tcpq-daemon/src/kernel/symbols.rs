//! Where the kernel's symbols are: one pass over `/proc/kallsyms` for the few names wanted.
//!
//! A line is `ADDRESS TYPE NAME`, and a module's has `\t[MODULE]` after it. The kernel's own come
//! first, then modules, BPF programs and the like; those are not read, since they come and go and
//! are not in the order of their addresses. A name is matched whole: what the compiler split off a
//! function (`NAME.cold`, `NAME.part.0`) is somewhere else and another symbol.

use std::{
    io::{self, BufRead, Read},
    ops::Range,
};

/// Longer lines are no symbols: a name has at most 511 bytes (`KSYM_NAME_LEN`).
const MAX_LINE: u64 = 1024;

/// The symbols that were asked for and are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbols {
    found: Vec<Symbol>,
    hidden: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Symbol {
    name: String,
    address: u64,
    class: Class,
    /// Where the next symbol starts.
    end: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    text: bool,
    global: bool,
}

impl Symbols {
    /// Reads up to the first module. Lines that are no symbols are passed over, also a last one
    /// without its end: its name may be cut.
    pub fn read(mut reader: impl BufRead, wanted: &[&str]) -> io::Result<Self> {
        let mut found: Vec<Symbol> = Vec::new();
        // Kept so that a range does not depend on the order of the lines.
        let mut addresses = Vec::new();
        let mut line = Vec::new();
        let mut in_long_line = false;
        loop {
            line.clear();
            if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let Some(text) = line.strip_suffix(b"\n") else {
                in_long_line = true;
                continue;
            };
            if std::mem::take(&mut in_long_line) {
                continue;
            }
            let Some((address, class, name)) = split(text) else {
                continue;
            };
            if name.contains(&b'\t') {
                break;
            }
            addresses.push(address);
            if let Some(name) = wanted.iter().find(|wanted| wanted.as_bytes() == name) {
                keep(&mut found, name, address, class);
            }
        }

        // The kernel shows all addresses or none (kptr_restrict, perf_event_paranoid, CAP_SYSLOG);
        // some are truly zero: per-CPU variables were counted from there on x86 up to 6.14.
        let hidden = !addresses.is_empty() && addresses.iter().all(|&address| address == 0);
        if hidden {
            found.clear();
        }
        addresses.sort_unstable();
        for symbol in &mut found {
            let next = addresses.partition_point(|&address| address <= symbol.address);
            symbol.end = addresses.get(next).copied();
        }
        Ok(Self { found, hidden })
    }

    /// True where the kernel showed its symbols without their addresses. Nothing is found then.
    pub fn hidden(&self) -> bool {
        self.hidden
    }

    pub fn address(&self, name: &str) -> Option<u64> {
        self.find(name).map(|symbol| symbol.address)
    }

    /// From the first byte of a function to the next symbol, which includes padding; nothing for
    /// data, and for the last symbol of all.
    pub fn range(&self, name: &str) -> Option<Range<u64>> {
        let symbol = self.find(name).filter(|symbol| symbol.class.text)?;
        Some(symbol.address..symbol.end?)
    }

    fn find(&self, name: &str) -> Option<&Symbol> {
        self.found.iter().find(|symbol| symbol.name == name)
    }
}

/// A name may be static in several files. The global one is the one that everybody means; among
/// equals the first stays.
fn keep(found: &mut Vec<Symbol>, name: &str, address: u64, class: Class) {
    match found.iter_mut().find(|symbol| symbol.name == name) {
        None => found.push(Symbol { name: name.to_owned(), address, class, end: None }),
        Some(symbol) if class.global && !symbol.class.global => {
            (symbol.address, symbol.class) = (address, class);
        }
        Some(_) => {}
    }
}

/// The address, the class and the name (with the module, if there is one).
fn split(line: &[u8]) -> Option<(u64, Class, &[u8])> {
    let digits = line.iter().position(|&byte| byte == b' ')?;
    let (address, rest) = line.split_at_checked(digits)?;
    let &[b' ', kind, b' ', ref name @ ..] = rest else {
        return None;
    };
    let valid = matches!(address.len(), 1..=16) && kind.is_ascii_alphabetic() && !name.is_empty();
    let address = address.iter().try_fold(0, |sum: u64, &digit| {
        Some(sum << 4 | u64::from(char::from(digit).to_digit(16)?))
    })?;
    // `w` and `W` are weak symbols, functions here: weak data is `v` and `V`.
    let class = Class {
        text: matches!(kind, b't' | b'T' | b'w' | b'W'),
        global: kind.is_ascii_uppercase(),
    };
    valid.then_some((address, class, name))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    const TABLE: &str = "\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000010 t twin
ffffffff81000020 T wanted
ffffffff81000020 T alias
ffffffff81000030 t wanted.cold
ffffffff81000040 T twin
ffffffff81000050 W weak
ffffffff81000060 D wanted_data
ffffffff81000070 T last
ffffffffc0000000 t wanted_late\t[module]
ffffffffc0000008 T late
";

    fn read(table: &[u8]) -> Symbols {
        let wanted = ["wanted", "twin", "weak", "wanted_data", "last", "late", "wanted_late"];
        Symbols::read(table, &wanted).unwrap()
    }

    #[test]
    fn a_range_ends_where_another_symbol_starts() {
        let symbols = read(TABLE.as_bytes());
        assert!(!symbols.hidden());
        assert_eq!(symbols.address("wanted"), Some(0xffff_ffff_8100_0020));
        assert_eq!(symbols.range("wanted"), Some(0xffff_ffff_8100_0020..0xffff_ffff_8100_0030));
        assert_eq!(symbols.range("weak"), Some(0xffff_ffff_8100_0050..0xffff_ffff_8100_0060));
        assert_eq!(symbols.address("absent"), None);
        assert_eq!(symbols.address("alias"), None, "not asked for");
    }

    #[test]
    fn only_functions_have_a_range() {
        let symbols = read(TABLE.as_bytes());
        assert_eq!(symbols.address("wanted_data"), Some(0xffff_ffff_8100_0060));
        assert_eq!(symbols.range("wanted_data"), None);
    }

    #[test]
    fn modules_are_not_read() {
        let symbols = read(TABLE.as_bytes());
        assert_eq!(symbols.address("last"), Some(0xffff_ffff_8100_0070));
        assert_eq!(symbols.range("last"), None, "a module's symbol does not end the kernel's");
        assert_eq!(symbols.address("wanted_late"), None);
        assert_eq!(symbols.address("late"), None);
    }

    #[test]
    fn a_global_symbol_stands_before_a_local_one() {
        let symbols = read(TABLE.as_bytes());
        assert_eq!(symbols.range("twin"), Some(0xffff_ffff_8100_0040..0xffff_ffff_8100_0050));
        let symbols = read(b"10 T twin\n20 t twin\n30 T twin\n40 t end\n");
        assert_eq!(symbols.range("twin"), Some(0x10..0x20));
    }

    #[test]
    fn the_order_of_the_lines_does_not_matter() {
        let mut lines: Vec<&str> = TABLE.lines().take(10).collect();
        lines.reverse();
        let symbols = read((lines.join("\n") + "\n").as_bytes());
        assert_eq!(symbols.range("wanted"), Some(0xffff_ffff_8100_0020..0xffff_ffff_8100_0030));
    }

    #[test]
    fn hidden_addresses_are_not_addresses() {
        let lines: Vec<String> =
            TABLE.lines().map(|line| format!("{:016}{}\n", 0, &line[16..])).collect();
        let table = lines.concat();
        let symbols = read(table.as_bytes());
        assert!(symbols.hidden());
        assert_eq!(symbols.address("wanted"), None);
        assert_eq!(symbols.range("wanted"), None);
        assert!(!read(b"").hidden(), "nothing was shown, so nothing was hidden");
    }

    #[test]
    fn what_is_no_symbol_is_passed_over() {
        let long = "f".repeat(5000);
        let mut table = Vec::new();
        for line in [
            "",
            " ",
            "wanted",
            "10",
            "10 ",
            "10 T",
            "10 T ",
            "10 T\twanted",
            "10  T wanted",
            "xyz T wanted",
            "+10 T wanted",
            " T wanted",
            "11112222333344445 T wanted",
            "10 ? wanted",
            "10 TT wanted",
            "10 T \u{fffd}",
            &format!("10 T {long}"),
            &long,
            &format!("{} 10 T wanted", " ".repeat(1023)),
            &format!("{}10 T wanted", "f".repeat(1024)),
        ] {
            table.extend_from_slice(line.as_bytes());
            table.push(b'\n');
        }
        table.extend_from_slice(b"\xff\xfe T wanted\n\0\0\n40 T wanted\n50 T end\n");
        assert_eq!(read(&table).range("wanted"), Some(0x40..0x50));
        // The size of the reads does not matter.
        for capacity in [1, 7, 1024] {
            let reader = BufReader::with_capacity(capacity, table.as_slice());
            let symbols = Symbols::read(reader, &["wanted"]).unwrap();
            assert_eq!(symbols.range("wanted"), Some(0x40..0x50));
        }
    }

    #[test]
    fn a_cut_table_has_no_cut_names() {
        let whole = read(TABLE.as_bytes());
        for len in 0..TABLE.len() {
            let symbols = read(&TABLE.as_bytes()[..len]);
            let address = symbols.address("wanted");
            assert!(address.is_none() || address == whole.address("wanted"), "cut at {len}");
        }
        assert_eq!(read(b"10 T wanted").address("wanted"), None, "could be wanted_more");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, pieces: Vec<u16>) {
            read(&bytes);
            let mut table = TABLE.as_bytes().to_vec();
            for (piece, byte) in pieces.iter().zip(&bytes) {
                let at = usize::from(*piece) % table.len();
                table[at] = *byte;
            }
            read(&table);
        }
    }
}
