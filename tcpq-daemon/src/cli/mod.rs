//! Commands, arguments, exit codes.

mod args;
mod ask;
mod doctor;
mod exit;
mod explain;
mod incidents_settings;
mod list;
mod pods;
mod series;
mod serve;
mod table;
mod text;
mod time;
mod who;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

/// Parses the arguments, runs the command, prints an error once.
pub fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version come this way, too, with code 0.
            let code = u8::try_from(error.exit_code()).unwrap_or(exit::FAILURE);
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let result = match &args.command {
        args::Command::Serve(command) => serve::run(command),
        args::Command::List(command) => list::run(command),
        args::Command::Explain(command) => explain::run(command),
        args::Command::Doctor(command) => doctor::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if exit::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "tcpq: {error:#}"));
            ExitCode::from(exit::code(&error))
        }
    }
}
