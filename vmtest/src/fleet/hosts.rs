//! Which hosts there are, as the harness says.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};

use super::words;
use crate::bench::Target;

/// What a host is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its server accepts who comes.
    Calm,
    /// Its server does not, and they go on coming.
    Overflowing,
}

impl Role {
    /// As the harness writes it.
    pub fn parse(label: &str) -> Result<Self> {
        match label {
            words::CALM => Ok(Self::Calm),
            words::OVERFLOWING => Ok(Self::Overflowing),
            _ => bail!("{label:?} is no role: {} or {}", words::CALM, words::OVERFLOWING),
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Calm => words::CALM,
            Self::Overflowing => words::OVERFLOWING,
        }
    }
}

/// One host of the fleet, as it is reached from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) target: Target,
    pub(super) role: Role,
    pub(super) address: SocketAddr,
}

impl Host {
    /// Its label `instance`: by name, as `docs/fleet.md` wants it, and without the port.
    pub(super) fn instance(self) -> String {
        format!("guest-{}", self.target.label())
    }

    /// All of them.
    pub(super) fn from_env() -> Result<Vec<Self>> {
        let told = std::env::var(words::MEMBERS)
            .with_context(|| format!("{} does not say which hosts there are", words::MEMBERS))?;
        told.split(',').map(Self::parse).collect()
    }

    fn parse(told: &str) -> Result<Self> {
        let words: Vec<_> = told.split_whitespace().collect();
        let [series, role, address] = words.as_slice() else {
            bail!("{told:?} is not SERIES ROLE ADDRESS");
        };
        let address = address.parse().with_context(|| format!("{address} is no address"))?;
        Ok(Self { target: Target::named(series)?, role: Role::parse(role)?, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read() {
        let host = Host::parse("6.12 overflowing 127.0.0.1:4000").unwrap();
        assert_eq!((host.target, host.role), (Target::V6_12, Role::Overflowing));
        assert_eq!((host.address.port(), host.instance().as_str()), (4_000, "guest-6.12"));
        for wrong in ["", "6.12 calm", "2.4 calm 127.0.0.1:1", "7 busy 127.0.0.1:1", "7 calm x"] {
            assert!(Host::parse(wrong).is_err(), "{wrong}");
        }
    }
}
