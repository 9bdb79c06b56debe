//! Every query of the dashboards that are shipped, asked of a real Prometheus that scrapes a
//! listener in trouble: each is understood, and finds what it is about.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, SocketAddrV4},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::{
    bench::{Bench, Case, Held, Target},
    flood::Flood,
    load,
    netns::Netns,
    prometheus::Prometheus,
    puppet::Puppet,
    sockets::Family,
    wait,
};

pub(super) const CASES: &[Case] = &[Case::new(
    "dashboards_show_what_there_is",
    dashboards,
    Held::Only(&[Target::V6_12], "one guest has a Prometheus, and a kernel that tells everything"),
)];

const BOARDS: [(&str, &str); 4] = [
    ("fleet", include_str!("../../../deploy/grafana/tcpq-fleet.json")),
    ("host", include_str!("../../../deploy/grafana/tcpq-host.json")),
    ("listener", include_str!("../../../deploy/grafana/tcpq-listener.json")),
    ("incident", include_str!("../../../deploy/grafana/tcpq-incident.json")),
];

const RULES: &str = include_str!("../../../deploy/prometheus/tcpq.rules.yml");
const FLEET: &str = include_str!("../../../deploy/prometheus/tcpq.fleet.rules.yml");

/// Panels of what did not happen here.
const EMPTY: &[(&str, &[&str])] = &[
    (
        "fleet",
        &[
            "Down hosts",
            "Out of files",
            "Signals that a kernel does not tell",
            "Audit difference",
            "Lost counts",
            "Incidents not stored",
            "Late readings",
        ],
    ),
    ("host", &["Abandoned connections", "Clipped backlogs"]),
    ("listener", &["Abandoned connections"]),
    (
        "incident",
        &[
            "Overflows of listeners without an incident",
            "Ended, by verdict",
            "Ended in the hour before, by verdict",
            "Hosts by ended incidents",
            "Readings without room",
        ],
    ),
];

const SOON: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
struct Board {
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
struct Panel {
    title: String,
    #[serde(default)]
    targets: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    expr: String,
}

/// What a dashboard's variables stand for, the longer names first.
struct Variables([(&'static str, String); 7]);

impl Variables {
    fn of(instance: SocketAddr, netns: &Netns, listener: SocketAddr) -> Self {
        Self([
            ("$__rate_interval", "2m".to_owned()),
            ("$__range", "1m".to_owned()),
            ("$instance", instance.to_string()),
            ("$address", listener.ip().to_string()),
            ("$netns", netns.label()),
            ("$port", listener.port().to_string()),
            ("$job", ".*tcpq.*".to_owned()),
        ])
    }

    fn put_into(&self, expression: &str) -> Result<String> {
        let mut text = expression.to_owned();
        for (name, value) in &self.0 {
            text = text.replace(name, value);
        }
        ensure!(!text.contains('$'), "a variable that no test knows: {text}");
        Ok(text)
    }
}

fn dashboards(bench: &Bench) -> Result<()> {
    let daemon = bench.launch()?.env("TCPQ_COLLECTOR_BPF_STATS", "true").start()?;
    let nobody: SocketAddr = ([127, 0, 0, 1], 1).into();
    let fleet =
        FLEET.strip_prefix("groups:").or_else(|| FLEET.split_once("\ngroups:").map(|it| it.1));
    let rules = format!("{RULES}{}", fleet.context("rules without groups")?);
    // As often as the scrapes: 1 s.
    let prometheus = Prometheus::start_alerting(bench.scratch(), &daemon, &rules, nobody)?;

    let netns = Netns::new()?;
    let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(b"till")?;
    let address = puppet.listen(Family::V4.loopback_at(8_446), 16)?;
    puppet.serve()?;
    // What a counter has at its first scrape is no rate.
    let cookies = format!("tcpq_syn_cookies_sent_total{{port=\"{}\"}}", address.port());
    wait::until_true("Prometheus knows the listener", SOON, || {
        Ok(prometheus.number(&cookies)? == Some(0.0))
    })?;
    trouble(&netns, &puppet, address)?;
    let variables = Variables::of(daemon.address(), &netns, address);
    // One reading of it is not yet a rate.
    wait::until_true("there is an incident to show", SOON, || {
        load::syns(&netns, address, 20)?;
        Ok(prometheus
            .number("sum(instance:tcpq_incidents_active:count)")?
            .is_some_and(|it| it > 0.0))
    })?;
    let mut missing = BTreeSet::new();
    for attempt in 0..10 {
        missing = ask(&prometheus, &variables)?;
        if missing.is_empty() {
            println!("{attempt} s");
            puppet.signal(libc::SIGCONT)?;
            return puppet.stop();
        }
        load::syns(&netns, address, 20)?;
        thread::sleep(Duration::from_secs(1));
    }
    bail!("nothing to show: {missing:#?}")
}

/// Connections that are served, SYNs beyond the SYN queue, and then nobody accepts.
fn trouble(netns: &Netns, puppet: &Puppet, address: SocketAddr) -> Result<()> {
    let SocketAddr::V4(v4) = address else { bail!("{address} is not IPv4") };
    let mut flood = Flood::new(netns, SocketAddrV4::new(*v4.ip(), v4.port()))?;
    for _ in 0..5 {
        load::syns(netns, address, 10)?;
        flood.send(200)?;
        thread::sleep(Duration::from_secs(1));
    }
    puppet.signal(libc::SIGSTOP)?;
    load::syns(netns, address, 60)?;
    thread::sleep(Duration::from_secs(2));
    puppet.signal(libc::SIGCONT)?;
    thread::sleep(Duration::from_secs(2));
    puppet.signal(libc::SIGSTOP)
}

/// Asks everything; what had no answer, without the panels that have none here.
fn ask(prometheus: &Prometheus, variables: &Variables) -> Result<BTreeSet<String>> {
    let mut missing = BTreeSet::new();
    for (name, text) in BOARDS {
        let board: Board =
            serde_json::from_str(text).with_context(|| format!("no JSON: {name}"))?;
        let empty = EMPTY.iter().find(|(board, _)| *board == name).map_or(&[][..], |it| it.1);
        for title in empty {
            let known = board.panels.iter().any(|panel| panel.title == *title);
            ensure!(known, "{name} has no panel {title:?} any more");
        }
        for panel in &board.panels {
            for question in &panel.targets {
                let query = variables.put_into(&question.expr)?;
                let answer = prometheus.query(&query);
                let answer = answer.with_context(|| format!("{name}, {}: {query}", panel.title))?;
                if answer.is_empty() && !empty.contains(&panel.title.as_str()) {
                    missing.insert(format!("{name}, {}: {query}", panel.title));
                }
            }
        }
    }
    Ok(missing)
}
