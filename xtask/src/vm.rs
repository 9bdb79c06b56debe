//! One kernel of the matrix, to run a command in or to look around.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Result, bail};

use crate::{
    accel,
    artifacts::{self, Contents},
    cmd,
    guest::{self, Order},
    kernels::{MATRIX, Series, Tested},
    planes::WHOLE_SIZE,
    qemu::{Ending, Frame, Heard, Input, KERNEL_ARGUMENTS, Machine},
    setup::{self, Purpose},
    store::{self, Freshness},
};

const SHELL: [&str; 2] = ["busybox", "sh"];

/// Boots a kernel and runs a command on its console; the result is the command's.
pub(crate) fn enter(series: &'static Series, command: &[String]) -> Result<ExitCode> {
    // Busybox alone boots in seconds, even when the daemon does not compile.
    let contents = match command.first() {
        Some(program) if program == SHELL[0] => Contents::Nothing,
        _ => Contents::Everything,
    };
    match contents {
        Contents::Nothing => setup::tools()?,
        Contents::Everything | Contents::Benchmarks | Contents::Fleet => {
            setup::prepare(Purpose::Test, Freshness::Recent)?;
        }
    }
    let argv =
        if command.is_empty() { SHELL.map(str::to_owned).to_vec() } else { command.to_vec() };
    let programs = artifacts::guest(contents)?;
    let kernel = store::provide(series, Freshness::Recent)?;
    let accel = accel::choose(&kernel, &programs)?;
    let initramfs = guest::folder()?.join(format!("{series}-enter.cpio"));
    let whole = env::var(WHOLE_SIZE).unwrap_or_default();
    let order = Order {
        argv: &argv,
        env: &[("TRUTH_TARGET", series.name), (WHOLE_SIZE, &whole)],
        foreign: series.foreign.tools(),
        files: &[],
    };
    guest::image(&initramfs, &kernel, &programs, &order)?;
    cmd::say(format!("{series}: {} under {}", kernel.package.version, accel.name()));
    if command.is_empty() {
        cmd::say("a shell on the guest's console; `exit` ends it, Ctrl-A X kills the machine");
    }
    let machine = Machine {
        vmlinuz: &kernel.vmlinuz,
        initramfs,
        accel,
        frame: Frame::Alone,
        input: Input::Ours,
        limit: None,
        arguments: KERNEL_ARGUMENTS,
        disks: Vec::new(),
    };
    let mut out = io::stdout().lock();
    let outcome = machine.boot(|heard| {
        if let Heard::Bytes(bytes) = heard {
            // A closed stdout is no reason to leave the guest unfinished.
            drop(out.write_all(bytes).and_then(|()| out.flush()));
        }
    })?;
    match outcome.ending {
        Ending::Reported(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        Ending::Silent(why) => bail!("{series}: {why}"),
    }
}

/// Prints the matrix.
pub(crate) fn list() -> Result<()> {
    println!("{:9} {:8} {:9} {:22} why", "series", "tested", "cached", "version");
    for series in &MATRIX {
        let tested = match series.tested {
            Tested::Always => "default",
            Tested::OnRequest => "-",
        };
        let kernel = store::cached(series)?;
        let (cached, version) = match &kernel {
            Some(kernel) => ("cached", kernel.package.version.as_str()),
            None => ("-", "-"),
        };
        println!("{:9} {tested:8} {cached:9} {version:22} {}", series.name, series.why);
    }
    Ok(())
}
