//! What a listener is: whose, how many sockets, since when, and what it asked for.

use std::{collections::BTreeSet, fmt};

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};

use super::Families;
use crate::model::{
    group::{GroupView, unix_seconds},
    owner::{Container, Owner, Pod},
};

/// Owners of one group that have a series: more are no answer to "whose is it".
const MOST_OWNERS: usize = 8;

impl Families {
    pub(super) fn listeners(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.owners(encoder)?;
        let gauge = MetricType::Gauge;
        self.per_group(
            encoder,
            "tcpq_listener_sockets",
            "Listening sockets of this address and port.",
            gauge,
            |group| Some(group.sockets),
        )?;
        let help = "When the oldest socket's listen() was, in seconds since 1970; absent unless \
                    that of all was seen.";
        let name = "tcpq_listener_start_time_seconds";
        if let Some(mut family) = self.family(encoder, name, help, gauge)? {
            for (group, labels) in self.groups() {
                let Some(started) = group.started else { continue };
                family.encode_family(labels)?.encode_gauge(&unix_seconds(started))?;
            }
        }
        self.per_group(
            encoder,
            "tcpq_backlog_requested",
            "The backlog that listen() was asked for, before somaxconn; absent unless it was seen.",
            gauge,
            |group| group.backlog_requested,
        )
    }

    fn owners(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Who answers for the listener; what is not known is empty.";
        let family = self.family(encoder, "tcpq_listener", help, MetricType::Info)?;
        let Some(mut family) = family else { return Ok(()) };
        for (group, labels) in self.groups() {
            for owner in owners(group) {
                let [process, cgroup, container_id, k8s_namespace, k8s_pod, k8s_container] = owner;
                let owner = [
                    ("process", process),
                    ("cgroup", cgroup),
                    ("container_id", container_id),
                    ("k8s_namespace", k8s_namespace),
                    ("k8s_pod", k8s_pod),
                    ("k8s_container", k8s_container),
                ];
                family.encode_info(&labels.and(owner))?;
            }
        }
        Ok(())
    }
}

/// The owners' labels, distinct and ordered: owners that differ in nothing but their pid
/// are one series. Nobody is known: one, of nothing.
fn owners(group: &GroupView) -> impl Iterator<Item = [&str; 6]> {
    let mut values: BTreeSet<_> = group.owners.iter().map(|owner| labels(owner)).collect();
    if values.is_empty() {
        values.insert([""; 6]);
    }
    values.into_iter().take(MOST_OWNERS)
}

fn labels(owner: &Owner) -> [&str; 6] {
    let container = owner.container.as_ref();
    let pod = owner.pod.as_ref();
    let of_pod = |part: fn(&Pod) -> &String| pod.map(part).map_or("", String::as_str);
    [
        owner.process.as_deref().unwrap_or_default(),
        owner.cgroup.as_deref().unwrap_or_default(),
        container.map_or("", |Container { id, .. }| id),
        of_pod(|pod| &pod.namespace),
        of_pod(|pod| &pod.name),
        of_pod(|pod| &pod.container),
    ]
}
