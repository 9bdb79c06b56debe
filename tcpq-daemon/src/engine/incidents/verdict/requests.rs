//! The SYN queue: requests that nobody follows up, or that take their time.

use crate::{
    engine::incidents::verdict::{Case, Found, duration},
    model::{
        hooks::Signal,
        incident::verdict::{Cause, Confidence},
    },
};

/// SYN cookies or lost requests that a share can be told of.
const MANY: u64 = 100;

/// Where less than one in so many comes back, clients do not want a connection.
const PER_CLIENT: u64 = 5;

/// A handshake that takes as long is of a client far away. Unit: seconds.
const FAR: f64 = 0.02;

impl Case<'_> {
    /// Whether the SYN queue was full, by whatever tells.
    fn is_syn_queue_full(&self) -> bool {
        let totals = &self.evidence.totals;
        let dropped = totals.syn_drops("queue_full") + totals.syn_drops("backlog_pressure");
        self.shape.syn_full > 0 || dropped > 0 || totals.cookies_sent.is_some_and(|sent| sent > 0)
    }

    /// Overflows of the accept queue are of another kind.
    fn is_of_requests(&self) -> bool {
        let others = self.evidence.totals.other_drops();
        self.is_syn_queue_full() && self.overflows() <= others
    }

    fn are_cookies_off(&self) -> bool {
        self.evidence.settings.as_ref().is_some_and(|it| it.tcp_syncookies == 0)
    }

    /// Requests that stay in the SYN queue until data comes.
    pub(super) fn deferred(&self) -> Option<Found> {
        let seconds = self.evidence.defer_accept.filter(|seconds| *seconds > 0)?;
        if !self.is_of_requests() {
            return None;
        }
        let totals = &self.evidence.totals;
        // Clients that are there answer: their cookies come back, and SYN-ACKs are only sent
        // again because the kernel forgot their ACK on purpose.
        let came_back = totals.cookies_validated.unwrap_or(0) * PER_CLIENT;
        if totals.cookies_sent.is_some_and(|sent| sent >= MANY && came_back < sent) {
            return None;
        }
        let mut proofs = vec![format!(
            "the socket has TCP_DEFER_ACCEPT for {seconds} s: a request stays in the SYN queue \
             until the client sends data"
        )];
        proofs.push(format!("the SYN queue had up to {} requests", self.shape.syn_longest));
        if let Some(again) = totals.synack_retransmits.filter(|again| *again > 0) {
            proofs.push(format!("{again} SYN-ACKs were sent again"));
        }
        if let Some(times) = self.evidence.handshake.filter(|times| times.p50 >= 0.5) {
            proofs.push(format!("handshakes took {}, half of them more", duration(times.p50)));
        }
        Some(Found {
            cause: Cause::DeferredAccept,
            confidence: Confidence::Medium,
            proofs,
            advice: Some(self.adviser.defer_less()),
        })
    }

    /// SYNs that nobody follows up.
    pub(super) fn flood(&self) -> Option<Found> {
        if !self.is_of_requests() {
            return None;
        }
        let totals = &self.evidence.totals;
        let enqueued = totals.enqueued?;
        let mut proofs = Vec::new();
        let mut confidence = Confidence::Medium;
        if let Some(sent) = totals.cookies_sent.filter(|sent| *sent >= MANY) {
            let back = totals.cookies_validated?;
            if back * PER_CLIENT >= sent {
                return None;
            }
            proofs.push(format!("{sent} SYN cookies were sent, and {back} came back"));
            confidence = Confidence::High;
        } else if let Some(syns) = totals.syns {
            // Cookies are off: SYNs are dropped, and what is queued times out.
            let dropped = totals.syn_drops("queue_full") + totals.syn_drops("backlog_pressure");
            if dropped < MANY || enqueued * PER_CLIENT * 2 >= syns {
                return None;
            }
            proofs.push(format!(
                "{syns} SYNs came, {dropped} were dropped because the SYN queue was full, and \
                 {enqueued} became connections"
            ));
        } else {
            // Only SYN-ACKs tell: those that are sent again were not answered.
            let again = totals.synack_retransmits.filter(|again| *again >= MANY)?;
            let unanswered = self.evidence.defer_accept == Some(0);
            if !unanswered || again < (enqueued + 1) * PER_CLIENT * 2 {
                return None;
            }
            proofs.push(format!(
                "{again} SYN-ACKs were sent again because nobody answered, and {enqueued} requests \
                 became connections"
            ));
        }
        proofs.push(format!(
            "the SYN queue had up to {} requests, the accept queue {}",
            self.shape.syn_longest, self.shape.accept_longest
        ));
        if totals.requests_lost("timeout") > 0 {
            proofs.push(format!(
                "{} requests ended without an answer",
                totals.requests_lost("timeout")
            ));
        }
        Some(Found {
            cause: Cause::SynFlood,
            confidence,
            proofs,
            advice: Some(self.adviser.fend_off(self.are_cookies_off())),
        })
    }

    /// Real clients fill the SYN queue, since their answers take time.
    pub(super) fn round_trip(&self) -> Option<Found> {
        if !self.is_of_requests() || !self.tells(Signal::HandshakeTime) {
            return None;
        }
        let totals = &self.evidence.totals;
        let enqueued = totals.enqueued?;
        let times = self.evidence.handshake.filter(|times| times.p50 >= FAR)?;
        let lost = totals.requests_lost("timeout");
        if enqueued < MANY || lost * PER_CLIENT > enqueued {
            return None;
        }
        let sent = totals.cookies_sent.unwrap_or(0);
        let back = totals.cookies_validated.unwrap_or(0);
        if sent >= MANY && back * 2 < sent {
            return None;
        }
        let mut proofs = vec![format!(
            "{enqueued} requests became connections, {lost} ended without an answer: the clients \
             are real"
        )];
        proofs.push(format!(
            "a handshake took {}: so long a request is in the SYN queue, which had up to {}",
            duration(times.p50),
            self.shape.syn_longest
        ));
        if sent > 0 {
            proofs.push(format!("{sent} SYN cookies were sent, {back} came back"));
        }
        Some(Found {
            cause: Cause::SynQueueByRoundTrip,
            confidence: if sent >= MANY { Confidence::High } else { Confidence::Medium },
            proofs,
            advice: self.adviser.longer_syn_queue(self.limit()),
        })
    }
}
