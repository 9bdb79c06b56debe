//! Many listeners in few or many namespaces.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    daemon::{self, Daemon, Launch},
    limits, load,
    netns::Netns,
    scratch::Scratch,
    sockets::Listener,
    wait,
};

/// Below the range of ephemeral ports, so that each is a group of its own.
const FIRST_PORT: u16 = 10_000;

/// Until the daemon shows all of them.
const SHOWN_WITHIN: Duration = Duration::from_mins(1);

/// Some listeners, and where.
pub(super) struct Listeners {
    pub(super) namespaces: Vec<Netns>,
    /// By namespace.
    all: Vec<Vec<Listener>>,
}

impl Listeners {
    /// Spread evenly.
    pub(super) fn open(count: u16, namespaces: u16) -> Result<Self> {
        limits::allow_open_files()?;
        // They are gone with these: what comes next has no others around it.
        let namespaces: Vec<_> =
            (0..namespaces).map(|_| Netns::passing()).collect::<Result<_>>()?;
        let mut all = Vec::new();
        for (place, netns) in namespaces.iter().enumerate() {
            let here = (usize::from(count) - place).div_ceil(namespaces.len());
            all.push(netns.run(|| {
                let open = |number| {
                    let port = FIRST_PORT + u16::try_from(number)?;
                    Listener::open_here(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), 128)
                };
                (0..here).map(open).collect::<Result<Vec<_>>>()
            })?);
        }
        Ok(Self { namespaces, all })
    }

    /// One connection to each, which is accepted: what a listener has served has all its series.
    pub(super) fn serve_each_once(&self) -> Result<()> {
        for (netns, here) in self.namespaces.iter().zip(&self.all) {
            netns.run(|| {
                here.iter().try_for_each(|listener| {
                    load::one_attempt(listener.address())?;
                    listener.accept_all().map(drop)
                })
            })?;
        }
        Ok(())
    }

    /// Waits until the daemon has a series of each.
    pub(super) fn are_shown_by(&self, daemon: &Daemon) -> Result<()> {
        let wanted = self.all.iter().map(Vec::len).sum::<usize>();
        wait::until_true("every listener is shown", SHOWN_WITHIN, || {
            let metrics = daemon.scrape()?;
            Ok(metrics.select("tcpq_accept_queue_limit", &[]).count() >= wanted)
        })
    }
}

/// A daemon with room for as many as are opened here.
pub(super) fn roomy_daemon(scratch: &Scratch) -> Result<Daemon> {
    Launch::new(&daemon::binary()?, scratch)?
        .setting("--listener.max", 16_384)
        .setting("--listener.max-groups", 20_000)
        .start()
        .context("no daemon")
}

/// What this machine has of its own is not measured, and not known beforehand.
pub(super) fn ensure_idle(daemon: &Daemon) -> Result<()> {
    let metrics = daemon.scrape()?;
    let others = metrics.select("tcpq_accept_queue_limit", &[]).count();
    ensure!(others < 100, "{others} listeners are there already: nothing would be told of ours");
    Ok(())
}
