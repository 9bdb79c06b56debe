//! Incidents, and how they are kept.

use std::fmt;

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};

use super::{Families, encode};
use crate::model::incident::{tally::Tally, verdict::Cause};

impl Families {
    pub(super) fn incidents(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counter = MetricType::Counter;
        let gauge = MetricType::Gauge;
        let Tally { active, ended, refused, recorder_bytes, recorder_refused, .. } = &*self.tally;
        let Tally { clients_lost, is_stored, lost, quarantined, .. } = &*self.tally;

        let help = "1 for each listener with an open incident; others have no series.";
        if let Some(mut family) = self.family(encoder, "tcpq_incident_active", help, gauge)? {
            for listener in active {
                let labels = [
                    ("netns", listener.netns.as_str()),
                    ("address", &listener.address),
                    ("port", &listener.port),
                ];
                encode(&mut family.encode_family(&labels)?, gauge, 1)?;
            }
        }

        let help = "Incidents that have ended, by their verdict.";
        if let Some(mut family) = self.family(encoder, "tcpq_incidents", help, counter)? {
            for (cause, count) in Cause::ALL.into_iter().zip(ended) {
                encode(&mut family.encode_family(&[("verdict", cause.name())])?, counter, *count)?;
            }
        }

        let single = [
            (
                "tcpq_incidents_not_recorded",
                "Incidents that were not recorded because too many were open.",
                counter,
                *refused,
            ),
            (
                "tcpq_incident_clients_lost",
                "Refusals whose client is in no incident because too many waited to be taken in.",
                counter,
                *clients_lost,
            ),
            ("tcpq_recorder_bytes", "Memory of the flight recorder.", gauge, *recorder_bytes),
            (
                "tcpq_recorder_readings_dropped",
                "Readings of a listener that the flight recorder had no room for.",
                counter,
                *recorder_refused,
            ),
            (
                "tcpq_store_up",
                "1 if incidents can be stored, 0 if the last ones are kept in memory only.",
                gauge,
                u64::from(*is_stored),
            ),
            (
                "tcpq_store_incidents_lost",
                "Incident records that could not be stored nor kept in memory.",
                counter,
                *lost,
            ),
            (
                "tcpq_store_files_quarantined",
                "Files of incidents that were found damaged and put aside.",
                counter,
                *quarantined,
            ),
        ];
        for (name, help, kind, value) in single {
            if let Some(mut family) = self.family(encoder, name, help, kind)? {
                encode(&mut family, kind, value)?;
            }
        }
        Ok(())
    }
}
