//! Which listeners are wanted.

use std::{fmt, net::IpAddr, str::FromStr};

use globset::{GlobBuilder, GlobMatcher};

use crate::{
    cli::list::args::FilterArgs,
    model::owner::Owner,
    serve::api::{ListenerDto, OverflowsDto, QueueDto},
};

/// One port, or a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct PortRange {
    first: u16,
    last: u16,
}

/// One address, or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct AddressRange {
    network: IpAddr,
    prefix: u8,
}

/// A pattern for names.
#[derive(Clone)]
pub(in crate::cli) struct NameGlob(GlobMatcher);

impl FilterArgs {
    /// Whether any filter is set.
    pub(in crate::cli) fn is_any(&self) -> bool {
        let Self { port, address, netns, process, cgroup, overflowing } = self;
        *overflowing
            || !(port.is_empty() && address.is_empty())
            || [netns, process, cgroup].iter().any(|globs| !globs.is_empty())
    }

    /// Whether a listener passes all kinds of filters. A group of many addresses does if
    /// one of its sockets does. An owner that is not known matches nothing.
    pub(in crate::cli) fn wants(&self, listener: &ListenerDto) -> bool {
        let Self { port, address, netns, process, cgroup, overflowing } = self;
        let owner_has = |globs: &[NameGlob], name: fn(&Owner) -> Option<&str>| {
            any(globs, |glob| listener.owners.iter().filter_map(name).any(|it| glob.matches(it)))
        };
        any(port, |range| ports(listener).any(|port| range.contains(port)))
            && any(address, |range| addresses(listener).any(|address| range.contains(address)))
            && any(netns, |glob| glob.matches(&listener.netns))
            && owner_has(process, |owner| owner.process.as_deref())
            && owner_has(cgroup, |owner| owner.cgroup.as_deref())
            && (!overflowing || is_overflowing(listener))
    }
}

/// No filter of a kind lets all pass.
fn any<T>(filters: &[T], matches: impl Fn(&T) -> bool) -> bool {
    filters.is_empty() || filters.iter().any(matches)
}

fn ports(listener: &ListenerDto) -> impl Iterator<Item = u16> {
    listener.port.into_iter().chain(listener.members.iter().map(|member| member.port))
}

fn addresses(listener: &ListenerDto) -> impl Iterator<Item = IpAddr> {
    let own = listener.address.parse().ok();
    own.into_iter().chain(listener.members.iter().filter_map(|member| member.address.parse().ok()))
}

fn is_overflowing(listener: &ListenerDto) -> bool {
    let OverflowsDto { syn, ack, cookie } = listener.overflows.unwrap_or_default();
    let has_overflowed = [syn, ack, cookie].into_iter().flatten().any(|count| count > 0);
    has_overflowed
        || is_full(listener.accept_queue)
        || listener.members.iter().any(|member| is_full(member.accept_queue))
}

/// The kernel lets limit + 1 in.
fn is_full(queue: QueueDto) -> bool {
    queue.length > queue.limit
}

impl PortRange {
    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| {
            text.trim().parse().map_err(|_not_a_port: std::num::ParseIntError| {
                format!("{text:?} is no port; examples: 80, 8000-8999")
            })
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            return Err(format!("{first} is more than {last}; example: {last}-{first}"));
        }
        Ok(Self { first, last })
    }
}

impl AddressRange {
    fn contains(self, address: IpAddr) -> bool {
        // A prefix of 0 shifts all bits out, which `checked_shr` calls an overflow.
        let equal = |ours: u128, theirs: u128, bits: u32| {
            let away = bits - u32::from(self.prefix);
            ours.checked_shr(away).unwrap_or(0) == theirs.checked_shr(away).unwrap_or(0)
        };
        match (self.network, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                equal(ours.to_bits().into(), theirs.to_bits().into(), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => equal(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLES: &str = "examples: 127.0.0.1, 10.0.0.0/8, ::1, fd00::/8";
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let network: IpAddr = address
            .trim_matches(['[', ']'])
            .parse()
            .map_err(|_not_one| format!("{address:?} is no IP address; {EXAMPLES}"))?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(text) => text
                .parse()
                .ok()
                .filter(|prefix| *prefix <= most)
                .ok_or_else(|| format!("{text:?} is no prefix of 0 to {most}; {EXAMPLES}"))?,
        };
        Ok(Self { network, prefix })
    }
}

impl NameGlob {
    fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl FromStr for NameGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty pattern matches nothing; example: nginx*".to_owned());
        }
        GlobBuilder::new(text)
            .literal_separator(false)
            .build()
            .map(|glob| Self(glob.compile_matcher()))
            .map_err(|error| format!("{}; example: nginx*", error.kind()))
    }
}

impl fmt::Debug for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.glob().glob().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::list::tests::{listener, owned};

    fn glob(text: &str) -> Vec<NameGlob> {
        vec![text.parse().unwrap()]
    }

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn ports_and_ranges() {
        let contains = |text: &str, port| text.parse::<PortRange>().unwrap().contains(port);
        assert!(contains("80", 80) && !contains("80", 81));
        assert!(contains("80-81", 81) && !contains("80-81", 82));
        for bad in ["", "http", "-1", "70000", "90-80", "1-2-3"] {
            let error = bad.parse::<PortRange>().unwrap_err();
            assert!(error.contains("example"), "{bad}: {error}");
        }
    }

    #[test]
    fn addresses_and_networks() {
        let inside = |text, address: &str| range(text).contains(address.parse().unwrap());
        assert!(inside("127.0.0.1", "127.0.0.1") && !inside("127.0.0.1", "127.0.0.2"));
        assert!(inside("10.0.0.0/8", "10.9.8.7") && !inside("10.0.0.0/8", "11.0.0.0"));
        assert!(inside("0.0.0.0/0", "1.2.3.4") && !inside("0.0.0.0/0", "::"));
        assert!(inside("::/0", "fe80::1") && inside("[::1]", "::1") && !inside("::1", "::2"));
        assert!(inside("fd00::/8", "fdff::1") && !inside("fd00::/8", "fe00::1"));
        for bad in ["", "localhost", "10.0.0.0/33", "::/129", "10.0.0.0/x"] {
            let error = bad.parse::<AddressRange>().unwrap_err();
            assert!(error.contains("examples"), "{bad}: {error}");
        }
    }

    #[test]
    fn kinds_narrow_down_and_one_kind_adds_up() {
        let filters = FilterArgs {
            port: vec!["80".parse().unwrap(), "443".parse().unwrap()],
            process: glob("ngin?"),
            ..FilterArgs::default()
        };
        assert!(filters.wants(&owned(listener(80), "nginx")));
        assert!(filters.wants(&owned(listener(443), "nginx")));
        assert!(!filters.wants(&owned(listener(81), "nginx")));
        assert!(!filters.wants(&owned(listener(80), "haproxy")));
        assert!(!filters.wants(&listener(80)), "an unknown owner matches no name");
        assert!(FilterArgs::default().wants(&listener(80)) && !FilterArgs::default().is_any());
    }

    #[test]
    fn a_star_crosses_the_slashes_of_a_control_group() {
        let filters = FilterArgs { cgroup: glob("*/web.service"), ..FilterArgs::default() };
        let mut web = owned(listener(80), "nginx");
        web.owners[0].cgroup = Some("/system.slice/x.slice/web.service".to_owned());
        assert!(filters.wants(&web));
        assert!("[".parse::<NameGlob>().unwrap_err().contains("example"));
        assert!("".parse::<NameGlob>().is_err());
    }

    #[test]
    fn what_is_full_is_overflowing_even_if_nothing_was_counted() {
        let filters = FilterArgs { overflowing: true, ..FilterArgs::default() };
        let quiet = QueueDto { length: 4, limit: 4 };
        assert!(filters.wants(&listener(80)));
        assert!(!filters.wants(&ListenerDto { accept_queue: quiet, ..listener(80) }));
        let overflows = Some(OverflowsDto { syn: None, ack: Some(1), cookie: None });
        let past = ListenerDto { accept_queue: quiet, overflows, ..listener(80) };
        assert!(filters.wants(&past));
    }
}
