//! What comes before the accept queue: SYNs, requests and cookies.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use tcpq_common::totals::{RequestLost, SynDrop};

use super::{Families, Naming, Split, SplitValue};
use crate::model::hooks::Signal;

const DROP: Signal = Signal::SynDrops;
const DROPS: [SplitValue; SynDrop::ALL.len()] = [
    (SynDrop::ALL[0].label(), DROP, |group| group.counts.syn_drops[0]),
    (SynDrop::ALL[1].label(), DROP, |group| group.counts.syn_drops[1]),
    (SynDrop::ALL[2].label(), DROP, |group| group.counts.syn_drops[2]),
    (SynDrop::ALL[3].label(), DROP, |group| group.counts.syn_drops[3]),
    (SynDrop::ALL[4].label(), DROP, |group| group.counts.syn_drops[4]),
];

const LOST: Signal = Signal::RequestsLost;
const LOSSES: [SplitValue; RequestLost::ALL.len()] = [
    (RequestLost::ALL[0].label(), LOST, |group| group.counts.requests_lost[0]),
    (RequestLost::ALL[1].label(), LOST, |group| group.counts.requests_lost[1]),
    (RequestLost::ALL[2].label(), LOST, |group| group.counts.requests_lost[2]),
    (RequestLost::ALL[3].label(), LOST, |group| group.counts.requests_lost[3]),
    (RequestLost::ALL[4].label(), LOST, |group| group.counts.requests_lost[4]),
];

impl Families {
    /// SYNs, requests and cookies: what comes before the accept queue.
    pub(super) fn handshakes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.counter(
            encoder,
            ("tcpq_syns_received", "SYNs that reached the listener."),
            Signal::SynsReceived,
            |group| group.counts.syns_received,
        )?;
        self.split(
            encoder,
            "tcpq_syn_drops",
            "SYNs dropped for another reason than a full accept queue.",
            &Split { label: "reason", naming: Naming::Nothing, values: &DROPS },
        )?;
        self.split(
            encoder,
            "tcpq_requests_lost",
            "Requests that left the SYN queue without becoming a connection, by reason.",
            &Split { label: "reason", naming: Naming::Nothing, values: &LOSSES },
        )?;
        self.counter(
            encoder,
            ("tcpq_syn_cookies_sent", "SYNs answered with a SYN cookie (SyncookiesSent)."),
            Signal::CookiesSent,
            |group| group.counts.cookies.sent,
        )?;
        self.counter(
            encoder,
            (
                "tcpq_syn_cookies_validated",
                "SYN cookies that came back and were valid (SyncookiesRecv).",
            ),
            Signal::CookiesChecked,
            |group| group.counts.cookies.validated,
        )?;
        self.counter(
            encoder,
            (
                "tcpq_syn_cookies_failed",
                "ACKs that were taken for a SYN cookie's and were not valid (SyncookiesFailed).",
            ),
            Signal::CookiesChecked,
            |group| group.counts.cookies.failed,
        )?;
        self.counter(
            encoder,
            ("tcpq_synack_retransmits", "SYN-ACKs sent again."),
            Signal::SynackRetransmits,
            |group| group.counts.synack_retransmits,
        )
    }
}
