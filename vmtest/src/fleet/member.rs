//! One host of a fleet: a guest with a daemon that other machines reach, and a server.

use std::{
    fs,
    io::{self, BufRead as _},
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::{SHOP, hosts::Role, shop, words};
use crate::{
    bench::Target,
    daemon::{self, Daemon, Launch},
    load, modules, netns,
    puppet::Puppet,
    scratch::Scratch,
};

/// The driver of the guest's card, which needs no other module in any kernel of the matrix.
const DRIVER: &str = "vmxnet3";
/// What QEMU's network forwards to.
const ADDRESS: &str = "10.0.2.15/24";
const CARD: &str = "eth0";

/// Clients that come at once, and the pause until the next do: some 15 a second.
const AT_ONCE: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// If nobody ends it. Longer than the harness waits.
const LIMIT: Duration = Duration::from_mins(18);

/// Serves, and has clients come to the server, until it is told to end.
pub fn run(role: Role) -> Result<()> {
    let end = told_to_end();
    kernel_is(Target::from_env()?)?;
    netns::loopback_up()?;
    card_up()?;
    let scratch = Scratch::new()?;
    let ran = serve(role, &scratch, &end);
    ran.map_err(|error| anyhow!("{error:#}\n{}", scratch.logs()))
}

/// The daemon as a host of a fleet has it: the API on loopback, and the metrics also to others.
fn serve(role: Role, scratch: &Scratch, end: &Receiver<()>) -> Result<()> {
    let others = SocketAddr::from((Ipv4Addr::UNSPECIFIED, words::PORT));
    let launch = Launch::new(&daemon::binary()?, scratch)?;
    let daemon = launch.setting("--web.listen-address", others).start()?;
    let mut server = Puppet::named(SHOP.as_bytes())?;
    let address = server.listen(shop(), backlog(role))?;
    if role == Role::Calm {
        server.serve()?;
    }
    println!("{}{}", words::SERVING, role.label());
    clients_come(address, &daemon, end)
}

/// Of a calm one it has room for all who come while an emulated machine has other things to do.
fn backlog(role: Role) -> i32 {
    match role {
        Role::Calm => 128,
        Role::Overflowing => 4,
    }
}

fn clients_come(to: SocketAddr, daemon: &Daemon, end: &Receiver<()>) -> Result<()> {
    let start = Instant::now();
    loop {
        (0..AT_ONCE).try_for_each(|_| load::one_attempt(to))?;
        match end.recv_timeout(PAUSE) {
            Ok(()) => break,
            Err(RecvTimeoutError::Disconnected) => bail!("the console ended"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        ensure!(start.elapsed() < LIMIT, "not told to end for {} s", LIMIT.as_secs());
    }
    ensure!(daemon.is_ready(), "the daemon is not ready any more");
    Ok(())
}

/// Listens to the console from now on.
fn told_to_end() -> Receiver<()> {
    let (tell, told) = mpsc::sync_channel(1);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if line.trim() == words::END {
                // Nobody listens any more if it has failed meanwhile.
                return tell.send(()).unwrap_or_default();
            }
        }
    });
    told
}

/// That it is the kernel which the fleet is said to have here.
fn kernel_is(target: Target) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("no release")?;
    let prefix = target.release_prefix();
    ensure!(release.starts_with(prefix), "kernel {} is not a {prefix}", release.trim());
    Ok(())
}

/// Gives the guest's card its address.
fn card_up() -> Result<()> {
    modules::load(DRIVER)?;
    for arguments in [
        ["address", "add", ADDRESS, "dev", CARD].as_slice(),
        ["link", "set", CARD, "up"].as_slice(),
    ] {
        let status = Command::new("ip").args(arguments).status().context("cannot run ip")?;
        ensure!(status.success(), "ip {}: {status}", arguments.join(" "));
    }
    Ok(())
}
