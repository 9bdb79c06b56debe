//! How a daemon ends: at once when asked to, whoever hangs on its sockets, and
//! without a trace in the kernel when it is killed.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    bench::{Bench, Case, Target},
    bpf_objects::BpfObjects,
    wait,
};

pub(super) const CASES: &[Case] =
    &[
        Case::everywhere("shutdown_sigterm", |bench| ends_in_time(bench, libc::SIGTERM))
            .in_part_on(&[Target::Host, Target::V5_10, Target::V7]),
        Case::everywhere("shutdown_sigint", |bench| ends_in_time(bench, libc::SIGINT))
            .in_part_on(&[Target::Host, Target::V6_1]),
        Case::everywhere("shutdown_kill_leaves_nothing", kill)
            .in_part_on(&[Target::Host, Target::V6_1]),
    ];

/// What is promised from the signal to the end of the process, on a real CPU.
const PROMISED: Duration = Duration::from_secs(2);

/// What a scrape may take while other readers are stuck.
const SCRAPE: Duration = Duration::from_secs(2);

/// What both may take more of in an emulated guest beside another: for each function that
/// is hooked by trampoline the kernel waits for a grace period, one after the other
/// whatever we do; up to 6 s have been seen. The host, with tracepoints, takes 10 ms for
/// all of it.
const EMULATED: u32 = 5;

/// Bytes of a buffer; the kernel takes its minimum if that is more.
const SMALL: usize = 4096;

const STUCK_READERS: usize = 2;

fn ends_in_time(bench: &Bench, signal: libc::c_int) -> Result<()> {
    let slowness = if bench.target() == Target::Host { 1 } else { EMULATED };
    let mut daemon = bench.fresh_daemon()?;
    let stuck =
        (0..STUCK_READERS).map(|_| never_read(daemon.address())).collect::<Result<Vec<_>>>()?;

    let start = Instant::now();
    daemon.scrape().context("a scrape beside stuck readers")?;
    let took = start.elapsed();
    ensure!(took < SCRAPE * slowness, "beside stuck readers a scrape took {took:?}");

    daemon.signal(signal)?;
    let (status, took) = daemon.wait_end(Duration::from_secs(30))?;
    ensure!(took < PROMISED * slowness, "it took {took:?} from the signal to the end");
    ensure!(status.success(), "asked to end, it ended with {status}");
    drop(stuck);
    Ok(())
}

/// Asks for the metrics again and again on one connection, until neither side
/// can send any more, and reads none of it.
fn never_read(server: SocketAddr) -> Result<Socket> {
    let requests = format!("GET /metrics HTTP/1.1\r\nHost: {server}\r\n\r\n").repeat(100);
    let mut stream = connect(server).context("cannot connect to the daemon")?;
    let mut last_progress = Instant::now();
    let stuck = "the daemon stops reading from one who never reads";
    wait::until_true(stuck, Duration::from_mins(1), || {
        loop {
            // A request cut in two by a full buffer is an error that the daemon
            // never gets to: it has the answers before it to send.
            match stream.write(requests.as_bytes()) {
                Ok(_) => last_progress = Instant::now(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Cutting off such a reader is a good answer, too.
                Err(_) => return Ok(true),
            }
        }
        Ok(last_progress.elapsed() > Duration::from_millis(300))
    })?;
    Ok(stream)
}

/// A connection that is soon full.
fn connect(server: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    // Before connecting, so that the peer never gets a larger window.
    socket.set_recv_buffer_size(SMALL)?;
    socket.set_send_buffer_size(SMALL)?;
    socket.connect(&server.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// SIGKILL runs no code of ours: what is left then, the kernel has to remove.
fn kill(bench: &Bench) -> Result<()> {
    let mut daemon = bench.fresh_daemon()?;
    let held = BpfObjects::held_by(daemon.pid())?;
    ensure!(!held.programs.is_empty() && !held.maps.is_empty(), "it holds only {held:?}");
    let alive = held.common(&BpfObjects::existing()?);
    ensure!(alive == held, "of {held:?} only {alive:?} are listed");

    daemon.signal(libc::SIGKILL)?;
    daemon.wait_end(Duration::from_secs(10))?;

    // The kernel frees programs and maps after a grace period of its own.
    let left = || BpfObjects::existing().map(|existing| held.common(&existing));
    wait::until_true("no BPF object of the daemon is left", Duration::from_secs(20), || {
        Ok(left()?.is_empty())
    })
    .with_context(|| match left() {
        Ok(left) => format!("left over: {left:?}"),
        Err(error) => error.to_string(),
    })
}
