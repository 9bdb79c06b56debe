//! What limits a listener now, from evidence alone: a pure function.

mod drops;
mod files;
mod queue;
mod quiet;

use serde::Serialize;

use crate::{
    cli::explain::evidence::{Evidence, Figures, Socket, Window},
    engine::advice::Adviser,
    model::{advice::Advice, limit::Limit},
};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Diagnosis {
    pub(super) finding: Finding,
    /// What shows it.
    pub(super) because: Vec<String>,
    /// The change that would help most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<Advice>,
    /// What else is good to know, and what cannot be known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// The limit of the socket that matters most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<Limit>,
    /// Who set that limit, in a sentence: said of the same socket wherever it is said.
    #[serde(skip)]
    pub(super) limit_set_by: Option<String>,
}

/// What limits the listener; the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Finding {
    /// It has no socket any more.
    Closed,
    /// accept() fails: its process may open no more files.
    OutOfFiles,
    /// accept() fails: nobody on the host may open more files.
    HostOutOfFiles,
    /// Some sockets of the group are not accepted from, others are.
    StuckSocket,
    /// Connections wait, and accept() takes none.
    NotAccepting,
    /// The accept queue is full; nothing tells whether accept() takes any.
    Full,
    /// The accept queue stays full, although accept() takes connections.
    AcceptsTooSlowly,
    /// The accept queue overflows now and then.
    AcceptQueueTooShort,
    /// SYNs are dropped since the SYN queue is full and SYN cookies are off.
    SynQueueFull,
    /// SYN cookies are sent, and hardly any comes back.
    SynFlood,
    /// SYN cookies are sent, and they come back: the SYN queue is too short.
    SynQueueTooShort,
    /// SYNs or ACKs are dropped for another reason.
    OtherDrops,
    /// The accept queue is nearly full.
    NearlyFull,
    /// Connections wait long, although the accept queue has room.
    AcceptsLate,
    /// It overflowed before, not now.
    OverflowedBefore,
    /// It dropped before, not now, and nothing overflowed.
    DroppedBefore,
    /// Nothing.
    NothingWrong,
    /// Nothing is wrong now; what was before is not known.
    NothingWrongNow,
    /// Overflows cannot be told on this kernel.
    CannotTell,
}

impl Finding {
    /// In a few words.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Closed => "it is closed",
            Self::OutOfFiles => "accept() fails: its process has no file descriptor left",
            Self::HostOutOfFiles => "accept() fails: the host has no open file left",
            Self::StuckSocket => "one part of the group does not accept",
            Self::NotAccepting => "connections wait, and nothing is accepted",
            Self::Full => "the accept queue is full",
            Self::AcceptsTooSlowly => "connections come faster than they are accepted",
            Self::AcceptQueueTooShort => "the accept queue overflows",
            Self::SynQueueFull => "the SYN queue is full, and SYN cookies are off",
            Self::SynFlood => "SYNs come that nobody follows up: a SYN flood",
            Self::SynQueueTooShort => "the SYN queue is full; SYN cookies stand in for it",
            Self::OtherDrops => "handshakes are dropped, and not for a full queue",
            Self::NearlyFull => "the accept queue is nearly full",
            Self::AcceptsLate => "connections wait long for accept()",
            Self::OverflowedBefore => "the accept queue overflowed before, but not now",
            Self::DroppedBefore => "SYNs or ACKs were dropped before, but not now",
            Self::NothingWrong => "nothing is wrong",
            Self::NothingWrongNow => "nothing is wrong at this moment; nothing was counted",
            Self::CannotTell => "nothing is full; overflows cannot be told on this kernel",
        }
    }
}

/// The first finding that holds, from what hurts most to what hurts least.
pub(super) fn diagnose(evidence: &Evidence) -> Diagnosis {
    let sockets = evidence.sockets();
    let worst = worst(&sockets);
    let case = Case {
        evidence,
        adviser: Adviser::new(evidence.subject(worst)),
        limit: worst.and_then(|socket| limit(evidence, socket)),
        sockets: &sockets,
        total: evidence.total(),
    };
    let found = case
        .closed()
        .or_else(|| case.out_of_files())
        .or_else(|| case.not_accepting())
        .or_else(|| case.full())
        .or_else(|| case.overflows())
        .or_else(|| case.syn_queue())
        .or_else(|| case.other_drops())
        .or_else(|| case.nearly_full())
        .or_else(|| case.accepts_late())
        .or_else(|| case.before())
        .unwrap_or_else(|| case.nothing());
    Diagnosis {
        finding: found.finding,
        because: found.because,
        advice: found.advice,
        notes: case.notes(),
        limit_set_by: case.who_set_it(),
        limit: case.limit,
    }
}

struct Found {
    finding: Finding,
    because: Vec<String>,
    advice: Option<Advice>,
}

struct Case<'a> {
    evidence: &'a Evidence,
    adviser: Adviser<'a>,
    limit: Option<Limit>,
    sockets: &'a [Socket<'a>],
    /// Counted since the listener is known.
    total: Option<Figures>,
}

/// The socket to speak of: the one that nobody accepts from, else the fullest.
fn worst<'a>(sockets: &'a [Socket<'a>]) -> Option<&'a Socket<'a>> {
    sockets.iter().max_by(|a, b| {
        let stuck = |it: &Socket<'_>| (is_full_and_stuck(it), it.is_full());
        // Shares of the room, without division: (a / room of a) against (b / room of b).
        let share = |it: &Socket<'_>, other: &Socket<'_>| it.accept_queue.length * other.room();
        let refused = |it: &Socket<'_>| it.change.and_then(|change| change.overflows);
        stuck(a)
            .cmp(&stuck(b))
            .then_with(|| share(a, b).cmp(&share(b, a)))
            .then_with(|| refused(a).cmp(&refused(b)))
            .then_with(|| a.overflows.cmp(&b.overflows))
    })
}

fn is_full_and_stuck(socket: &Socket<'_>) -> bool {
    socket.is_full() && accepted(socket) == Some(0)
}

fn accepted(socket: &Socket<'_>) -> Option<u64> {
    socket.change.and_then(|change| change.accepts)
}

/// Of a sum over several sockets no limit can be told.
fn limit(evidence: &Evidence, socket: &Socket<'_>) -> Option<Limit> {
    let somaxconn = evidence.settings.as_ref().map(|settings| settings.somaxconn);
    let of_one = socket.sockets == 1;
    of_one.then(|| Limit::new(socket.accept_queue.limit, socket.requested, somaxconn))
}

impl Case<'_> {
    fn closed(&self) -> Option<Found> {
        (self.evidence.listener.sockets == 0).then(|| Found {
            finding: Finding::Closed,
            because: vec!["its last socket has closed; its counters are kept for a while".into()],
            advice: None,
        })
    }

    fn who_set_it(&self) -> Option<String> {
        let limit = self.limit.as_ref()?;
        Some(limit.sentence(&self.adviser.asker(), &self.adviser.netns()))
    }
}

fn rate(window: &Window, count: u64) -> String {
    short(window.rate(count))
}

/// Three digits or so.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 0.1 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{:.0} ms", value * 1000.0) } else { format!("{value:.1} s") }
}

#[cfg(test)]
pub(super) mod tests;
