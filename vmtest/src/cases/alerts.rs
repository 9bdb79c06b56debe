//! The rules that are shipped, by Prometheus's own tests of rules.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    alertmanager::{Alertmanager, Webhook},
    bench::{Bench, Case, Held, Target},
    load,
    netns::Netns,
    prometheus::Prometheus,
    promtool::program,
    puppet::Puppet,
    rules,
    sockets::Family,
    wait,
};

/// Until an alert, or its end, has gone all the way.
const SOON: Duration = Duration::from_mins(2);

pub(super) const CASES: &[Case] = &[
    Case::new("alert_rules_fire_and_do_not", tests_of_rules, ON_HOST),
    Case::new("an_overflow_pages_and_resolves", pages, ON_HOST),
];

const ON_HOST: Held =
    Held::Only(&[Target::Host], "a guest has no Prometheus; alerts do not depend on the kernel");

const ALERTMANAGER: &str = include_str!("../../../deploy/alertmanager/alertmanager.yml");

macro_rules! shipped {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../../../deploy/prometheus/", $name)))),*]
    };
}

/// Not Kubernetes' and Consul's: Debian's promtool is built without them.
const SHIPPED: [(&str, &str); 9] = shipped![
    "tcpq.rules.yml",
    "tcpq.rules.test.yml",
    "tcpq.fleet.rules.yml",
    "tcpq.fleet.rules.test.yml",
    "scrape-static.yml",
    "scrape-file-sd.yml",
    "scrape-dns.yml",
    "scrape-federate.yml",
    "targets/tcpq.yml"
];

fn tests_of_rules(bench: &Bench) -> Result<()> {
    let folder = bench.scratch().path();
    fs::create_dir_all(folder.join("targets")).context("cannot make a folder")?;
    for (name, text) in SHIPPED {
        fs::write(folder.join(name), text).context("cannot write the rules")?;
    }
    for arguments in [
        ["check", "rules", "tcpq.rules.yml"],
        ["check", "rules", "tcpq.fleet.rules.yml"],
        ["test", "rules", "tcpq.rules.test.yml"],
        ["test", "rules", "tcpq.fleet.rules.test.yml"],
        ["check", "config", "scrape-static.yml"],
        ["check", "config", "scrape-file-sd.yml"],
        ["check", "config", "scrape-dns.yml"],
        ["check", "config", "scrape-federate.yml"],
    ] {
        let mut command = Command::new(program("TCPQ_PROMTOOL")?);
        command.args(arguments).current_dir(folder);
        let finished = bench.finish(command)?;
        ensure!(finished.code == Some(0), "{arguments:?}: {finished:?}");
    }
    Ok(())
}

/// The Alertmanager's configuration, telling this webhook and not waiting for more.
fn told(webhook: &Webhook) -> Result<String> {
    let mut text = ALERTMANAGER.to_owned();
    for (shipped, here) in [
        ("http://127.0.0.1:9095/", format!("http://{}/", webhook.address())),
        ("group_wait: 30s", "group_wait: 1s".to_owned()),
        ("group_interval: 5m", "group_interval: 2s".to_owned()),
    ] {
        ensure!(text.contains(shipped), "the configuration has no {shipped} any more");
        text = text.replace(shipped, &here);
    }
    Ok(text)
}

/// An overflow on a listener reaches the one on call, with the listener's and its owner's name,
/// and so does its end.
fn pages(bench: &Bench) -> Result<()> {
    let webhook = Webhook::open()?;
    let alertmanager = Alertmanager::start(bench.scratch().path(), &told(&webhook)?)?;
    let daemon = bench.fresh_daemon()?;
    let rules = rules::hasty_alerts()?;
    let _prometheus =
        Prometheus::start_alerting(bench.scratch(), &daemon, &rules, alertmanager.address())?;
    let netns = Netns::new()?;
    let mut puppet = Puppet::stage().netns(&netns).start()?.with_name(b"checkout")?;
    let address = puppet.listen(Family::V4.loopback_at(8_443), 4)?;
    // Nobody accepts: the queue fills, and the rest is refused.
    let page = wait::until("somebody is paged", SOON, || {
        load::syns(&netns, address, 5)?;
        std::thread::sleep(Duration::from_millis(300));
        let firing = webhook.heard().into_iter().find(|it| {
            it.status == "firing"
                && it.alerts.iter().any(|it| it.labels["alertname"] == "TcpqAcceptQueueOverflow")
        });
        Ok(firing)
    })?;
    let alerts = page.alerts.iter().filter(|it| it.labels["severity"] == "critical");
    let [alert] = alerts
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|all| anyhow::anyhow!("not one critical alert: {all:?}"))?;
    ensure!(alert.labels["port"] == "8443" && alert.labels["address"] == "127.0.0.1", "{alert:?}");
    let text = &alert.annotations["description"];
    ensure!(text.contains("Owner: checkout"), "the owner is not named: {text}");
    println!("{}\n{text}", alert.annotations["summary"]);
    wait::until("the end is told", SOON, || {
        let resolved = webhook.heard().into_iter().any(|it| {
            it.status == "resolved" && it.alerts.iter().any(|it| it.labels["port"] == "8443")
        });
        Ok(resolved.then_some(()))
    })?;
    puppet.stop()
}
