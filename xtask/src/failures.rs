//! Which tests failed and what they said, from what a test program printed: who sees only the
//! end of a long run must not have to look for it.

use std::fmt;

/// Lines of a test's own words that are kept.
const WORDS: usize = 4;

/// One test that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    test: String,
    words: Vec<String>,
}

impl Failure {
    /// Of something that is no test of a test program.
    pub(crate) fn named(test: &str) -> Self {
        Self { test: test.to_owned(), words: Vec::new() }
    }
}

/// Collects them from the lines of a test program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures {
    found: Vec<Failure>,
    is_speaking: bool,
}

impl Failures {
    /// Takes a line in. Test programs end with `---- NAME ----` and the test's words, for each
    /// that failed.
    pub(crate) fn hear(&mut self, line: &str) {
        let head = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----"));
        if let Some(name) = head {
            let test = name.strip_suffix(" stdout").unwrap_or(name).to_owned();
            self.found.push(Failure { test, words: Vec::new() });
            self.is_speaking = true;
            return;
        }
        let Some(failure) = self.found.last_mut().filter(|_| self.is_speaking) else { return };
        if line.starts_with("--- ") || line.starts_with("failures:") {
            // A log that comes with it, or the list of all.
            self.is_speaking = false;
        } else if !line.trim().is_empty() {
            failure.words.push(line.to_owned());
            self.is_speaking = failure.words.len() < WORDS;
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Failure> {
        self.found
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.test, self.words.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_are_found_with_their_words() {
        let printed = "test a ... ok\n\nfailures:\n\n---- churn ----\ncannot listen\nat all\n\
            --- daemon-0.log\nnoise\n\n---- unit::x stdout ----\n\nthread 'unit::x' panicked at \
            a.rs:1:2:\nleft is not right\n\n\nfailures:\n    churn\n    unit::x\n";
        let mut failures = Failures::default();
        printed.lines().for_each(|line| failures.hear(line));
        let told: Vec<_> = failures.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "churn: cannot listen | at all",
                "unit::x: thread 'unit::x' panicked at a.rs:1:2: | left is not right",
            ]
        );
    }
}
