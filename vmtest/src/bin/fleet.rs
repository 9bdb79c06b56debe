//! A fleet in small: `fleet member ROLE` is one host of it, and `fleet` looks at all that
//! `TCPQ_FLEET` names, with a Prometheus. Arguments are those of any Rust test binary.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use libtest_mimic::Arguments;
use tcpq_vmtest::{
    fleet::{Role, member, view},
    puppet,
};

fn main() -> ExitCode {
    if puppet::maybe_play() {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("member") {
        let role = arguments.next().context("a member of a fleet needs a role")?;
        member::run(Role::parse(&role)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut arguments = Arguments::from_args();
    // What each looks at is as the one before has left it.
    arguments.test_threads.get_or_insert(1);
    Ok(libtest_mimic::run(&arguments, view::trials()?).exit_code())
}
