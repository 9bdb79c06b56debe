//! What a server serves, with nobody watching, with tcpq, and with a tool of others: nginx,
//! and wrk with a new connection for each request.
//!
//! The cases take turns, forwards and backwards by turns, on one server that goes on. For each
//! of its turns a tool is started, waited for and ended: what is not running is not attached.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Options,
    peers::{self, Peer},
    say,
};
use crate::{
    daemon::{self, Launch},
    figures::Figures,
    helper::Home,
    netns::Netns,
    promtool,
    scratch::Scratch,
    servers::{Opening, Place, Program, Server},
    sockets,
};

/// For what an end leaves to be done.
const SETTLE: Duration = Duration::from_millis(500);

struct Settings {
    rounds: u32,
    seconds: u32,
    /// How many clients there are at any time.
    clients: u32,
    peers: Vec<&'static Peer>,
}

pub(super) fn run(options: &mut Options) -> Result<()> {
    let settings = Settings {
        rounds: options.take("rounds", 10)?,
        seconds: options.take("seconds", 2)?,
        clients: options.take("clients", 32)?,
        peers: peers::of_names(&options.take("peers", String::new())?)?,
    };
    options.end()?;
    let scratch = Scratch::new()?;
    let netns = Netns::new()?;
    let address = sockets::free_address(&netns, Ipv4Addr::LOCALHOST.into())?;
    let place =
        Place { netns: &netns, address, home: Home::SamePidNamespace, opening: Opening::ByServer };
    let _server = Server::start("nginx", Program::NginxBrief, place, &scratch)?;
    let stage = Stage { settings, scratch, netns, address };

    let mut cases = vec![Case::Nothing, Case::Tcpq];
    cases.extend(stage.settings.peers.iter().map(|peer| Case::Peer(peer)));
    stage.load()?;
    for round in 1..=stage.settings.rounds {
        println!("round {round} of {}", stage.settings.rounds);
        for case in &cases {
            let served = stage.measure(case);
            let served =
                served.with_context(|| format!("{}\n{}", case.name(), stage.scratch.logs()))?;
            say(case.name(), "connections_per_second", round, served.per_second);
            say(case.name(), "p99_ms", round, served.p99_ms);
        }
        cases.reverse();
    }
    Ok(())
}

enum Case {
    Nothing,
    Tcpq,
    Peer(&'static Peer),
}

impl Case {
    fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Tcpq => "tcpq",
            Self::Peer(peer) => peer.name,
        }
    }
}

struct Stage {
    settings: Settings,
    scratch: Scratch,
    netns: Netns,
    address: SocketAddr,
}

impl Stage {
    fn measure(&self, case: &Case) -> Result<Served> {
        match case {
            Case::Nothing => {
                thread::sleep(SETTLE);
                self.load()
            }
            Case::Tcpq => {
                let daemon = Launch::new(&daemon::binary()?, &self.scratch)?.start()?;
                thread::sleep(SETTLE);
                let served = self.load()?;
                let metrics = daemon.scrape()?;
                let figures = Figures::of(&metrics, &self.netns.label(), self.address)?;
                let seen = figures.accepts.context("tcpq tells of no accepts")?;
                ensure!(
                    seen >= served.requests,
                    "tcpq saw {seen} of {} connections",
                    served.requests
                );
                Ok(served)
            }
            Case::Peer(peer) => {
                let mut running = peer.start(&self.scratch)?;
                thread::sleep(SETTLE);
                let served = self.load()?;
                running.still_run()?;
                Ok(served)
            }
        }
    }

    /// Has wrk load the server.
    fn load(&self) -> Result<Served> {
        let mut wrk = Command::new(promtool::program("TCPQ_WRK")?);
        let Settings { seconds, clients, .. } = self.settings;
        wrk.args(["--threads", "1", "--latency", "--timeout", "20s"])
            .args(["--connections", &clients.to_string(), "--duration", &format!("{seconds}s")])
            .args(["--header", "Connection: close", &format!("http://{}/", self.address)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = self.netns.run(|| wrk.spawn().context("cannot start wrk"))?;
        let output = child.wait_with_output().context("cannot wait for wrk")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk: {}: {said}", output.status);
        Served::parse(&said)
    }
}

/// What wrk says it was served.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Served {
    requests: u64,
    per_second: f64,
    /// Of the times from a request, which is written as soon as the kernel has shaken hands,
    /// to the end of its answer: the wait for accept() is in it.
    p99_ms: f64,
}

impl Served {
    fn parse(said: &str) -> Result<Self> {
        if let Some(errors) = said.lines().find(|line| line.contains("errors:")) {
            bail!("wrk: {}", errors.trim());
        }
        let after = |prefix: &str| {
            let mut lines = said.lines().map(str::trim);
            let found = lines.find_map(|line| line.strip_prefix(prefix));
            found.map(str::trim).with_context(|| format!("wrk says no {prefix:?}: {said}"))
        };
        let mut lines = said.lines().map(str::trim);
        let requests = lines.find_map(|line| line.split_once(" requests in "));
        let (requests, _) = requests.with_context(|| format!("no requests: {said}"))?;
        Ok(Self {
            requests: requests.parse().context("a number of requests")?,
            per_second: after("Requests/sec:")?.parse().context("a rate of requests")?,
            p99_ms: milliseconds(after("99%")?)?,
        })
    }
}

/// wrk gives `812.00us`, `1.23ms`, `4.56s`.
fn milliseconds(text: &str) -> Result<f64> {
    // The unit that is the end of another comes last.
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
    let found = units.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, ms)));
    let (number, ms) = found.with_context(|| format!("{text} is no time"))?;
    Ok(number.parse::<f64>().with_context(|| format!("{text} is no time"))? * ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 2s test @ http://127.0.0.1:80/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.05ms  313.44us  10.21ms   92.50%
    Req/Sec    12.11k   812.35    13.37k    75.00%
  Latency Distribution
     50%    1.02ms
     99%  812.50us
  24100 requests in 2.00s, 2.41MB read
Requests/sec:  12047.31
Transfer/sec:      1.20MB
";

    #[test]
    fn what_wrk_says_is_read() {
        let served = Served { requests: 24_100, per_second: 12_047.31, p99_ms: 0.8125 };
        assert_eq!(Served::parse(SAID).unwrap(), served);
        let errors = format!("{SAID}  Socket errors: connect 0, read 3, write 0, timeout 0\n");
        assert!(Served::parse(&errors).unwrap_err().to_string().contains("read 3"));
        assert!(Served::parse("unable to connect").is_err());
    }

    #[test]
    fn times_have_units() {
        assert!((milliseconds("1.50s").unwrap() - 1500.0).abs() < 1e-9);
        assert!((milliseconds("2.00ms").unwrap() - 2.0).abs() < 1e-9);
        assert!(milliseconds("2.00m").is_err());
    }
}
