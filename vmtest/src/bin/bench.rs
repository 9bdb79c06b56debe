//! Measures what tcpq costs, on the kernel it finds itself on: `bench NAME [SETTING=VALUE...]`.
//!
//! `cargo xtask bench` runs it, here and in guests, and reads its lines.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tcpq_vmtest::{
    helper,
    measure::{self, Options},
    netns, puppet,
};

fn main() -> ExitCode {
    if helper::maybe_hold() || puppet::maybe_play() {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("say which benchmark: bench NAME [SETTING=VALUE...]")?;
    netns::loopback_up().context("cannot bring the loopback interface up (this needs root)")?;
    measure::run(&name, &mut Options::parse(arguments)?)
}
