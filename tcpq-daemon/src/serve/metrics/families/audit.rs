//! The kernel's own counters, and the difference to ours.

use std::fmt;

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};

use super::{Families, encode};
use crate::model::hooks::Signal;

impl Families {
    /// The kernel's counters of each namespace, and what of them no listener has.
    pub(super) fn audit(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if !self.tells(Signal::Audit) {
            return Ok(());
        }
        let audit = &self.snapshot.audit;
        let counter = MetricType::Counter;
        let help = "The kernel's ListenOverflows of the network namespace since tcpq watches it.";
        if let Some(mut family) =
            self.family(encoder, "tcpq_netns_listen_overflows", help, counter)?
        {
            for netns in audit {
                let labels = [("netns", &*netns.netns)];
                encode(&mut family.encode_family(&labels)?, counter, netns.listen_overflows)?;
            }
        }
        let help = "The kernel's ListenDrops of the network namespace since tcpq watches it.";
        if let Some(mut family) = self.family(encoder, "tcpq_netns_listen_drops", help, counter)? {
            for netns in audit {
                let labels = [("netns", &*netns.netns)];
                encode(&mut family.encode_family(&labels)?, counter, netns.listen_drops)?;
            }
        }
        let help = "ListenOverflows of the kernel less those of all listeners: 0 is the promise.";
        let name = "tcpq_netns_unattributed_overflows";
        if let Some(mut family) = self.family(encoder, name, help, MetricType::Gauge)? {
            for (netns, difference) in audit.iter().filter_map(|n| Some((n, n.unattributed?))) {
                let labels = [("netns", &*netns.netns)];
                family.encode_family(&labels)?.encode_gauge(&difference.overflows)?;
            }
        }
        let help = "ListenDrops of the kernel less those of all listeners: 0 is the promise.";
        let name = "tcpq_netns_unattributed_drops";
        if let Some(mut family) = self.family(encoder, name, help, MetricType::Gauge)? {
            for (netns, difference) in audit.iter().filter_map(|n| Some((n, n.unattributed?))) {
                let labels = [("netns", &*netns.netns)];
                family.encode_family(&labels)?.encode_gauge(&difference.drops)?;
            }
        }
        Ok(())
    }
}
