//! From two readings to rows with rates. Pure.

use std::{
    cmp::Ordering,
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    model::{
        incident::record::{ListenerName, Summary},
        text::printable,
    },
    serve::api::{ListenerDto, OverflowsDto, QueueDto},
};

/// Readings that the plots of a listener go back.
const HISTORY: usize = 120;

/// One answer of the daemon.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) listeners: Vec<ListenerDto>,
    /// Those that are open, or why they are not told.
    pub(super) incidents: Result<Vec<Summary>, String>,
}

/// What a row is known by, over readings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) netns: String,
    pub(super) address: String,
    pub(super) port: Option<u16>,
}

impl Key {
    pub(super) fn of(listener: &ListenerDto) -> Self {
        let ListenerDto { netns, address, port, .. } = listener;
        Self { netns: netns.clone(), address: address.clone(), port: *port }
    }

    /// Whether an incident is this listener's.
    pub(super) fn is(&self, name: &ListenerName) -> bool {
        let port = self.port.map(|port| port.to_string());
        self.netns == name.netns
            && self.address == name.address
            && port.is_none_or(|port| port == name.port)
    }

    /// As it is shown.
    pub(super) fn place(&self) -> String {
        let address = printable(&self.address);
        match self.port {
            Some(port) if address.contains(':') => format!("[{address}]:{port}"),
            Some(port) => format!("{address}:{port}"),
            None => address,
        }
    }
}

/// Per second; `None`: not told here, or there was no reading before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) connections: Option<f64>,
    pub(super) overflows: Option<f64>,
    pub(super) drops: Option<f64>,
}

/// One listener.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) listener: ListenerDto,
    pub(super) rates: Rates,
    /// Its open incident.
    pub(super) incident: Option<Summary>,
}

impl Row {
    pub(super) fn process(&self) -> Option<&str> {
        self.listener.owners.iter().find_map(|owner| owner.process.as_deref())
    }

    /// How full the accept queue is; 1: full. The kernel lets limit + 1 in at each socket.
    pub(super) fn fill(&self) -> f64 {
        let QueueDto { length, limit } = self.listener.accept_queue;
        ratio(length, limit + self.listener.sockets.max(1))
    }

    /// What it has refused so far.
    pub(super) fn overflows(&self) -> Option<u64> {
        overflows(&self.listener)
    }

    /// Whether a text is in any of its names.
    fn has(&self, text: &str) -> bool {
        let owner = self.listener.owners.iter().flat_map(|owner| {
            [&owner.process, &owner.cgroup, &owner.executable].into_iter().flatten()
        });
        owner.chain([&self.key.netns]).any(|name| name.contains(text))
            || self.key.place().contains(text)
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// An incident now, what is refused now, what is full, what was refused before.
    Trouble,
    Connections,
    Fill,
    Wait,
    Place,
}

impl Order {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Trouble => Self::Connections,
            Self::Connections => Self::Fill,
            Self::Fill => Self::Wait,
            Self::Wait => Self::Place,
            Self::Place => Self::Trouble,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Connections => "connections",
            Self::Fill => "fill",
            Self::Wait => "wait",
            Self::Place => "address",
        }
    }

    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let down = |a: Option<f64>, b: Option<f64>| b.unwrap_or(-1.0).total_cmp(&a.unwrap_or(-1.0));
        match self {
            Self::Trouble => (b.incident.is_some().cmp(&a.incident.is_some()))
                .then_with(|| down(refused(a), refused(b)))
                .then_with(|| down(Some(a.fill()), Some(b.fill())))
                .then_with(|| b.overflows().cmp(&a.overflows())),
            Self::Connections => down(a.rates.connections, b.rates.connections),
            Self::Fill => down(Some(a.fill()), Some(b.fill())),
            Self::Wait => down(wait(a), wait(b)),
            Self::Place => Ordering::Equal,
        }
        .then_with(|| a.key.cmp(&b.key))
    }
}

fn refused(row: &Row) -> Option<f64> {
    let Rates { overflows, drops, .. } = row.rates;
    match (overflows, drops) {
        (Some(overflows), Some(drops)) => Some(overflows.max(drops)),
        (overflows, drops) => overflows.or(drops),
    }
}

/// What 99 of 100 connections did not wait longer than, since the listener is known.
pub(super) fn wait(row: &Row) -> Option<f64> {
    row.listener.accept_wait.as_ref()?.p99
}

fn overflows(listener: &ListenerDto) -> Option<u64> {
    let OverflowsDto { syn, ack, cookie } = listener.overflows?;
    let told = [syn, ack, cookie].into_iter().flatten();
    told.reduce(|a, b| a + b)
}

/// The rows of a reading, in no order.
pub(super) fn rows(before: Option<&Reading>, now: &Reading) -> Vec<Row> {
    let known: HashMap<Key, &ListenerDto> =
        before.iter().flat_map(|it| &it.listeners).map(|it| (Key::of(it), it)).collect();
    let span = before.map(|before| now.at.saturating_duration_since(before.at));
    let row = |listener: &ListenerDto| {
        let key = Key::of(listener);
        let rates = known.get(&key).zip(span).map(|(before, span)| rates(before, listener, span));
        let mut incidents = now.incidents.iter().flatten();
        let incident = incidents.find(|it| key.is(&it.listener)).cloned();
        Row { key, listener: listener.clone(), rates: rates.unwrap_or_default(), incident }
    };
    now.listeners.iter().map(row).collect()
}

/// A counter that went back is another daemon's: of it nothing is known yet.
fn rates(before: &ListenerDto, now: &ListenerDto, span: Duration) -> Rates {
    let rate = |count: fn(&ListenerDto) -> Option<u64>| {
        let grown = count(now)?.checked_sub(count(before)?)?;
        (!span.is_zero()).then(|| float(grown) / span.as_secs_f64())
    };
    Rates {
        connections: rate(|it| it.enqueued),
        overflows: rate(overflows),
        drops: rate(|it| it.listen_drops),
    }
}

/// Sorts rows, and leaves those with a text in a name.
pub(super) fn arrange(mut rows: Vec<Row>, order: Order, turned: Turned, text: &str) -> Vec<Row> {
    rows.retain(|row| text.is_empty() || row.has(text));
    rows.sort_by(|a, b| order.compare(a, b));
    if turned == Turned::Round {
        rows.reverse();
    }
    rows
}

/// Whether the order is turned round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    Forwards,
    Round,
}

/// What the listener that is looked at was like lately, the newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) lengths: VecDeque<Option<u64>>,
    pub(super) connections: VecDeque<Option<u64>>,
    pub(super) overflows: VecDeque<Option<u64>>,
}

impl History {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a height in a plot, and rates are not below 0"
    )]
    pub(super) fn add(&mut self, row: &Row) {
        let whole = |rate: Option<f64>| rate.map(|rate| rate.round() as u64);
        for (values, value) in [
            (&mut self.lengths, Some(row.listener.accept_queue.length)),
            (&mut self.connections, whole(row.rates.connections)),
            (&mut self.overflows, whole(row.rates.overflows)),
        ] {
            if values.len() >= HISTORY {
                values.pop_front();
            }
            values.push_back(value);
        }
    }
}

pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) }
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn float(count: u64) -> f64 {
    count as f64
}
