//! A slow path to the clients: the handshake takes longer, and the wait for accept() does
//! not. Once by clients that answer late, once by a network that delivers late.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Socket, Type};

use super::waits::WAIT;
use crate::{
    bench::{Bench, Case, Held, Target},
    histogram::{Histogram, Spans},
    ledger::{Checks, Reading},
    load, modules, netem,
    netns::Netns,
    raw::Wire,
    scale::Stopwatch,
    sockets::{self, Family, Listener},
};

/// From the SYN-ACK to the accept queue.
pub(super) const HANDSHAKE: &str = "tcpq_handshake_seconds";

pub(super) const CASES: &[Case] = &[
    Case::new(
        "path_delay_late_ack",
        late_ack,
        Held::NotOn(&[Target::Host], "the tracepoint backend tells no times"),
    ),
    Case::new(
        "path_delay_netem",
        late_network,
        Held::NotOn(
            &[Target::Host, Target::V7_1],
            "the host's tracepoint backend tells no times, and Debian has removed the modules \
             of 7.1 from its archive",
        ),
    ),
];

/// Between a client and the listener, one way.
const DELAY: Duration = Duration::from_millis(200);
const CLIENTS: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// What happened at one listener.
struct Played {
    what: &'static str,
    listener: SocketAddr,
    handshakes: Spans,
    waits: Spans,
}

impl Played {
    fn new(what: &'static str, listener: &Listener) -> Self {
        let listener = listener.address();
        Self { what, listener, handshakes: Spans::default(), waits: Spans::default() }
    }

    /// Accepts whoever comes, as soon as it comes, until all have come. Of each it is known
    /// when its SYN-ACK was sent, and when its final ACK: at the earliest and latest.
    fn accept(&mut self, listener: &Listener, sent: &[Sent]) -> Result<()> {
        let start = Instant::now();
        let mut left: Vec<_> = sent.iter().collect();
        let mut looked = sent.iter().map(|sent| sent.ack).min().context("no client")?;
        while !left.is_empty() {
            let looking = Instant::now();
            let Some((connection, peer)) = listener.accept_from()? else {
                looked = looking;
                ensure!(start.elapsed() < PATIENCE, "{} clients do not come", left.len());
                thread::yield_now();
                continue;
            };
            let now = Instant::now();
            sockets::end(&connection)?;
            let at = left.iter().position(|sent| sent.client == peer);
            let sent = left.remove(at.context("an unknown client")?);
            self.handshakes
                .add(sent.ack.saturating_duration_since(sent.syn_ack.1), now - sent.syn_ack.0);
            // It came after the queue was last seen empty.
            self.waits.add(Duration::ZERO, now - looked.max(sent.ack));
        }
        Ok(())
    }
}

/// A client's handshake, as far as the test knows.
struct Sent {
    client: SocketAddr,
    /// The SYN-ACK is not sent before the first; the second is not too early for `ack`.
    syn_ack: (Instant, Instant),
    /// The final ACK does not arrive before, if the SYN-ACK was sent at `syn_ack.1`.
    ack: Instant,
}

fn late_ack(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let wire = Wire::new(&netns)?;
    let open = || Listener::open(&netns, Family::V4.loopback(), 64);
    let (near, far) = (open()?, open()?);
    let start = Reading::take(&netns, &daemon)?;

    let play = |what, listener: &Listener, delay| -> Result<Played> {
        let mut played = Played::new(what, listener);
        let mut peers = Vec::new();
        for _ in 0..CLIENTS {
            let mut peer = wire.peer(listener.address());
            let before = Instant::now();
            peer.syn()?;
            peer.answered()?;
            peers.push((peer, (before, Instant::now())));
        }
        thread::sleep(delay);
        let mut sent = Vec::new();
        for (peer, syn_ack) in peers {
            sent.push(Sent { client: peer.address(), syn_ack, ack: Instant::now() });
            peer.ack()?;
        }
        played.accept(listener, &sent)?;
        Ok(played)
    };
    let played = [play("at once", &near, Duration::ZERO)?, play("200 ms later", &far, DELAY)?];

    let end = Reading::take(&netns, &daemon)?;
    end.agrees_since(&start)?;
    judge(&netns, &end, &played, DELAY, &watch)
}

fn late_network(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    modules::load("sch_netem")?;
    let netns = Netns::new()?;
    let daemon = bench.daemon()?;
    let open = || Listener::open(&netns, Family::V4.loopback(), 64);
    let (near, far) = (open()?, open()?);
    let start = Reading::take(&netns, &daemon)?;

    let play = |what, listener: &Listener, delay| -> Result<Played> {
        let mut played = Played::new(what, listener);
        let clients: Vec<_> =
            netns.run(|| (0..CLIENTS).map(|_| begin(listener.address())).collect())?;
        let sent = clients.iter().map(|(socket, before)| {
            let client = socket.local_addr()?.as_socket().context("not IP")?;
            // The network is never early: the SYN-ACK is sent after one delay or more, and
            // the final ACK arrives two delays after that, or more.
            let syn_ack = *before + delay;
            Ok(Sent { client, syn_ack: (syn_ack, syn_ack), ack: syn_ack + delay * 2 })
        });
        played.accept(listener, &sent.collect::<Result<Vec<_>>>()?)?;
        Ok(played)
    };
    let at_once = play("at once", &near, Duration::ZERO)?;
    netem::delay_loopback(&netns, DELAY)?;
    let later = play("200 ms each way", &far, DELAY)?;

    let end = Reading::take(&netns, &daemon)?;
    end.agrees_since(&start)?;
    judge(&netns, &end, &[at_once, later], DELAY * 2, &watch)
}

/// Sends a SYN, and says before when.
fn begin(to: SocketAddr) -> Result<(Socket, Instant)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("cannot make a client")?;
    socket.set_nonblocking(true).context("cannot set a client non-blocking")?;
    let before = Instant::now();
    load::begin(&socket, to)?;
    Ok((socket, before))
}

/// The handshakes of the second listener, and only they, took longer by `longer`.
fn judge(
    netns: &Netns,
    end: &Reading,
    played: &[Played; 2],
    longer: Duration,
    watch: &Stopwatch,
) -> Result<()> {
    let mut checks = Checks::default();
    let mut means = Vec::new();
    for Played { what, listener, handshakes, waits } in played {
        for (family, spans) in [(HANDSHAKE, handshakes), (WAIT, waits)] {
            let histogram = Histogram::of(&end.metrics, family, &netns.label(), *listener)?;
            spans.hold(&format!("{family}, {what}"), histogram.as_ref(), &mut checks);
            means.push(histogram.map_or(f64::NAN, |it| it.sum / f64::from(CLIENTS)));
        }
    }
    checks.end()?;
    let &[near, near_wait, far, far_wait] = means.as_slice() else {
        unreachable!("two families of two listeners")
    };
    let longer = longer.as_secs_f64();
    // What was measured above is more exact. On a busy machine the clients that answer at once
    // are late, too: they all send their SYNs first.
    let mut checks = Checks::default();
    checks.hold(
        &format!("the handshakes took {near} s, and {far} s"),
        near < longer / 2.0 && (longer..longer * 2.0).contains(&far),
    );
    checks.hold(
        &format!("the waits took {near_wait} s, and {far_wait} s"),
        near_wait.max(far_wait) < longer / 2.0,
    );
    checks.end()?;
    watch.tell(&format!(
        "{CLIENTS} handshakes of {:.1} ms and {CLIENTS} of {:.1} ms; waits of {:.2} ms and \
         {:.2} ms",
        near * 1e3,
        far * 1e3,
        near_wait * 1e3,
        far_wait * 1e3
    ));
    Ok(())
}
