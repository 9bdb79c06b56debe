//! How large the long tests are: whole, or a part of it that every run can afford.

use std::time::Instant;

/// The size of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// A tenth, unless a test says another part.
    Part,
    /// As large as the promise that it proves.
    Whole,
}

impl Scale {
    /// Whole if `TRUTH_FULL` is 1, as `cargo xtask test --full` sets it.
    pub fn from_env() -> Self {
        match std::env::var_os("TRUTH_FULL") {
            Some(value) if value == "1" => Self::Whole,
            _ => Self::Part,
        }
    }

    /// A tenth of `whole`, or all of it.
    pub fn tenth(self, whole: usize) -> usize {
        self.pick(whole / 10, whole)
    }

    /// One of two values.
    pub fn pick<T>(self, part: T, whole: T) -> T {
        match self {
            Self::Part => part,
            Self::Whole => whole,
        }
    }
}

/// Prints the figures of a load, with how long it took: a test that passed says
/// nothing of how much it has shown.
#[derive(Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// From now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// One line.
    pub fn tell(&self, figures: &str) {
        println!("    {figures}, {:.1} s", self.0.elapsed().as_secs_f64());
    }
}
