//! A real Prometheus that scrapes daemons of ours.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{daemon::Daemon, http, promtool, scratch::Scratch, wait};

/// What a Prometheus asks a daemon for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrapes {
    /// As it does by default.
    Text,
    /// For the sake of native histograms.
    Protobuf,
}

/// Whom it scrapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scraped {
    /// Where it is reached.
    pub address: SocketAddr,
    /// The label of that name; else it is the address.
    pub instance: Option<String>,
}

/// An alert that it has, as it tells.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    /// `pending` or `firing`.
    pub state: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its texts.
    pub annotations: BTreeMap<String, String>,
}

/// One that scrapes every second; ends when dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct AlertsAnswer {
    data: Alerts,
}

#[derive(Deserialize)]
struct Alerts {
    alerts: Vec<Alert>,
}

#[derive(Deserialize)]
struct Exemplars {
    data: Vec<ExemplarsOfSeries>,
}

#[derive(Deserialize)]
struct ExemplarsOfSeries {
    exemplars: Vec<Exemplar>,
}

#[derive(Deserialize)]
struct Exemplar {
    labels: BTreeMap<String, String>,
}

/// One series of an instant query's answer.
#[derive(Debug, Deserialize)]
pub struct Series {
    /// Its labels.
    pub metric: BTreeMap<String, String>,
    /// When, and what.
    value: Option<(f64, String)>,
}

impl Series {
    /// The value of a number.
    pub fn value(&self) -> Result<f64> {
        let (_, value) = self.value.as_ref().context("a series without a value")?;
        value.parse().with_context(|| format!("{value} is no number"))
    }
}

impl Prometheus {
    /// Starts one and waits until it can be asked.
    pub fn start(scratch: &Scratch, daemon: &Daemon, scrapes: Scrapes) -> Result<Self> {
        Self::start_with(scratch, daemon, scrapes, None)
    }

    /// As [`Prometheus::start`], with rules, and the Alertmanager it tells.
    pub fn start_alerting(
        scratch: &Scratch,
        daemon: &Daemon,
        rules: &str,
        alertmanager: SocketAddr,
    ) -> Result<Self> {
        Self::start_with(scratch, daemon, Scrapes::Text, Some((rules, alertmanager)))
    }

    /// Starts one that scrapes all these and evaluates rules, whose alerts it tells nobody.
    pub fn start_for(scratch: &Scratch, targets: &[Scraped], rules: &[&str]) -> Result<Self> {
        let directory = scratch.path().join("prometheus");
        fs::create_dir(&directory).context("cannot make a folder for Prometheus")?;
        let mut text = configuration(targets)?;
        writeln!(text, "rule_files: ['*.rules.yml']")?;
        for (number, rules) in rules.iter().enumerate() {
            fs::write(directory.join(format!("{number}.rules.yml")), rules)
                .context("cannot write the rules")?;
        }
        Self::launch(&directory, &text, Scrapes::Text)
    }

    fn start_with(
        scratch: &Scratch,
        daemon: &Daemon,
        scrapes: Scrapes,
        alerting: Option<(&str, SocketAddr)>,
    ) -> Result<Self> {
        let directory = scratch.path().join(format!("prometheus-{scrapes:?}"));
        fs::create_dir(&directory).context("cannot make a folder for Prometheus")?;
        let mut text = configuration(&[Scraped { address: daemon.address(), instance: None }])?;
        if let Some((rules, alertmanager)) = alerting {
            fs::write(directory.join("rules.yml"), rules).context("cannot write the rules")?;
            writeln!(text, "rule_files: [rules.yml]")?;
            writeln!(text, "alerting:\n  alertmanagers:\n    - static_configs:")?;
            writeln!(text, "        - targets: ['{alertmanager}']")?;
        }
        Self::launch(&directory, &text, scrapes)
    }

    fn launch(directory: &Path, configuration: &str, scrapes: Scrapes) -> Result<Self> {
        let address = free_address()?;
        let config = directory.join("prometheus.yml");
        fs::write(&config, configuration).context("cannot write a config")?;
        let log = File::create(directory.join("prometheus.log")).context("cannot make a log")?;
        let mut command = Command::new(promtool::program("TCPQ_PROMETHEUS")?);
        command
            .arg(flag("--config.file=", &config))
            .arg(flag("--storage.tsdb.path=", &directory.join("tsdb")))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command.arg(match scrapes {
            Scrapes::Text => "--enable-feature=exemplar-storage",
            Scrapes::Protobuf => "--enable-feature=native-histograms",
        });
        let child = command.spawn().context("cannot start Prometheus")?;
        let mut server = Self { child, address };
        wait::until_true("Prometheus is ready", Duration::from_mins(1), || {
            if let Some(status) = server.child.try_wait().context("cannot wait for Prometheus")? {
                bail!("Prometheus ended: {status}");
            }
            Ok(http::get(address, "/-/ready", "*/*").is_ok_and(|answer| answer.status == 200))
        })?;
        Ok(server)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks it, as of now.
    pub fn query(&self, query: &str) -> Result<Vec<Series>> {
        let path = format!("/api/v1/query?query={}", http::escape(query));
        let text = http::get_ok(self.address, &path, "application/json")?;
        let answer: Answer =
            serde_json::from_str(&text).with_context(|| format!("Prometheus answered {text}"))?;
        Ok(answer.data.result)
    }

    /// The exemplars that it has of these series, of the last hour: their labels.
    pub fn exemplars(&self, query: &str) -> Result<Vec<BTreeMap<String, String>>> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let path = format!(
            "/api/v1/query_exemplars?query={}&start={}&end={}",
            http::escape(query),
            now - 3600,
            now + 60
        );
        let text = http::get_ok(self.address, &path, "application/json")?;
        let answer: Exemplars =
            serde_json::from_str(&text).with_context(|| format!("Prometheus answered {text}"))?;
        let all = answer.data.into_iter().flat_map(|series| series.exemplars);
        Ok(all.map(|exemplar| exemplar.labels).collect())
    }

    /// The alerts that it has now.
    pub fn alerts(&self) -> Result<Vec<Alert>> {
        let text = http::get_ok(self.address, "/api/v1/alerts", "application/json")?;
        let answer: AlertsAnswer =
            serde_json::from_str(&text).with_context(|| format!("Prometheus answered {text}"))?;
        Ok(answer.data.alerts)
    }

    /// Asks it for one number.
    pub fn number(&self, query: &str) -> Result<Option<f64>> {
        self.query(query)?.first().map(Series::value).transpose()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its data is thrown away, so it need not be asked kindly.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("cannot end Prometheus: {error}");
        }
    }
}

fn configuration(targets: &[Scraped]) -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s"
    )?;
    writeln!(text, "scrape_configs:\n  - job_name: tcpq")?;
    writeln!(text, "    static_configs:")?;
    for Scraped { address, instance } in targets {
        writeln!(text, "      - targets: ['{address}']")?;
        if let Some(instance) = instance {
            writeln!(text, "        labels: {{instance: '{instance}'}}")?;
        }
    }
    Ok(text)
}

fn flag(name: &str, value: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(value);
    flag
}

fn free_address() -> Result<SocketAddr> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    probe.local_addr().context("no free port")
}
