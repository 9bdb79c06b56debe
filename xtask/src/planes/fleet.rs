//! A fleet in small: guests of different kernels at once, and on this machine one Prometheus
//! that scrapes all of them through forwarded ports.

mod members;

use std::{
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use self::members::{Member, STAGES, Watch};
use super::pure::counted;
use crate::{
    accel,
    artifacts::{self, Contents, FLEET},
    cmd,
    failures::Failures,
    fleet_words::{CALM, MEMBERS, OVERFLOWING},
    packages::PROMETHEUS,
    qemu::{Accel, Ending, Outcome},
    report::{Counts, Entry, Report},
    setup::{self, Purpose},
    store::Freshness,
};

/// The oldest kernel, that of current distributions, and the newest.
const FLEET_OF: [(&str, &str); 3] = [("5.10", CALM), ("6.12", OVERFLOWING), ("7", CALM)];

/// For what is asked of the fleet; longer than its own deadlines.
const VIEW_LIMIT: Duration = Duration::from_mins(7);

pub(super) fn run(report: &mut Report) -> Result<()> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    setup::tools()?;
    let programs = artifacts::guest(Contents::Fleet)?;
    // The same file as in the guests: one build less.
    let looks = artifacts::standalone(FLEET)?;
    let members = FLEET_OF.iter().map(|(series, role)| Member::new(series, role));
    let members = members.collect::<Result<Vec<_>>>()?;
    let newest = members.last().context("a fleet of nothing")?;
    let accel = accel::choose(&newest.kernel, &programs)?;
    let (tell, told) = mpsc::sync_channel(STAGES * members.len());
    let mut watch = Watch::new(&members, told);
    let (viewed, outcomes) = thread::scope(|scope| {
        let guests: Vec<_> = (0..)
            .zip(&members)
            .map(|(number, member)| {
                let tell = tell.clone();
                let programs = &programs;
                scope.spawn(move || member.live(number, accel, programs, &tell))
            })
            .collect();
        let viewed = watch.until_all_serve().and_then(|()| view(&looks, &members));
        // Whatever came of it.
        watch.end();
        let ended = guests.into_iter().map(|guest| guest.join().expect("a guest's thread"));
        (viewed, ended.collect::<Vec<_>>())
    });
    for (member, outcome) in members.iter().zip(outcomes) {
        report.add(entry(member, accel, outcome?));
    }
    report.add(viewed?);
    Ok(())
}

/// Has the fleet looked at by a Prometheus.
fn view(looks: &Path, members: &[Member]) -> Result<Entry> {
    let start = Instant::now();
    let told: Vec<_> = members.iter().map(Member::told).collect();
    let mut command = Command::new(looks);
    command
        .arg("--color=never")
        .env(MEMBERS, told.join(","))
        .env("TCPQ_PROMETHEUS", PROMETHEUS.path()?);
    cmd::say(format!("all serve: {}", told.join(", ")));
    let mut failures = Failures::default();
    let counts = counted(command, VIEW_LIMIT, |line| failures.hear(line))?;
    Ok(Entry {
        name: "fleet".to_owned(),
        machine: String::new(),
        counts,
        took: start.elapsed(),
        note: String::new(),
        failures: failures.into_vec(),
    })
}

/// A guest has passed that came as far as its role wants and ended when it was told.
fn entry(member: &Member, accel: Accel, outcome: Outcome) -> Entry {
    let (counts, note) = match outcome.ending {
        Ending::Reported(0) => (Counts::PASSED, String::new()),
        Ending::Reported(code) => (Counts::FAILED, format!("exit code {code}")),
        Ending::Silent(why) => (Counts::FAILED, why),
    };
    Entry {
        name: format!("fleet {}", member.kernel.series),
        machine: format!("{} {}", outcome.release.as_deref().unwrap_or("-"), accel.name()),
        counts,
        took: outcome.took,
        note,
        failures: Vec::new(),
    }
}
