//! What was asked for.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::{cli::list::columns::endpoint, model::text::printable};

/// How a listener is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// On any address.
    Port(u16),
    /// One address and port.
    Endpoint(IpAddr, u16),
    /// All that a process of this name listens on; `~python3` and the like are the groups
    /// of that name.
    Process(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("examples: 443, 127.0.0.1:443, [::1]:443, nginx".to_owned());
        }
        if text.parse::<IpAddr>().is_ok() {
            return Err(format!("an address needs a port; example: {}", endpoint(text, 443)));
        }
        if is_number(text) {
            return port(text).map(Self::Port);
        }
        match text.rsplit_once(':') {
            Some(("" | "*", digits)) => port(digits).map(Self::Port),
            Some((host, digits)) if is_number(digits) => {
                let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
                let address = address.unwrap_or(host).parse().map_err(|_not_one| {
                    format!("{host:?} is no IP address; examples: 127.0.0.1:443, [::1]:443")
                })?;
                Ok(Self::Endpoint(address, port(digits)?))
            }
            _ => Ok(Self::Process(text.to_owned())),
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("{text:?} is no port: 1 to 65535"))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Endpoint(address, port) => f.write_str(&endpoint(&address.to_string(), *port)),
            Self::Process(name) => write!(f, "process {}", printable(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms() {
        let of = |text: &str| text.parse::<Target>().unwrap();
        let at = |address: &str| Target::Endpoint(address.parse().unwrap(), 443);
        assert_eq!(of("443"), Target::Port(443));
        assert_eq!(of(":443"), Target::Port(443));
        assert_eq!(of("*:443"), Target::Port(443));
        assert_eq!(of("127.0.0.1:443"), at("127.0.0.1"));
        assert_eq!(of("[::1]:443"), at("::1"));
        assert_eq!(of("nginx"), Target::Process("nginx".to_owned()));
        assert_eq!(of("a:b"), Target::Process("a:b".to_owned()));
        assert_eq!(of("~python3"), Target::Process("~python3".to_owned()));
    }

    #[test]
    fn what_is_none_says_why() {
        for (bad, why) in [
            ("", "examples"),
            ("0", "1 to 65535"),
            ("65536", "1 to 65535"),
            (":", "1 to 65535"),
            ("127.0.0.1", "127.0.0.1:443"),
            ("::1", "[::1]:443"),
            ("fe80::1:443", "[fe80::1:443]:443"),
            ("localhost:443", "no IP address"),
            ("[::1:443", "no IP address"),
        ] {
            let error = bad.parse::<Target>().unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
