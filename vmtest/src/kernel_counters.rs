//! The kernel's own counters of one network namespace: the truth.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};

use crate::netns::Netns;

/// The counters of `TcpExt` that concern listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// `ListenOverflows`: refused because the accept queue was full.
    pub listen_overflows: u64,
    /// `ListenDrops`: refused by a listener for any reason.
    pub listen_drops: u64,
    /// `TCPReqQFullDrop`: SYN queue full, no cookies.
    pub syn_queue_full_drops: u64,
    /// `SyncookiesSent`.
    pub cookies_sent: u64,
    /// `SyncookiesRecv`: cookies that came back valid.
    pub cookies_received: u64,
}

impl KernelCounters {
    /// Reads them now.
    pub fn read(netns: &Netns) -> Result<Self> {
        let text = netns.run(|| {
            // `/proc/net` is the main thread's view; this one is the caller's.
            std::fs::read_to_string("/proc/thread-self/net/netstat")
                .context("cannot read /proc/thread-self/net/netstat")
        })?;
        Self::parse(&text)
    }

    /// What happened since `earlier`. The kernel's counters never go back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            listen_overflows: self.listen_overflows - earlier.listen_overflows,
            listen_drops: self.listen_drops - earlier.listen_drops,
            syn_queue_full_drops: self.syn_queue_full_drops - earlier.syn_queue_full_drops,
            cookies_sent: self.cookies_sent - earlier.cookies_sent,
            cookies_received: self.cookies_received - earlier.cookies_received,
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let fields = tcp_ext(text)?;
        let field = |name: &str| {
            let value = fields.get(name).with_context(|| format!("TcpExt has no field {name}"))?;
            value.parse::<u64>().with_context(|| format!("TcpExt {name} is {value}"))
        };
        Ok(Self {
            listen_overflows: field("ListenOverflows")?,
            listen_drops: field("ListenDrops")?,
            syn_queue_full_drops: field("TCPReqQFullDrop")?,
            cookies_sent: field("SyncookiesSent")?,
            cookies_received: field("SyncookiesRecv")?,
        })
    }
}

/// `TcpExt` is two lines: the names, then the values in the same order.
fn tcp_ext(text: &str) -> Result<HashMap<&str, &str>> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        bail!("netstat has no pair of TcpExt lines");
    };
    let (names, values): (Vec<_>, Vec<_>) =
        (names.split_whitespace().collect(), values.split_whitespace().collect());
    if names.len() != values.len() {
        bail!("TcpExt has {} names but {} values", names.len(), values.len());
    }
    Ok(names.into_iter().zip(values).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
TcpExt: SyncookiesSent SyncookiesRecv ListenOverflows ListenDrops TCPReqQFullDrop Odd
TcpExt: 1 2 30 40 5 -1
IpExt: InNoRoutes
IpExt: 7
";

    #[test]
    fn values_are_found_by_name() {
        assert_eq!(
            KernelCounters::parse(TEXT).unwrap(),
            KernelCounters {
                listen_overflows: 30,
                listen_drops: 40,
                syn_queue_full_drops: 5,
                cookies_sent: 1,
                cookies_received: 2,
            }
        );
    }

    #[test]
    fn a_missing_field_is_an_error_and_not_zero() {
        let text = TEXT.replace("ListenDrops", "Renamed");
        let error = KernelCounters::parse(&text).unwrap_err();
        assert_eq!(error.to_string(), "TcpExt has no field ListenDrops");
    }

    #[test]
    fn names_and_values_must_pair_up() {
        assert!(KernelCounters::parse("TcpExt: A B\nTcpExt: 1\n").is_err());
        assert!(KernelCounters::parse("IpExt: A\nIpExt: 1\n").is_err());
    }
}
