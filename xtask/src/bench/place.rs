//! Where it is measured: this machine, or a guest of it.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::figures::{Figure, Figures};
use crate::{
    artifacts::{self, BENCH, Contents, TCPQ},
    cmd,
    guest::{self, Order},
    kernels::Series,
    packages::{QEMU, Tool},
    qemu::{Accel, Ending, Frame, Heard, Input, KERNEL_ARGUMENTS, Machine},
    said::{PREFIX, Said},
    store::{self, Freshness},
    stream::{self, End, Lines},
};

/// One run of the program `bench`.
pub(crate) struct Run<'a> {
    /// What its figures are filed under.
    pub(crate) place: &'a str,
    /// The benchmark, and its settings.
    pub(crate) arguments: &'a [String],
    /// Programs of others, by the variables that name them to the benchmark.
    pub(crate) foreign: &'a [(&'a str, &'a Tool)],
    /// Files that those read, by their paths on this machine.
    pub(crate) files: &'a [PathBuf],
    pub(crate) limit: Duration,
}

/// On a machine with other things to do, no other clock tells of a guest.
const COUNTED: Accel = Accel::Counted;

impl Run<'_> {
    /// On this machine, as root.
    pub(crate) fn here(&self, figures: &mut Figures) -> Result<()> {
        let (daemon, bench) = (artifacts::standalone(TCPQ)?, artifacts::standalone(BENCH)?);
        let mut programs: Vec<(&str, OsString)> = vec![("TCPQ_BIN", daemon.into())];
        for (variable, tool) in self.foreign {
            programs.push((variable, tool.path()?.into()));
        }
        let env: Vec<(&str, &OsStr)> =
            programs.iter().map(|(variable, path)| (*variable, path.as_os_str())).collect();
        let (output, writer) = io::pipe()?;
        let mut command = cmd::as_root(&bench, &env, "loading eBPF programs needs it")?;
        command.args(self.arguments).stdin(Stdio::null());
        command.stdout(writer.try_clone()?).stderr(writer);
        cmd::say(format!("bench {} on this machine", self.arguments.join(" ")));
        figures.machines.insert(self.place.to_owned(), this_machine()?);
        let mut lines = Lines::default();
        let end = stream::follow(command, output, Some(self.limit), |chunk| {
            lines.push(chunk).iter().for_each(|line| self.hear(line, figures));
            None
        })?;
        match end {
            End::Exited(status) if status.success() => Ok(()),
            End::Exited(status) => bail!("bench on this machine: {status}"),
            End::OutOfTime => bail!("bench on this machine: not finished in {:?}", self.limit),
        }
    }

    /// In a guest with this kernel, whose clock counts instructions.
    pub(crate) fn in_guest(&self, series: &'static Series, figures: &mut Figures) -> Result<()> {
        let programs = artifacts::guest(Contents::Benchmarks)?;
        let kernel = store::provide(series, Freshness::Recent)?;
        let initramfs = guest::folder()?.join(format!("{series}-bench.cpio"));
        let argv = [&["/bin/bench".to_owned()], self.arguments].concat();
        let (foreign, files) = (self.foreign, self.files);
        let order = Order { argv: &argv, env: &[("TRUTH_TARGET", series.name)], foreign, files };
        guest::image(&initramfs, &kernel, &programs, &order)?;
        cmd::say(format!(
            "{}: bench {} on {} under {}",
            self.place,
            self.arguments.join(" "),
            kernel.package.version,
            COUNTED.name()
        ));
        let machine = Machine {
            vmlinuz: &kernel.vmlinuz,
            initramfs,
            accel: COUNTED,
            frame: Frame::Alone,
            input: Input::Nothing,
            limit: Some(self.limit),
            arguments: KERNEL_ARGUMENTS,
            disks: Vec::new(),
        };
        let outcome = machine.boot(|heard| {
            if let Heard::Line(line) = heard {
                self.hear(line, figures);
            }
        })?;
        let release = outcome.release.context("the guest did not come up")?;
        figures.machines.insert(
            self.place.to_owned(),
            format!("Linux {release} in {} under {}", qemu_version()?, COUNTED.name()),
        );
        match outcome.ending {
            Ending::Reported(0) => Ok(()),
            Ending::Reported(code) => bail!("{}: bench exited with {code}", self.place),
            Ending::Silent(why) => bail!("{}: {why}", self.place),
        }
    }

    fn hear(&self, line: &str, figures: &mut Figures) {
        let place = self.place.to_owned();
        match said(line) {
            Some(Said::Sample(sample)) => figures.all.push(Figure { place, sample }),
            Some(Said::Note(text)) => {
                println!("[{place}] {text}");
                figures.notes.push((place, text));
            }
            None => println!("[{place}] {line}"),
        }
    }
}

/// What a line says to the machine, if it is for the machine.
fn said(line: &str) -> Option<Said> {
    // Not at the start only: a kernel's message may have left its line open.
    let (_, json) = line.split_once(PREFIX)?;
    serde_json::from_str(json).ok()
}

fn qemu_version() -> Result<String> {
    let version = cmd::output(Command::new(QEMU.path()?).arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().replace("emulator version ", ""))
}

/// This machine in a line: processors, kernel.
pub(crate) fn this_machine() -> Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let mut models: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("model name")) {
        *models.entry(line.split_once(": ").map_or("", |(_, model)| model)).or_default() += 1;
    }
    let models: Vec<_> = models.iter().map(|(model, count)| format!("{count} x {model}")).collect();
    Ok(format!("Linux {}, {}", kernel.trim(), models.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::Sample;

    #[test]
    fn figures_are_found_among_other_lines() {
        let line = format!(
            "[    1.0] x{PREFIX}{{\"sample\":{{\"case\":\"tcpq\",\"metric\":\"ns\",\"round\":2,\"value\":1.5}}}}"
        );
        let sample = Sample {
            case: "tcpq".to_owned(),
            metric: "ns".to_owned(),
            item: String::new(),
            round: 2,
            value: 1.5,
        };
        assert_eq!(said(&line), Some(Said::Sample(sample)));
        assert_eq!(said(&format!("{PREFIX}{{\"note\":\"n\"}}")), Some(Said::Note("n".to_owned())));
        assert_eq!(said("round 1"), None);
        assert_eq!(said(&format!("{PREFIX}{{\"sample\":")), None);
    }
}
