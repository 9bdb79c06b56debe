//! The settings of network namespaces that bear on listeners.

use std::fmt;

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};

use super::Families;
use crate::model::group::NetnsSettings;

/// Name, help and value of a family.
type Setting = (&'static str, &'static str, fn(&NetnsSettings) -> u32);

const SETTINGS: [Setting; 4] = [
    (
        "tcpq_netns_somaxconn",
        "net.core.somaxconn of the network namespace: no larger backlog is granted.",
        |netns| netns.somaxconn,
    ),
    (
        "tcpq_netns_tcp_max_syn_backlog",
        "net.ipv4.tcp_max_syn_backlog of the network namespace.",
        |netns| netns.tcp_max_syn_backlog,
    ),
    (
        "tcpq_netns_tcp_syncookies",
        "net.ipv4.tcp_syncookies of the network namespace: 0 off, 1 when a queue is full, 2 always.",
        |netns| netns.tcp_syncookies,
    ),
    (
        "tcpq_netns_tcp_abort_on_overflow",
        "net.ipv4.tcp_abort_on_overflow of the network namespace: 0 drop, 1 reset.",
        |netns| netns.tcp_abort_on_overflow,
    ),
];

impl Families {
    /// Of namespaces with one name the first is told: a series must not be there twice, and
    /// settings have no sum.
    pub(super) fn settings(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        // Ordered by name.
        let mut namespaces: Vec<_> = self.snapshot.namespaces.iter().collect();
        namespaces.dedup_by(|later, kept| later.netns == kept.netns);
        for (name, help, value) in SETTINGS {
            let family = self.family(encoder, name, help, MetricType::Gauge)?;
            let Some(mut family) = family else { continue };
            for netns in &namespaces {
                let labels = [("netns", &*netns.netns)];
                family.encode_family(&labels)?.encode_gauge(&value(netns))?;
            }
        }
        Ok(())
    }
}
