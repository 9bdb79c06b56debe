//! The truth tests on this machine, against its kernel as it is.

use std::{
    ffi::OsStr,
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{Depth, pure::counted};
use crate::{
    artifacts::{self, TCPQ, TRUTH},
    cmd,
    failures::Failures,
    matrix::Cells,
    packages::{self, Tool},
    report::{Entry, Report},
    setup::{self, Purpose},
    store::Freshness,
};

/// For all of them, on a slow machine.
const fn limit(depth: Depth) -> Duration {
    match depth {
        Depth::Default => Duration::from_mins(15),
        Depth::Full => Duration::from_mins(30),
    }
}

/// Where the truth tests find the programs of others.
const PROGRAMS: [(&str, &Tool); 10] = [
    ("TCPQ_PROMETHEUS", &packages::PROMETHEUS),
    ("TCPQ_PROMTOOL", &packages::PROMTOOL),
    ("TCPQ_ALERTMANAGER", &packages::ALERTMANAGER),
    ("TCPQ_BUSYBOX", &packages::BUSYBOX),
    ("TCPQ_NGINX", &packages::NGINX),
    ("TCPQ_REDIS", &packages::REDIS),
    ("TCPQ_NODE", &packages::NODE),
    ("TCPQ_PYTHON", &packages::PYTHON),
    ("TCPQ_PODMAN", &packages::PODMAN),
    ("TCPQ_RUNC", &packages::RUNC),
];

pub(super) fn run(depth: Depth, report: &mut Report) -> Result<()> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    setup::tools()?;
    setup::servers()?;
    // The same files as for guests: one build less.
    let daemon = artifacts::standalone(TCPQ)?;
    let truth = artifacts::standalone(TRUTH)?;
    let programs = PROGRAMS.map(|(variable, tool)| tool.path().map(|path| (variable, path)));
    let programs = programs.into_iter().collect::<Result<Vec<_>>>()?;
    let (size, whole) = depth.environment();
    let mut env: Vec<(&str, &OsStr)> = vec![
        ("TRUTH_TARGET", OsStr::new("host")),
        (size, OsStr::new(whole)),
        ("TCPQ_BIN", daemon.as_os_str()),
    ];
    env.extend(programs.iter().map(|(variable, path)| (*variable, path.as_os_str())));
    let start = Instant::now();
    cmd::say("truth tests on this machine");
    let command = cmd::as_root(&truth, &env, "loading eBPF programs needs it")?;
    let (mut cells, mut failures) = (Cells::default(), Failures::default());
    let counts = counted(command, limit(depth), |line| {
        cells.hear(line);
        failures.hear(line);
    })?;
    report.matrix.add("host", &cells);
    report.add(Entry {
        name: "host".to_owned(),
        machine: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        counts,
        took: start.elapsed(),
        note: String::new(),
        failures: failures.into_vec(),
    });
    Ok(())
}
