//! Commands, arguments, exit codes.

mod args;
mod ask;
mod config;
mod doctor;
mod exit;
mod explain;
mod incidents;
mod incidents_settings;
mod list;
mod page;
mod pods;
mod series;
mod serve;
mod table;
mod text;
mod time;
mod top;
mod who;

use std::{io::Write as _, process::ExitCode};

use clap::CommandFactory as _;

use crate::cli::config::Given;

/// The command line, for what describes it: manual pages, completions.
pub fn command() -> clap::Command {
    args::Args::command()
}

/// Parses the arguments, runs the command, prints an error once.
pub fn main() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    let result = config::parse(&line).and_then(|Given { args, values }| match &args.command {
        args::Command::Serve(command) => serve::run(command, serve::Reloading::new(line, values)),
        args::Command::List(command) => list::run(command),
        args::Command::Explain(command) => explain::run(command),
        args::Command::Incidents(command) => incidents::run(command),
        args::Command::Top(command) => top::run(command),
        args::Command::Doctor(command) => doctor::run(command),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if exit::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Help and version come this way, too.
            if let Some(error) = error.downcast_ref::<clap::Error>() {
                drop(error.print());
            } else {
                drop(writeln!(std::io::stderr(), "tcpq: {error:#}"));
            }
            ExitCode::from(exit::code(&error))
        }
    }
}
