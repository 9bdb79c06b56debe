//! Decides between KVM and TCG by booting a kernel, not by looking for a file.
//!
//! A `/dev/kvm` may be there and still not run a stock kernel (nested, or
//! restricted hosts: the guest triple-faults, hangs or is refused an MSR), so
//! only a boot that reached init counts. The answer holds for as long as the
//! host's kernel, QEMU and the machine we ask it for stay the same.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    artifacts::GuestPrograms,
    cmd,
    guest::{self, Order},
    packages::{self, QEMU},
    qemu::{Accel, Ending, Frame, Input, KERNEL_ARGUMENTS, MACHINE, Machine},
    store::Kernel,
};

const DEVICE: &str = "/dev/kvm";
/// Under KVM a kernel needs a second; a hang needs an end.
const PROBE_LIMIT: Duration = Duration::from_secs(8);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Host {
    kernel: String,
    qemu: String,
    machine: String,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    host: Host,
    kvm_works: bool,
}

/// The fastest way that runs guests on this machine.
pub(crate) fn choose(kernel: &Kernel, programs: &GuestPrograms) -> Result<Accel> {
    if let Err(error) = File::options().read(true).write(true).open(DEVICE) {
        if error.kind() != ErrorKind::NotFound {
            cmd::say(format!("guests run under TCG: cannot open {DEVICE}: {error}"));
        }
        return Ok(Accel::Tcg);
    }
    let host = Host {
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        qemu: cmd::output(Command::new(QEMU.path()?).arg("--version"))?
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
        machine: MACHINE.join(" "),
    };
    let file = packages::cache()?.join("kvm-probe.json");
    let answer = if let Some(answer) = remembered(&file, &host) {
        answer
    } else {
        let answer = Answer { kvm_works: probe(kernel, programs)?, host };
        fs::write(&file, serde_json::to_vec_pretty(&answer)?)?;
        answer
    };
    Ok(if answer.kvm_works { Accel::Kvm } else { Accel::Tcg })
}

fn remembered(file: &Path, host: &Host) -> Option<Answer> {
    // An unreadable answer is no answer: probing again costs seconds.
    let answer: Answer = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (answer.host == *host).then_some(answer)
}

fn probe(kernel: &Kernel, programs: &GuestPrograms) -> Result<bool> {
    let initramfs = guest::folder()?.join("kvm-probe.cpio");
    let programs = GuestPrograms { init: programs.init.clone(), others: Vec::new() };
    let argv = ["busybox".to_owned(), "true".to_owned()];
    guest::image(
        &initramfs,
        kernel,
        &programs,
        &Order { argv: &argv, env: &[], foreign: &[], files: &[] },
    )?;
    let machine = Machine {
        vmlinuz: &kernel.vmlinuz,
        initramfs,
        accel: Accel::Kvm,
        frame: Frame::Alone,
        input: Input::Nothing,
        limit: Some(PROBE_LIMIT),
        arguments: KERNEL_ARGUMENTS,
        disks: Vec::new(),
    };
    let outcome = machine.boot(|_| ())?;
    let seconds = outcome.took.as_secs_f64();
    match outcome.ending {
        Ending::Reported(0) => {
            cmd::say(format!("KVM works here: a guest booted and ended in {seconds:.1} s"));
            Ok(true)
        }
        Ending::Reported(code) => {
            cmd::say(format!("KVM is not used: the probe's command exited with {code}"));
            Ok(false)
        }
        Ending::Silent(why) => {
            cmd::say(format!(
                "KVM does not run our kernels here ({why}; {seconds:.1} s); using TCG"
            ));
            Ok(false)
        }
    }
}
