//! `tcpq top` on a terminal.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Held, Target},
    daemon, load,
    netns::Netns,
    processes,
    pty::Pty,
    puppet::Puppet,
    sockets::Family,
};

pub(super) const CASES: &[Case] = &[
    Case::new("top_shows_and_gives_the_terminal_back", shows, HERE),
    Case::new("top_needs_a_terminal_and_a_daemon", needs, HERE),
];

const HERE: Held = Held::Only(&[Target::Host], "nothing of it depends on the kernel");

const SOON: Duration = Duration::from_secs(20);

/// To the alternate screen, and back.
const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";

fn shows(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(b"stubborn")?;
    let address = puppet.listen(Family::V4.loopback_at(8_444), 4)?;
    let daemon = bench.fresh_daemon()?;
    let run_dir = daemon.run_dir().to_str().context("a path that is no text")?.to_owned();
    let program = daemon::binary()?;
    let arguments = ["top", "--run-dir", &run_dir, "--interval", "0.3"];
    let start = || Pty::start(program.as_os_str(), &arguments, (120, 24));

    // What was there already is not drawn again, blanks least of all: only whole words are seen.
    let mut top = start()?;
    let before = top.modes()?;
    let place = top.sees("stubborn", 0, SOON)?;
    ensure!(top.written()?.contains(ENTERED), "it is not on a screen of its own");
    ensure!(top.modes()? != before, "keys wait for a line's end");
    // Drawn again, since it is red once it refuses.
    load::syns(&netns, address, 30)?;
    top.sees("stubborn", place, SOON)?;
    top.types("/8444\r")?;
    top.sees("/8444", place, SOON)?;
    top.types("g\r")?;
    let place = top.sees("overflows/s,", 0, SOON)?;
    top.resize(40, 6)?;
    top.sees("tcpq", place, SOON)?;
    top.types("q")?;
    let status = top.ends(SOON)?;
    ensure!(status.success(), "{status}");
    ensure!(top.modes()? == before, "the terminal is not as it was");
    let all = top.written()?;
    ensure!(all.matches(LEFT).count() == 1, "the usual screen is not back");

    let mut top = start()?;
    let before = top.modes()?;
    top.sees("stubborn", 0, SOON)?;
    drop(daemon);
    top.sees("tcpq.sock", 0, SOON)?;
    processes::signal(i32::try_from(top.pid())?, libc::SIGTERM).context("cannot signal top")?;
    let status = top.ends(SOON)?;
    ensure!(status.success(), "{status}");
    ensure!(top.modes()? == before && top.written()?.contains(LEFT), "not given back");
    puppet.stop()
}

fn needs(bench: &Bench) -> Result<()> {
    let daemon = bench.daemon()?;
    let run_dir = daemon.run_dir().to_str().context("a path that is no text")?;
    let piped = bench.run(&["top", "--run-dir", run_dir])?;
    ensure!(piped.code == Some(1) && piped.stderr.contains("tcpq list"), "{piped:?}");
    let scratch = bench.scratch().path().join("nobody");
    let nobody = scratch.to_str().context("a path that is no text")?;
    let alone = bench.run(&["top", "--run-dir", nobody])?;
    ensure!(alone.code == Some(1) && alone.stderr.contains("no daemon runs at"), "{alone:?}");
    Ok(())
}
