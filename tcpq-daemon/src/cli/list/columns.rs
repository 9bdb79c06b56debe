//! What each column says of a listener.

use crate::{
    cli::{
        list::sort::overflows,
        text::{middle, width},
        time, who,
    },
    model::text::printable,
    serve::api::{FoldedInto, ListenerDto, OverflowsDto, QueueDto},
};

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Netns,
    Address,
    Process,
    Pid,
    Place,
    AcceptQueue,
    SynQueue,
    /// All stages in one.
    Overflows,
    AtSyn,
    AtAck,
    AtCookie,
    Drops,
    /// What 99 of 100 connections did not wait longer than.
    Wait,
    Backlog,
}

/// What a cell holds decides whether it may be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Name(String),
    Figure(String),
}

impl Column {
    pub(super) const fn head(self) -> &'static str {
        match self {
            Self::Netns => "NETNS",
            Self::Address => "ADDRESS:PORT",
            Self::Process => "PROCESS",
            Self::Pid => "PID",
            Self::Place => "UNIT/CONTAINER",
            Self::AcceptQueue => "ACCEPT-Q",
            Self::SynQueue => "SYN-Q",
            Self::Overflows => "OVERFLOWS",
            Self::AtSyn => "OVERFLOWS SYN",
            Self::AtAck => "ACK",
            Self::AtCookie => "COOKIE",
            Self::Drops => "DROPS",
            Self::Wait => "WAIT P99",
            Self::Backlog => "BACKLOG",
        }
    }

    /// Whether any of them has something to say in it: only a daemon counts, and not every
    /// kernel tells how long connections wait.
    pub(super) fn is_told(self, listeners: &[ListenerDto]) -> bool {
        match self {
            Self::Overflows | Self::AtSyn | Self::AtAck | Self::AtCookie | Self::Drops => {
                listeners.iter().any(|listener| listener.overflows.is_some())
            }
            Self::Wait => listeners.iter().any(|listener| listener.accept_wait.is_some()),
            _ => true,
        }
    }

    pub(super) const fn is_left(self) -> bool {
        matches!(self, Self::Netns | Self::Address | Self::Process | Self::Pid | Self::Place)
    }

    /// What it says of a listener.
    pub(super) fn cell(self, listener: &ListenerDto) -> Cell {
        let OverflowsDto { syn, ack, cookie } = listener.overflows.unwrap_or_default();
        Cell::Figure(match self {
            Self::Netns => return netns(&listener.netns),
            Self::Address => return address(listener),
            Self::Process => return Cell::Name(process(listener)),
            Self::Place => return Cell::Name(place(listener)),
            Self::Pid => pid(listener),
            Self::AcceptQueue => queue(listener.sockets, listener.accept_queue),
            Self::SynQueue if listener.sockets == 0 => figure(None),
            Self::SynQueue => queue(listener.sockets, listener.syn_queue),
            Self::Overflows => sum(listener),
            Self::AtSyn => figure(syn),
            Self::AtAck => figure(ack),
            Self::AtCookie => figure(cookie),
            Self::Drops => figure(listener.listen_drops),
            Self::Wait => wait(listener),
            Self::Backlog => figure(listener.backlog_requested),
        })
    }
}

impl Cell {
    pub(super) fn width(&self) -> usize {
        let (Self::Name(text) | Self::Figure(text)) = self;
        width(text)
    }

    /// The least that it can be made.
    pub(super) fn floor(&self, name: usize) -> usize {
        match self {
            Self::Name(_) => self.width().min(name),
            Self::Figure(_) => self.width(),
        }
    }

    /// Names are cut, figures never.
    pub(super) fn text(&self, most: usize) -> String {
        match self {
            Self::Name(text) => middle(text, most),
            Self::Figure(text) => text.clone(),
        }
    }
}

/// An inode number is no name.
fn netns(name: &str) -> Cell {
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return Cell::Figure(name.to_owned());
    }
    Cell::Name(printable(name))
}

/// `127.0.0.1:80`, `[::1]:80`; of many: `~python3 ~ephemeral`, as the metrics' labels say.
pub(in crate::cli) fn endpoint(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn address(listener: &ListenerDto) -> Cell {
    match listener.port {
        Some(port) => Cell::Figure(endpoint(&printable(&listener.address), port)),
        None => Cell::Name(folded(listener)),
    }
}

/// The name of a group of many.
pub(in crate::cli) fn folded(listener: &ListenerDto) -> String {
    let address = printable(&listener.address);
    match listener.folded {
        Some(FoldedInto::Other) => format!("{address} ~other"),
        Some(FoldedInto::Ephemeral) | None => format!("{address} ~ephemeral"),
    }
}

fn process(listener: &ListenerDto) -> String {
    let name = listener.owners.iter().find_map(|owner| owner.process.as_deref());
    name.map_or_else(|| "-".to_owned(), printable)
}

fn pid(listener: &ListenerDto) -> String {
    let pid = listener.owners.iter().find_map(|owner| owner.pid);
    let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    match listener.owners.len().saturating_sub(1) {
        0 => pid,
        more => format!("{pid} +{more}"),
    }
}

fn place(listener: &ListenerDto) -> String {
    listener.owners.iter().find_map(who::place).unwrap_or_else(|| "-".to_owned())
}

fn queue(sockets: u64, queue: QueueDto) -> String {
    if sockets == 0 {
        return "closed".to_owned();
    }
    format!("{}/{}", queue.length, queue.limit)
}

/// Whether a stage is not told, though others are.
pub(super) fn is_partial(listener: &ListenerDto) -> bool {
    let OverflowsDto { syn, ack, cookie } = listener.overflows.unwrap_or_default();
    matches!([syn, ack, cookie].into_iter().flatten().count(), 1 | 2)
}

/// `7+`: at least 7, since a stage is not told.
fn sum(listener: &ListenerDto) -> String {
    let total = overflows(listener);
    match listener.overflows.unwrap_or_default() {
        OverflowsDto { syn: None, ack: None, cookie: None } => figure(None),
        _ if is_partial(listener) => format!("{total}+"),
        _ => total.to_string(),
    }
}

fn wait(listener: &ListenerDto) -> String {
    let p99 = listener.accept_wait.and_then(|waits| waits.p99);
    p99.map_or_else(|| "-".to_owned(), time::short)
}

fn figure(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
