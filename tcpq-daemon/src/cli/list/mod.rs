//! `tcpq list`: from the daemon if one runs, else by a look of its own.

pub(super) mod args;
pub(super) mod columns;
mod filter;
mod fit;
mod sort;

use std::{collections::BTreeSet, io::Write as _};

use crate::{
    cli::{
        ask,
        list::{
            args::{FilterArgs, ListArgs},
            sort::Turned,
        },
        text::{columns, json},
    },
    model::{
        audit::{NetnsAudit, Unattributed},
        text::printable,
    },
    serve::api::ListenersDto,
};

pub(super) fn run(args: &ListArgs) -> anyhow::Result<()> {
    let (_, mut listeners) = ask::listeners(&args.ask)?;
    let none = select(&mut listeners, &args.filters);
    if let Some(none) = &none {
        writeln!(std::io::stderr(), "{none}")?;
    }
    let turned = if args.reverse { Turned::Round } else { Turned::Forwards };
    sort::sort(&mut listeners.listeners, args.sort, turned);
    let mut out = std::io::stdout().lock();
    if args.json {
        write!(out, "{}", json(&listeners)?)?;
    } else if none.is_none() {
        write!(out, "{}{}", table(&listeners, columns()), audit(&listeners.audit))?;
    }
    Ok(())
}

fn table(listeners: &ListenersDto, most: Option<usize>) -> String {
    if listeners.listeners.is_empty() {
        return "no TCP listeners\n".to_owned();
    }
    fit::render(&listeners.listeners, most)
}

/// Leaves what the filters want, and tells if that is nothing.
fn select(listeners: &mut ListenersDto, filters: &FilterArgs) -> Option<String> {
    if !filters.is_any() {
        return None;
    }
    let before = listeners.listeners.len();
    listeners.listeners.retain(|listener| filters.wants(listener));
    let shown: BTreeSet<_> = listeners.listeners.iter().map(|it| it.netns.clone()).collect();
    listeners.audit.retain(|it| shown.contains(&it.netns));
    listeners.namespaces.retain(|it| shown.contains(&it.netns));
    let none = listeners.listeners.is_empty() && before > 0;
    none.then(|| match before {
        1 => "nothing matches; there is 1 listener without filters".to_owned(),
        _ => format!("nothing matches; there are {before} listeners without filters"),
    })
}

/// The audit of each namespace that had any drop.
fn audit(audit: &[NetnsAudit]) -> String {
    let lines: String = audit
        .iter()
        .filter(|netns| {
            netns.listen_drops > 0
                || netns.unattributed.is_some_and(|it| it != Unattributed::default())
        })
        .map(|netns| audit_line(netns) + "\n")
        .collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// The kernel's counters of a namespace beside the sum of ours.
pub(super) fn audit_line(netns: &NetnsAudit) -> String {
    let NetnsAudit { listen_overflows, listen_drops, .. } = netns;
    let name = printable(&netns.netns);
    let compared = match netns.unattributed {
        Some(Unattributed { overflows: 0, drops: 0 }) => "all attributed".to_owned(),
        Some(Unattributed { overflows, drops }) => {
            format!("{overflows} overflows and {drops} drops NOT attributed")
        }
        None => "not compared yet".to_owned(),
    };
    format!(
        "{name}: the kernel counts {listen_overflows} overflows and {listen_drops} drops, {compared}"
    )
}

#[cfg(test)]
pub(super) mod tests;
