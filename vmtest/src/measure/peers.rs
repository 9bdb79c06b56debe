//! What Debian ships for the listen path: other tools, as a user would start them.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    connections::Connections,
    statistics::{Counting, told},
};
use crate::{bpf_objects::BpfObjects, daemon, scratch::Scratch, wait};

/// A tool, or several that belong together.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    commands: &'static [Line],
}

#[derive(Debug)]
struct Line {
    /// The variable that names the program.
    variable: &'static str,
    program: &'static str,
    /// A script, beside the programs.
    script: Option<&'static str>,
}

/// They count accept queue lengths, and print accepted connections.
const BPFTRACE: Peer = Peer {
    name: "bpftrace tcpsynbl.bt + tcpaccept.bt",
    commands: &[bpftrace("tcpsynbl.bt"), bpftrace("tcpaccept.bt")],
};

/// It counts accept queue lengths.
const TCPSYNBL: Peer = Peer {
    name: "libbpf-tools tcpsynbl",
    commands: &[Line { variable: "TCPQ_TCPSYNBL", program: "tcpsynbl", script: None }],
};

/// It prints each connection when it has ended; by a tracepoint, so that it runs where there
/// are no probes.
const TCPLIFE: Peer = Peer {
    name: "libbpf-tools tcplife",
    commands: &[Line { variable: "TCPQ_TCPLIFE", program: "tcplife", script: None }],
};

/// By the name that settings have for them.
const ALL: [(&str, &Peer); 3] =
    [("tcpsynbl", &TCPSYNBL), ("bpftrace", &BPFTRACE), ("tcplife", &TCPLIFE)];

/// The peers of a list of names between commas; an empty list is none.
pub(super) fn of_names(names: &str) -> Result<Vec<&'static Peer>> {
    let find = |name: &str| {
        let found = ALL.iter().find(|(known, _)| *known == name);
        let (_, peer) = found.with_context(|| format!("no peer is called {name:?}"))?;
        Ok(*peer)
    };
    names.split(',').filter(|name| !name.is_empty()).map(find).collect()
}

const fn bpftrace(script: &'static str) -> Line {
    Line { variable: "TCPQ_BPFTRACE", program: "bpftrace", script: Some(script) }
}

/// Where packages put scripts, and where a guest has them.
const SCRIPTS: [&str; 2] = ["/usr/sbin", "/bin"];

/// Until a peer has compiled its script and attached it, emulated.
const ATTACHED_WITHIN: Duration = Duration::from_mins(10);

/// The running programs of a peer, ended when dropped.
#[derive(Debug)]
pub(super) struct Running(Vec<Child>);

impl Peer {
    /// Starts it, and waits until it is attached. It says so before: it is when its programs
    /// run.
    pub(super) fn start(&self, scratch: &Scratch) -> Result<Running> {
        let mut running = self.spawn(scratch)?;
        let _counting = Counting::begin()?;
        let connections = Connections::open()?;
        wait::until_true("the programs of a peer run", ATTACHED_WITHIN, || {
            connections.make(1)?;
            let mut all = true;
            for programs in running.programs()? {
                let mut runs = 0;
                for program in programs {
                    runs += told(program)?.runs;
                }
                all &= runs > 0;
            }
            Ok(all)
        })?;
        Ok(running)
    }

    fn spawn(&self, scratch: &Scratch) -> Result<Running> {
        // From the first on, dropping it ends them.
        let mut running = Running(Vec::new());
        for (number, line) in self.commands.iter().enumerate() {
            let log = scratch.path().join(format!("peer-{number}.log"));
            running.0.push(line.start(&log).with_context(|| format!("cannot start {line:?}"))?);
        }
        Ok(running)
    }
}

impl Line {
    fn start(&self, log: &PathBuf) -> Result<Child> {
        let program = env::var_os(self.variable).unwrap_or_else(|| OsString::from(self.program));
        let mut command = Command::new(program);
        if let Some(script) = self.script {
            let places = SCRIPTS.map(|folder| PathBuf::from(folder).join(script));
            let place = places.iter().find(|place| place.is_file());
            command.arg(place.with_context(|| format!("no {script} in {SCRIPTS:?}"))?);
        }
        // Room for what it prints while it is stopped; else its kernel side would be
        // measured at failing to print.
        command.env("BPFTRACE_PERF_RB_PAGES", "4096");
        if !Path::new("/sys/kernel/tracing/events").exists() {
            daemon::with_tracefs(&mut command);
        }
        let log = File::create(log).context("cannot make a peer's log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command.spawn()?)
    }
}

impl Running {
    pub(super) fn pids(&self) -> Vec<u32> {
        self.0.iter().map(Child::id).collect()
    }

    pub(super) fn signal(&self, signal: libc::c_int) -> Result<()> {
        for child in &self.0 {
            let pid = libc::pid_t::try_from(child.id()).context("a pid out of range")?;
            // SAFETY: no memory is involved. The child is not yet waited for, so its pid
            // cannot be another's.
            if unsafe { libc::kill(pid, signal) } != 0 {
                return Err(io::Error::last_os_error()).context("cannot signal a peer");
            }
        }
        Ok(())
    }

    /// An error if one has ended.
    pub(super) fn still_run(&mut self) -> Result<()> {
        self.programs().map(drop)
    }

    /// The programs of each; an error if one has ended.
    fn programs(&mut self) -> Result<Vec<Vec<u32>>> {
        let held = |child: &mut Child| {
            if let Some(status) = child.try_wait().context("cannot wait for a peer")? {
                bail!("a peer has ended: {status}");
            }
            Ok(BpfObjects::held_by(child.id())?.programs.into_iter().collect())
        };
        self.0.iter_mut().map(held).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                eprintln!("cannot end a peer: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_found_by_name() {
        let names = |list| of_names(list).map(|peers| peers.iter().map(|it| it.name).collect());
        let found: Vec<&str> = names("tcplife,tcpsynbl").unwrap();
        assert_eq!(found, ["libbpf-tools tcplife", "libbpf-tools tcpsynbl"]);
        assert_eq!(names("").unwrap(), Vec::<&str>::new());
        assert!(names("tcplive").unwrap_err().to_string().contains("tcplive"));
    }
}
