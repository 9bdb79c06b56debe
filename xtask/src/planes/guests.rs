//! The truth tests in guests, one kernel of the matrix each.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    accel,
    artifacts::{self, Contents, GuestPrograms},
    cmd,
    guest::{self, Order},
    kernels::Series,
    qemu::{Accel, Ending, Heard, Input, Machine, Outcome},
    report::{Counts, Entry, Exit, Report},
    setup::{self, Purpose},
    store::{self, Freshness, Kernel},
};

/// For one guest, from its boot to its end, under TCG on a slow machine.
const LIMIT: Duration = Duration::from_mins(8);

/// One after the other: a guest has as many processors as the machines this
/// was measured on, so two at once only make each other's clocks unreliable.
pub(super) fn run(series: &[&'static Series], report: &mut Report) -> Result<()> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    setup::tools()?;
    let programs = artifacts::guest(Contents::Everything)?;
    let kernels = series
        .iter()
        .map(|series| store::provide(series, Freshness::Recent))
        .collect::<Result<Vec<_>>>()?;
    let newest = kernels.last().context("no kernel to test")?;
    let accel = accel::choose(newest, &programs)?;
    for kernel in &kernels {
        let outcome = truth(kernel, &programs, accel)?;
        report.add(entry(kernel.series, accel, outcome));
    }
    Ok(())
}

/// Boots a kernel for the truth tests, twice if it died before it was up.
fn truth(kernel: &Kernel, programs: &GuestPrograms, accel: Accel) -> Result<Outcome> {
    let outcome = boot(kernel, programs, accel)?;
    match &outcome.ending {
        // Nothing of ours ran yet: that is QEMU or the host, not a test.
        Ending::Silent(why) if outcome.release.is_none() => {
            cmd::say(format!("{}: died before init ({why}); booting once more", kernel.series));
            boot(kernel, programs, accel)
        }
        _ => Ok(outcome),
    }
}

fn boot(kernel: &Kernel, programs: &GuestPrograms, accel: Accel) -> Result<Outcome> {
    let series = kernel.series;
    let folder = guest::folder()?;
    let (initramfs, log) =
        (folder.join(format!("{series}.cpio")), folder.join(format!("{series}.log")));
    // The guest's console is a terminal, and the log is a file.
    let argv = ["/bin/truth", "--color=never"].map(str::to_owned);
    let order = Order { argv: &argv, env: &[("TRUTH_TARGET", series.name)] };
    guest::image(&initramfs, kernel, programs, &order)?;
    cmd::say(format!(
        "{series}: booting {} under {}, log in {}",
        kernel.package.version,
        accel.name(),
        log.display()
    ));
    let mut log = BufWriter::new(File::create(&log)?);
    let machine = Machine {
        vmlinuz: &kernel.vmlinuz,
        initramfs,
        accel,
        input: Input::Nothing,
        limit: Some(LIMIT),
    };
    let mut logged = Ok(());
    let outcome = machine.boot(|heard| match heard {
        Heard::Bytes(bytes) if logged.is_ok() => logged = log.write_all(bytes),
        Heard::Bytes(_) => {}
        Heard::Line(line) => println!("[{series}] {line}"),
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
    }
}
