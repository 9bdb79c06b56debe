//! accept() that fails: each failure is counted, and nothing else is.

use std::{
    fs, io,
    net::{Shutdown, SocketAddr},
    os::fd::AsRawFd as _,
    ptr,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use socket2::Socket;

use super::plan::ON_6_12;
use crate::{
    bench::{Bench, Case, Held, Target},
    beside,
    daemon::{Backend, Daemon},
    ledger::{Checks, Reading},
    load::Clients,
    netns::Netns,
    puppet::{Attempts, Outcomes, Puppet, Shortage, Way},
    scenarios::sockets::multipath,
    sockets::{Family, Listener},
    wait,
};

const HELD: Held = Held::NotOn(&[Target::Host], "no tracepoint tells that accept() failed");
const WITH_MPTCP: Held = Held::NotOn(
    &[Target::Host, Target::V5_10],
    "no tracepoint tells that accept() failed; Debian built 5.10 without MPTCP",
);

pub(super) const CASES: &[Case] = &[
    Case::new("accept_errors_emfile", |bench| emfile(bench, Backend::Auto), HELD),
    Case::new("accept_errors_emfile_kprobe", |bench| emfile(bench, Backend::Kprobe), ON_6_12),
    Case::new("accept_errors_enfile", enfile, HELD),
    Case::new("accept_errors_none", |bench| none(bench, Backend::Auto), HELD),
    Case::new("accept_errors_none_kprobe", |bench| none(bench, Backend::Kprobe), ON_6_12),
    Case::new("accept_errors_beside_sleepers", beside_sleepers, HELD),
    Case::new("accept_errors_mptcp", mptcp, WITH_MPTCP),
];

/// Calls of each kind.
const CALLS: u32 = 200;
/// Connections that wait meanwhile.
const WAITING: usize = 5;
/// Threads that sleep in accept(): more than a return probe has room for.
const SLEEPERS: usize = 64;

fn daemon(bench: &Bench, backend: Backend) -> Result<Arc<Daemon>> {
    match backend {
        Backend::Auto => bench.daemon(),
        forced => Ok(Arc::new(bench.daemon_with(forced)?)),
    }
}

/// What tcpq counted at a listener with this error; `None`: it has no such series.
fn counted(reading: &Reading, netns: &Netns, at: SocketAddr, errno: &str) -> Result<Option<u64>> {
    let (label, address, port) = (netns.label(), at.ip().to_string(), at.port().to_string());
    let labels =
        [("netns", label.as_str()), ("address", &address), ("port", &port), ("errno", errno)];
    reading.metrics.sum("tcpq_accept_errors_total", &labels)
}

/// How often each call failed as it was meant to.
fn failures(outcomes: &Outcomes, errno: i32, calls: u32) -> Result<u64> {
    ensure!(
        outcomes.iter().eq([(&errno, &u64::from(calls))]),
        "the fixture's {calls} calls ended with {outcomes:?}, not all with {errno}"
    );
    Ok(calls.into())
}

/// A server that may open no more files, however it accepts, while connections wait.
fn emfile(bench: &Bench, backend: Backend) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = daemon(bench, backend)?;
    let mut server = Puppet::stage().netns(&netns).start()?;
    let mut checks = Checks::default();
    // Of a return probe the request is not seen, and before 6.0 io_accept is inlined.
    let sees_uring = backend == Backend::Auto && bench.target() != Target::V5_10;
    for family in [Family::V4, Family::V6] {
        let at = server.listen(family.loopback(), 16)?;
        let waiting = Clients::connect(&netns, at, WAITING)?;
        let mut truth = 0;
        for way in [Way::Blocking, Way::Polling, Way::Epoll, Way::Uring] {
            let attempts = Attempts { way, calls: CALLS, shortage: Shortage::Descriptors };
            let failed = failures(&server.attempt(attempts)?, libc::EMFILE, CALLS)?;
            if way != Way::Uring || sees_uring {
                truth += failed;
            }
            let reading = Reading::take(&netns, &daemon)?;
            let said = counted(&reading, &netns, at, "EMFILE")?;
            checks.equal(&format!("EMFILE at {at} after {way:?}"), said, truth);
            let figures = reading.figures(at)?;
            checks.equal("connections that wait", figures.accept_queue_length, WAITING as u64);
        }
        // With files to be had again they are accepted; one call finds nothing more.
        server.accept()?;
        let reading = Reading::take(&netns, &daemon)?;
        checks.equal("EMFILE after all", counted(&reading, &netns, at, "EMFILE")?, truth);
        checks.equal("ENFILE", counted(&reading, &netns, at, "ENFILE")?, 0);
        checks.hold("no other error has a series", others(&reading, &netns, at)?.is_empty());
        checks.equal("accepts", reading.figures(at)?.accepts, WAITING as u64);
        drop(waiting);
    }
    checks.end()
}

/// The errors that have a series beside the two that always have one.
fn others(reading: &Reading, netns: &Netns, at: SocketAddr) -> Result<Vec<&'static str>> {
    let mut others = Vec::new();
    for errno in ["ENOMEM", "EINVAL", "EACCES", "other"] {
        if counted(reading, netns, at, errno)?.is_some() {
            others.push(errno);
        }
    }
    Ok(others)
}

/// A host on which an unprivileged server may open no more files. Everybody else here is
/// root, whom `fs.file-max` does not bind.
fn enfile(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let mut server = Puppet::stage().netns(&netns).start()?;
    let at = server.listen(Family::V4.loopback(), 16)?;
    let waiting = Clients::connect(&netns, at, WAITING)?;
    let attempts = Attempts { way: Way::Blocking, calls: CALLS, shortage: Shortage::Files };
    let outcomes = {
        let _lowered = FileMax::lower()?;
        server.attempt(attempts)?
    };
    let truth = failures(&outcomes, libc::ENFILE, CALLS)?;
    let reading = Reading::take(&netns, &daemon)?;
    let mut checks = Checks::default();
    checks.equal("ENFILE", counted(&reading, &netns, at, "ENFILE")?, truth);
    checks.equal("EMFILE", counted(&reading, &netns, at, "EMFILE")?, 0);
    checks.equal("waiting", reading.figures(at)?.accept_queue_length, waiting.len() as u64);
    checks.end()
}

/// `fs.file-max` at less than what is open, until this is dropped.
struct FileMax {
    before: String,
}

const FILE_MAX: &str = "/proc/sys/fs/file-max";

impl FileMax {
    fn lower() -> Result<Self> {
        let before = fs::read_to_string(FILE_MAX).context("cannot read fs.file-max")?;
        fs::write(FILE_MAX, "1").context("cannot lower fs.file-max")?;
        Ok(Self { before })
    }
}

impl Drop for FileMax {
    fn drop(&mut self) {
        if let Err(error) = fs::write(FILE_MAX, self.before.trim()) {
            eprintln!("cannot restore fs.file-max: {error}");
        }
    }
}

/// Calls that fail, and are nobody's failure; in the end one that is, to show that failures
/// would have been seen.
fn none(bench: &Bench, backend: Backend) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = daemon(bench, backend)?;
    let mut server = Puppet::stage().netns(&netns).start()?;
    let at = server.listen(Family::V4.loopback(), 16)?;
    let of_no_account = [
        (Way::Polling, 1_000, Shortage::None, libc::EAGAIN),
        (Way::Interrupted, 5, Shortage::None, libc::EINTR),
        // The same process, out of descriptors, at a socket that is not of TCP.
        (Way::Unix, CALLS, Shortage::Descriptors, libc::EMFILE),
    ];
    let mut checks = Checks::default();
    for (way, calls, shortage, errno) in of_no_account {
        failures(&server.attempt(Attempts { way, calls, shortage })?, errno, calls)?;
        let reading = Reading::take(&netns, &daemon)?;
        for errno in ["EMFILE", "ENFILE"] {
            let said = counted(&reading, &netns, at, errno)?;
            checks.equal(&format!("{errno} after {way:?}"), said, 0);
        }
        let others = others(&reading, &netns, at)?;
        checks.hold(&format!("{others:?} after {way:?}"), others.is_empty());
    }
    let attempts = Attempts { way: Way::UnknownFlags, calls: 3, shortage: Shortage::None };
    failures(&server.attempt(attempts)?, libc::EINVAL, 3)?;
    // What ends the listener ends its calls, too.
    let attempts = Attempts { way: Way::ShutDown, calls: CALLS, shortage: Shortage::None };
    failures(&server.attempt(attempts)?, libc::EINVAL, CALLS)?;
    let reading = Reading::take(&netns, &daemon)?;
    checks.equal("EINVAL", counted(&reading, &netns, at, "EINVAL")?, 3);
    checks.nothing("sockets", reading.figures(at)?.sockets);
    checks.end()
}

/// While 64 threads sleep in accept() on one listener, the failures at another are counted;
/// that the sleepers' listener is shut down is no failure.
fn beside_sleepers(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let sleeping = Listener::open(&netns, Family::V4.loopback(), 16)?;
    let socket = Socket::from(sleeping.share()?);
    socket.set_nonblocking(false).context("cannot set a listener blocking")?;
    let mut server = Puppet::stage().netns(&netns).start()?;
    let at = server.listen(Family::V4.loopback(), 16)?;
    let waiting = Clients::connect(&netns, at, WAITING)?;
    let sleepers = (0..SLEEPERS).map(|_| {
        let socket = &socket;
        let sleep: beside::Work<'_> = Box::new(move |_| {
            let error = socket.accept().err().and_then(|error| error.raw_os_error());
            ensure!(error == Some(libc::EINVAL), "a sleeper woke up by {error:?}");
            Ok(())
        });
        sleep
    });
    let attempts = Attempts { way: Way::Epoll, calls: CALLS, shortage: Shortage::Descriptors };
    let outcomes = beside::beside(sleepers.collect(), || {
        let told = all_sleep().and_then(|()| server.attempt(attempts));
        socket.shutdown(Shutdown::Both).context("cannot shut a listener down")?;
        told
    })?;
    let truth = failures(&outcomes, libc::EMFILE, CALLS)?;
    let reading = Reading::take(&netns, &daemon)?;
    let mut checks = Checks::default();
    checks.equal("EMFILE", counted(&reading, &netns, at, "EMFILE")?, truth);
    let ended = counted(&reading, &netns, sleeping.address(), "EINVAL")?;
    checks.nothing("EINVAL of sleepers", ended);
    checks.equal("waiting", reading.figures(at)?.accept_queue_length, waiting.len() as u64);
    checks.end()
}

/// Waits until as many threads of this process are in accept().
fn all_sleep() -> Result<()> {
    wait::until_true("all sleep in accept()", std::time::Duration::from_mins(1), || {
        let mut sleeping = 0;
        for thread in fs::read_dir("/proc/self/task").context("cannot list threads")? {
            let call = thread.context("cannot list threads")?.path().join("syscall");
            let text = fs::read_to_string(call).unwrap_or_default();
            let number = text.split(' ').next().and_then(|number| number.parse().ok());
            sleeping += usize::from(matches!(number, Some(libc::SYS_accept | libc::SYS_accept4)));
        }
        Ok(sleeping == SLEEPERS)
    })
}

/// The socket that a program has is of MPTCP; the listener is the TCP socket behind it.
fn mptcp(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let listener = multipath(&netns, Family::V4.loopback(), 16)?;
    let socket = listener.share()?;
    for _ in 0..CALLS {
        let unknown = 1;
        // SAFETY: nobody's address is wanted: both pointers may be null.
        let answer =
            unsafe { libc::accept4(socket.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), unknown) };
        let error = io::Error::last_os_error();
        ensure!(
            answer < 0 && error.raw_os_error() == Some(libc::EINVAL),
            "accept4() with unknown flags: {error}"
        );
    }
    let reading = Reading::take(&netns, &daemon)?;
    let mut checks = Checks::default();
    let said = counted(&reading, &netns, listener.address(), "EINVAL")?;
    checks.equal("EINVAL", said, CALLS.into());
    checks.end()
}
