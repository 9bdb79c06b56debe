//! What an incident is called.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::model::incident::moment::Moment;

/// Crockford's digits: none is taken for another one when it is read out or typed.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Digits of an id.
const LENGTH: usize = 13;

/// Bits of it that tell listeners apart; those above are the moment.
const OF_LISTENER: u32 = 21;

/// An incident's name: when it opened, and of which listener, in 63 bits. The same recording
/// gives the same name, and names are in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(with = "String", extend("pattern" = "^[0-9a-hjkmnp-tv-z]{13}$")))]
pub struct IncidentId(i64);

/// Not an id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no incident: an id has {LENGTH} letters and digits, as `tcpq incidents` shows it"
)]
pub struct BadId(String);

impl IncidentId {
    /// Of the incident that opened then at the listener of this name.
    pub fn new(opened: Moment, listener: &str) -> Self {
        let moment = (opened.0 << OF_LISTENER) & i64::MAX.cast_unsigned();
        let listener = u64::from(fnv(listener)) & ((1 << OF_LISTENER) - 1);
        Self((moment | listener).cast_signed())
    }

    /// The next one, if this one is taken: two names may have one hash.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// As a database keeps it.
    pub const fn number(self) -> i64 {
        self.0
    }

    /// From a database; `None`: no such id can be.
    pub fn from_number(number: i64) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }
}

/// FNV-1a: the same on every host and in every version.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [b'0'; LENGTH];
        let mut rest = self.0.cast_unsigned();
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS.get((rest & 31) as usize).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        f.pad(str::from_utf8(&digits).unwrap_or_default())
    }
}

impl FromStr for IncidentId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId(text.chars().take(40).collect());
        if text.len() != LENGTH {
            return Err(bad());
        }
        let mut number: u64 = 0;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|digit| *digit == byte.to_ascii_lowercase());
            let digit = digit.ok_or_else(bad)?;
            if number >> 59 != 0 {
                return Err(bad());
            }
            number = (number << 5) | digit as u64;
        }
        i64::try_from(number).ok().map(Self).ok_or_else(bad)
    }
}

impl Serialize for IncidentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IncidentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_in_the_order_of_time_and_differ_by_listener() {
        let at = |ms, name| IncidentId::new(Moment(ms), name);
        let now = 1_795_000_000_000;
        assert!(at(now, "host 0.0.0.0 80") < at(now + 1, "host 0.0.0.0 22"));
        assert_ne!(at(now, "host 0.0.0.0 80"), at(now, "host 0.0.0.0 81"));
        assert_eq!(at(now, "x"), at(now, "x"));
        assert!(at(now, "x").to_string() < at(now + 1, "a").to_string());
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for bad in ["", "0", "zzzzzzzzzzzzz", "01jdk3m8x7q2!", "01jdk3m8x7q2cc", "ilou000000000"] {
            assert!(bad.parse::<IncidentId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_id_is_read_as_it_was_written(number in 0..=i64::MAX) {
            let id = IncidentId::from_number(number).unwrap();
            let text = id.to_string();
            prop_assert_eq!(text.parse(), Ok(id));
            prop_assert_eq!(text.to_uppercase().parse(), Ok(id));
        }
    }
}
