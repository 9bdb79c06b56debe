//! The endpoint, with clients who mean no good: who scrapes does not notice them.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Held, Target},
    beside::{self, Over},
    http, limits,
};

pub(super) const CASES: &[Case] = &[Case::new(
    "endpoint_under_abuse",
    abuse,
    Held::Only(&[Target::Host], "HTTP is the same everywhere, and time is the host's"),
)];

/// Connections that say nothing.
const SILENT: usize = 1_000;
/// Those that say a byte of a head now and then (slowloris).
const SLOW: usize = 100;
/// Heads of this size.
const LONG: usize = 1 << 20;
const LONG_HEADS: usize = 20;
/// Requests for what there is not.
const NONSENSE: usize = 10_000;

/// Prometheus gives a scrape ten times as long by default.
const IN_TIME: Duration = Duration::from_secs(1);

/// Until all requests for nonsense are answered.
const PATIENCE: Duration = Duration::from_mins(1);

fn abuse(bench: &Bench) -> Result<()> {
    limits::allow_open_files()?;
    let daemon = bench.fresh_daemon()?;
    let address = daemon.address();
    let refused = AtomicUsize::new(0);
    let abusers: Vec<beside::Work<'_>> = vec![
        Box::new(|over| silent(address, over)),
        Box::new(|over| slow(address, over)),
        Box::new(|over| long_heads(address, over)),
        Box::new(|over| nonsense(address, over, &refused)),
    ];
    let (scrapes, longest) = beside::beside(abusers, || scrape_beside(address, &refused))?;
    ensure!(longest < IN_TIME, "a scrape took {longest:?}");
    ensure!(scrapes >= 10, "{scrapes} scrapes only");
    // As before, once they are gone.
    daemon.scrape()?;
    println!("{scrapes} scrapes, the longest {longest:?}");
    Ok(())
}

/// Scrapes until all nonsense has been refused, and for two seconds at least: how often, and
/// the longest.
fn scrape_beside(address: SocketAddr, refused: &AtomicUsize) -> Result<(usize, Duration)> {
    let begun = Instant::now();
    let (mut scrapes, mut longest) = (0, Duration::ZERO);
    while refused.load(Ordering::Relaxed) < NONSENSE || begun.elapsed() < Duration::from_secs(2) {
        ensure!(begun.elapsed() < PATIENCE, "{refused:?} of {NONSENSE} answered in {PATIENCE:?}");
        let start = Instant::now();
        let text = http::get_ok(address, "/metrics", "text/plain")?;
        longest = longest.max(start.elapsed());
        ensure!(text.contains("tcpq_build_info"), "a scrape without metrics");
        scrapes += 1;
        thread::sleep(Duration::from_millis(50));
    }
    Ok((scrapes, longest))
}

/// Connections that are turned out are made again.
fn silent(address: SocketAddr, over: &Over) -> Result<()> {
    while !over.is_so() {
        let all: Result<Vec<_>, _> = (0..SILENT).map(|_| TcpStream::connect(address)).collect();
        let all = all.context("a connection is refused")?;
        thread::sleep(Duration::from_millis(500));
        drop(all);
    }
    Ok(())
}

fn slow(address: SocketAddr, over: &Over) -> Result<()> {
    let open = || -> Result<TcpStream> {
        let mut stream = TcpStream::connect(address).context("a connection is refused")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX-").context("nothing can be sent")?;
        Ok(stream)
    };
    let mut all = (0..SLOW).map(|_| open()).collect::<Result<Vec<_>>>()?;
    while !over.is_so() {
        for stream in &mut all {
            // One that was turned out comes again.
            if stream.write_all(b"x").is_err() {
                *stream = open()?;
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn long_heads(address: SocketAddr, over: &Over) -> Result<()> {
    let head = [b"GET /metrics HTTP/1.1\r\nX-Long: ".as_slice(), &vec![b'a'; LONG]].concat();
    for _ in 0..LONG_HEADS {
        if over.is_so() {
            break;
        }
        let mut stream = TcpStream::connect(address).context("a connection is refused")?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).context("no time limit")?;
        let sent = stream.write_all(&head).and_then(|()| stream.write_all(b"\r\n\r\n"));
        let mut answer = Vec::new();
        // Refused while it is sent, by an answer or by a reset that overtakes it.
        let told = stream.read_to_end(&mut answer);
        ensure!(
            answer.starts_with(b"HTTP/1.1 431") || sent.is_err() || told.is_err(),
            "a head of {LONG} bytes was taken: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(())
}

/// Asks for what there is not, and counts how often it was told so.
fn nonsense(address: SocketAddr, over: &Over, refused: &AtomicUsize) -> Result<()> {
    for number in 0..NONSENSE {
        if over.is_so() {
            break;
        }
        let answer = http::get(address, &format!("/nonsense/{number}"), "*/*")?;
        ensure!(answer.status == 404, "/nonsense/{number} has status {}", answer.status);
        refused.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
