//! The program takes nothing, or too little, from the queue.

use crate::{
    engine::incidents::verdict::{Case, Found, bursts::HICCUP, counted, duration, rate},
    model::incident::{
        evidence::{AcceptGap, ProcessFigures, SocketFigures},
        verdict::{Cause, Confidence},
    },
};

/// A program that takes nothing for so long has stalled. Unit: milliseconds.
const STALL: u64 = 2000;

/// So much of all trouble is in the gap. Where there are several gaps it is slow, not stalled.
const OF_TROUBLE: f64 = 0.6;

/// A bout that is shorter can be a burst. Unit: seconds.
pub(super) const LASTING: f64 = 5.0;

/// The queue is full at so many readings.
const STAYS_FULL: f64 = 0.6;

/// Of its periods with work, so many ended for want of quota.
const THROTTLED: f64 = 0.25;

/// CPU periods that a share can be told of.
const PERIODS: u64 = 8;

/// The sockets of a group.
pub(super) struct Split<'a> {
    stuck: Vec<&'a SocketFigures>,
    working: Vec<&'a SocketFigures>,
}

impl Case<'_> {
    /// accept() fails, or can only fail: no file descriptor is left.
    pub(super) fn out_of_files(&self) -> Option<Found> {
        let totals = &self.evidence.totals;
        let waiting = self.shape.accept_longest;
        if waiting == 0 {
            return None;
        }
        for error in ["EMFILE", "ENFILE"] {
            let count = totals.accept_errors(error);
            if count > 0 {
                let mut proofs = vec![format!(
                    "accept() failed {} with {error} while up to {waiting} connections waited",
                    counted(count, "time", "times")
                )];
                proofs.extend(self.full_of_files().map(files));
                let advice = if error == "EMFILE" {
                    self.adviser.raise_nofile()
                } else {
                    self.adviser.raise_file_max()
                };
                return Some(Found {
                    cause: Cause::OutOfFiles,
                    confidence: Confidence::High,
                    proofs,
                    advice: Some(advice),
                });
            }
        }
        // Where errors of accept() are told and there was none, the table was full by chance.
        if totals.accept_errors.is_some() {
            return None;
        }
        let process = self.full_of_files()?;
        let gap = self.gap()?;
        Some(Found {
            cause: Cause::OutOfFiles,
            confidence: Confidence::Medium,
            proofs: vec![files(process), nothing_taken(&gap)],
            advice: Some(self.adviser.raise_nofile()),
        })
    }

    fn full_of_files(&self) -> Option<&ProcessFigures> {
        self.evidence
            .processes
            .iter()
            .find(|it| it.files.zip(it.files_limit).is_some_and(|(files, limit)| files >= limit))
    }

    /// A gap that is long enough to be one.
    fn gap(&self) -> Option<AcceptGap> {
        self.evidence.accept_gap.filter(|gap| gap.ms >= STALL)
    }

    /// One socket of several has no accept(), or was closed with connections in it.
    pub(super) fn member_stuck(&self) -> Option<Found> {
        let evidence = self.evidence;
        let abandoned = evidence.totals.abandoned.unwrap_or(0);
        let refused = self.overflows();
        if evidence.sockets_closed > 0 && abandoned > 0 && refused == 0 && evidence.sockets_open > 0
        {
            return Some(Found {
                cause: Cause::MemberStuck,
                confidence: Confidence::High,
                proofs: vec![format!(
                    "{} of the group closed while {} others stayed open, and {abandoned} \
                     connections in its queue were reset",
                    counted(evidence.sockets_closed, "socket", "sockets"),
                    evidence.sockets_open
                )],
                advice: Some(self.adviser.drain_before_close()),
            });
        }
        if evidence.sockets_open < 2 || refused == 0 {
            return None;
        }
        let Split { stuck, working } = self.split()?;
        let first = stuck.first()?;
        let at_stuck: u64 = stuck.iter().filter_map(|it| it.overflows).sum();
        if stuck.len() > working.len() || at_stuck * 3 < refused {
            return None;
        }
        let accepted: u64 = working.iter().filter_map(|it| it.accepts).sum();
        let who = first.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        let mut proofs = vec![
            format!(
                "{} of {} sockets{who} had no accept() while {accepted} connections were accepted \
                 from the others",
                stuck.len(),
                evidence.sockets_open
            ),
            format!("{at_stuck} of {refused} overflows were there: its queue was full"),
        ];
        proofs.extend(self.what_it_does());
        Some(Found {
            cause: Cause::MemberStuck,
            // Others overflowed, too: something else happened as well.
            confidence: if at_stuck * 10 >= refused * 9 {
                Confidence::High
            } else {
                Confidence::Medium
            },
            proofs,
            advice: Some(self.look()),
        })
    }

    /// Sockets that are full and not accepted from, beside others that are; `None`: there are no
    /// such two kinds.
    pub(super) fn split(&self) -> Option<Split<'_>> {
        let (stuck, others): (Vec<_>, Vec<_>) =
            self.sockets().iter().partition(|it| it.accepts == Some(0) && it.is_full());
        let works = |it: &&SocketFigures| it.accepts.is_some_and(|accepts| accepts > 0);
        let working: Vec<_> = others.into_iter().filter(works).collect();
        (!stuck.is_empty() && !working.is_empty()).then_some(Split { stuck, working })
    }

    /// How many of its periods the control group was stopped in; `None`: not known.
    pub(super) fn throttled_share(&self) -> Option<f64> {
        let cgroup = self.evidence.cgroup.as_ref().filter(|it| it.periods >= PERIODS)?;
        #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
        Some(cgroup.throttled as f64 / cgroup.periods as f64)
    }

    /// It would accept, but may not run.
    pub(super) fn throttled(&self) -> Option<Found> {
        let share = self.throttled_share().filter(|share| *share >= THROTTLED)?;
        let cgroup = self.evidence.cgroup.as_ref()?;
        if self.overflows() == 0 && self.shape.ever_full == 0 {
            return None;
        }
        // Stopped by a signal it uses no quota: then what was throttled is another process.
        if self.stopped().is_some() {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
        let (throttled, looked) =
            (cgroup.throttled_us as f64 / 1e6, self.evidence.looked_ms as f64 / 1e3);
        let quota = cgroup.quota.map_or_else(String::new, |quota| {
            #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
            let cpus = quota as f64 / 1000.0;
            format!(", which may use {cpus:.2} CPUs,")
        });
        let mut proofs = vec![format!(
            "its control group {}{quota} was throttled in {:.0} % of its periods, {} in {}",
            cgroup.path,
            share * 100.0,
            duration(throttled),
            duration(looked)
        )];
        if let Some(us) = cgroup.pressure.and_then(|pressure| pressure.cpu) {
            #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
            let stalled = us as f64 / 1e6;
            proofs.push(format!("its tasks waited for a CPU for {} of it", duration(stalled)));
        }
        proofs.extend(self.slow_figures());
        let confidence = if share >= 0.5 { Confidence::High } else { Confidence::Medium };
        Some(Found {
            cause: Cause::CpuThrottled,
            confidence,
            proofs,
            advice: Some(self.adviser.loosen_quota(cgroup)),
        })
    }

    /// Nothing was taken for a while.
    pub(super) fn stalled(&self) -> Option<Found> {
        self.accepts()?;
        if self.overflows() == 0 && self.shape.ever_full == 0 {
            return None;
        }
        let gap = self.gap()?;
        #[expect(clippy::cast_precision_loss, reason = "a comparison")]
        let seconds = gap.ms as f64 / 1e3;
        if self.shape.accepts > 0 && seconds < self.shape.seconds * OF_TROUBLE {
            return None;
        }
        let mut proofs = vec![nothing_taken(&gap)];
        let refused = self.overflows();
        if refused > 0 {
            proofs.push(format!("{refused} overflows: the queue was full and stayed so"));
        }
        let did = self.what_it_does();
        let is_stopped = self.stopped().is_some();
        proofs.extend(did);
        let confidence =
            if is_stopped || seconds >= 3.0 { Confidence::High } else { Confidence::Medium };
        Some(Found {
            cause: Cause::ApplicationStalled,
            confidence,
            proofs,
            advice: Some(self.look()),
        })
    }

    /// It takes connections, and the queue stays full all the same.
    pub(super) fn too_slow(&self) -> Option<Found> {
        let shape = &self.shape;
        let refused = self.overflows();
        let lasts = shape.longest >= LASTING && shape.full_share() >= STAYS_FULL;
        if refused == 0 || !lasts || shape.accepts == 0 {
            return None;
        }
        let mut proofs = self.slow_figures();
        proofs.insert(
            0,
            format!(
                "the accept queue was full at {:.0} % of the readings in {}, although {} \
                 connections per second were accepted",
                (shape.full_share() * 100.0).min(100.0),
                duration(shape.seconds),
                rate(shape.accept_rate())
            ),
        );
        proofs.extend(self.what_it_does());
        let waits = self.evidence.accept_wait.is_some_and(|waits| waits.p50 >= HICCUP);
        let long = self.drain().is_some_and(|drain| drain >= HICCUP);
        let confidence = if waits || long { Confidence::High } else { Confidence::Medium };
        Some(Found {
            cause: Cause::ApplicationTooSlow,
            confidence,
            proofs,
            advice: Some(self.adviser.accept_faster()),
        })
    }

    /// Figures of a queue that is not emptied fast enough.
    fn slow_figures(&self) -> Vec<String> {
        let mut said = Vec::new();
        let refused = self.overflows();
        if refused > 0 {
            said.push(format!(
                "{refused} overflows while {} connections were accepted",
                self.shape.accepts
            ));
        }
        if let Some(waits) = self.evidence.accept_wait {
            said.push(format!(
                "connections waited {} for accept(), 1 of 100 more than {}",
                duration(waits.p50),
                duration(waits.p99)
            ));
        }
        said
    }

    /// A process of which all threads were stopped at most looks: at the last one it may have
    /// been let go.
    fn stopped(&self) -> Option<&ProcessFigures> {
        self.evidence.processes.iter().find(|it| it.stopped * 2 > it.looks)
    }

    /// What the process was seen to do.
    fn what_it_does(&self) -> Option<String> {
        if let Some(ProcessFigures { pid, name, threads, .. }) = self.stopped() {
            let threads = counted(*threads, "thread", "threads");
            return Some(format!("pid {pid} ({name}) was stopped: {threads}, state T"));
        }
        let process = self.evidence.processes.first()?;
        let ProcessFigures { pid, name, states, waits, cpu_permille, .. } = process;
        let all: u64 = states.values().sum();
        let busiest = waits.iter().max_by_key(|(function, count)| (**count, function.as_str()));
        let of = |state| states.get(&state).copied().unwrap_or(0);
        if let Some(permille) = cpu_permille.filter(|permille| *permille >= 900) {
            return Some(format!(
                "pid {pid} ({name}) was busy: it used {} % of a CPU",
                permille / 10
            ));
        }
        if of('D') * 2 >= all && all > 0 {
            let at = busiest.map_or_else(String::new, |(function, _)| format!(", in {function}"));
            return Some(format!(
                "the threads of pid {pid} ({name}) waited for a device or a lock (state D{at})"
            ));
        }
        let (function, _) = busiest?;
        Some(format!("the threads of pid {pid} ({name}) slept, most in {function}"))
    }

    /// Advice for a process that does not accept.
    fn look(&self) -> crate::model::advice::Advice {
        match self.stopped() {
            Some(process) => self.adviser.resume(process.pid),
            None => self.adviser.look_at_process(),
        }
    }
}

fn files(process: &ProcessFigures) -> String {
    let ProcessFigures { pid, name, files, files_limit, .. } = process;
    format!(
        "pid {pid} ({name}) had {} files open and may have {}",
        files.unwrap_or(0),
        files_limit.unwrap_or(0)
    )
}

fn nothing_taken(gap: &AcceptGap) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let seconds = gap.ms as f64 / 1e3;
    format!(
        "accept() took nothing for {} while {} waited",
        duration(seconds),
        counted(gap.waiting, "connection", "connections")
    )
}
