//! Does each kernel get the hooks it must get, and does the daemon say so?

use std::{collections::BTreeMap, net::TcpStream, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{
    bench::{Bench, Case, Held, Target},
    daemon::Backend,
    expect::{self, Expected},
    ledger::Checks,
    netns::Netns,
    sockets::{Family, Listener},
    wait,
};

/// A handshake over loopback.
const QUEUED_WITHIN: Duration = Duration::from_secs(5);

/// Forcing a backend is asked of one kernel.
pub(super) const ON_6_12: Held =
    Held::Only(&[Target::V6_12], "6.12 stands for the kernels that have every backend");

pub(super) const CASES: &[Case] = &[
    Case::everywhere("plan_auto", |bench| plan(bench, Backend::Auto)),
    Case::new("plan_fentry", |bench| plan(bench, Backend::Fentry), ON_6_12),
    Case::new("plan_kprobe", |bench| plan(bench, Backend::Kprobe), ON_6_12),
    Case::new("plan_tracepoint", |bench| plan(bench, Backend::Tracepoint), ON_6_12),
    Case::everywhere("series_follow_plan", |bench| series(bench, Backend::Auto)),
    Case::new("series_follow_plan_tracepoint", |bench| series(bench, Backend::Tracepoint), ON_6_12),
];

#[derive(Deserialize)]
struct Doctor {
    kernel: Kernel,
    signals: Vec<Signal>,
}

#[derive(Deserialize)]
struct Kernel {
    release: String,
}

#[derive(Deserialize)]
struct Signal {
    #[serde(rename = "signal")]
    name: String,
    hook: String,
    backend: String,
    exactness: String,
    #[serde(default)]
    reason: Option<String>,
}

fn plan(bench: &Bench, backend: Backend) -> Result<()> {
    let expected = expectation(bench, backend)?;
    let doctor: Doctor = bench.run_json(&["doctor", "--json", "--backend", backend.flag()])?;

    let mut checks = Checks::default();
    let prefix = bench.target().release_prefix();
    let release = &doctor.kernel.release;
    checks.hold(&format!("kernel {release} is not a {prefix}"), release.starts_with(prefix));
    for expected in &expected {
        let signal = expected.signal;
        let Some(said) = doctor.signals.iter().find(|said| said.name == signal) else {
            checks.hold(&format!("doctor says nothing of {signal}"), false);
            continue;
        };
        let reason = said.reason.as_deref().unwrap_or_default();
        checks.hold(
            &format!(
                "{signal}: expected {} by {}, doctor says {} by {} ({}; {reason})",
                expected.exactness, expected.backend, said.exactness, said.backend, said.hook
            ),
            said.backend == expected.backend && said.exactness == expected.exactness,
        );
        checks.hold(
            &format!("{signal}: hook {:?} is not one of backend {}", said.hook, said.backend),
            hook_fits(&said.hook, &said.backend),
        );
        checks.hold(
            &format!("{signal} is {} without a reason", said.exactness),
            said.exactness == "exact" || !reason.is_empty(),
        );
    }
    for said in &doctor.signals {
        checks.hold(
            &format!("doctor knows a signal {:?} that no expectation is stated for", said.name),
            expected.iter().any(|expected| expected.signal == said.name),
        );
    }
    checks.end()
}

/// The hooks in force are those of the plan, an absent signal has no series, and
/// any other signal has one.
fn series(bench: &Bench, backend: Backend) -> Result<()> {
    let expected = expectation(bench, backend)?;
    let netns = Netns::new()?;
    let daemon = match backend {
        Backend::Auto => bench.daemon()?,
        forced => Arc::new(bench.daemon_with(forced)?),
    };
    let listener = Listener::open(&netns, Family::V4.loopback(), 4)?;
    let closed = leave_traces(&netns, &listener)?.to_string();
    let metrics = daemon.scrape()?;

    let said: BTreeMap<&str, (&str, &str)> = metrics
        .select("tcpq_hook_info", &[])
        .filter_map(|sample| {
            let label = |name: &str| sample.labels.get(name).map(String::as_str);
            Some((label("signal")?, (label("backend")?, label("exactness")?)))
        })
        .collect();
    let mut checks = Checks::default();
    let port = listener.address().port().to_string();
    let label = netns.label();
    for Expected { signal, backend, exactness } in expected {
        checks.hold(
            &format!(
                "tcpq_hook_info of {signal} is {:?}, not {exactness} by {backend}",
                said.get(signal)
            ),
            said.get(signal) == Some(&(backend, exactness)),
        );
        let (name, stage) = expect::series_of(signal).context("a signal without a series")?;
        // Only a listener that has closed has abandoned anything. A figure of the namespace
        // has no port.
        let port = if signal == "abandoned_wait" { &closed } else { &port };
        let port = (!name.starts_with("tcpq_netns_")).then_some(("port", port.as_str()));
        let labels: Vec<_> =
            [("netns", label.as_str())].into_iter().chain(port).chain(stage).collect();
        let present = metrics.select(name, &labels).next().is_some();
        checks.hold(
            &format!("{signal} is {exactness}, but its series is present: {present}"),
            present == (exactness != "absent"),
        );
    }
    checks.end()
}

/// A histogram is there when something was observed: one connection that is accepted, and one
/// that another listener abandons, whose port it had.
fn leave_traces(netns: &Netns, listener: &Listener) -> Result<u16> {
    let closing = Listener::open(netns, Family::V4.loopback(), 4)?;
    for queue in [listener, &closing] {
        let client = netns.run(|| TcpStream::connect(queue.address()).context("connect()"))?;
        wait::until_true("a connection is queued", QUEUED_WITHIN, || {
            Ok(queue.accept_queue()?.length == 1)
        })?;
        drop(client);
    }
    anyhow::ensure!(listener.accept_all()? == 1, "one connection was to be accepted");
    Ok(closing.address().port())
}

fn expectation(bench: &Bench, backend: Backend) -> Result<Vec<Expected>> {
    expect::plan(bench.target(), backend)
        .with_context(|| format!("no plan is stated for --backend {}", backend.flag()))
}

/// A hook is written `kind:function`. A signal may rest on several, and on fields
/// of the socket, which have no kind: `tp_btf:a + sk_drops`. The backend is that of
/// at least one.
fn hook_fits(hook: &str, backend: &str) -> bool {
    let kinds: &[&str] = match backend {
        "none" => return hook.is_empty(),
        "fentry" => &["fentry", "fexit"],
        "kprobe" => &["kprobe", "kretprobe"],
        "tracepoint" => &["tp_btf", "raw_tp"],
        "iterator" => &["iter"],
        "test_run" => &["test_run"],
        _ => return false,
    };
    hook.split(' ').filter_map(|part| part.split_once(':')).any(|(kind, _)| kinds.contains(&kind))
}
