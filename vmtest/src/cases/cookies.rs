//! The third stage: a SYN cookie that comes back to a full accept queue.

use anyhow::{Result, ensure};

use crate::{
    bench::{Bench, Case, Target},
    ledger::{Checks, Reading},
    load::{self, ENOUGH},
    netns::Netns,
    raw::CookieHolder,
    sockets::{Family, Listener},
};

pub(super) const CASES: &[Case] = &[
    Case::everywhere("overflow_cookie_v4", |bench| cookie(bench, Family::V4)),
    Case::everywhere("overflow_cookie_v6", |bench| cookie(bench, Family::V6)),
];

fn cookie(bench: &Bench, family: Family) -> Result<()> {
    let netns = Netns::new()?;
    // Every SYN is answered by a cookie; the SYN queue stays empty.
    netns.set_sysctl("net.ipv4.tcp_syncookies", "2")?;
    let daemon = bench.daemon()?;
    let listener = Listener::open(&netns, family.loopback(), 1)?;
    let to = listener.address();
    let start = Reading::take(&netns, &daemon)?;

    // The cookie is taken while there is room, and returned when there is none.
    let holder = CookieHolder::ask(&netns, to)?;
    let _queued = load::fill(&netns, &listener, to)?;
    holder.give_back(ENOUGH)?;

    let full = Reading::take(&netns, &daemon)?;
    let kernel = full.agrees_since(&start)?;
    ensure!(kernel.listen_overflows >= ENOUGH, "the fixture made only {kernel:?}");
    ensure!(
        kernel.cookies_received >= kernel.listen_overflows,
        "the fixture's cookies were not valid: {kernel:?}"
    );
    let mut checks = Checks::default();
    let figures = full.figures(to)?;
    checks.nothing("overflows at stage syn", figures.overflows_syn);
    checks.nothing("overflows at stage ack", figures.overflows_ack);
    checks.equal("overflows at stage cookie", figures.overflows_cookie, kernel.listen_overflows);
    checks.equal("listen drops", figures.listen_drops, kernel.listen_drops);
    checks.equal("enqueued", figures.enqueued, 2);

    // With room again the same cookie makes a connection.
    let accepted = listener.accept_all()?;
    holder.give_back(1)?;
    let end = Reading::take(&netns, &daemon)?;
    let (label, port) = (netns.label(), to.port().to_string());
    let path = match bench.target() {
        // By tracepoint.
        Target::Host => "unknown",
        _ => "cookie",
    };
    let by_cookie = end.metrics.sum(
        "tcpq_accept_queue_enqueued_total",
        &[("netns", &label), ("port", &port), ("path", path)],
    )?;
    checks.equal("enqueued by a cookie", by_cookie, 3);
    checks.equal("accepts", end.figures(to)?.accepts, accepted);
    checks.end()
}
