//! The truth tests in guests, one kernel of the matrix each.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    num::NonZero,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::Depth;
use crate::{
    accel,
    artifacts::{self, Contents, GuestPrograms},
    cmd,
    failures::Failures,
    guest::{self, Order},
    kernels::{Foreign, Series},
    matrix::Cells,
    qemu::{Accel, Ending, Frame, Heard, Input, KERNEL_ARGUMENTS, Machine, Outcome},
    report::{Counts, Entry, Exit, Report},
    setup::{self, Purpose},
    store::{self, Freshness, Kernel},
};

/// For one guest, from its boot to its end, under TCG on a slow machine.
const fn limit(depth: Depth) -> Duration {
    match depth {
        Depth::Default => Duration::from_mins(20),
        Depth::Full => Duration::from_hours(1),
    }
}

/// As many guests at once as there are processors: the tests mostly wait for
/// timers (measured on two processors: two guests at once take as long as one).
pub(super) fn run(series: &[&'static Series], depth: Depth, report: &mut Report) -> Result<()> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    setup::tools()?;
    if series.iter().any(|series| series.foreign == Foreign::Servers) {
        setup::servers_of_guests()?;
    }
    let programs = artifacts::guest(Contents::Everything)?;
    let kernels = series
        .iter()
        .map(|series| store::provide(series, Freshness::Recent))
        .collect::<Result<Vec<_>>>()?;
    let newest = kernels.last().context("no kernel to test")?;
    let accel = accel::choose(newest, &programs)?;
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    let outcomes = side_by_side(&kernels, at_once, |kernel| truth(kernel, depth, &programs, accel));
    for (kernel, told) in kernels.iter().zip(outcomes) {
        let Told { outcome, cells, failures } = told?;
        report.matrix.add(kernel.series.name, &cells);
        let failures = failures.into_vec();
        report.add(Entry { failures, ..entry(kernel.series, accel, outcome) });
    }
    Ok(())
}

/// Does the work for every item, at most `at_once` of them at a time; the
/// results are in the items' order.
fn side_by_side<T: Sync, R: Send>(
    items: &[T],
    at_once: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, work(item)));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a guest's thread")).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What a guest said.
struct Told {
    outcome: Outcome,
    cells: Cells,
    failures: Failures,
}

/// Boots a kernel for the truth tests, twice if it died before it was up.
fn truth(kernel: &Kernel, depth: Depth, programs: &GuestPrograms, accel: Accel) -> Result<Told> {
    let told = boot(kernel, depth, programs, accel)?;
    match &told.outcome.ending {
        // Nothing of ours ran yet: that is QEMU or the host, not a test.
        Ending::Silent(why) if told.outcome.release.is_none() => {
            cmd::say(format!("{}: died before init ({why}); booting once more", kernel.series));
            boot(kernel, depth, programs, accel)
        }
        _ => Ok(told),
    }
}

fn boot(kernel: &Kernel, depth: Depth, programs: &GuestPrograms, accel: Accel) -> Result<Told> {
    let series = kernel.series;
    let folder = guest::folder()?;
    let (initramfs, log) =
        (folder.join(format!("{series}.cpio")), folder.join(format!("{series}.log")));
    // The guest's console is a terminal, and the log is a file.
    let argv = ["/bin/truth", "--color=never"].map(str::to_owned);
    let order = Order {
        argv: &argv,
        env: &[("TRUTH_TARGET", series.name), depth.environment()],
        foreign: series.foreign.tools(),
        files: &[],
    };
    guest::image(&initramfs, kernel, programs, &order)?;
    cmd::say(format!(
        "{series}: booting {} under {}, log in {}",
        kernel.package.version,
        accel.name(),
        log.display()
    ));
    let machine = Machine {
        vmlinuz: &kernel.vmlinuz,
        initramfs,
        accel,
        frame: Frame::Alone,
        input: Input::Nothing,
        limit: Some(limit(depth)),
        arguments: KERNEL_ARGUMENTS,
        disks: Vec::new(),
    };
    let (mut cells, mut failures) = (Cells::default(), Failures::default());
    let outcome = followed(&machine, series, &log, |line| {
        cells.hear(line);
        failures.hear(line);
    })?;
    Ok(Told { outcome, cells, failures })
}

/// Boots a machine, shows what it says and keeps it.
pub(super) fn followed(
    machine: &Machine<'_>,
    series: &Series,
    log: &Path,
    mut on_line: impl FnMut(&str),
) -> Result<Outcome> {
    let mut log = BufWriter::new(File::create(log)?);
    let mut logged = Ok(());
    let outcome = machine.boot(|heard| match heard {
        Heard::Bytes(bytes) if logged.is_ok() => logged = log.write_all(bytes),
        Heard::Bytes(_) => {}
        Heard::Line(line) => {
            println!("[{series}] {line}");
            on_line(line);
        }
    })?;
    logged.and_then(|()| log.flush()).context("cannot write the guest's log")?;
    if let Some(boot) = outcome.boot {
        cmd::say(format!("{series}: init was up after {:.1} s", boot.as_secs_f64()));
    }
    Ok(outcome)
}

fn entry(series: &Series, accel: Accel, outcome: Outcome) -> Entry {
    let Outcome { release, boot: _, ending, counts, took } = outcome;
    let (exit, note) = match ending {
        Ending::Reported(0) => (Exit::Success, String::new()),
        Ending::Reported(code) => (Exit::Failure, format!("exit code {code}")),
        Ending::Silent(why) => (Exit::Failure, why),
    };
    let counts: Counts = counts.unwrap_or_default();
    let note = if counts == Counts::default() { format!("no test ran; {note}") } else { note };
    Entry {
        name: format!("vm {series}"),
        machine: format!("{} {}", release.as_deref().unwrap_or("-"), accel.name()),
        counts: counts.judged(exit),
        took,
        note: note.trim_end_matches("; ").to_owned(),
        failures: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_work() {
        let items: Vec<u32> = (0..50).collect();
        for at_once in [1, 2, 64] {
            let doubled: Vec<u32> = items.iter().map(|item| item * 2).collect();
            assert_eq!(side_by_side(&items, at_once, |item| item * 2), doubled);
        }
    }

    fn outcome(ending: Ending, counts: Option<Counts>) -> Outcome {
        Outcome { release: None, boot: None, ending, counts, took: Duration::ZERO }
    }

    #[test]
    fn a_guest_passes_only_if_it_ran_tests_and_said_so() {
        let judge = |ending, counts| {
            entry(&crate::kernels::MATRIX[0], Accel::Tcg, outcome(ending, counts)).counts
        };
        let passed = Counts { passed: 3, failed: 0 };
        assert_eq!(judge(Ending::Reported(0), Some(passed)), passed);
        assert_eq!(judge(Ending::Reported(0), None), Counts::FAILED);
        let one_lost = Counts { passed: 3, failed: 1 };
        assert_eq!(judge(Ending::Reported(101), Some(passed)), one_lost);
        assert_eq!(judge(Ending::Silent("late".to_owned()), Some(passed)), one_lost);
        assert_eq!(judge(Ending::Reported(1), Some(one_lost)), one_lost);
    }
}
