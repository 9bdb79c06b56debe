//! `tcpq list`: from the daemon if one runs, else by a look of its own.

use std::io::Write as _;

use anyhow::Context as _;
use tcpq_common::totals::Loss;

use crate::{
    app::look,
    cli::{
        args::ListArgs,
        table::{Side, table, text},
    },
    kernel::attach::Limits,
    model::audit::{NetnsAudit, Unattributed},
    serve::{
        api::{ListenerDto, ListenersDto, OverflowsDto, QueueDto},
        client::{self, ClientError, Endpoint},
    },
};

pub(super) fn run(args: &ListArgs) -> anyhow::Result<()> {
    let listeners = listeners(args)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &listeners)?;
        writeln!(out)?;
    } else {
        write!(out, "{}{}", render(&listeners.listeners), audit(&listeners.audit))?;
    }
    Ok(())
}

fn listeners(args: &ListArgs) -> anyhow::Result<ListenersDto> {
    let endpoint = match &args.url {
        Some(url) => Endpoint::Url(url.clone()),
        None => Endpoint::Socket(client::socket_path(&args.paths.run_dir)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no asynchronous runtime")?;
    match runtime.block_on(client::get(&endpoint, "/api/v1/listeners")) {
        Ok(listeners) => Ok(listeners),
        // A URL was meant; without one, no daemon is no error.
        Err(ClientError::NoDaemon { .. }) if args.url.is_none() => {
            let (snapshot, discovery) = look::listeners(&args.paths.roots(), Limits::default())?;
            let mut err = std::io::stderr().lock();
            writeln!(err, "no daemon is running: queues as they are now, nothing was counted")?;
            let untracked = snapshot.losses[Loss::ListenersFull as usize];
            if untracked > 0 {
                writeln!(err, "there are {untracked} more listeners than are shown")?;
            }
            for failure in discovery.failures {
                writeln!(err, "not searched: {failure}")?;
            }
            Ok(ListenersDto::of_a_look(&snapshot))
        }
        Err(error) => Err(error.into()),
    }
}

fn render(listeners: &[ListenerDto]) -> String {
    if listeners.is_empty() {
        return "no TCP listeners\n".to_owned();
    }
    let counted = listeners.iter().any(|listener| listener.overflows.is_some());
    let mut columns = vec![
        ("NETNS", Side::Left),
        ("ADDRESS", Side::Left),
        ("PORT", Side::Right),
        ("ACCEPT-Q", Side::Right),
        ("SYN-Q", Side::Right),
    ];
    if counted {
        columns.extend([
            ("OVERFLOWS SYN", Side::Right),
            ("ACK", Side::Right),
            ("COOKIE", Side::Right),
            ("DROPS", Side::Right),
        ]);
    }
    let mut table = table(&columns);
    for listener in listeners {
        let mut row = vec![
            printable(&listener.netns),
            listener.address.clone(),
            listener.port.map_or_else(|| "-".to_owned(), |port| port.to_string()),
            queue(listener.sockets, listener.accept_queue),
            queue(listener.sockets, listener.syn_queue),
        ];
        if counted {
            let OverflowsDto { syn, ack, cookie } = listener.overflows.unwrap_or_default();
            row.extend([syn, ack, cookie, listener.listen_drops].map(figure));
        }
        table.add_row(row);
    }
    text(&table)
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

fn queue(sockets: u64, queue: QueueDto) -> String {
    if sockets == 0 {
        return "closed".to_owned();
    }
    format!("{}/{}", queue.length, queue.limit)
}

fn figure(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A namespace's name is a file name: anything but control characters.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(port: u16) -> ListenerDto {
        ListenerDto {
            netns: "host".to_owned(),
            address: "0.0.0.0".to_owned(),
            port: Some(port),
            folded: None,
            owners: Vec::new(),
            started: None,
            backlog_requested: None,
            members: Vec::new(),
            sockets: 1,
            accept_queue: QueueDto { length: 5, limit: 4 },
            syn_queue: QueueDto { length: 0, limit: 4 },
            overflows: None,
            listen_drops: None,
            syn_drops: None,
            requests_lost: None,
            cookies_sent: None,
            cookies_validated: None,
            cookies_failed: None,
            synack_retransmits: None,
            syns_received: None,
            enqueued: None,
            accepts: None,
            abandoned: None,
        }
    }

    #[test]
    fn without_a_daemon_there_are_no_counters() {
        let text = render(&[listener(80)]);
        assert_eq!(
            text,
            "NETNS  ADDRESS  PORT  ACCEPT-Q  SYN-Q\nhost   0.0.0.0    80       5/4    0/4\n"
        );
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_a_dash() {
        let overflows = Some(OverflowsDto { syn: Some(26), ack: Some(0), cookie: None });
        let text = render(&[ListenerDto { overflows, listen_drops: Some(26), ..listener(8080) }]);
        let row = text.lines().nth(1).unwrap();
        assert_eq!(
            row.split_whitespace().collect::<Vec<_>>(),
            ["host", "0.0.0.0", "8080", "5/4", "0/4", "26", "0", "-", "26"]
        );
    }

    #[test]
    fn a_closed_listener_looks_closed() {
        let text = render(&[ListenerDto { sockets: 0, ..listener(80) }]);
        assert_eq!(text.lines().nth(1), Some("host   0.0.0.0    80    closed  closed"));
    }

    #[test]
    fn the_audit_speaks_of_namespaces_with_drops() {
        let netns = |drops, unattributed| NetnsAudit {
            netns: "host".to_owned(),
            listen_overflows: drops,
            listen_drops: drops,
            unattributed,
        };
        assert_eq!(audit(&[netns(0, Some(Unattributed::default()))]), "");
        let all = audit(&[netns(52, Some(Unattributed::default()))]);
        assert!(all.contains("52 overflows and 52 drops, all attributed"), "{all}");
        let some = audit(&[netns(52, Some(Unattributed { overflows: 0, drops: 2 }))]);
        assert!(some.contains("2 drops NOT attributed"), "{some}");
    }

    #[test]
    fn nothing_is_said_in_words() {
        assert_eq!(render(&[]), "no TCP listeners\n");
    }
}
