//! What cannot work says so once, clearly, and ends with the documented code.

use anyhow::{Result, ensure};
use rustix::thread::CapabilitySet;

use crate::{
    bench::{Bench, Case, Finished, Target},
    daemon,
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("fault_second_daemon", second_daemon).in_part_on(SOME),
    Case::everywhere("fault_port_in_use", port_in_use).in_part_on(SOME),
    Case::everywhere("fault_unknown_flag", unknown_flag).in_part_on(SOME),
    Case::everywhere("fault_bad_address", bad_address).in_part_on(SOME),
    Case::everywhere("fault_no_privilege", no_privilege).in_part_on(SOME),
    Case::everywhere("fault_no_btf", no_btf).in_part_on(SOME),
];

/// What is said depends on the kernel in `no_btf` only.
const SOME: &[Target] = &[Target::Host, Target::V6_1];

const USAGE: i32 = 2;
const PRIVILEGE: i32 = 3;
const KERNEL_LACKS: i32 = 4;
const ADDRESS_IN_USE: i32 = 5;
const SECOND_DAEMON: i32 = 6;

fn second_daemon(bench: &Bench) -> Result<()> {
    let first = bench.daemon()?;
    let second = bench.launch()?.run_dir_of(&first);
    let finished = bench.finish(second.command()?)?;
    one_clear_line(&finished, SECOND_DAEMON)?;
    // The first one must not have been harmed.
    first.scrape()?;
    Ok(())
}

fn port_in_use(bench: &Bench) -> Result<()> {
    let first = bench.daemon()?;
    let second = bench.launch()?.port_of(&first);
    let finished = bench.finish(second.command()?)?;
    one_clear_line(&finished, ADDRESS_IN_USE)?;
    let port = first.address().port().to_string();
    ensure!(finished.stderr.contains(&port), "the port is not named: {}", finished.stderr);
    first.scrape()?;
    Ok(())
}

fn unknown_flag(bench: &Bench) -> Result<()> {
    let finished = bench.run(&["serve", "--no-such-flag"])?;
    ended_with(&finished, USAGE)?;
    ensure!(
        finished.stderr.contains("--no-such-flag"),
        "the flag is not named: {}",
        finished.stderr
    );
    Ok(())
}

fn bad_address(bench: &Bench) -> Result<()> {
    let bad = "not-an-address";
    let finished = bench.run(&["serve", "--web.listen-address", bad])?;
    ended_with(&finished, USAGE)?;
    ensure!(finished.stderr.contains(bad), "the address is not named: {}", finished.stderr);
    Ok(())
}

fn no_privilege(bench: &Bench) -> Result<()> {
    let finished =
        bench.finish(bench.launch()?.as_nobody_with(CapabilitySet::empty())?.command()?)?;
    one_clear_line(&finished, PRIVILEGE)
}

fn no_btf(bench: &Bench) -> Result<()> {
    let mut command = bench.launch()?.command()?;
    daemon::without_btf(&mut command);
    let finished = bench.finish(command)?;
    one_clear_line(&finished, KERNEL_LACKS)?;
    ensure!(finished.stderr.contains("BTF"), "BTF is not named: {}", finished.stderr);
    Ok(())
}

fn one_clear_line(finished: &Finished, code: i32) -> Result<()> {
    ended_with(finished, code)?;
    let lines = finished.stderr.lines().filter(|line| !line.trim().is_empty()).count();
    ensure!(lines == 1, "{lines} lines instead of one: {}", finished.stderr);
    Ok(())
}

fn ended_with(finished: &Finished, code: i32) -> Result<()> {
    ensure!(
        finished.code == Some(code),
        "ended with {:?} instead of {code}: {}{}",
        finished.code,
        finished.stdout,
        finished.stderr
    );
    ensure!(!finished.stderr.contains("panicked"), "it panicked: {}", finished.stderr);
    ensure!(!finished.stderr.trim().is_empty(), "it ended without a word");
    Ok(())
}
