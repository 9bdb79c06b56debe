//! More listeners than anybody wants series of: those on ephemeral ports are one group,
//! those beyond the limit are another, and both are counted.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use crate::{
    bench::{Bench, Case, Target},
    claims::{self, BY_A_WALK, Listeners},
    daemon::Daemon,
    exposition::Metrics,
    ledger::Checks,
    netns::Netns,
    promtool,
    puppet::Puppet,
    scale::{Scale, Stopwatch},
    sockets::Family,
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("many_ephemeral_are_one_group", folded).in_part_on(SOME),
    Case::everywhere("many_ephemeral_are_kept_on_demand", kept).in_part_on(SOME),
    Case::everywhere("many_beyond_the_limit_are_one_group", limited).in_part_on(SOME),
];

/// Each has a daemon of its own, which takes an emulated guest long to start; how series
/// are chosen does not depend on the kernel, but for where the range of ports is read.
const SOME: &[Target] = &[Target::Host, Target::V6_1];

/// On ports of their own, and on ephemeral ones.
const FIXED: u16 = 2_000;
const EPHEMERAL: u16 = 3_000;

/// The first of each.
const FIRST: u16 = 10_000;
const FIRST_EPHEMERAL: u16 = 40_000;

/// One process in a namespace of its own, with all of them.
struct Crowd {
    netns: Netns,
    label: String,
    fixed: u16,
    ephemeral: u16,
}

impl Crowd {
    fn new(bench: &Bench) -> Result<Self> {
        // A guest's processor is emulated; the host's takes all of them always.
        let scale = if bench.target() == Target::Host { Scale::Whole } else { Scale::from_env() };
        let netns = Netns::new()?;
        netns.set_sysctl("net.ipv4.ip_local_port_range", "32768 60999")?;
        let label = netns.label();
        let (fixed, ephemeral) =
            (scale.pick(FIXED / 10, FIXED), scale.pick(EPHEMERAL / 10, EPHEMERAL));
        Ok(Self { netns, label, fixed, ephemeral })
    }

    /// A daemon that cares for this namespace only: what else there is on the machine
    /// must not use up the limit, nor be counted.
    fn daemon(&self, bench: &Bench, settings: &[(&str, &str)]) -> Result<Daemon> {
        let launch = bench
            .launch()?
            .setting("--listener.max", 16_384)
            .setting("--listener.include", format!("netns:{}", self.label));
        settings.iter().fold(launch, |launch, (flag, value)| launch.setting(flag, value)).start()
    }

    fn open(&self) -> Result<Puppet> {
        let mut puppet = Puppet::stage().netns(&self.netns).start()?.with_name(b"crowd")?;
        puppet.listen_many(Family::V4.loopback_at(FIRST), self.fixed, 4)?;
        puppet.listen_many(Family::V4.loopback_at(FIRST_EPHEMERAL), self.ephemeral, 4)?;
        Ok(puppet)
    }
}

/// A group's address and port, as in the labels, and its sockets.
fn groups(metrics: &Metrics) -> Result<Vec<(String, String, String, u64)>> {
    metrics
        .select("tcpq_listener_sockets", &[])
        .map(|sample| {
            let label = |name: &str| sample.labels.get(name).cloned().context("a label is missing");
            Ok((label("netns")?, label("address")?, label("port")?, sample.count()?))
        })
        .collect()
}

fn count_folded(metrics: &Metrics, into: &str) -> Result<u64> {
    Ok(metrics.sum("tcpq_listeners_folded_total", &[("into", into)])?.unwrap_or(0))
}

/// Half of the way there before the daemon, half after: both are folded.
fn folded(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let crowd = Crowd::new(bench)?;
    let before = crowd.open()?;
    let daemon = crowd.daemon(bench, &[("--listener.max-groups", "4000")])?;
    tells_all(bench, &daemon, &crowd)?;
    drop(before);
    let _after = crowd.open()?;
    tells_all(bench, &daemon, &crowd)?;
    let metrics = daemon.scrape()?;
    let mut checks = Checks::default();
    // Those that have closed stay counted.
    checks.equal("folded", count_folded(&metrics, "ephemeral")?, 2 * u64::from(crowd.ephemeral));
    checks.nothing("beyond the limit", Some(count_folded(&metrics, "other")?));
    checks.end()?;
    watch.tell(&format!(
        "2 x {} listeners, {} of them on ephemeral ports",
        crowd.fixed + crowd.ephemeral,
        crowd.ephemeral
    ));
    Ok(())
}

/// One group for each fixed port, and one for all the others.
fn tells_all(bench: &Bench, daemon: &Daemon, crowd: &Crowd) -> Result<()> {
    let (fixed, ephemeral) = (u64::from(crowd.fixed), u64::from(crowd.ephemeral));
    claims::until_so(daemon, BY_A_WALK, |api, metrics, checks| {
        let groups = groups(metrics)?;
        checks.equal("groups", groups.len() as u64, fixed + 1);
        let expected =
            (crowd.label.clone(), "~crowd".to_owned(), "~ephemeral".to_owned(), ephemeral);
        checks.hold(
            &format!("no group {expected:?} among {:?}", folded_ones(&groups)),
            folded_ones(&groups) == [&expected],
        );
        checks.equal("sockets", groups.iter().map(|group| group.3).sum::<u64>(), fixed + ephemeral);
        let group = api.listeners.iter().find(|group| group.folded.is_some());
        checks.hold(
            &format!("the API has {group:?}"),
            group.is_some_and(|group| {
                group.folded.as_deref() == Some("ephemeral")
                    && group.port.is_none()
                    && group.sockets == ephemeral
                    && group.members.len() == 64
                    && group.members.iter().all(|member| member.port >= 32_768)
                    && matches!(&group.owners[..], [owner] if owner.process.as_deref() == Some("crowd"))
            }),
        );
        Ok(())
    })?;
    let watch = Stopwatch::start();
    let metrics = promtool::has_nothing_to_say(bench, daemon)?;
    let all = metrics.all().count();
    watch.tell(&format!("{all} series scraped and looked at"));
    Ok(())
}

fn folded_ones(groups: &[(String, String, String, u64)]) -> Vec<&(String, String, String, u64)> {
    groups.iter().filter(|group| group.2.starts_with('~')).collect()
}

fn kept(bench: &Bench) -> Result<()> {
    let crowd = Crowd::new(bench)?;
    let settings = [("--listener.max-groups", "8000"), ("--listener.ephemeral", "keep")];
    let daemon = crowd.daemon(bench, &settings)?;
    let _open = crowd.open()?;
    let all = u64::from(crowd.fixed + crowd.ephemeral);
    claims::until_so(&daemon, BY_A_WALK, |_, metrics, checks| {
        checks.equal("groups", groups(metrics)?.len() as u64, all);
        checks.nothing("folded", Some(count_folded(metrics, "ephemeral")?));
        Ok(())
    })
}

/// As many groups as allowed, and one more with all the rest.
fn limited(bench: &Bench) -> Result<()> {
    let crowd = Crowd::new(bench)?;
    let limit = u64::from(crowd.fixed / 2);
    let daemon = crowd.daemon(bench, &[("--listener.max-groups", &limit.to_string())])?;
    let open = crowd.open()?;
    let all = u64::from(crowd.fixed + crowd.ephemeral);
    claims::until_so(&daemon, BY_A_WALK, |_, metrics, checks| {
        let groups = groups(metrics)?;
        let sockets = |groups: &[&(String, String, String, u64)]| -> u64 {
            groups.iter().map(|group| group.3).sum()
        };
        checks.equal("sockets", sockets(&groups.iter().collect::<Vec<_>>()), all);
        let (others, own): (Vec<_>, Vec<_>) = groups.iter().partition(|group| group.0 == "~other");
        checks.equal("groups of their own", own.len() as u64, limit);
        checks.hold(
            &format!("the others are {others:?}"),
            matches!(&others[..], [(_, address, port, _)] if address == "~other" && port == "~other"),
        );
        let other = count_folded(metrics, "other")?;
        checks.equal("counted as beyond the limit", other, sockets(&others));
        let folded = count_folded(metrics, "ephemeral")?;
        checks.hold(
            &format!("{folded} are counted as ephemeral, {other} as beyond the limit"),
            [0, u64::from(crowd.ephemeral)].contains(&folded)
                && own.len() as u64 + folded.saturating_sub(1) + other >= all - 1,
        );
        Ok(())
    })?;
    promtool::has_nothing_to_say(bench, &daemon)?;

    // Who has a series keeps it when others come and go.
    let of = |daemon: &Daemon| -> Result<BTreeSet<(String, String)>> {
        let groups = groups(&daemon.scrape()?)?;
        Ok(groups.into_iter().map(|(_, address, port, _)| (address, port)).collect())
    };
    let before = of(&daemon)?;
    drop(open);
    let _again = crowd.open()?;
    claims::until_so(&daemon, BY_A_WALK, |api: &Listeners, _, checks| {
        let sockets: u64 = api.listeners.iter().map(|group| group.sockets).sum();
        checks.equal("sockets", sockets, all);
        let now = of(&daemon)?;
        let gone: Vec<_> = before.difference(&now).take(5).collect();
        checks.hold(&format!("series have gone: {gone:?}"), gone.is_empty());
        Ok(())
    })
}
