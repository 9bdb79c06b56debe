//! Which listeners are shown: `--listener.include` and `--listener.exclude`.

use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

use globset::{Glob, GlobMatcher};

use crate::model::owner::Owner;

/// Both lists. Without includes everything is included; an exclude wins.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// A listener must match one of them, if there are any.
    pub include: Vec<Pattern>,
    /// A listener that matches one of them is not shown.
    pub exclude: Vec<Pattern>,
}

/// What of a listener is matched.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// On which address it listens; unspecified for a wildcard.
    pub address: IpAddr,
    /// On which port.
    pub port: u16,
    /// Its namespace's name.
    pub netns: &'a str,
    /// Who answers for it.
    pub owner: &'a Owner,
}

impl Filters {
    /// Whether the listener is shown.
    pub fn admit(&self, subject: &Subject<'_>) -> bool {
        let matches = |pattern: &Pattern| pattern.matches(subject);
        (self.include.is_empty() || self.include.iter().any(matches))
            && !self.exclude.iter().any(matches)
    }

    /// Whether there is nothing to match.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

/// `KIND:PATTERN`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Port(RangeInclusive<u16>),
    Address(Network),
    Netns(GlobMatcher),
    Process(GlobMatcher),
    Cgroup(GlobMatcher),
}

impl Pattern {
    /// What is not known matches no glob.
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let known = |glob: &GlobMatcher, text: &Option<String>| {
            text.as_ref().is_some_and(|text| glob.is_match(text))
        };
        match &self.what {
            What::Port(ports) => ports.contains(&subject.port),
            What::Address(network) => network.matches(subject.address),
            What::Netns(glob) => glob.is_match(subject.netns),
            What::Process(glob) => known(glob, &subject.owner.process),
            What::Cgroup(glob) => known(glob, &subject.owner.cgroup),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}`: {reason}; right is, for example, {example}")]
pub struct PatternError {
    pattern: String,
    reason: String,
    example: &'static str,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fail =
            |reason: String, example| PatternError { pattern: text.to_owned(), reason, example };
        let Some((kind, rest)) = text.split_once(':') else {
            let reason = "there is no KIND: before it (and a blank in a glob is written `?`)";
            return Err(fail(reason.to_owned(), "port:443"));
        };
        let glob = |example| glob(rest).map_err(|reason| fail(reason, example));
        let what = match kind {
            "port" => What::Port(ports(rest).map_err(|reason| fail(reason, "port:8000-8999"))?),
            "address" => {
                What::Address(network(rest).map_err(|reason| fail(reason, "address:10.0.0.0/8"))?)
            }
            "netns" => What::Netns(glob("netns:web-*")?),
            "process" => What::Process(glob("process:nginx*")?),
            "cgroup" => What::Cgroup(glob("cgroup:/system.slice/*")?),
            _ => {
                let kinds = "port, address, netns, process or cgroup";
                return Err(fail(format!("the kind is none of {kinds}"), "port:443"));
            }
        };
        Ok(Self { text: text.to_owned(), what })
    }
}

/// Some patterns, separated by blanks: the value of a flag, or of its variable.
#[derive(Clone, Debug, Default)]
pub struct Patterns(pub Vec<Pattern>);

impl FromStr for Patterns {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        text.split_whitespace().map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// No name or path that is matched is longer.
const LONGEST_GLOB: usize = 1024;

fn glob(text: &str) -> Result<GlobMatcher, String> {
    if text.is_empty() {
        return Err("the glob is empty and matches nothing".to_owned());
    }
    if text.len() > LONGEST_GLOB {
        return Err(format!("the glob is longer than {LONGEST_GLOB} bytes"));
    }
    Glob::new(text).map(|glob| glob.compile_matcher()).map_err(|error| error.kind().to_string())
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    if text.contains(',') {
        return Err("it is one port or one range; give the flag once for each".to_owned());
    }
    let port = |text: &str| match text.parse() {
        Ok(0) | Err(_) => Err(format!("`{text}` is no port from 1 to 65535")),
        Ok(port) => Ok(port),
    };
    let Some((first, last)) = text.split_once('-') else {
        return port(text).map(|port| port..=port);
    };
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("the range ends before it begins; {last}-{first} may be meant"));
    }
    Ok(first..=last)
}

/// All addresses that begin like one.
#[derive(Clone, Copy, Debug)]
struct Network {
    address: IpAddr,
    /// Bits that do not matter.
    free_bits: u32,
}

impl Network {
    /// An IPv4 address may be in an IPv6 socket (`::ffff:10.0.0.1`).
    fn matches(self, address: IpAddr) -> bool {
        self.contains(address) || self.contains(address.to_canonical())
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && head(address, self.free_bits) == head(self.address, self.free_bits)
    }
}

/// What is left without the last bits.
fn head(address: IpAddr, free_bits: u32) -> u128 {
    bits(address).checked_shr(free_bits).unwrap_or(0)
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn network(text: &str) -> Result<Network, String> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(format!("`{address}` is no IP address (without brackets)"));
    };
    let width = if address.is_ipv4() { 32 } else { 128 };
    let length = match prefix.map(str::parse) {
        None => width,
        Some(Ok(length)) if length <= width => length,
        Some(_) => return Err(format!("the length of its prefix is not from 0 to {width}")),
    };
    let network = Network { address, free_bits: width - length };
    // 10.1.2.3/8 may mean one address or sixteen million.
    let is_first = bits(address).trailing_zeros() >= network.free_bits;
    if is_first { Ok(network) } else { Err(format!("it has bits beyond its prefix of {length}")) }
}

#[cfg(test)]
mod tests;
