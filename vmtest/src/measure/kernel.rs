//! What the programs in the kernel cost a connection: with nothing attached, with empty
//! programs on the same hooks, with tcpq, with the tools of others.
//!
//! Made for a guest that counts instructions: there a nanosecond is one instruction, and the
//! same work takes the same time. Whatever has a user side is stopped while connections are
//! made, so that only what runs in the kernel is measured, of tcpq as of others.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Options,
    connections::Connections,
    hooks::{self, Empty, Hooked},
    note,
    peers::{BPFTRACE, Peer, Running, TCPSYNBL},
    say, say_of,
    statistics::{Counting, told},
};
use crate::{
    bpf_objects::BpfObjects,
    daemon::{self, Backend, Daemon, Launch},
    ledger::Reading,
    scratch::Scratch,
    wait,
};

/// For what the kernel does later: jumps in place of breakpoints, memory that is given back.
const SETTLE: Duration = Duration::from_secs(2);

/// Until a peer has compiled its script and attached it, emulated.
const ATTACHED_WITHIN: Duration = Duration::from_mins(10);

/// So many before the others, which meet warm caches.
const WARM_UP: u32 = 300;

struct Settings {
    rounds: u32,
    connections: u32,
    backends: Vec<Backend>,
    peers: Vec<&'static Peer>,
}

impl Settings {
    fn take(options: &mut Options) -> Result<Self> {
        let backends: String = options.take("backends", "auto,kprobe".to_owned())?;
        let backend = |name: &str| {
            let known = [Backend::Auto, Backend::Fentry, Backend::Kprobe, Backend::Tracepoint];
            let found = known.into_iter().find(|known| known.flag() == name);
            found.with_context(|| format!("backends={backends}: no backend is called {name:?}"))
        };
        let peers: String = options.take("peers", "yes".to_owned())?;
        let taken = Self {
            rounds: options.take("rounds", 3)?,
            connections: options.take("connections", 2000)?,
            backends: backends.split(',').map(backend).collect::<Result<_>>()?,
            peers: match peers.as_str() {
                "yes" => vec![&TCPSYNBL, &BPFTRACE],
                "no" => Vec::new(),
                other => bail!("peers={other}: yes or no"),
            },
        };
        options.end()?;
        Ok(taken)
    }
}

pub(super) fn run(options: &mut Options) -> Result<()> {
    let settings = Settings::take(options)?;
    let scratch = Scratch::new()?;
    let mut cases = vec![Case { name: "nothing".to_owned(), what: What::Nothing }];
    for backend in settings.backends {
        let of = match backend {
            Backend::Auto => String::new(),
            forced => format!(" --backend {}", forced.flag()),
        };
        let hooks = hooks::of_process(launch(backend, &scratch)?.pid())
            .context("cannot tell what tcpq attaches")?;
        let (programs, places) = (hooks.len(), hooks::places(&hooks));
        note(format!("tcpq{of}: {programs} programs on {places} functions and tracepoints"));
        cases.push(Case { name: format!("floor{of}"), what: What::Floor(hooks) });
        cases.push(Case { name: format!("tcpq{of}"), what: What::Tcpq(backend) });
    }
    let peer = |peer: &&'static Peer| Case { name: peer.name.to_owned(), what: What::Peer(peer) };
    cases.extend(settings.peers.iter().map(peer));

    for round in 1..=settings.rounds {
        let mut playable = Vec::new();
        for case in cases {
            println!("round {round} of {}: {}", settings.rounds, case.name);
            match case.measure(round, settings.connections, &scratch) {
                Ok(()) => playable.push(case),
                Err(error) if matches!(case.what, What::Peer(_)) => {
                    eprintln!("{}", scratch.logs());
                    note(format!("{} could not be measured: {error:#}", case.name));
                }
                Err(error) => bail!("{}: {error:#}\n{}", case.name, scratch.logs()),
            }
        }
        cases = playable;
    }
    Ok(())
}

fn launch(backend: Backend, scratch: &Scratch) -> Result<Daemon> {
    Launch::new(&daemon::binary()?, scratch)?.backend(backend).start()
}

struct Case {
    name: String,
    what: What,
}

enum What {
    Nothing,
    Floor(Vec<Hooked>),
    Tcpq(Backend),
    Peer(&'static Peer),
}

/// What is in place while a case is measured.
enum InPlace {
    Nothing,
    Floor(#[expect(dead_code, reason = "detached when dropped")] Empty),
    Tcpq(Daemon),
    Peer(Running),
}

impl Case {
    fn put_in_place(&self, scratch: &Scratch) -> Result<InPlace> {
        Ok(match &self.what {
            What::Nothing => InPlace::Nothing,
            What::Floor(hooks) => InPlace::Floor(Empty::attach(hooks)?),
            What::Tcpq(backend) => InPlace::Tcpq(launch(*backend, scratch)?),
            What::Peer(peer) => {
                let mut running = peer.start(scratch)?;
                wait_attached(&mut running)?;
                InPlace::Peer(running)
            }
        })
    }

    fn measure(&self, round: u32, count: u32, scratch: &Scratch) -> Result<()> {
        let in_place = self.put_in_place(scratch)?;
        thread::sleep(SETTLE);
        // After the hooks, so that nobody has to discover the listener.
        let connections = Connections::open()?;
        connections.make(WARM_UP)?;
        thread::sleep(SETTLE);

        in_place.signal(libc::SIGSTOP)?;
        let took = connections.make(count)?;
        let counting = Counting::begin()?;
        let before = in_place.runs()?;
        connections.make(count)?;
        let after = in_place.runs()?;
        drop(counting);
        in_place.signal(libc::SIGCONT)?;

        say(&self.name, "ns_per_connection", round, per(u64::try_from(took.as_nanos())?, count));
        let (mut runs, mut run_ns) = (0.0, 0.0);
        for (id, after) in &after {
            // One that was not there before has run since.
            let (runs_before, ns_before) =
                before.get(id).map_or((0, 0), |before| (before.runs, before.run_ns));
            let ran = per(after.runs - runs_before, count);
            let took = per(after.run_ns - ns_before, count);
            if ran > 0.0 {
                say_of(&self.name, "program_runs_per_connection", &after.label, round, ran);
                say_of(&self.name, "program_ns_per_connection", &after.label, round, took);
            }
            runs += ran;
            run_ns += took;
        }
        say(&self.name, "runs_per_connection", round, runs);
        say(&self.name, "run_ns_per_connection", round, run_ns);
        if !matches!(self.what, What::Nothing) {
            ensure!(runs >= 1.0, "its programs ran {runs} times for each connection");
        }
        if let InPlace::Tcpq(daemon) = &in_place {
            has_counted(daemon, &connections, WARM_UP + 2 * count)?;
        }
        Ok(())
    }
}

/// What was measured did its work.
fn has_counted(daemon: &Daemon, connections: &Connections, made: u32) -> Result<()> {
    let reading = Reading::take(connections.netns(), daemon)?;
    let figures = reading.figures(connections.address())?;
    let made = Some(u64::from(made));
    ensure!(
        figures.accepts == made && figures.enqueued == made,
        "tcpq counted {:?} accepts and {:?} enqueued of {made:?}",
        figures.accepts,
        figures.enqueued
    );
    Ok(())
}

/// A peer says that it attaches before it does: it has when its programs run.
fn wait_attached(running: &mut Running) -> Result<()> {
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
    })
}

/// What one program has done.
struct Ran {
    label: String,
    runs: u64,
    run_ns: u64,
}

impl InPlace {
    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Floor(_) => vec![std::process::id()],
            Self::Tcpq(daemon) => vec![daemon.pid()],
            Self::Peer(running) => running.pids(),
        }
    }

    /// To the user side; the floor has none.
    fn signal(&self, signal: libc::c_int) -> Result<()> {
        match self {
            Self::Nothing | Self::Floor(_) => Ok(()),
            Self::Tcpq(daemon) => daemon.signal(signal),
            Self::Peer(running) => running.signal(signal),
        }
    }

    /// Of each program in place, by its id.
    fn runs(&self) -> Result<BTreeMap<u32, Ran>> {
        let mut found = BTreeMap::new();
        for pid in self.pids() {
            for id in BpfObjects::held_by(pid)?.programs {
                let told = told(id)?;
                let ran = Ran { label: told.name, runs: told.runs, run_ns: told.run_ns };
                found.insert(id, ran);
            }
        }
        Ok(found)
    }
}

#[expect(clippy::cast_precision_loss, reason = "sums of a round are far below 2^52")]
fn per(sum: u64, count: u32) -> f64 {
    sum as f64 / f64::from(count)
}
