//! One virtual machine: its command line, and its life from boot to verdict.

use std::{
    ffi::OsString,
    io::{self, PipeReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    console::{Console, Stage},
    packages::QEMU,
    report::Counts,
    stream::{self, End},
};

/// How the guest's instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    Kvm,
    /// QEMU's own translator: slower, and works everywhere.
    Tcg,
    /// The same with one processor and a clock that counts its instructions, one to the
    /// nanosecond: what takes as many takes as long, however busy the host is.
    Counted,
}

impl Accel {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
            Self::Counted => "TCG, counted instructions",
        }
    }
}

/// Where the guest's console reads from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    Nothing,
    /// What xtask itself reads: a person, or a pipe.
    Ours,
    /// A pipe that xtask writes. [`QUIT`] in it ends the machine at once.
    Orders(&'a PipeReader),
}

/// What QEMU takes on the console for the wish that it ends.
pub(crate) const QUIT: &[u8] = b"\x01x";

/// What a machine is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Four processors (where instructions are counted there can be one only), two gigabytes
    /// and no network: tests talk to themselves.
    ///
    /// Four, so that what runs at once is more than two. Under TCG they take turns on
    /// one thread (see `Machine::command`): what runs on them interleaves at any
    /// instruction, but never overlaps. A host's own CPUs have to show the rest.
    Alone,
    /// One of several machines: one processor, one gigabyte, and a network in which there is
    /// nothing but a way from a port of this host's loopback to a port of the guest.
    Reached { here: u16, there: u16 },
}

impl Frame {
    const fn processors(self, accel: Accel) -> &'static str {
        match (self, accel) {
            (Self::Reached { .. }, _) | (_, Accel::Counted) => "1",
            (Self::Alone, Accel::Kvm | Accel::Tcg) => "4",
        }
    }

    fn arguments(self) -> Vec<String> {
        let words = |all: &[&str]| all.iter().copied().map(str::to_owned).collect();
        match self {
            Self::Alone => words(&["-nic", "none"]),
            Self::Reached { here, there } => {
                let way = format!("hostfwd=tcp:127.0.0.1:{here}-:{there}");
                let network = format!("user,id=network,restrict=on,{way}");
                // A card whose driver is one module in every kernel of the matrix. Nothing is
                // booted from it.
                let card = "vmxnet3,netdev=network,romfile=";
                words(&["-m", "1024", "-netdev", &network, "-device", card])
            }
        }
    }
}

pub(crate) struct Machine<'a> {
    pub(crate) vmlinuz: &'a Path,
    pub(crate) initramfs: PathBuf,
    pub(crate) accel: Accel,
    pub(crate) frame: Frame,
    pub(crate) input: Input<'a>,
    /// None: until the command ends.
    pub(crate) limit: Option<Duration>,
    /// The kernel's.
    pub(crate) arguments: &'a str,
    /// Images, in the order of `/dev/vda`, `/dev/vdb`.
    pub(crate) disks: Vec<PathBuf>,
}

/// What a guest prints, as it comes.
pub(crate) enum Heard<'a> {
    Bytes(&'a [u8]),
    Line(&'a str),
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The command's exit code.
    Reported(i32),
    /// It did not report; this is what is known.
    Silent(String),
}

/// What one boot came to.
pub(crate) struct Outcome {
    /// The kernel's release, if init came up.
    pub(crate) release: Option<String>,
    /// From QEMU's start until init was up.
    pub(crate) boot: Option<Duration>,
    pub(crate) ending: Ending,
    pub(crate) counts: Option<Counts>,
    pub(crate) took: Duration,
}

/// How long a kernel in trouble may explain itself.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long a machine may take to end after init said that it would.
const REBOOT: Duration = Duration::from_secs(10);

/// What every machine has: no screen (its firmware then leaves the console alone), and memory
/// unless its [`Frame`] says how much.
///
/// Not `microvm`, which boots a second faster: without ACPI these kernels see
/// one processor only, and with it the newest one hangs.
pub(crate) const MACHINE: [&str; 10] =
    ["-M", "q35", "-cpu", "max", "-m", "2048", "-display", "none", "-vga", "none"];

/// `panic=-1` and `reboot=t` turn a panic and the end into a reset at once,
/// which `-no-reboot` turns into QEMU's exit. A translated guest on a busy
/// host is slow, not stuck: its watchdogs wait a minute instead of 20 seconds.
pub(crate) const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 reboot=t \
    watchdog_thresh=30 rcupdate.rcu_cpu_stall_timeout=60";

impl Machine<'_> {
    /// Boots, follows the console until the guest ends, and says how.
    pub(crate) fn boot(&self, mut tap: impl FnMut(Heard<'_>)) -> Result<Outcome> {
        let (output, writer) = io::pipe()?;
        let mut command = self.command()?;
        // QEMU's own complaints belong with the console: they explain its silence.
        command.stdout(writer.try_clone()?).stderr(writer);
        command.stdin(match self.input {
            Input::Nothing => Stdio::null(),
            Input::Ours => Stdio::inherit(),
            Input::Orders(orders) => orders.try_clone()?.into(),
        });
        let start = Instant::now();
        let mut console = Console::default();
        let mut boot = None;
        let mut last_line = String::new();
        let end = stream::follow(command, output, self.limit, |chunk| {
            tap(Heard::Bytes(chunk));
            for line in console.hear(chunk) {
                tap(Heard::Line(&line));
                if !line.is_empty() {
                    last_line = line;
                }
            }
            if boot.is_none() && console.stage != Stage::Booting {
                boot = Some(start.elapsed());
            }
            match console {
                Console { stage: Stage::Ended { .. }, .. } => Some(REBOOT),
                Console { trouble: Some(_), .. } => Some(LAST_WORDS),
                _ => None,
            }
        })?;
        Ok(Outcome {
            release: console.release().map(str::to_owned),
            boot,
            ending: ending(&console, end, &last_line),
            counts: console.counts,
            took: start.elapsed(),
        })
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(QEMU.path()?);
        let accel = match self.accel {
            Accel::Kvm => ["-accel", "kvm"].as_slice(),
            // One thread for all of a guest's CPUs: with one each, a CPU can run
            // code that another has just patched (seen as an Oops on the int3 that
            // text_poke leaves for a moment, while hooks are attached under load).
            Accel::Tcg => &["-accel", "tcg,thread=single"],
            // Idle, its clock goes on to the next timer at once.
            Accel::Counted => &["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"],
        };
        command
            .args(accel)
            .args(["-smp", self.frame.processors(self.accel)])
            .args(MACHINE)
            .args(self.frame.arguments())
            .args(["-serial", "mon:stdio", "-no-reboot"])
            .arg("-kernel")
            .arg(self.vmlinuz)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-append", self.arguments]);
        for disk in &self.disks {
            let mut drive = OsString::from("format=raw,if=virtio,file=");
            drive.push(disk);
            command.arg("-drive").arg(drive);
        }
        Ok(command)
    }
}

fn ending(console: &Console, end: End, last_line: &str) -> Ending {
    match (&console.stage, &console.trouble, end) {
        (Stage::Ended { code, .. }, _, _) => Ending::Reported(*code),
        (_, Some(trouble), _) => Ending::Silent(format!("the kernel said: {trouble}")),
        (stage, None, End::OutOfTime) => Ending::Silent(match stage {
            Stage::Booting => "did not boot in time".to_owned(),
            _ => "did not finish in time".to_owned(),
        }),
        (_, None, End::Exited(status)) => {
            Ending::Silent(format!("ended without a report ({status}); last line: {last_line}"))
        }
    }
}
