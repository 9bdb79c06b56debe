//! `cargo xtask test`: the planes, from the code itself to real kernels.

mod fleet;
mod guests;
mod host;
mod kubernetes;
mod package;
mod pure;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    cmd,
    kernels::{MATRIX, Series, Tested},
    report::{Counts, Entry, Report},
    supply,
};

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plane {
    All,
    /// Format, lints, unit tests, dependencies: no kernel involved
    Pure,
    /// Licences, sources, yanked versions and advisories of dependencies: a part of `pure`
    Dependencies,
    /// The truth tests on this machine's kernel
    Host,
    /// The truth tests on the kernels of the matrix
    Vm,
    /// What is released: the tarball, the Debian package, what Kubernetes gets
    Package,
    /// Three guests of different kernels under one Prometheus; else in whole runs only
    Fleet,
}

/// How much of the matrix is booted, and how large the long tests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Default,
    Full,
}

impl Depth {
    /// What tells the truth tests how large they are to be.
    pub(crate) const fn environment(self) -> (&'static str, &'static str) {
        match self {
            Self::Default => (WHOLE_SIZE, "0"),
            Self::Full => (WHOLE_SIZE, "1"),
        }
    }

    /// The kernels to boot; naming some overrides the depth.
    pub(crate) fn kernels(self, named: &[&'static Series]) -> Vec<&'static Series> {
        if !named.is_empty() {
            return named.to_vec();
        }
        let wanted = |series: &&Series| self == Self::Full || series.tested == Tested::Always;
        MATRIX.iter().filter(wanted).collect()
    }
}

/// The truth tests run at their whole size where this is 1.
pub(crate) const WHOLE_SIZE: &str = "TRUTH_FULL";

/// Runs the planes, prints the report, and succeeds only if all of it passed.
pub(crate) fn test(plane: Plane, depth: Depth, kernels: &[&'static Series]) -> ExitCode {
    let mut report = Report::default();
    let wants = |this: Plane| plane == Plane::All || plane == this;
    if wants(Plane::Pure) {
        attempt(&mut report, "pure", pure::run);
    }
    if wants(Plane::Pure) || wants(Plane::Dependencies) {
        attempt(&mut report, "dependencies", supply::check);
    }
    if wants(Plane::Host) {
        attempt(&mut report, "host", |report| host::run(depth, report));
    }
    if wants(Plane::Vm) {
        attempt(&mut report, "vm", |report| guests::run(kernels, depth, report));
    }
    if wants(Plane::Package) {
        attempt(&mut report, "package", |report| package::run(depth, report));
        attempt(&mut report, "kubernetes", kubernetes::run);
    }
    match (plane, depth) {
        (Plane::Fleet, _) | (Plane::All, Depth::Full) => attempt(&mut report, "fleet", fleet::run),
        (Plane::All, Depth::Default) => {
            cmd::say("fleet NOT tested: only with --full, or by itself (cargo xtask test fleet)");
        }
        _ => {}
    }
    print!("\n{}{report}", report.matrix);
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A plane that cannot even start is one failure, and no reason to skip the rest.
fn attempt(report: &mut Report, name: &str, plane: impl FnOnce(&mut Report) -> Result<()>) {
    let start = Instant::now();
    if let Err(error) = plane(report) {
        cmd::say(format!("{name}: {error:#}"));
        report.add(Entry {
            name: name.to_owned(),
            machine: String::new(),
            counts: Counts::FAILED,
            took: start.elapsed(),
            note: "could not run".to_owned(),
            failures: Vec::new(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_matrix_is_more_than_the_default() {
        assert_eq!(Depth::Full.kernels(&[]).len(), MATRIX.len());
        assert!(Depth::Default.kernels(&[]).len() < MATRIX.len());
        assert_eq!(Depth::Default.kernels(&[&MATRIX[2]]), [&MATRIX[2]]);
    }
}
