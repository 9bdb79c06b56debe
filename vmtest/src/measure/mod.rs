//! What tcpq costs: measured here, on the machine or in the guest that runs this;
//! `cargo xtask bench` collects the figures and judges them.
//!
//! Each benchmark plays its cases in turns, round by round, so that what changes with time
//! changes all of them.

mod connections;
mod daemon;
mod flood;
mod hooks;
mod kernel;
mod line;
mod listeners;
mod load;
mod options;
mod peers;
mod processor;
mod records;
mod scrape;
mod statistics;

use anyhow::{Result, bail};

use self::line::{PREFIX, Said, Sample};
pub use self::options::Options;

/// Runs one benchmark by its name.
pub fn run(name: &str, options: &mut Options) -> Result<()> {
    match name {
        "kernel" => kernel::run(options),
        "load" => load::run(options),
        "flood" => flood::run(options),
        "records" => records::run(options),
        "scrape" => scrape::run(options),
        "daemon" => daemon::run(options),
        other => bail!("there is no benchmark {other:?}"),
    }
}

/// Says a figure.
fn say(case: &str, metric: &str, round: u32, value: f64) {
    say_of(case, metric, "", round, value);
}

/// Says a figure of one part.
fn say_of(case: &str, metric: &str, item: &str, round: u32, value: f64) {
    tell(&Said::Sample(Sample {
        case: case.to_owned(),
        metric: metric.to_owned(),
        item: item.to_owned(),
        round,
        value,
    }));
}

/// Says what a reader of the figures has to know.
fn note(text: impl Into<String>) {
    tell(&Said::Note(text.into()));
}

fn tell(said: &Said) {
    match serde_json::to_string(said) {
        Ok(json) => println!("{PREFIX}{json}"),
        // Not a figure (NaN): the reader misses it, and says so.
        Err(error) => eprintln!("bench: cannot say {said:?}: {error}"),
    }
}
