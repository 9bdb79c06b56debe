//! The program is fast enough, but the queue is too short for how connections come.

use std::time::Duration;

use crate::{
    engine::incidents::verdict::{Case, Found, accepting::LASTING, counted, duration, rate},
    model::{
        incident::{
            evidence::Clients,
            moment::Moment,
            verdict::{Cause, Confidence},
        },
        limit::SetBy,
    },
};

/// A queue that is emptied in less than this overflows by every hiccup. Unit: seconds.
pub(super) const HICCUP: f64 = 0.1;

/// Two readings without trouble, and it was a burst; a refused client tries again after one
/// second, after two more, and after four.
const SETTLED: Duration = Duration::from_secs(3);

/// Who waits longer than this in a queue that overflowed for a moment has met a pause of the
/// program, not a burst. Unit: seconds.
const PAUSE: f64 = 0.2;

/// A queue that is full at fewer readings is emptied between two bursts.
const SELDOM_FULL: f64 = 0.2;

/// A program that was started anew may take so long to get ready. Unit: seconds.
const START: f64 = 1.0;

/// So many times as many connections as before are a burst.
const BURST: f64 = 3.0;

/// So many tries at once are a herd.
const HERD: u64 = 100;

/// A shorter queue is too short for anything that comes at once.
const SHORT: u64 = 128;

/// Clients that had been connected come back within this time of a restart. Unit: milliseconds.
const RESTART: u64 = 60_000;

/// Two readings of a busy host are not farther apart. Unit: milliseconds.
const READING: u64 = 2000;

impl Case<'_> {
    /// Short trouble that is over once the queue has been emptied.
    fn is_brief(&self, pause: f64) -> bool {
        let shape = &self.shape;
        self.overflows() > 0
            && shape.accepts > 0
            && (shape.longest < LASTING || self.is_emptied_between())
            // While it goes on, nobody knows how long it will.
            && self.calm >= SETTLED
            && self.evidence.accept_wait.is_none_or(|waits| waits.p99 < pause)
            && self.evidence.accept_gap.is_none_or(|gap| gap.ms < 1500)
    }

    /// However long they go on: between bursts the queue was empty, and who got in hardly
    /// waited. Those who were refused come again for many seconds, a few at a time.
    fn is_emptied_between(&self) -> bool {
        let totals = &self.evidence.totals;
        // Where cookies are sent beyond what overflowed the SYN queue was full for another reason.
        let of_overflows = self.overflows() * 2;
        let full = self.shape.full_share();
        // Where waits are not told, no reading may have found the queue full.
        self.evidence
            .accept_wait
            .map_or(full == 0.0, |waits| waits.p99 < PAUSE && full < SELDOM_FULL)
            && self.overflows() > totals.other_drops()
            && totals.cookies_sent.is_none_or(|sent| sent <= of_overflows)
    }

    /// More came than before; where nothing is known of before, short waits must do.
    fn is_burst(&self) -> bool {
        let quick = self.evidence.accept_wait.is_some_and(|waits| waits.p99 < HICCUP);
        self.shape.burst().is_some_and(|burst| burst >= BURST) || quick
    }

    /// Many clients at once: they come back after a restart, or all at one time.
    pub(super) fn herd(&self) -> Option<Found> {
        let limit = self.limit()?;
        let restarted = self.restarted();
        let pause = if restarted.is_some() { START } else { PAUSE };
        if !self.is_brief(pause) || limit.effective < SHORT || self.clipped().is_some() {
            return None;
        }
        let peak = self.shape.peak;
        if peak < HERD {
            return None;
        }
        let addresses = match &self.evidence.clients {
            Clients::Yes { addresses, .. } => *addresses,
            Clients::No { .. } => 0,
        };
        let spread = addresses >= 50;
        let burst = self.shape.burst().filter(|burst| *burst >= 20.0);
        if restarted.is_none() && !(spread && burst.is_some()) {
            return None;
        }
        let mut proofs = vec![format!("{peak} tries to connect came within one second")];
        if let Some(burst) = burst {
            proofs.push(format!("{} times as many as per second before", rate(burst)));
        }
        if let Some(ago) = restarted {
            proofs.push(format!("the listener had been opened {} before", duration(ago)));
        }
        if spread {
            proofs.push(format!("{addresses} different clients were refused"));
        }
        let sure = restarted.is_some() && spread;
        Some(Found {
            cause: Cause::ReconnectHerd,
            confidence: if sure { Confidence::High } else { Confidence::Medium },
            proofs,
            advice: Some(self.adviser.spread_reconnects(Some(limit))),
        })
    }

    /// How long before the first trouble its newest socket was opened, if not long. Unit:
    /// seconds.
    fn restarted(&self) -> Option<f64> {
        let Moment(listen) = self.evidence.newest_listen?;
        // What a reading has found began after the one before: the listener may be as new.
        if listen > self.opened.0 + READING {
            return None;
        }
        let ago = Some(self.opened.0.saturating_sub(listen)).filter(|ago| *ago <= RESTART)?;
        #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
        Some(ago as f64 / 1e3)
    }

    /// That the setting made it shorter than was asked for.
    pub(super) fn clipped(&self) -> Option<String> {
        let limit = self.limit()?;
        matches!(limit.set_by, SetBy::Somaxconn | SetBy::SomaxconnAtListen)
            .then(|| self.who_set_it())?
    }

    /// A short queue and a burst.
    pub(super) fn burst(&self) -> Option<Found> {
        if !self.is_brief(PAUSE) || !self.is_burst() {
            return None;
        }
        let limit = self.limit()?;
        let shape = &self.shape;
        let mut proofs = vec![format!(
            "{} overflows in {}, {} tries in the worst; the queue holds {}",
            self.overflows(),
            counted(shape.refusing, "second", "seconds"),
            shape.peak,
            limit.effective + 1
        )];
        match shape.before {
            Some(before) if shape.burst().is_some_and(|burst| burst >= BURST) => proofs
                .push(format!("{} connections per second came in the minute before", rate(before))),
            _ => {}
        }
        if let Some(waits) = self.evidence.accept_wait {
            proofs.push(format!(
                "the program was quick: 99 of 100 connections waited less than {} for accept()",
                duration(waits.p99)
            ));
        } else {
            proofs.push(format!(
                "the program went on accepting: {} connections meanwhile",
                shape.accepts
            ));
        }
        proofs.extend(self.who_set_it());
        let cause = match limit.set_by {
            SetBy::Somaxconn | SetBy::SomaxconnAtListen => Cause::BacklogClipped,
            SetBy::Program | SetBy::Both | SetBy::Unknown => Cause::BacklogTooSmall,
        };
        let measured = self.evidence.accept_wait.is_some();
        let confidence = match (measured, limit.set_by) {
            (_, SetBy::Unknown) => Confidence::Low,
            (true, _) => Confidence::High,
            (false, _) => Confidence::Medium,
        };
        Some(Found { cause, confidence, proofs, advice: Some(self.adviser.raise(limit)) })
    }
}
