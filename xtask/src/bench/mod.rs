//! `cargo xtask bench`: what tcpq costs, measured, judged against its budgets, and written to
//! `docs/bench`.
//!
//! The program `bench` (in `vmtest`) measures, on this machine or in a guest, and says one
//! figure a line. Here they are collected ([`place`]), summed up ([`summary`], [`figures`]),
//! laid out ([`table`]), judged ([`verdict`]) and published ([`publish`]). To add a
//! benchmark: a module there that measures, a module here with a function that runs it and
//! makes a [`Report`], and a line in [`Bench`].

mod daemon;
mod figures;
mod flood;
mod kernel;
mod load;
mod place;
mod programs;
mod publish;
mod records;
mod scrape;
mod summary;
mod table;
mod verdict;

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use self::{figures::Figures, verdict::Verdict};
use crate::{
    cmd,
    kernels::{self, Series},
};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// Instructions of the kernel for each connection, in guests
    Kernel,
    /// Connections per second of nginx, here and in a guest
    Load,
    /// SYNs per second that a guest's kernel handles
    Flood,
    /// Records per second that the daemon reads here
    Records,
    /// Scrapes of many listeners here, beside ss
    Scrape,
    /// The daemon's memory, idle processor time, start and size here
    Daemon,
}

impl Bench {
    const ALL: [Self; 6] =
        [Self::Kernel, Self::Load, Self::Flood, Self::Records, Self::Scrape, Self::Daemon];

    const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Load => "load",
            Self::Flood => "flood",
            Self::Records => "records",
            Self::Scrape => "scrape",
            Self::Daemon => "daemon",
        }
    }

    fn run(self, wanted: &Wanted) -> Result<Report> {
        match self {
            Self::Kernel => kernel::run(wanted),
            Self::Load => load::run(wanted),
            Self::Flood => flood::run(wanted),
            Self::Records => records::run(wanted),
            Self::Scrape => scrape::run(wanted),
            Self::Daemon => daemon::run(wanted),
        }
    }
}

/// How it is to be measured.
pub(crate) struct Wanted {
    /// In the guests that are named; none: as each benchmark has it.
    pub(crate) kernels: Vec<&'static Series>,
    pub(crate) effort: Effort,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// All that the published page has.
    Whole,
    /// One short round without peers, to see what a change does.
    Quick,
}

impl Wanted {
    /// The kernels that are named, or else these.
    fn kernels_or(&self, usual: &[&str]) -> Result<Vec<&'static Series>> {
        if !self.kernels.is_empty() {
            return Ok(self.kernels.clone());
        }
        usual.iter().map(|name| kernels::find(name).map_err(anyhow::Error::msg)).collect()
    }

    /// Whether the page may have what comes of it.
    fn is_publishable(&self) -> bool {
        self.kernels.is_empty() && self.effort == Effort::Whole
    }
}

/// What came of one benchmark.
pub(crate) struct Report {
    pub(crate) figures: Figures,
    /// Markdown: tables and what is to be said of them.
    pub(crate) text: String,
    pub(crate) verdicts: Vec<Verdict>,
}

/// Runs benchmarks; it succeeds if all of them ran. A budget that is missed is a result, and
/// is told.
pub(crate) fn run(benches: &[Bench], wanted: &Wanted) -> ExitCode {
    let benches = if benches.is_empty() { &Bench::ALL } else { benches };
    let mut code = ExitCode::SUCCESS;
    for bench in benches {
        let outcome = bench.run(wanted).and_then(|report| {
            println!("\n{}\n{}", report.text, verdict::list(&report.verdicts));
            if wanted.is_publishable() {
                publish::publish(bench.name(), &report)
            } else {
                cmd::say("a part of the benchmark only: docs/bench stays as it is");
                Ok(())
            }
        });
        if let Err(error) = outcome {
            cmd::say(format!("bench {}: {error:#}", bench.name()));
            code = ExitCode::FAILURE;
        }
    }
    code
}
