//! The guests of a fleet: booted at once, followed, and ended.

use std::{
    io::{self, PipeReader, PipeWriter, Write as _},
    net::{Ipv4Addr, TcpListener},
    sync::mpsc::{Receiver, SyncSender},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Error, Result, bail};

use crate::{
    artifacts::GuestPrograms,
    cmd,
    fleet_words::{END, PORT, SERVING},
    guest::{self, Order},
    kernels,
    planes::guests,
    qemu::{Accel, Frame, Input, KERNEL_ARGUMENTS, Machine, Outcome, QUIT},
    store::{self, Freshness, Kernel},
};

/// Until all of them serve: three boots and three starts of the daemon, translated, on a slow
/// machine.
const BOOT_LIMIT: Duration = Duration::from_mins(6);
/// Until those that were told have ended.
const END_LIMIT: Duration = Duration::from_mins(1);
/// For all of it.
const LIMIT: Duration = Duration::from_mins(20);

/// One guest.
pub(super) struct Member {
    pub(super) kernel: Kernel,
    role: &'static str,
    /// Where it is reached on this machine's loopback.
    port: u16,
    orders: PipeReader,
    /// What is written here it reads on its console.
    console: PipeWriter,
}

/// How far one has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Booting,
    Serving,
    Ended,
}

/// How many of them each tells of.
pub(super) const STAGES: usize = 2;

impl Member {
    pub(super) fn new(series: &str, role: &'static str) -> Result<Self> {
        let series = kernels::find(series).map_err(Error::msg)?;
        let kernel = store::provide(series, Freshness::Recent)?;
        let (orders, console) = io::pipe()?;
        Ok(Self { kernel, role, port: free_port()?, orders, console })
    }

    /// What the view of the fleet is told of it.
    pub(super) fn told(&self) -> String {
        format!("{} {} 127.0.0.1:{}", self.kernel.series, self.role, self.port)
    }

    /// From its boot to its end; how far it is goes to `tell`.
    pub(super) fn live(
        &self,
        number: usize,
        accel: Accel,
        programs: &GuestPrograms,
        tell: &SyncSender<(usize, Stage)>,
    ) -> Result<Outcome> {
        // Nobody listens any more once the others have failed.
        let tell = |stage| tell.send((number, stage)).unwrap_or_default();
        let outcome = self.boot(accel, programs, || tell(Stage::Serving));
        tell(Stage::Ended);
        outcome
    }

    fn boot(
        &self,
        accel: Accel,
        programs: &GuestPrograms,
        mut on_serving: impl FnMut(),
    ) -> Result<Outcome> {
        let series = self.kernel.series;
        let folder = guest::folder()?;
        let file = |kind: &str| folder.join(format!("fleet-{series}.{kind}"));
        let (initramfs, log) = (file("cpio"), file("log"));
        let argv = ["/bin/fleet", "member", self.role].map(str::to_owned);
        let env = [("TRUTH_TARGET", series.name)];
        let order = Order { argv: &argv, env: &env, foreign: &[], files: &[] };
        guest::image(&initramfs, &self.kernel, programs, &order)?;
        cmd::say(format!(
            "{series}: booting {} under {}, to be reached at 127.0.0.1:{}, log in {}",
            self.kernel.package.version,
            accel.name(),
            self.port,
            log.display()
        ));
        let machine = Machine {
            vmlinuz: &self.kernel.vmlinuz,
            initramfs,
            accel,
            frame: Frame::Reached { here: self.port, there: PORT },
            input: Input::Orders(&self.orders),
            limit: Some(LIMIT),
            arguments: KERNEL_ARGUMENTS,
            disks: Vec::new(),
        };
        guests::followed(&machine, series, &log, |line| {
            if line.starts_with(SERVING) {
                on_serving();
            }
        })
    }

    /// Writes to its console; one that has ended does not read it.
    fn tell(&self, order: &[u8]) {
        let mut console = &self.console;
        if let Err(error) = console.write_all(order) {
            cmd::say(format!("{}: cannot be told to end: {error}", self.kernel.series));
        }
    }
}

/// Follows all guests at once.
pub(super) struct Watch<'a> {
    members: &'a [Member],
    stages: Vec<Stage>,
    told: Receiver<(usize, Stage)>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(members: &'a [Member], told: Receiver<(usize, Stage)>) -> Self {
        Self { members, stages: vec![Stage::Booting; members.len()], told }
    }

    /// Waits until each is as its role wants it; that one has ended is an error.
    pub(super) fn until_all_serve(&mut self) -> Result<()> {
        self.until(BOOT_LIMIT, |stages| {
            stages.contains(&Stage::Ended) || !stages.contains(&Stage::Booting)
        });
        for (member, stage) in self.members.iter().zip(&self.stages) {
            let series = member.kernel.series;
            match stage {
                Stage::Serving => {}
                Stage::Ended => bail!("{series}: ended before it served"),
                Stage::Booting => bail!("{series}: does not serve yet"),
            }
        }
        Ok(())
    }

    /// Ends all of them: those that serve in their own way, the others at once.
    pub(super) fn end(&mut self) {
        let end = format!("{END}\n");
        for (member, stage) in self.members.iter().zip(&self.stages) {
            match stage {
                Stage::Serving => member.tell(end.as_bytes()),
                Stage::Booting => member.tell(QUIT),
                Stage::Ended => {}
            }
        }
        self.until(END_LIMIT, |stages| stages.iter().all(|stage| *stage == Stage::Ended));
        for (member, stage) in self.members.iter().zip(&self.stages) {
            if *stage != Stage::Ended {
                cmd::say(format!("{}: does not end by itself", member.kernel.series));
                member.tell(QUIT);
            }
        }
    }

    /// Listens until it is so, or the time is over.
    fn until(&mut self, limit: Duration, is_so: impl Fn(&[Stage]) -> bool) {
        let end = Instant::now() + limit;
        while !is_so(&self.stages) {
            let left = end.saturating_duration_since(Instant::now());
            let Ok((number, stage)) = self.told.recv_timeout(left) else { return };
            if let Some(known) = self.stages.get_mut(number) {
                *known = stage;
            }
        }
    }
}

/// A port of the loopback that nobody has just now.
fn free_port() -> Result<u16> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(probe.local_addr().context("no free port")?.port())
}
