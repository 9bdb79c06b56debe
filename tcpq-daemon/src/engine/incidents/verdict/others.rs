//! No queue was full.

use crate::{
    engine::incidents::verdict::{Case, Found, counted},
    model::incident::verdict::{Cause, Confidence},
};

impl Case<'_> {
    /// Memory, routes, policy, ICMP errors.
    pub(super) fn not_the_listener(&self) -> Option<Found> {
        let totals = &self.evidence.totals;
        let others = totals.other_drops();
        if self.overflows() > 0 || others == 0 || totals.syn_drops.is_none() {
            return None;
        }
        if self.shape.ever_full > 0 || self.shape.syn_full > 0 {
            return None;
        }
        let reasons = [
            (totals.syn_drops("no_memory"), "SYN", "SYNs", "for want of memory"),
            (
                totals.syn_drops("rejected"),
                "SYN",
                "SYNs",
                "because there is no way back to the client, or a security module refused",
            ),
            (totals.requests_lost("icmp"), "request", "requests", "by an ICMP error that named it"),
        ];
        let named: u64 = reasons.iter().map(|(count, ..)| count).sum();
        if named * 10 < others * 9 {
            return None;
        }
        let dropped = reasons.iter().filter(|(count, ..)| *count > 0);
        let mut proofs: Vec<_> = dropped
            .map(|(count, one, many, why)| format!("{} dropped {why}", counted(*count, one, many)))
            .collect();
        proofs.push(format!(
            "no queue was full: up to {} requests and {} connections waited",
            self.shape.syn_longest, self.shape.accept_longest
        ));
        Some(Found {
            cause: Cause::NotTheListener,
            confidence: Confidence::High,
            proofs,
            advice: None,
        })
    }
}
