//! What the programs in the kernel cost a connection: with nothing attached, with empty
//! programs on the same hooks, with tcpq, with the tools of others.
//!
//! Made for a guest that counts instructions: there a nanosecond is one instruction, and the
//! same work takes the same time. Whatever has a user side is stopped while connections are
//! made, so that only what runs in the kernel is measured, of tcpq as of others.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Options,
    connections::Connections,
    hooks::{self, Empty, Hooked},
    note,
    peers::{self, Peer, Running},
    say,
    statistics::{Counting, runs, say_programs},
};
use crate::{
    daemon::{self, Backend, Daemon, Launch},
    ledger::Reading,
    scratch::Scratch,
};

/// For what the kernel does later: jumps in place of breakpoints, memory that is given back.
const SETTLE: Duration = Duration::from_secs(2);

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
        let peers: String = options.take("peers", "tcpsynbl,bpftrace".to_owned())?;
        let taken = Self {
            rounds: options.take("rounds", 3)?,
            connections: options.take("connections", 2000)?,
            backends: backends.split(',').map(backend).collect::<Result<_>>()?,
            peers: peers::of_names(&peers)?,
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
            What::Peer(peer) => InPlace::Peer(peer.start(scratch)?),
        })
    }

    fn measure(&self, round: u32, count: u32, scratch: &Scratch) -> Result<()> {
        // What was in place before is gone by then, and its connections.
        thread::sleep(SETTLE);
        let in_place = self.put_in_place(scratch)?;
        thread::sleep(SETTLE);
        // After the hooks, so that nobody has to discover the listener.
        let connections = Connections::open()?;
        connections.make(WARM_UP)?;
        thread::sleep(SETTLE);

        in_place.signal(libc::SIGSTOP)?;
        let took = connections.make(count)?;
        let counting = Counting::begin()?;
        let before = runs(&in_place.pids())?;
        connections.make(count)?;
        let after = runs(&in_place.pids())?;
        drop(counting);
        in_place.signal(libc::SIGCONT)?;

        let each = took.as_secs_f64() * 1e9 / f64::from(count);
        say(&self.name, "ns_per_connection", round, each);
        let runs = say_programs(&self.name, "", round, count, &before, &after);
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
}
