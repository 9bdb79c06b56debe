//! `tcpq incidents`: what happened, who was hurt, why, and what to change.

pub(super) mod args;
pub(super) mod list;
mod plot;
pub(super) mod show;
pub(super) mod when;

use std::io::Write as _;

use anyhow::{Context as _, bail};
use jiff::tz::TimeZone;

use crate::{
    cli::{
        ask::Daemon,
        incidents::args::{ExportArgs, IncidentsArgs, IncidentsCommand, ListArgs, ShowArgs},
        text::{columns, json},
    },
    model::incident::{filter::Filter, record::IncidentRecord},
    serve::{client::ClientError, incidents::IncidentsDto},
};

/// The status of an answer to what does not exist.
const NOT_FOUND: u16 = 404;

pub(super) fn run(args: &IncidentsArgs) -> anyhow::Result<()> {
    match &args.command {
        None => list(&args.list),
        Some(IncidentsCommand::Show(args)) => show(args),
        Some(IncidentsCommand::Export(args)) => export(args),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let told = listed(&Daemon::new(&args.ask)?, &args.filters.filter(args.limit))?;
    let mut out = std::io::stdout().lock();
    if args.json {
        write!(out, "{}", json(&told)?)?;
    } else {
        write!(out, "{}", list::table(&told.incidents, &TimeZone::system()))?;
    }
    Ok(())
}

fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let daemon = Daemon::new(&args.ask)?;
    let Some(record) = one(&daemon, &args.id)? else {
        bail!("there is no incident {}; `tcpq incidents` lists them", args.id);
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        write!(out, "{}", json(&record)?)?;
    } else {
        write!(out, "{}", show::render(&record, columns(), &TimeZone::system()))?;
    }
    Ok(())
}

fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let daemon = Daemon::new(&args.ask)?;
    let told = listed(&daemon, &args.filters.filter(args.limit))?;
    let mut out = std::io::stdout().lock();
    for incident in told.incidents {
        // One may have been let go meanwhile.
        if let Some(record) = one(&daemon, &incident.id.to_string())? {
            serde_json::to_writer(&mut out, &record).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

fn listed(daemon: &Daemon, filter: &Filter) -> anyhow::Result<IncidentsDto> {
    let query = serde_urlencoded::to_string(filter).context("the filters cannot be sent")?;
    Ok(daemon.get(&format!("/api/v1/incidents?{query}"))?)
}

/// `None`: there is none of this name.
fn one(daemon: &Daemon, id: &str) -> anyhow::Result<Option<IncidentRecord>> {
    let plain = !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric());
    if !plain {
        return Ok(None);
    }
    match daemon.get(&format!("/api/v1/incidents/{id}")) {
        Ok(record) => Ok(Some(record)),
        // Where the API is not served at all the answer has no text.
        Err(ClientError::Refused { status: NOT_FOUND, text, .. }) if !text.is_empty() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
