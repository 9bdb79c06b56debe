//! A slow path: what a namespace sends on loopback arrives later, as by `tc ... netem`.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{netlink, netns::Netns};

/// The loopback interface is the first of every namespace.
const LOOPBACK: i32 = 1;

/// The kernel counts delays in units of 64 ns.
const TICK_SHIFT: u32 = 6;

/// Delays each packet, in either direction, from now on. Needs the module `sch_netem`.
pub fn delay_loopback(netns: &Netns, delay: Duration) -> Result<()> {
    const TCA_KIND: u16 = 1;
    const TCA_OPTIONS: u16 = 2;
    const ROOT: u32 = u32::MAX;
    const PACKETS: u32 = 10_000;
    // `struct tcmsg`: family, interface, handle, parent, info.
    let mut body = vec![0; 4];
    body.extend(LOOPBACK.to_ne_bytes());
    for word in [0, ROOT, 0] {
        body.extend(word.to_ne_bytes());
    }
    netlink::attribute(&mut body, TCA_KIND, b"netem\0");
    // `struct tc_netem_qopt`: latency, limit, loss, gap, duplicate, jitter.
    let latency = u32::try_from(delay.as_nanos() >> TICK_SHIFT).context("too long a delay")?;
    let options: Vec<u8> =
        [latency, PACKETS, 0, 0, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    netlink::attribute(&mut body, TCA_OPTIONS, &options);
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    netns
        .run(|| netlink::request(libc::NETLINK_ROUTE, libc::RTM_NEWQDISC, flags, &body))
        .with_context(|| format!("cannot delay loopback by {delay:?}"))
}
