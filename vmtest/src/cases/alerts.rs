//! The rules that are shipped, by Prometheus's own tests of rules.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Held, Target},
    promtool::program,
};

pub(super) const CASES: &[Case] = &[Case::new(
    "alert_rules_fire_and_do_not",
    rules,
    Held::Only(&[Target::Host], "a guest has no promtool; rules do not depend on the kernel"),
)];

const RULES: &str = include_str!("../../../deploy/prometheus/tcpq.rules.yml");
const TESTS: &str = include_str!("../../../deploy/prometheus/tcpq.rules.test.yml");

fn rules(bench: &Bench) -> Result<()> {
    let folder = bench.scratch().path();
    for (name, text) in [("tcpq.rules.yml", RULES), ("tcpq.rules.test.yml", TESTS)] {
        fs::write(folder.join(name), text).context("cannot write the rules")?;
    }
    for arguments in
        [["check", "rules", "tcpq.rules.yml"], ["test", "rules", "tcpq.rules.test.yml"]]
    {
        let mut command = Command::new(program("TCPQ_PROMTOOL")?);
        command.args(arguments).current_dir(folder);
        let finished = bench.finish(command)?;
        ensure!(finished.code == Some(0), "{arguments:?}: {finished:?}");
    }
    Ok(())
}
