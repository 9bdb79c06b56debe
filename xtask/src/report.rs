//! What a test run found: counts per plane and kernel, and their sum.

use std::{fmt, ops::AddAssign, time::Duration};

use crate::{failures::Failure, matrix::Matrix};

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0 };
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1 };

    /// Reads the line with which a Rust test program ends:
    /// `test result: ok. 3 passed; 0 failed; ...`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, result) = line.split_once("test result: ")?;
        let (_, counts) = result.split_once(". ")?;
        let mut found = Self::default();
        let mut parts = counts.split(';').map(str::trim);
        found.passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
        found.failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
        Some(found)
    }

    /// Makes a program's other words part of the count: one that failed without
    /// a failed test, or passed without running any, is a failure itself.
    pub(crate) fn judged(self, exit: Exit) -> Self {
        let silent = match exit {
            Exit::Success => self.passed + self.failed == 0,
            Exit::Failure => self.failed == 0,
        };
        Self { failed: self.failed + u64::from(silent), ..self }
    }
}

/// What a test program's exit code said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Success,
    Failure,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// One line of the report.
pub(crate) struct Entry {
    /// The check, plane or kernel series.
    pub(crate) name: String,
    /// Which machine it ran on: a kernel's release and how it was run.
    pub(crate) machine: String,
    pub(crate) counts: Counts,
    pub(crate) took: Duration,
    /// Why it failed, where the counts do not say it.
    pub(crate) note: String,
    /// The tests that failed, where the program named them.
    pub(crate) failures: Vec<Failure>,
}

#[derive(Default)]
pub(crate) struct Report {
    entries: Vec<Entry>,
    /// What each kernel could tell of each scenario.
    pub(crate) matrix: Matrix,
}

impl Report {
    pub(crate) fn add(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    pub(crate) fn total(&self) -> Counts {
        let mut total = Counts::default();
        for entry in &self.entries {
            total += entry.counts;
        }
        total
    }

    /// A run that tested nothing did not pass.
    pub(crate) fn passed(&self) -> bool {
        let total = self.total();
        total.failed == 0 && total.passed > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&Entry) -> &str| self.entries.iter().map(|e| text(e).len()).max();
        let names = width(|entry| &entry.name).unwrap_or(0);
        let machines = width(|entry| &entry.machine).unwrap_or(0);
        for Entry { name, failures, .. } in &self.entries {
            for failure in failures {
                writeln!(f, "failed: {name}: {failure}")?;
            }
        }
        for Entry { name, machine, counts, took, note, failures: _ } in &self.entries {
            let Counts { passed, failed } = counts;
            let line = format!(
                "{name:names$}  {machine:machines$}  {passed:>4} passed {failed:>3} failed {:>6.1} s  {note}",
                took.as_secs_f64()
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        // Alone on its line: other programs look for it.
        writeln!(f, "{}", self.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; \
        0 filtered out; finished in 0.10s";

    #[test]
    fn a_test_result_is_read() {
        assert_eq!(Counts::parse(RESULT), Some(Counts { passed: 12, failed: 3 }));
        assert_eq!(Counts::parse("test queue::full ... ok"), None);
        assert_eq!(Counts::parse("test result: torn"), None);
    }

    #[test]
    fn silence_is_a_failure() {
        let none = Counts::default();
        assert_eq!(none.judged(Exit::Success), Counts::FAILED);
        assert_eq!(Counts::PASSED.judged(Exit::Failure), Counts { passed: 1, failed: 1 });
        assert_eq!(Counts::FAILED.judged(Exit::Failure), Counts::FAILED);
        assert_eq!(Counts::PASSED.judged(Exit::Success), Counts::PASSED);
    }

    fn entry(name: &str, counts: Counts) -> Entry {
        Entry {
            name: name.to_owned(),
            machine: String::new(),
            counts,
            took: Duration::from_millis(1500),
            note: String::new(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn the_report_ends_with_the_sum_alone() {
        let mut report = Report::default();
        assert!(!report.passed(), "nothing was tested");
        report.add(entry("fmt", Counts::PASSED));
        report.add(entry("test", Counts { passed: 40, failed: 0 }));
        assert!(report.passed());
        assert_eq!(report.to_string().lines().last(), Some("41 passed, 0 failed"));
        report.add(entry("6.1", Counts::FAILED));
        assert!(!report.passed());
        assert_eq!(report.to_string().lines().last(), Some("41 passed, 1 failed"));
    }
}
