//! The kernel matrix: which kernels tcpq is proven on, why, and where they come from.

use std::fmt;

use crate::packages::{self, Tool};

/// A release of Debian, or a part of one, with its own package list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    Bullseye,
    BullseyeSecurity,
    Bookworm,
    BookwormSecurity,
    Trixie,
    TrixieBackports,
    Sid,
}

/// The two kinds of archive a mirror is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Archive {
    Main,
    Security,
}

impl Suite {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::BullseyeSecurity => "bullseye-security",
            Self::Bookworm => "bookworm",
            Self::BookwormSecurity => "bookworm-security",
            Self::Trixie => "trixie",
            Self::TrixieBackports => "trixie-backports",
            Self::Sid => "sid",
        }
    }

    pub(crate) const fn archive(self) -> Archive {
        match self {
            Self::BullseyeSecurity | Self::BookwormSecurity => Archive::Security,
            Self::Bullseye | Self::Bookworm | Self::Trixie | Self::TrixieBackports | Self::Sid => {
                Archive::Main
            }
        }
    }
}

/// When a kernel is part of `cargo xtask test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tested {
    Always,
    OnRequest,
}

/// What its guest has besides programs of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    Nothing,
    /// A server, a load and a Prometheus: one kernel is enough.
    Servers,
}

impl Foreign {
    /// Its programs, by the variables that name them to the tests.
    pub(crate) const fn tools(self) -> &'static [(&'static str, &'static Tool)] {
        match self {
            Self::Nothing => &[],
            Self::Servers => &packages::IN_A_GUEST,
        }
    }
}

/// One line of the matrix.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    /// What a version must begin with: `[7]` takes the newest 7.x.
    pub(crate) version: &'static [u32],
    /// In order of preference: the first one that has the series answers.
    pub(crate) suites: &'static [Suite],
    pub(crate) tested: Tested,
    pub(crate) foreign: Foreign,
    pub(crate) why: &'static str,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Oldest first. Security suites come first where they carry the series: their
/// lists are a fraction of the main suite's, and their kernels newer.
pub(crate) const MATRIX: [Series; 8] = [
    Series {
        name: "5.10",
        version: &[5, 10],
        suites: &[Suite::BullseyeSecurity, Suite::Bullseye],
        tested: Tested::Always,
        foreign: Foreign::Nothing,
        why: "the oldest supported; maps count against RLIMIT_MEMLOCK",
    },
    Series {
        name: "6.1",
        version: &[6, 1],
        suites: &[Suite::BookwormSecurity],
        tested: Tested::Always,
        foreign: Foreign::Nothing,
        why: "newest stable update: tcp_v4_syn_recv_sock takes 7 arguments",
    },
    Series {
        name: "6.1-main",
        version: &[6, 1],
        suites: &[Suite::Bookworm],
        tested: Tested::OnRequest,
        foreign: Foreign::Nothing,
        why: "the same series before that update",
    },
    Series {
        name: "6.12",
        version: &[6, 12],
        suites: &[Suite::BookwormSecurity, Suite::Trixie],
        tested: Tested::Always,
        foreign: Foreign::Servers,
        why: "the long-term kernel of current distributions",
    },
    Series {
        name: "6.18",
        version: &[6, 18],
        suites: &[Suite::TrixieBackports],
        tested: Tested::OnRequest,
        foreign: Foreign::Nothing,
        why: "a long-term kernel",
    },
    Series {
        name: "7.1",
        version: &[7, 1],
        suites: &[Suite::TrixieBackports],
        tested: Tested::OnRequest,
        foreign: Foreign::Nothing,
        why: "to find in which kernel something changed",
    },
    Series {
        name: "7.2",
        version: &[7, 2],
        suites: &[Suite::Sid],
        tested: Tested::OnRequest,
        foreign: Foreign::Nothing,
        why: "what the development distribution runs",
    },
    Series {
        name: "7",
        version: &[7],
        suites: &[Suite::TrixieBackports],
        tested: Tested::Always,
        foreign: Foreign::Nothing,
        why: "the newest there is",
    },
];

/// Finds a series by its name in the matrix.
pub(crate) fn find(name: &str) -> Result<&'static Series, String> {
    MATRIX.iter().find(|series| series.name == name).ok_or_else(|| {
        let names: Vec<_> = MATRIX.iter().map(|series| series.name).collect();
        format!("not in the matrix; known are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for series in &MATRIX {
            assert_eq!(find(series.name), Ok(series));
        }
        assert!(find("2.4").is_err_and(|error| error.contains("6.12")));
    }

    #[test]
    fn the_default_set_spans_the_supported_range() {
        let tested = MATRIX.iter().filter(|series| series.tested == Tested::Always);
        let names: Vec<_> = tested.map(|series| series.name).collect();
        assert_eq!(names, ["5.10", "6.1", "6.12", "7"]);
    }
}
