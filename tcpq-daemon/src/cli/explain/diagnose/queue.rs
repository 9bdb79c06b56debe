//! The accept queue: is it taken from, and fast enough?

use crate::{
    cli::{
        ask::Source,
        explain::{
            diagnose::{Case, Finding, Found, accepted, rate, seconds},
            evidence::{Socket, Waited, Window},
        },
        time,
    },
    engine::advice::Adviser,
};

/// A queue that is emptied in less than this overflows by every hiccup: then its length is
/// what is wrong, even if it is full whenever one looks. Unit: seconds.
const HICCUP: f64 = 0.1;

/// A connection that waits this long while nothing is accepted waits for a program that is
/// stuck, even if the queue is not full. Unit: seconds.
const LONG: f64 = 1.0;

/// Who waits this long for accept() notices, however much room the queue has. Unit: seconds.
const LATE: f64 = 0.1;

impl Case<'_> {
    /// Connections that wait, and no accept() meanwhile.
    pub(super) fn not_accepting(&self) -> Option<Found> {
        let window = self.evidence.window.as_ref()?;
        let is_stuck = |socket: &&Socket<'_>| {
            let waits_long = window.seconds >= LONG
                && socket.accept_queue.length > 0
                && socket.change.is_some_and(|it| it.accept_queue_before.length > 0);
            accepted(socket) == Some(0) && (socket.is_full() || waits_long)
        };
        let (stuck, others): (Vec<_>, Vec<_>) = self.sockets.iter().partition(is_stuck);
        let first = stuck.first()?;
        let works = |it: &&&Socket<'_>| {
            accepted(it).is_some_and(|count| count > 0)
                || (it.accept_queue.length == 0 && it.accepts.is_some_and(|count| count > 0))
        };
        let working = others.iter().filter(works).count();
        let seconds = seconds(window.seconds);
        let waiting: u64 = stuck.iter().map(|it| it.accept_queue.length).sum();
        let refused = refused(window);
        if working > 0 {
            let full = stuck.iter().filter(|it| it.is_full()).count();
            return Some(Found {
                finding: Finding::StuckSocket,
                because: [
                    vec![format!(
                        "of {} sockets, {} had no accept() in {seconds} while {waiting} connections \
                         waited; {full} of them full",
                        self.sockets.len(),
                        stuck.len(),
                    )],
                    vec![if self.evidence.listener.folded.is_none() {
                        format!(
                            "{working} accept; the kernel spreads connections over all sockets, \
                             so those that come to a full one are refused"
                        )
                    } else {
                        format!("{working} accept; each has an address and port of its own")
                    }],
                    refused,
                ]
                .concat(),
                advice: Some(Adviser::new(self.evidence.subject(Some(first))).look_at_process()),
            });
        }
        let but = if first.is_full() { "it is full" } else { "it is not full yet" };
        Some(Found {
            finding: Finding::NotAccepting,
            because: [
                vec![format!(
                    "{waiting} connections wait in the accept queue ({but}), and accept() took none \
                     in {seconds}"
                )],
                refused,
                vec!["a longer queue would not help: nothing takes connections from it".into()],
            ]
            .concat(),
            advice: Some(self.adviser.look_at_process()),
        })
    }

    /// Full at this moment, and nothing says why.
    pub(super) fn full(&self) -> Option<Found> {
        let full = self.sockets.iter().find(|it| it.is_full())?;
        if full.change.and_then(|it| it.accepts).is_some() {
            return None;
        }
        let counted = self.evidence.source == Source::Daemon;
        let unknown = match (counted, &self.evidence.window) {
            (true, Some(_)) => {
                "accept() cannot be counted on this kernel, so it is unknown whether the program is \
                 too slow or the queue too short"
            }
            (true, None) => "its counters began anew between two looks: ask again",
            (false, _) => {
                "nothing was counted, so it is unknown whether the program accepts at all"
            }
        };
        let advice = match (counted, &self.limit) {
            (false, _) => Some(Adviser::start_daemon()),
            (true, Some(limit)) => Some(self.adviser.raise(limit)),
            (true, None) => None,
        };
        Some(Found {
            finding: Finding::Full,
            because: [how_full(full)]
                .into_iter()
                .chain(self.who_set_it())
                .chain([unknown.into()])
                .collect(),
            advice,
        })
    }

    /// Overflows between the readings, while connections are accepted.
    pub(super) fn overflows(&self) -> Option<Found> {
        let window = self.evidence.window.as_ref()?;
        let count = window.change.overflows.total().filter(|count| *count > 0)?;
        let accepts = window.change.accepts;
        let refused = format!(
            "{count} overflows in {}, {} per second{}",
            seconds(window.seconds),
            rate(window, count),
            accepts.map_or_else(
                || "; accepts cannot be counted on this kernel".into(),
                |accepts| format!(", while {} per second were accepted", rate(window, accepts)),
            ),
        );
        // Each socket of a group has its own queue, which only its own accept() empties.
        let stays_full = self.sockets.iter().filter(|it| it.is_full() && it.was_full());
        let slowest = stays_full
            .filter_map(|socket| Some((socket, drain(socket, window)?)))
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        if let Some((socket, drain)) = slowest.filter(|(_, drain)| *drain >= HICCUP) {
            let own = rate(window, accepted(socket).unwrap_or(0));
            let full = match self.sockets.len() {
                1 => "the accept queue was full at both readings".to_owned(),
                all => format!(
                    "one of {all} sockets had a full accept queue at both readings; {own} per \
                     second were accepted from it"
                ),
            };
            return Some(Found {
                finding: Finding::AcceptsTooSlowly,
                because: vec![
                    refused,
                    full,
                    format!("at this rate a connection waits {} in it", seconds(drain)),
                ],
                advice: Some(Adviser::new(self.evidence.subject(Some(socket))).accept_faster()),
            });
        }
        let shape = match slowest {
            Some((_, drain)) => format!(
                "the queue was full at both readings, but it is emptied in {}: too short for any \
                 hiccup",
                seconds(drain)
            ),
            None => "the queue was not full at both readings: it overflows in bursts".into(),
        };
        Some(Found {
            finding: Finding::AcceptQueueTooShort,
            because: [refused, shape].into_iter().chain(self.who_set_it()).collect(),
            advice: self.limit.as_ref().map(|limit| self.adviser.raise(limit)),
        })
    }

    pub(super) fn nearly_full(&self) -> Option<Found> {
        let socket = self.sockets.iter().find(|it| it.is_nearly_full())?;
        Some(Found {
            finding: Finding::NearlyFull,
            because: [how_full(socket)].into_iter().chain(self.who_set_it()).collect(),
            advice: self.limit.as_ref().map(|limit| self.adviser.raise(limit)),
        })
    }

    /// Nothing overflows, and yet the program takes its time.
    pub(super) fn accepts_late(&self) -> Option<Found> {
        let window = self.evidence.window.as_ref()?;
        let Waited { count, mean } = window.accept_wait.filter(|waited| waited.mean >= LATE)?;
        let since = seconds(window.seconds);
        let whose = match count {
            1 => format!("the connection accepted in {since} had waited {}", time::short(mean)),
            _ => format!(
                "the {count} connections accepted in {since} had waited {} on average",
                time::short(mean)
            ),
        };
        Some(Found {
            finding: Finding::AcceptsLate,
            because: vec![
                whose,
                "the queue has room, so nothing is refused: clients see it as latency".into(),
            ],
            advice: Some(self.adviser.accept_faster()),
        })
    }
}

/// How long a connection waits in a queue that is full; `None` if nothing is taken from it.
fn drain(socket: &Socket<'_>, window: &Window) -> Option<f64> {
    let accepts = accepted(socket).filter(|accepts| *accepts > 0)?;
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let room = socket.room() as f64;
    Some(room / window.rate(accepts))
}

fn refused(window: &Window) -> Vec<String> {
    match window.change.overflows.total() {
        None | Some(0) => Vec::new(),
        Some(count) => {
            vec![format!("{count} overflows meanwhile, {} per second", rate(window, count))]
        }
    }
}

fn how_full(socket: &Socket<'_>) -> String {
    let length = socket.accept_queue.length;
    let room = socket.room();
    format!("{length} connections wait in an accept queue that holds {room}")
}
