//! All hosts of a fleet as one Prometheus shows them, with the rules that are shipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::{Failed, Trial};

use super::{
    SHOP,
    hosts::{Host, Role},
    shop,
};
use crate::{
    daemon::Backend,
    expect, http,
    ledger::Checks,
    prometheus::{Alert, Prometheus, Scraped},
    rules,
    scratch::Scratch,
    wait,
};

/// Until what is scraped has become a record, or an alert.
const SOON: Duration = Duration::from_mins(1);
/// For all of it, so that nobody has to end this program, and Prometheus would be left.
const ALL: Duration = Duration::from_mins(6);

/// The alert that a fleet is watched for.
const OVERFLOW: &str = "TcpqAcceptQueueOverflow";

/// All hosts, and the Prometheus that has them.
struct View {
    hosts: Vec<Host>,
    prometheus: Prometheus,
    _scratch: Scratch,
    end: Instant,
}

/// What is asked of a fleet, in this order: what comes later needs what was before.
pub fn trials() -> Result<Vec<Trial>> {
    let view = Arc::new(View::open()?);
    let trial = |name: &str, hold: fn(&View) -> Result<()>| {
        let view = Arc::clone(&view);
        Trial::test(name, move || hold(&view).map_err(|error| Failed::from(format!("{error:#}"))))
    };
    Ok(vec![
        trial("every_host_is_up", View::is_up),
        trial("every_kernel_has_its_hooks", View::has_hooks),
        trial("only_metrics_are_told_to_others", View::tells_metrics_only),
        trial("one_view_has_every_host", View::is_one),
        trial("one_alert_names_host_listener_and_owner", View::alerts),
        trial("no_other_host_has_alerted", View::has_alerted_once),
    ])
}

impl View {
    fn open() -> Result<Self> {
        let hosts = Host::from_env()?;
        let scratch = Scratch::new()?;
        let scraped =
            |host: &Host| Scraped { address: host.address, instance: Some(host.instance()) };
        let scraped: Vec<_> = hosts.iter().map(scraped).collect();
        let rules = [rules::hasty_alerts()?, rules::hasty_fleet()?];
        let prometheus = Prometheus::start_for(&scratch, &scraped, &[&rules[0], &rules[1]])?;
        Ok(Self { hosts, prometheus, _scratch: scratch, end: Instant::now() + ALL })
    }

    fn is_up(&self) -> Result<()> {
        self.wait("every host is up", || {
            Ok(self.instances("up == 1")? == self.all() && self.instances("up")? == self.all())
        })
    }

    /// Each by itself: a kernel's release is in no metric, what it can tell is.
    fn has_hooks(&self) -> Result<()> {
        let mut checks = Checks::default();
        for host in &self.hosts {
            let query = format!("tcpq_hook_info{{instance=\"{}\"}}", host.instance());
            let said = self.prometheus.query(&query)?;
            let plan = expect::plan(host.target, Backend::Auto).context("no plan is stated")?;
            checks.equal(&format!("signals of {}", host.instance()), count(&said), count(&plan));
            for expected in plan {
                let is_it = |metric: &BTreeMap<String, String>| {
                    metric["signal"] == expected.signal
                        && metric["backend"] == expected.backend
                        && metric["exactness"] == expected.exactness
                };
                checks.hold(
                    &format!("{} does not have {expected:?}", host.instance()),
                    said.iter().any(|series| is_it(&series.metric)),
                );
            }
        }
        checks.end()
    }

    /// Of the API they learn that it is not for them.
    fn tells_metrics_only(&self) -> Result<()> {
        for host in &self.hosts {
            let answer = http::get(host.address, "/api/v1/listeners", "*/*")?;
            ensure!(answer.status == 403, "{} answered {}", host.instance(), answer.status);
        }
        Ok(())
    }

    /// Records of each host are there for all, and those of trouble for the one that has it.
    fn is_one(&self) -> Result<()> {
        let troubled = self.troubled();
        for (query, instances) in [
            ("instance:tcpq_listeners:count >= 2", self.all()),
            ("instance:tcpq_accept_queue_enqueued:rate5m", self.all()),
            ("instance:tcpq_accept_queue_fill:max", self.all()),
            ("instance:tcpq_accept_queue_fill:max == 1", troubled.clone()),
            ("instance:tcpq_listeners_overflowing:count == 1", troubled.clone()),
            ("instance:tcpq_accept_queue_overflows:ratio_rate5m > 0.9", troubled.clone()),
            ("instance:tcpq_process_cpu_seconds:rate5m", self.all()),
        ] {
            self.wait(query, || Ok(self.instances(query)? == instances))?;
        }
        self.tell()?;
        let hosts = f64::from(u32::try_from(self.hosts.len())?);
        let owner = format!("{{process=\"{SHOP}\"}}");
        for (query, value) in [
            ("sum(job:tcpq_build_info:count)".to_owned(), hosts),
            (format!("count(count by (instance) (tcpq_listener_info{owner}))"), hosts),
            (format!("count(owner:tcpq_accept_queue_overflows:rate5m{owner} > 0)"), 1.0),
        ] {
            self.wait(&query, || {
                // They are counts: whole and small.
                Ok(self.prometheus.number(&query)?.is_some_and(|it| (it - value).abs() < 0.1))
            })?;
        }
        Ok(())
    }

    /// A line for each host, of what the records have.
    fn tell(&self) -> Result<()> {
        for host in self.all() {
            let record = |name: &str| -> Result<f64> {
                let query = format!("instance:{name}{{instance=\"{host}\"}}");
                Ok(self.prometheus.number(&query)?.unwrap_or_default())
            };
            println!(
                "    {host}: {} listeners, {:.1} connections/s, {:.1} % refused",
                record("tcpq_listeners:count")?,
                record("tcpq_accept_queue_enqueued:rate5m")?,
                100.0 * record("tcpq_accept_queue_overflows:ratio_rate5m")?,
            );
        }
        Ok(())
    }

    fn alerts(&self) -> Result<()> {
        let alert = wait::until("an alert fires", self.soon(), || {
            let mut alerts = self.prometheus.alerts()?.into_iter();
            Ok(alerts.find(|it| it.state == "firing" && it.labels["alertname"] == OVERFLOW))
        })?;
        let Alert { labels, annotations, .. } = &alert;
        ensure!(self.troubled() == BTreeSet::from([labels["instance"].clone()]), "{labels:?}");
        let listener = shop();
        for (label, value) in [
            ("severity", "critical".to_owned()),
            ("netns", "host".to_owned()),
            ("address", listener.ip().to_string()),
            ("port", listener.port().to_string()),
        ] {
            ensure!(labels[label] == value, "{label} is not {value}: {labels:?}");
        }
        let text = &annotations["description"];
        ensure!(text.contains(&format!("Owner: {SHOP}")), "the owner is not named: {text}");
        println!("    {}", annotations["summary"]);
        println!("    {text}");
        Ok(())
    }

    /// Also not for a moment: asked once the one has fired for a while, of all that was before.
    fn has_alerted_once(&self) -> Result<()> {
        let fired = "count_over_time(ALERTS{alertstate=\"firing\"}[10m])";
        self.wait("the alert has fired for a while", || {
            let long = format!("{fired} > 15");
            Ok(self.instances(&long)? == self.troubled())
        })?;
        let all = self.prometheus.query(fired)?;
        let [one] = all.as_slice() else {
            bail!("not one alert: {all:?}");
        };
        ensure!(one.metric["alertname"] == OVERFLOW, "another alert: {one:?}");
        Ok(())
    }

    fn wait(&self, what: &str, look: impl FnMut() -> Result<bool>) -> Result<()> {
        wait::until_true(what, self.soon(), look)
    }

    fn soon(&self) -> Duration {
        SOON.min(self.end.saturating_duration_since(Instant::now()))
    }

    fn all(&self) -> BTreeSet<String> {
        self.hosts.iter().map(|host| host.instance()).collect()
    }

    fn troubled(&self) -> BTreeSet<String> {
        let troubled = self.hosts.iter().filter(|host| host.role == Role::Overflowing);
        troubled.map(|host| host.instance()).collect()
    }

    /// Of which hosts a query finds something.
    fn instances(&self, query: &str) -> Result<BTreeSet<String>> {
        let found = self.prometheus.query(query)?;
        Ok(found.into_iter().filter_map(|mut it| it.metric.remove("instance")).collect())
    }
}

fn count<T>(all: &[T]) -> u64 {
    u64::try_from(all.len()).unwrap_or(u64::MAX)
}
