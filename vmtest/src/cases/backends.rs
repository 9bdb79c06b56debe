//! Do all backends count the same? Three daemons watch one load, each with
//! another backend: whatever the load was, they saw the same one.

use anyhow::{Result, ensure};

use super::plan::ON_6_12;
use crate::{
    bench::{Bench, Case},
    daemon::Backend,
    figures::Figures,
    ledger::{Checks, Reading},
    load::{self, AckStage, ENOUGH},
    netns::Netns,
    sockets::{Family, Listener},
};

pub(super) const CASES: &[Case] = &[Case::new("backends_agree", agree, ON_6_12)];

fn agree(bench: &Bench) -> Result<()> {
    let netns = Netns::new()?;
    let daemons = [
        bench.daemon_with(Backend::Fentry)?,
        bench.daemon_with(Backend::Kprobe)?,
        bench.daemon_with(Backend::Tracepoint)?,
    ];
    let refusing = Listener::open(&netns, Family::V4.loopback(), 4)?;
    let serving = Listener::open(&netns, Family::V6.loopback(), 64)?;
    let starts = daemons.iter().map(|daemon| Reading::take(&netns, daemon));
    let starts = starts.collect::<Result<Vec<_>>>()?;

    let (to, accepted) = (refusing.address(), script(&netns, &refusing, &serving)?);

    let mut checks = Checks::default();
    let mut all: Vec<[Figures; 2]> = Vec::new();
    for (daemon, start) in daemons.iter().zip(&starts) {
        let end = Reading::take(&netns, daemon)?;
        let kernel = end.agrees_since(start)?;
        ensure!(kernel.listen_overflows >= 2 * ENOUGH, "the fixture made only {kernel:?}");
        all.push([end.figures(to)?, end.figures(serving.address())?]);
    }
    for (at, name) in ["refusing", "serving"].into_iter().enumerate() {
        let seen = |pick: fn(&Figures) -> Option<u64>| {
            all.iter().map(|figures| pick(&figures[at])).collect::<Vec<_>>()
        };
        for (figure, values) in [
            ("overflows at stage syn", seen(|f| f.overflows_syn)),
            ("overflows at stage ack", seen(|f| f.overflows_ack)),
            ("listen drops", seen(|f| f.listen_drops)),
            ("enqueued", seen(|f| f.enqueued)),
            ("accepts", seen(|f| f.accepts)),
            ("accept queue length", seen(|f| f.accept_queue_length)),
        ] {
            checks.hold(
                &format!("{name}: {figure} by fentry, kprobe, tracepoint: {values:?}"),
                values[0].is_some() && values.iter().all(|value| *value == values[0]),
            );
        }
        let received = seen(|f| f.syns_received);
        checks.hold(
            &format!("{name}: SYNs received by fentry, kprobe, tracepoint: {received:?}"),
            received[0].is_some() && received[0] == received[1] && received[2].is_none(),
        );
    }
    checks.equal("accepts", all[0][1].accepts, accepted);
    checks.end()
}

/// Both stages of overflow on one listener, connections that are accepted on
/// the other.
fn script(netns: &Netns, refusing: &Listener, serving: &Listener) -> Result<u64> {
    let to = refusing.address();
    let mut stage = AckStage::connect(netns, refusing, to)?;
    stage.overflow(netns, refusing, ENOUGH)?;
    stage.end()?;
    load::syns(netns, to, ENOUGH)?;

    let mut accepted = 0;
    for _ in 0..4 {
        load::syns(netns, serving.address(), 50)?;
        accepted += serving.accept_all()?;
    }
    ensure!(accepted == 200, "the fixture accepted {accepted} of 200");
    // These stay in the queue.
    load::syns(netns, serving.address(), 20)?;
    Ok(accepted)
}
