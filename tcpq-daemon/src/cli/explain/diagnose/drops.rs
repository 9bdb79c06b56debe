//! Drops that are no overflows: the SYN queue, and what no queue explains.

use crate::{
    cli::explain::{
        diagnose::{Case, Finding, Found, seconds},
        evidence::Figures,
    },
    model::advice::Advice,
};

/// Where less than one in so many SYN cookies comes back, clients are not slow: they do not
/// want a connection.
const COOKIES_PER_CLIENT: u64 = 5;

impl Case<'_> {
    /// What becomes of SYNs when the SYN queue is full.
    pub(super) fn syn_queue(&self) -> Option<Found> {
        let window = self.evidence.window.as_ref()?;
        let change = &window.change;
        let [full, pressure] = ["queue_full", "backlog_pressure"].map(|it| change.syn_drops(it));
        if full + pressure > 0 {
            return Some(Found {
                finding: Finding::SynQueueFull,
                because: self.syn_drops(full, pressure),
                advice: Some(self.adviser.turn_cookies_on()),
            });
        }
        // With tcp_syncookies = 2 every SYN is answered with one: that says nothing.
        let always = self.evidence.settings.as_ref().is_some_and(|it| it.tcp_syncookies == 2);
        let sent = change.cookies_sent.filter(|sent| *sent > 0 && !always)?;
        let validated = change.cookies_validated?;
        let because = format!(
            "{sent} SYN cookies sent in {}, {validated} came back",
            seconds(window.seconds)
        );
        if validated * COOKIES_PER_CLIENT < sent {
            return Some(Found {
                finding: Finding::SynFlood,
                because: vec![
                    because,
                    "SYN cookies keep the listener open to those who do follow up; nothing here \
                     would help more"
                        .into(),
                ],
                advice: None,
            });
        }
        Some(Found {
            finding: Finding::SynQueueTooShort,
            because: [because, "the SYN queue has the accept queue's limit".into()]
                .into_iter()
                .chain(self.who_set_it())
                .collect(),
            // To accept faster would not empty the SYN queue.
            advice: self.limit.as_ref().and_then(|limit| self.adviser.lengthen(limit)),
        })
    }

    pub(super) fn syn_drops(&self, full: u64, pressure: u64) -> Vec<String> {
        let mut because = Vec::new();
        if full > 0 {
            because.push(format!("{full} SYNs dropped because the SYN queue was full"));
        }
        if pressure > 0 {
            let backlog = self.evidence.settings.as_ref().map_or_else(String::new, |settings| {
                format!(" = {}", settings.tcp_max_syn_backlog)
            });
            because.push(format!(
                "{pressure} SYNs dropped because 3/4 of net.ipv4.tcp_max_syn_backlog{backlog} were \
                 in use"
            ));
        }
        because.push(format!("SYN cookies are off in {}", self.adviser.netns()));
        because
    }

    /// Drops that no queue explains.
    pub(super) fn other_drops(&self) -> Option<Found> {
        let window = self.evidence.window.as_ref()?;
        let change = &window.change;
        let overflows = change.overflows.total().unwrap_or(0);
        let known: u64 = change.syn_drops.iter().flat_map(|it| it.values()).sum();
        let rest = change.listen_drops.unwrap_or(0).saturating_sub(overflows + known);
        let mut because = other_drops(change);
        if rest > 0 && change.syn_drops.is_some() {
            because
                .push(format!("{rest} final ACKs or ICMP errors dropped (no way back, no memory)"));
        } else if rest > 0 {
            because
                .push(format!("{rest} drops that are no overflows; this kernel tells no reasons"));
        }
        if because.is_empty() {
            return None;
        }
        let advice = (change.syn_drops("no_memory") > 0).then(|| Advice {
            change: "find out what takes the kernel's memory".into(),
            commands: vec!["dmesg -T | tail".into(), "slabtop -o | head -20".into()],
        });
        Some(Found { finding: Finding::OtherDrops, because, advice })
    }
}

/// Drops by reasons that are no full queue. SYNs to broadcast addresses are nobody's loss.
pub(super) fn other_drops(figures: &Figures) -> Vec<String> {
    [
        ("no_memory", "there was no memory for the request"),
        ("rejected", "there is no way back to the client, or a security module refused"),
    ]
    .into_iter()
    .filter_map(|(reason, why)| {
        let count = figures.syn_drops(reason);
        (count > 0).then(|| format!("{count} SYNs dropped because {why}"))
    })
    .collect()
}
