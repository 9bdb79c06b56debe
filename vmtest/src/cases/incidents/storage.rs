//! A disk that is full or read-only, a file that is damaged: monitoring goes on, the fault is
//! told, nothing is deleted, and what can be written is written when it can be.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{TOLD_WITHIN, incidents};
use crate::{
    bench::{Bench, Case, Target},
    daemon::Daemon,
    http, load,
    netns::Netns,
    sockets::{Family, Listener},
    tmpfs::{Access, Tmpfs},
    wait,
};

pub(in crate::cases) const CASES: &[Case] = &[
    Case::everywhere("incidents_on_a_full_disk", full).in_part_on(HERE),
    Case::everywhere("incidents_on_a_read_only_disk", read_only).in_part_on(HERE),
    Case::everywhere("incidents_in_a_damaged_file", damaged).in_part_on(HERE),
    Case::everywhere("incidents_in_a_file_damaged_meanwhile", damaged_meanwhile).in_part_on(HERE),
];

/// The kernel has no part in it.
const HERE: &[Target] = &[Target::Host];

/// A file is tried again every ten seconds.
const TRIED_AGAIN: Duration = Duration::from_secs(40);

const FILE: &str = "incidents.db";

/// Has one more incident happen; its name.
fn one_more(bench: &Bench, daemon: &Daemon, netns: &Netns) -> Result<String> {
    let listener = Listener::open(netns, Family::V4.loopback(), 1)?;
    let _queued = load::fill(netns, &listener, listener.address())?;
    let port = listener.address().port().to_string();
    wait::until("an incident is told", TOLD_WITHIN, || {
        load::syns(netns, listener.address(), 5)?;
        let all = incidents(bench, daemon)?;
        Ok(all.into_iter().find(|it| it.listener.port == port).map(|it| it.id))
    })
}

fn is_told(bench: &Bench, daemon: &Daemon, id: &str) -> Result<()> {
    let all = incidents(bench, daemon)?;
    ensure!(all.iter().any(|it| it.id == id), "{id} is not among {all:#?}");
    Ok(())
}

fn monitors(daemon: &Daemon) -> Result<()> {
    http::get_ok(daemon.address(), "/healthz", "*/*")?;
    let accepts = daemon.scrape()?.select("tcpq_accept_queue_limit", &[]).count();
    ensure!(accepts > 0, "no listener is told of");
    Ok(())
}

fn is_up(daemon: &Daemon) -> Result<bool> {
    let up = daemon.scrape()?.gauge("tcpq_store_up", &[])?;
    Ok(up.context("tcpq_store_up is absent")? == 1)
}

fn comes_up(daemon: &Daemon) -> Result<()> {
    wait::until_true("incidents can be stored again", TRIED_AGAIN, || is_up(daemon))
}

fn quarantined(daemon: &Daemon) -> Result<u64> {
    let sum = daemon.scrape()?.sum("tcpq_store_files_quarantined_total", &[])?;
    sum.context("tcpq_store_files_quarantined_total is absent")
}

fn said(bench: &Bench, what: &str) -> Result<()> {
    ensure!(bench.logs().contains(what), "the log does not say {what:?}");
    Ok(())
}

fn end(mut daemon: Daemon) -> Result<()> {
    daemon.signal(libc::SIGTERM)?;
    daemon.wait_end(Duration::from_mins(1)).map(drop)
}

fn full(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let disk = Tmpfs::mount(bench.scratch().path().join("disk"), 512)?;
    let launch = || Ok::<_, anyhow::Error>(bench.launch()?.storage(disk.path()));
    let daemon = launch()?.start()?;
    let mut all = vec![one_more(bench, &daemon, &netns)?];
    comes_up(&daemon)?;
    disk.fill("ballast")?;
    // Some room is left in what the file has already.
    wait::until_true("the disk takes no more", TOLD_WITHIN, || {
        all.push(one_more(bench, &daemon, &netns)?);
        Ok(!is_up(&daemon)?)
    })?;
    said(bench, "incidents cannot be stored")?;
    all.push(one_more(bench, &daemon, &netns)?);
    monitors(&daemon)?;
    all.iter().try_for_each(|id| is_told(bench, &daemon, id))?;

    fs::remove_file(disk.path().join("ballast")).context("cannot remove the ballast")?;
    comes_up(&daemon)?;
    said(bench, "incidents can be stored again")?;
    ensure!(quarantined(&daemon)? == 0, "a file on a full disk was taken for damaged");
    end(daemon)?;
    let next = launch()?.start()?;
    comes_up(&next)?;
    all.iter().try_for_each(|id| is_told(bench, &next, id))?;
    println!("    {} incidents, all there after the next start", all.len());
    // Before its disk.
    drop(next);
    Ok(())
}

fn read_only(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let disk = Tmpfs::mount(bench.scratch().path().join("disk"), 4096)?;
    let launch = || Ok::<_, anyhow::Error>(bench.launch()?.storage(disk.path()));
    let daemon = launch()?.start()?;
    let stored = one_more(bench, &daemon, &netns)?;
    end(daemon)?;

    disk.remount(Access::ReadOnly)?;
    let daemon = launch()?.start()?;
    let kept = one_more(bench, &daemon, &netns)?;
    ensure!(!is_up(&daemon)?, "a read-only disk takes incidents");
    said(bench, "incidents cannot be stored")?;
    monitors(&daemon)?;
    is_told(bench, &daemon, &kept)?;

    disk.remount(Access::Writable)?;
    comes_up(&daemon)?;
    end(daemon)?;
    let next = launch()?.start()?;
    comes_up(&next)?;
    ensure!(quarantined(&next)? == 0, "a read-only file was taken for damaged");
    [stored, kept].iter().try_for_each(|id| is_told(bench, &next, id))?;
    drop(next);
    Ok(())
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Half of it is missing.
    Cut,
    /// Less than its header is left.
    CutShort,
    /// All of it is noise.
    Noise,
    /// All but the header is.
    NoiseInside,
}

impl Damage {
    const ALL: [Self; 4] = [Self::Cut, Self::CutShort, Self::Noise, Self::NoiseInside];

    fn inflict(self, path: &Path) -> Result<()> {
        let length = fs::metadata(path).context("no file of incidents")?.len();
        let mut file = File::options().write(true).open(path).context("cannot open the file")?;
        match self {
            Self::Cut => file.set_len(length / 2),
            Self::CutShort => file.set_len(60),
            Self::Noise => file.write_all(&noise(length)),
            Self::NoiseInside => {
                file.seek(SeekFrom::Start(4096)).context("cannot seek")?;
                file.write_all(&noise(length - 4096))
            }
        }
        .with_context(|| format!("cannot inflict {self:?}"))
    }
}

/// The same each time.
fn noise(length: u64) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}

/// The files that were put aside, without what SQLite keeps beside them.
fn put_aside(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).context("cannot list the state directory")?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.context("cannot list the state directory")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("incidents.db.damaged-") && !name.ends_with("-wal") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn damaged(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let folder = bench.scratch().path().join("state");
    let launch = || Ok::<_, anyhow::Error>(bench.launch()?.storage(&folder).no_self_test());
    let daemon = launch()?.start()?;
    one_more(bench, &daemon, &netns)?;
    end(daemon)?;
    for (number, damage) in Damage::ALL.into_iter().enumerate() {
        let file = folder.join(FILE);
        damage.inflict(&file)?;
        let bytes = fs::read(&file).context("cannot read the damaged file")?;
        let daemon = launch()?.start()?;
        let id = one_more(bench, &daemon, &netns)?;
        comes_up(&daemon)?;
        monitors(&daemon)?;
        let count = quarantined(&daemon)?;
        ensure!(count == 1, "{damage:?}: {count} files are said to be put aside");
        said(bench, "was put aside")?;
        let aside = put_aside(&folder)?;
        ensure!(aside.len() == number + 1, "{damage:?}: put aside are {aside:?}");
        let mut kept = aside.iter().map(fs::read).filter_map(Result::ok);
        ensure!(kept.any(|it| it == bytes), "{damage:?}: what was put aside is not what it was");
        is_told(bench, &daemon, &id)?;
        end(daemon)?;
        let next = launch()?.start()?;
        comes_up(&next)?;
        is_told(bench, &next, &id).with_context(|| format!("after {damage:?}"))?;
        end(next)?;
        println!("    {damage:?}: put aside, {} bytes", bytes.len());
    }
    Ok(())
}

/// While the daemon has it open: what SQLite has in its memory hides it for a while, or heals
/// it. However that is, monitoring goes on, and nothing is deleted.
fn damaged_meanwhile(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    for damage in Damage::ALL {
        let folder = bench.scratch().path().join(format!("state-{damage:?}"));
        let launch = || Ok::<_, anyhow::Error>(bench.launch()?.storage(&folder).no_self_test());
        let daemon = launch()?.start()?;
        let before = one_more(bench, &daemon, &netns)?;
        // Only what has been moved there from the log is in the file.
        end(daemon)?;
        let daemon = launch()?.start()?;
        comes_up(&daemon)?;
        damage.inflict(&folder.join(FILE))?;
        let during = one_more(bench, &daemon, &netns)?;
        monitors(&daemon)?;
        is_told(bench, &daemon, &during)?;
        let found = quarantined(&daemon)?;
        end(daemon)?;

        let next = launch()?.start()?;
        let after = one_more(bench, &next, &netns)?;
        comes_up(&next)?;
        is_told(bench, &next, &after)?;
        let later = quarantined(&next)?;
        let aside = u64::try_from(put_aside(&folder)?.len())?;
        ensure!(
            found + later == aside,
            "{damage:?}: {found} and {later} were put aside, and there are {aside}"
        );
        if aside == 0 {
            // All that was damaged was written anew from memory.
            [&before, &during].into_iter().try_for_each(|id| is_told(bench, &next, id))?;
        }
        let what = match (found, later) {
            (0, 0) => "healed",
            (0, _) => "found at the next start",
            _ => "found at once",
        };
        println!("    {damage:?}: {what}");
        end(next)?;
    }
    Ok(())
}
