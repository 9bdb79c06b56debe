//! The flags of `tcpq serve` about incidents.

use std::{path::PathBuf, time::Duration};

use clap::Args as ClapArgs;

use crate::{
    engine::incidents::{Settings, episode::Rules},
    store,
};

const DAY: u64 = 24 * 3600;
const MIB: u64 = 1 << 20;

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Incidents")]
pub(super) struct IncidentSettings {
    /// Directory in which incidents are stored; made if it is not there
    #[arg(
        long = "storage.path",
        env = "TCPQ_STORAGE_PATH",
        value_name = "DIR",
        default_value = "/var/lib/tcpq"
    )]
    path: PathBuf,
    /// How long incidents are kept
    #[arg(
        long = "storage.retention",
        env = "TCPQ_STORAGE_RETENTION",
        value_name = "DAYS",
        default_value_t = 90,
        value_parser = clap::value_parser!(u64).range(1..=36_500)
    )]
    retention: u64,
    /// Size of the stored incidents; beyond it the oldest are let go
    #[arg(
        long = "storage.max-size",
        env = "TCPQ_STORAGE_MAX_SIZE",
        value_name = "MIB",
        default_value_t = 256,
        value_parser = clap::value_parser!(u64).range(1..=1_048_576)
    )]
    max_size: u64,
    /// An incident is over when nothing was refused for so long
    #[arg(
        long = "incident.quiet",
        env = "TCPQ_INCIDENT_QUIET",
        value_name = "SECONDS",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(5..=3600)
    )]
    quiet: u64,
    /// A queue as full as this for 10 seconds is an incident, even if nothing is refused
    #[arg(
        long = "incident.fill",
        env = "TCPQ_INCIDENT_FILL",
        value_name = "PERCENT",
        default_value_t = 80,
        value_parser = clap::value_parser!(u64).range(10..=100)
    )]
    fill: u64,
    /// Memory of the flight recorder, which knows the last 10 minutes of each busy listener
    #[arg(
        long = "recorder.memory",
        env = "TCPQ_RECORDER_MEMORY",
        value_name = "MIB",
        default_value_t = 8,
        value_parser = clap::value_parser!(u64).range(1..=1024)
    )]
    recorder: u64,
}

impl IncidentSettings {
    pub(super) fn store(&self) -> store::Settings {
        store::Settings {
            folder: self.path.clone(),
            age: Duration::from_secs(self.retention * DAY),
            size: self.max_size * MIB,
        }
    }

    pub(super) fn incidents(&self) -> Settings {
        Settings {
            rules: Rules {
                quiet: Duration::from_secs(self.quiet),
                pause: Duration::from_secs(3),
                fill: self.fill * 10,
                sustain: Duration::from_secs(10),
            },
            checkpoint: Duration::from_mins(1),
            recorder: usize::try_from(self.recorder * MIB).unwrap_or(usize::MAX),
        }
    }
}
