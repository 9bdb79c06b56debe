//! From evidence to a verdict: a pure function. The first cause that is proven holds, those
//! that leave no doubt first. What is not proven is "unknown": a wrong cause is worse.

mod accepting;
mod bursts;
mod others;
mod requests;

use std::time::Duration;

use crate::{
    engine::{
        advice::{Adviser, Subject},
        incidents::shape::{Shape, float},
    },
    model::{
        advice::Advice,
        group::Holder,
        hooks::Signal,
        incident::{
            evidence::{Evidence, SocketFigures},
            moment::Moment,
            timeline::Second,
            verdict::{Cause, Confidence, Verdict},
        },
        limit::Limit,
        owner::Owner,
    },
};

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Matter<'a> {
    /// What was gathered.
    pub evidence: &'a Evidence,
    /// The time-line, from some time before it opened.
    pub seconds: &'a [Second],
    /// Since when what happens at the listener is known.
    pub known: Moment,
    /// The first trouble.
    pub opened: Moment,
    /// Since the last trouble.
    pub calm: Duration,
    /// The namespace's name.
    pub netns: &'a str,
    /// The port, of a group that has one.
    pub port: Option<u16>,
    /// Who answers for the socket that was worst off.
    pub owner: Option<&'a Owner>,
    /// Who has it open.
    pub holders: &'a [Holder],
}

/// What was found, before what speaks against it is added.
struct Found {
    cause: Cause,
    confidence: Confidence,
    proofs: Vec<String>,
    advice: Option<Advice>,
}

struct Case<'a> {
    evidence: &'a Evidence,
    shape: Shape,
    opened: Moment,
    calm: Duration,
    adviser: Adviser<'a>,
}

/// The cause, as far as it is proven.
pub fn judge(matter: &Matter<'_>) -> Verdict {
    let Matter { evidence, seconds, known, opened, calm, netns, port, owner, holders } = *matter;
    let case = Case {
        evidence,
        shape: Shape::new(seconds, known, opened),
        opened,
        calm,
        adviser: Adviser::new(Subject { netns, port, owner, holders }),
    };
    let found = case
        .out_of_files()
        .or_else(|| case.member_stuck())
        .or_else(|| case.of_the_whole_group(Case::throttled))
        .or_else(|| case.of_the_whole_group(Case::stalled))
        .or_else(|| case.of_the_whole_group(Case::too_slow))
        .or_else(|| case.of_the_whole_group(Case::herd))
        .or_else(|| case.of_the_whole_group(Case::burst))
        .or_else(|| case.deferred())
        .or_else(|| case.flood())
        .or_else(|| case.round_trip())
        .or_else(|| case.not_the_listener());
    match found {
        Some(Found { cause, confidence, proofs, advice }) => Verdict {
            against: case.against(cause),
            cause,
            confidence: Some(confidence),
            proofs,
            advice,
        },
        None => Verdict::unknown(case.what_is_missing()),
    }
}

/// How full a shorter queue was tells nothing.
const SPEAKS: u64 = 4;

/// Nobody enters a queue that overflows while it is always emptier than this. Unit: percent of
/// its limit.
const NEAR_FULL: u64 = 50;

impl Case<'_> {
    fn tells(&self, signal: Signal) -> bool {
        self.evidence.told.contains(&signal)
    }

    /// Overflows at all stages.
    fn overflows(&self) -> u64 {
        self.evidence.totals.overflows()
    }

    /// Connections that accept() took; `None`: not told.
    fn accepts(&self) -> Option<u64> {
        self.evidence.totals.accepts
    }

    fn limit(&self) -> Option<&Limit> {
        self.evidence.limit.as_ref()
    }

    /// Who set the limit, in a sentence.
    fn who_set_it(&self) -> Option<String> {
        let limit = self.limit()?;
        Some(limit.sentence(&self.adviser.asker(), &self.adviser.netns()))
    }

    /// How long a full queue lasts at the rate at which it was emptied. Unit: seconds.
    fn drain(&self) -> Option<f64> {
        let rate = self.shape.accept_rate();
        let room = float(self.limit()?.effective + 1);
        (rate > 0.0).then(|| room / rate)
    }

    /// That the accept queue was never near to full, whatever was counted as an overflow: the
    /// tracepoint backend takes some other drops for one.
    fn never_near_full(&self) -> Option<u64> {
        let most = self.evidence.entered_at_most.filter(|most| *most < NEAR_FULL)?;
        let speaks = self.limit()?.effective >= SPEAKS;
        (speaks && self.shape.ever_full == 0 && self.overflows() > 0).then_some(most)
    }

    fn sockets(&self) -> &[SocketFigures] {
        &self.evidence.sockets
    }

    /// A cause that is judged by sums over the group. Each socket has its own queue: where some
    /// overflow and others do not, sums tell of neither.
    fn of_the_whole_group(&self, cause: fn(&Self) -> Option<Found>) -> Option<Found> {
        let sockets = self.sockets();
        let all: u64 = sockets.iter().filter_map(|it| it.overflows).sum();
        let half = sockets.len() / 2;
        let mut each: Vec<_> = sockets.iter().filter_map(|it| it.overflows).collect();
        each.sort_unstable_by(|a, b| b.cmp(a));
        let of_half: u64 = each.iter().take(half).sum();
        let is_told = all * 2 >= self.overflows();
        let is_lopsided = sockets.len() > 1 && (!is_told || (all > 0 && of_half * 10 >= all * 9));
        (!is_lopsided && self.never_near_full().is_none() && self.split().is_none())
            .then(|| cause(self))?
    }

    /// What speaks against a cause, or what else was there.
    fn against(&self, cause: Cause) -> Vec<String> {
        let mut against = Vec::new();
        let Evidence { totals, losses, .. } = self.evidence;
        let on_queue = matches!(
            cause,
            Cause::ApplicationStalled | Cause::ApplicationTooSlow | Cause::CpuThrottled
        );
        if on_queue && let Some(set_by) = self.clipped() {
            against.push(format!("{set_by}: a longer queue would have lasted longer"));
        }
        if cause == Cause::ApplicationTooSlow
            && let Some(drain) = self.drain().filter(|drain| *drain < bursts::HICCUP)
        {
            against.push(format!(
                "the queue holds {} of its work only: it overflows by every hiccup, too",
                duration(drain)
            ));
        }
        if cause != Cause::CpuThrottled
            && let Some(share) = self.throttled_share().filter(|share| *share >= 0.05)
        {
            against.push(format!(
                "its control group was throttled in {:.0} % of its periods",
                share * 100.0
            ));
        }
        if cause != Cause::NotTheListener && on_queue {
            let others = totals.other_drops();
            if others > self.overflows() {
                against.push(format!("{others} drops were no overflows"));
            }
        }
        if !matches!(cause, Cause::SynFlood | Cause::SynQueueByRoundTrip)
            && totals.cookies_sent.is_some_and(|sent| sent > 0)
            && self.evidence.settings.as_ref().is_some_and(|it| it.tcp_syncookies == 1)
        {
            let sent = totals.cookies_sent.unwrap_or(0);
            against.push(format!("the SYN queue was full, too: {sent} SYN cookies were sent"));
        }
        if losses.records > 0 {
            against.push(format!(
                "{} records were lost meanwhile, of all listeners: clients are more than are told",
                losses.records
            ));
        }
        against
    }

    /// Why nothing is proven.
    fn what_is_missing(&self) -> Vec<String> {
        let Evidence { totals, .. } = self.evidence;
        let mut said = Vec::new();
        let overflows = self.overflows();
        if overflows > 0 {
            said.push(format!(
                "{overflows} overflows in {} of {}",
                counted(self.shape.refusing, "second", "seconds"),
                duration(self.shape.seconds)
            ));
        }
        let others = totals.other_drops();
        if others > 0 {
            said.push(format!("{others} drops that were no overflows"));
        }
        if overflows + others == 0 {
            said.push("nothing was refused: a queue was nearly full for a while".to_owned());
        }
        if let Some(most) = self.never_near_full() {
            said.push(format!(
                "the accept queue was {most} % full at most when a connection entered it: what \
                 this kernel's hooks take for overflows were drops of another kind"
            ));
        }
        let missing: Vec<_> = [
            (Signal::Accepts, "accepts"),
            (Signal::AcceptWait, "how long connections waited"),
            (Signal::AcceptErrors, "errors of accept()"),
            (Signal::SynDrops, "reasons of drops"),
            (Signal::CookiesSent, "SYN cookies"),
        ]
        .into_iter()
        .filter_map(|(signal, what)| (!self.tells(signal)).then_some(what))
        .collect();
        if !missing.is_empty() {
            said.push(format!("not told on this kernel: {}", missing.join(", ")));
        }
        if self.evidence.processes.is_empty() {
            said.push("the owner was not seen while it lasted".to_owned());
        }
        said
    }
}

/// Seconds as sentences have them.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 0.001 {
        format!("{:.0} us", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}

/// A rate, three digits or so.
fn rate(value: f64) -> String {
    if value == 0.0 || value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

#[cfg(test)]
mod tests;
