//! Exemplars: a counter of overflows names the incident that its last ones are in. Only
//! OpenMetrics text has them.

use std::{collections::HashMap, fmt, time::SystemTime};

use prometheus_client::{
    encoding::{MetricEncoder, NoLabelSet},
    metrics::exemplar::CounterWithExemplar,
};

use crate::{
    model::{
        incident::{
            record::ListenerName,
            tally::{Named, Tally},
        },
        snapshot::Snapshot,
    },
    serve::metrics::format::Format,
};

/// The incidents of groups, by the group's place in the snapshot.
#[derive(Debug, Default)]
pub(super) struct Exemplars(HashMap<usize, Named>);

impl Exemplars {
    pub(super) fn new(snapshot: &Snapshot, tally: &Tally, format: Format) -> Self {
        if format != Format::OpenMetrics || tally.named.is_empty() {
            return Self::default();
        }
        let named = snapshot.groups.iter().enumerate().filter_map(|(place, group)| {
            let name = ListenerName {
                netns: group.netns.to_string(),
                address: group.key.place.address(),
                port: group.key.place.port(),
            };
            tally.named.get(&name).map(|named| (place, *named))
        });
        Self(named.collect())
    }

    /// A counter of the group at this place, with its exemplar if it has counted any.
    pub(super) fn encode(
        &self,
        series: &mut MetricEncoder<'_>,
        place: usize,
        value: u64,
    ) -> fmt::Result {
        let Some(Named { id, last }) = self.0.get(&place).filter(|_| value > 0) else {
            return series.encode_counter::<NoLabelSet, u64, f64>(&value, None);
        };
        // The library makes exemplars only so: one overflow, of that moment.
        let one = CounterWithExemplar::<[(&str, String); 1]>::default();
        let labels = [("incident_id", id.to_string())];
        one.inc_by(1, Some(labels), Some(SystemTime::from(*last)));
        let (_, exemplar) = one.get();
        series.encode_counter(&value, exemplar.as_ref())
    }
}
