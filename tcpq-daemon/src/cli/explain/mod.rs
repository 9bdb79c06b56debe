//! `tcpq explain`: what limits one listener now, and what would help most.

pub(super) mod args;
mod diagnose;
mod evidence;
pub(super) mod find;
mod render;
mod target;

use std::{
    io::{IsTerminal as _, Write as _},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::cli::{
    ask::{self, Source},
    explain::{
        args::ExplainArgs,
        diagnose::{Diagnosis, diagnose},
        evidence::Evidence,
        find::{Found, Key, find},
        render::render,
    },
    text::{columns, json},
};

/// The JSON form.
#[derive(Serialize)]
struct Report<'a> {
    evidence: &'a Evidence,
    diagnosis: &'a Diagnosis,
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let (evidence, instead) = evidence(args)?;
    let diagnosis = diagnose(&evidence);
    let mut out = std::io::stdout().lock();
    if args.json {
        write!(out, "{}", json(&Report { evidence: &evidence, diagnosis: &diagnosis })?)?;
    } else {
        write!(out, "{}", render(&evidence, &diagnosis, instead.as_deref(), columns()))?;
    }
    Ok(())
}

/// Two readings if somebody counts, else one; and whether it is another listener than was
/// named.
fn evidence(args: &ExplainArgs) -> anyhow::Result<(Evidence, Option<String>)> {
    let (source, first) = ask::listeners(&args.ask)?;
    let asked = Instant::now();
    let Found { listener, instead } = find(&first, &args.target, args.netns.as_deref())?;
    if source == Source::Look {
        return Ok((Evidence::new(source, &first, listener, None), instead));
    }
    wait(args.watch)?;
    let (source, second) = ask::listeners(&args.ask)?;
    let seconds = asked.elapsed().as_secs_f64();
    let evidence = match Key::of(&listener).again(&second) {
        Some(now) => Evidence::new(source, &second, now, Some((seconds, &listener))),
        None => Evidence::new(source, &first, listener, None),
    };
    Ok((evidence, instead))
}

/// Who waits at a terminal is told for what.
fn wait(watch: Duration) -> std::io::Result<()> {
    let mut err = std::io::stderr();
    let told = err.is_terminal();
    if told {
        write!(err, "watching for {} s ...", watch.as_secs_f64())?;
        err.flush()?;
    }
    thread::sleep(watch);
    if told {
        // Back to the start of the line, and erase it.
        write!(err, "\r\u{1b}[K")?;
    }
    Ok(())
}
