//! What a case is, what it is given, and on which kernels it is held.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;

use crate::{
    daemon::{self, Backend, Daemon, Launch},
    scale::Scale,
    scratch::Scratch,
    wait,
};

/// The kernels that each state what they must be able to do. All but the first
/// are guests, named as the series of `cargo xtask vm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The development host: no kprobes, fentry refused.
    Host,
    /// Debian 11.
    V5_10,
    /// Debian 12's security kernel, whose `tcp_v4_syn_recv_sock` has 7 arguments.
    V6_1,
    /// The same series before that update.
    V6_1Main,
    /// Debian 13.
    V6_12,
    /// A long-term kernel.
    V6_18,
    /// Between two long-term kernels.
    V7_1,
    /// What Debian's development distribution has.
    V7_2,
    /// The newest 7.x.
    V7,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 9] = [
        Self::Host,
        Self::V5_10,
        Self::V6_1,
        Self::V6_1Main,
        Self::V6_12,
        Self::V6_18,
        Self::V7_1,
        Self::V7_2,
        Self::V7,
    ];

    /// As in `TRUTH_TARGET`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_1Main => "6.1-main",
            Self::V6_12 => "6.12",
            Self::V6_18 => "6.18",
            Self::V7_1 => "7.1",
            Self::V7_2 => "7.2",
            Self::V7 => "7",
        }
    }

    /// Reads `TRUTH_TARGET`. There is no default: expectations are stated, never
    /// derived from what is found.
    pub fn from_env() -> Result<Self> {
        let label = std::env::var("TRUTH_TARGET").unwrap_or_default();
        Self::named(&label).context("TRUTH_TARGET is wrong")
    }

    /// The one with this label.
    pub fn named(label: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|target| target.label() == label).with_context(|| {
            let known = Self::ALL.map(Self::label).join(", ");
            format!("{label:?} is not one of {known}")
        })
    }

    /// The beginning of `uname -r` there.
    pub fn release_prefix(self) -> &'static str {
        match self {
            Self::Host => "",
            Self::V5_10 => "5.10.",
            Self::V6_1 | Self::V6_1Main => "6.1.",
            Self::V6_12 => "6.12.",
            Self::V6_18 => "6.18.",
            Self::V7_1 => "7.1.",
            Self::V7_2 => "7.2.",
            Self::V7 => "7.",
        }
    }
}

/// Where a case is held.
#[derive(Clone, Copy, Debug)]
pub enum Held {
    /// On every target.
    Everywhere,
    /// On these only, for this reason.
    Only(&'static [Target], &'static str),
    /// Not on these, for this reason.
    NotOn(&'static [Target], &'static str),
}

impl Held {
    /// Why not on `target`, if so.
    pub fn reason_against(self, target: Target) -> Option<&'static str> {
        match self {
            Self::Only(targets, reason) if !targets.contains(&target) => Some(reason),
            Self::NotOn(targets, reason) if targets.contains(&target) => Some(reason),
            Self::Everywhere | Self::Only(..) | Self::NotOn(..) => None,
        }
    }
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&Bench) -> Result<()>,
    /// Where.
    pub held: Held,
    /// Where a run that is not whole holds it.
    in_part_on: &'static [Target],
}

impl Case {
    /// A case that every target must pass.
    pub const fn everywhere(name: &'static str, run: fn(&Bench) -> Result<()>) -> Self {
        Self::new(name, run, Held::Everywhere)
    }

    /// A case with a statement of where it is held.
    pub const fn new(name: &'static str, run: fn(&Bench) -> Result<()>, held: Held) -> Self {
        Self { name, run, held, in_part_on: &Target::ALL }
    }

    /// Of a long case: where a run that is not whole holds it, in its part size.
    #[must_use]
    pub const fn in_part_on(mut self, targets: &'static [Target]) -> Self {
        self.in_part_on = targets;
        self
    }

    /// Why it is not held on `target`, if so.
    pub fn reason_against(&self, target: Target) -> Option<&'static str> {
        let in_part = Scale::from_env() == Scale::Part;
        self.held.reason_against(target).or_else(|| {
            (in_part && !self.in_part_on.contains(&target))
                .then_some("long: here only in a whole run (--full)")
        })
    }
}

/// What a case works with.
#[derive(Debug)]
pub struct Bench {
    target: Target,
    tcpq: PathBuf,
    shared: Arc<SharedDaemon>,
    scratch: Scratch,
}

/// The daemon of all cases that do not ask for one of their own: to start one
/// takes an emulated guest seconds, and one that has seen other cases come and
/// go is the more honest witness.
#[derive(Debug)]
pub struct SharedDaemon {
    backend: Backend,
    scratch: Scratch,
    running: Mutex<Option<Arc<Daemon>>>,
}

/// Longer than any case looks back. With the usual ten minutes a scrape would tell of
/// all the cases before, which an emulated guest takes seconds to write and read.
const SHARED_RETENTION_SECONDS: u32 = 20;

impl SharedDaemon {
    /// One that starts when it is first asked for.
    pub fn new() -> Result<Self> {
        Self::with(Backend::Auto)
    }

    /// The same with a backend forced.
    pub fn with(backend: Backend) -> Result<Self> {
        Ok(Self { backend, scratch: Scratch::new()?, running: Mutex::new(None) })
    }

    /// The running one, or a new one if there is none that answers.
    fn get(&self, tcpq: &Path) -> Result<Arc<Daemon>> {
        // A case that panicked leaves the daemon as it is; whether that is well
        // is asked next.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(daemon) = running.as_ref().filter(|daemon| daemon.is_ready()) {
            return Ok(Arc::clone(daemon));
        }
        let daemon = Launch::new(tcpq, &self.scratch)?
            .backend(self.backend)
            .setting("--listener.retention", SHARED_RETENTION_SECONDS)
            .start()?;
        let daemon = Arc::new(daemon);
        *running = Some(Arc::clone(&daemon));
        Ok(daemon)
    }
}

/// A program that ran to its end.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Bench {
    /// For one case on this target.
    pub fn new(target: Target, shared: Arc<SharedDaemon>) -> Result<Self> {
        Ok(Self { target, tcpq: daemon::binary()?, shared, scratch: Scratch::new()? })
    }

    /// Which kernel this is.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The case's directory.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// What the daemons wrote to stderr, for the report of a failure.
    pub fn logs(&self) -> String {
        self.shared.scratch.logs() + &self.scratch.logs()
    }

    /// The binary under test.
    pub fn tcpq(&self) -> &Path {
        &self.tcpq
    }

    /// A daemon yet to be started.
    pub fn launch(&self) -> Result<Launch> {
        Launch::new(&self.tcpq, &self.scratch)
    }

    /// A ready daemon with the backends it chose itself, which other cases use too.
    pub fn daemon(&self) -> Result<Arc<Daemon>> {
        self.shared.get(&self.tcpq)
    }

    /// As [`Bench::daemon`], but just started and for this case only.
    pub fn fresh_daemon(&self) -> Result<Daemon> {
        self.launch()?.start()
    }

    /// A fresh daemon with one backend forced.
    pub fn daemon_with(&self, backend: Backend) -> Result<Daemon> {
        self.launch()?.backend(backend).start()
    }

    /// Runs `tcpq` with these arguments to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new(&self.tcpq);
        command.args(arguments);
        daemon::without_settings(&mut command);
        self.finish(command)
    }

    /// Runs `tcpq`, which must succeed, and parses the JSON it prints.
    pub fn run_json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let line = arguments.join(" ");
        let finished = self.run(arguments)?;
        ensure!(
            finished.code == Some(0),
            "tcpq {line} ended with {:?}: {}",
            finished.code,
            finished.stderr.trim()
        );
        serde_json::from_str(&finished.stdout)
            .with_context(|| format!("tcpq {line} printed {}", finished.stdout))
    }

    /// Runs any command to its end; one that hangs is killed and is an error.
    pub fn finish(&self, mut command: Command) -> Result<Finished> {
        command.stdin(Stdio::null());
        self.finish_with_stdin(command)
    }

    /// As [`Bench::finish`], for a command that already has its stdin.
    pub fn finish_with_stdin(&self, mut command: Command) -> Result<Finished> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        // Files, not pipes: whatever is written, the program cannot block on us.
        let (stdout, stderr) = (
            self.scratch.path().join(format!("{serial}.stdout")),
            self.scratch.path().join(format!("{serial}.stderr")),
        );
        let name = format!("{command:?}");
        let mut child = command
            .stdout(File::create(&stdout).context("cannot make a file for stdout")?)
            .stderr(File::create(&stderr).context("cannot make a file for stderr")?)
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        let status = wait::until(&name, Duration::from_mins(1), || {
            child.try_wait().context("cannot wait for a program")
        });
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                child.kill().and_then(|()| child.wait()).context("cannot kill a program")?;
                bail!("{error:#}; its stderr: {}", read(&stderr)?);
            }
        };
        Ok(Finished { code: status.code(), stdout: read(&stdout)?, stderr: read(&stderr)? })
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
