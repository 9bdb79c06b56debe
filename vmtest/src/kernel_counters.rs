//! The kernel's own counters of one network namespace: the truth.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};

use crate::netns::Netns;

/// Declares the counters, each by the name that the kernel has for it.
macro_rules! counters {
    ($($(#[doc = $doc:literal])* $field:ident = $name:literal, $presence:ident;)*) => {
        /// The counters of `TcpExt` that concern listeners.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct KernelCounters {
            $($(#[doc = $doc])* pub $field: u64,)*
        }

        impl KernelCounters {
            /// What happened since `earlier`. The kernel's counters never go back.
            #[must_use]
            pub fn since(self, earlier: Self) -> Self {
                Self { $($field: self.$field - earlier.$field,)* }
            }

            /// Each with the kernel's name for it.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field),)*]
            }

            fn parse(text: &str) -> Result<Self> {
                let fields = tcp_ext(text)?;
                Ok(Self { $($field: field(&fields, $name, Presence::$presence)?,)* })
            }
        }
    };
}

counters! {
    /// `ListenOverflows`: refused because the accept queue was full.
    listen_overflows = "ListenOverflows", Always;
    /// `ListenDrops`: refused by a listener for any reason.
    listen_drops = "ListenDrops", Always;
    /// `TCPReqQFullDrop`: SYN queue full, no cookies.
    syn_queue_full_drops = "TCPReqQFullDrop", Always;
    /// `TCPReqQFullDoCookies`: SYN queue full, or every SYN is to have a cookie.
    syn_queue_full_cookies = "TCPReqQFullDoCookies", Always;
    /// `SyncookiesSent`.
    cookies_sent = "SyncookiesSent", Always;
    /// `SyncookiesRecv`: cookies that came back valid.
    cookies_received = "SyncookiesRecv", Always;
    /// `SyncookiesFailed`: and invalid.
    cookies_failed = "SyncookiesFailed", Always;
    /// `EmbryonicRsts`: requests that a reset, or their own abort, ended.
    embryonic_resets = "EmbryonicRsts", Always;
    /// `TCPDeferAcceptDrop`: bare ACKs that a listener waiting for data dropped.
    deferred = "TCPDeferAcceptDrop", Always;
    /// `TCPSynRetrans`: SYNs sent again, and SYN-ACKs.
    syn_retransmits = "TCPSynRetrans", Always;
    /// `OutOfWindowIcmps`: ICMP errors that quote a wrong sequence number.
    icmp_out_of_window = "OutOfWindowIcmps", Always;
    /// `TCPFastOpenPassive`: connections made of a SYN with data.
    fast_opens = "TCPFastOpenPassive", Always;
    /// `TCPFastOpenPassiveFail`: a SYN's cookie was refused.
    fast_opens_failed = "TCPFastOpenPassiveFail", Always;
    /// `TCPFastOpenListenOverflow`: more of those wait than the listener allows.
    fast_open_overflows = "TCPFastOpenListenOverflow", Always;
    /// `TCPMigrateReqSuccess`: moved from a closed listener to another.
    migrated = "TCPMigrateReqSuccess", Since5_14;
    /// `TCPMigrateReqFailure`: not moved.
    not_migrated = "TCPMigrateReqFailure", Since5_14;
}

/// Which kernels have a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Always,
    /// Where it is absent, what it counts cannot happen.
    Since5_14,
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
}

fn field(fields: &HashMap<&str, &str>, name: &str, presence: Presence) -> Result<u64> {
    match (fields.get(name), presence) {
        (Some(value), _) => value.parse().with_context(|| format!("TcpExt {name} is {value}")),
        (None, Presence::Since5_14) => Ok(0),
        (None, Presence::Always) => bail!("TcpExt has no field {name}"),
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
TcpExt: SyncookiesSent SyncookiesRecv SyncookiesFailed ListenOverflows ListenDrops TCPReqQFullDrop \
TCPReqQFullDoCookies EmbryonicRsts TCPDeferAcceptDrop TCPSynRetrans OutOfWindowIcmps \
TCPFastOpenPassive TCPFastOpenPassiveFail TCPFastOpenListenOverflow Odd
TcpExt: 1 2 3 30 40 5 6 7 8 9 10 11 12 13 -1
IpExt: InNoRoutes
IpExt: 7
";

    #[test]
    fn values_are_found_by_name() {
        let counters = KernelCounters::parse(TEXT).unwrap();
        assert_eq!((counters.listen_overflows, counters.listen_drops), (30, 40));
        assert_eq!((counters.cookies_sent, counters.cookies_failed), (1, 3));
        assert_eq!((counters.fast_open_overflows, counters.migrated), (13, 0));
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
