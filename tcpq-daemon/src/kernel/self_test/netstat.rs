//! The kernel's own counters of a network namespace: `/proc/*/net/netstat`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What the scenario moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `ListenOverflows`.
    pub listen_overflows: u64,
    /// `ListenDrops`.
    pub listen_drops: u64,
    /// `EmbryonicRsts`: requests that a reset ended.
    pub embryonic_resets: u64,
}

/// Where the calling thread's namespace shows its counters.
pub fn path(procfs: &Path) -> PathBuf {
    procfs.join("thread-self/net/netstat")
}

/// Reads them.
pub fn read(path: &Path) -> io::Result<Counters> {
    let text = fs::read_to_string(path)?;
    parse(&text).ok_or_else(|| io::Error::other(format!("{}: no TcpExt", path.display())))
}

/// A line of names, then a line of values, both behind the same prefix.
fn parse(text: &str) -> Option<Counters> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some(Counters {
        listen_overflows: value("ListenOverflows")?,
        listen_drops: value("ListenDrops")?,
        embryonic_resets: value("EmbryonicRsts")?,
    })
}

impl Counters {
    /// What was added since `start`.
    #[must_use]
    pub fn since(self, start: Self) -> Self {
        Self {
            listen_overflows: self.listen_overflows.wrapping_sub(start.listen_overflows),
            listen_drops: self.listen_drops.wrapping_sub(start.listen_drops),
            embryonic_resets: self.embryonic_resets.wrapping_sub(start.embryonic_resets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name() {
        let text = "TcpExt: SyncookiesSent EmbryonicRsts ListenOverflows ListenDrops\n\
                    TcpExt: 1 2 3 4\nIpExt: InNoRoutes\nIpExt: 0\n";
        let counters = parse(text).unwrap();
        let Counters { listen_overflows, listen_drops, embryonic_resets } = counters;
        assert_eq!((embryonic_resets, listen_overflows, listen_drops), (2, 3, 4));
        assert_eq!(counters.since(counters), Counters::default());
    }

    #[test]
    fn what_is_cut_is_no_zero() {
        assert_eq!(parse("TcpExt: ListenDrops\n"), None);
        assert_eq!(parse("TcpExt: EmbryonicRsts ListenOverflows ListenDrops\nTcpExt: 2 3\n"), None);
        assert_eq!(parse(""), None);
    }
}
