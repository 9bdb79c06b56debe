//! What a running daemon has given up.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Bench, Case};

pub(super) const CASES: &[Case] = &[Case::everywhere("privileges_given_up", given_up)];

/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE and CAP_BPF, by their bits of include/uapi/linux/capability.h.
const GOES_ON_WITH: u64 = 1 << 2 | 1 << 19 | 1 << 39;

fn given_up(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let tasks = format!("/proc/{}/task", daemon.pid());
    let mut threads = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        let path = task.context("a thread went away")?.path().join("status");
        let status = fs::read_to_string(&path).context("cannot read a thread's status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim().to_owned())
                .with_context(|| format!("no {name}:\n{status}"))
        };
        for set in ["CapPrm", "CapEff", "CapInh"] {
            let bits = u64::from_str_radix(&field(set)?, 16).context("no number")?;
            ensure!(bits & !GOES_ON_WITH == 0, "{set} has more than it goes on with:\n{status}");
        }
        ensure!(field("NoNewPrivs")? == "1", "it may get more:\n{status}");
        ensure!(field("Seccomp")? == "2", "nothing is forbidden:\n{status}");
        threads += 1;
    }
    ensure!(threads >= 5, "{threads} threads only");
    // It works all the same.
    daemon.scrape()?;
    Ok(())
}
