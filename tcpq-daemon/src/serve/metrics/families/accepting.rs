//! How accept() fails.

use std::fmt;

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};
use tcpq_common::totals::AcceptError;

use super::{Families, encode};
use crate::model::hooks::Signal;

impl Families {
    /// Every listener has those that an alert asks for; the others are there once they have
    /// happened.
    pub(super) fn accept_errors(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if !self.tells(Signal::AcceptErrors) {
            return Ok(());
        }
        let help = "Calls of accept() that failed, by error: EMFILE when the process and ENFILE \
                    when the host may open no more files; never EAGAIN.";
        let kind = MetricType::Counter;
        let family = self.family(encoder, "tcpq_accept_errors", help, kind)?;
        let Some(mut family) = family else { return Ok(()) };
        for (group, labels) in self.groups() {
            for (error, count) in AcceptError::ALL.into_iter().zip(group.counts.accept_errors) {
                if count > 0 || is_always_shown(error) {
                    let labels = labels.and([("errno", error.label())]);
                    encode(&mut family.encode_family(&labels)?, kind, count)?;
                }
            }
        }
        Ok(())
    }
}

const fn is_always_shown(error: AcceptError) -> bool {
    matches!(error, AcceptError::Emfile | AcceptError::Enfile)
}
