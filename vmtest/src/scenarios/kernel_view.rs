//! Queues as the kernel lists them, for sockets that cannot be asked themselves.

use std::{fs, net::SocketAddr};

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// One line of `/proc/net/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    port: u16,
    state: u8,
    receive_queue: u64,
}

const SYN_RECV: u8 = 3;
const LISTEN: u8 = 10;

/// Requests in the SYN queues of all listeners on this port. A closed listener's are
/// still listed until they end.
pub(crate) fn requests(netns: &Netns, listener: SocketAddr) -> Result<usize> {
    let lines = lines(netns)?;
    let ours = |line: &&Line| line.port == listener.port() && line.state == SYN_RECV;
    Ok(lines.iter().filter(ours).count())
}

/// Connections in the accept queues of all listeners on this port.
pub(super) fn queued(netns: &Netns, listener: SocketAddr) -> Result<u64> {
    let lines = lines(netns)?;
    let ours = |line: &&Line| line.port == listener.port() && line.state == LISTEN;
    Ok(lines.iter().filter(ours).map(|line| line.receive_queue).sum())
}

fn lines(netns: &Netns) -> Result<Vec<Line>> {
    let read = |name: &str| {
        fs::read_to_string(format!("/proc/thread-self/net/{name}"))
            .with_context(|| format!("cannot read /proc/thread-self/net/{name}"))
    };
    let text = netns.run(|| Ok(read("tcp")? + &read("tcp6")?))?;
    let is_header = |line: &&str| !line.trim_start().starts_with("sl");
    text.lines()
        .filter(is_header)
        .map(|line| parse(line).with_context(|| format!("not a line of /proc/net/tcp: {line}")))
        .collect()
}

/// `sl local_address rem_address st tx_queue:rx_queue ...`, all in hexadecimal.
fn parse(line: &str) -> Option<Line> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let (_, receive_queue) = fields.next()?.split_once(':')?;
    Some(Line {
        port: u16::from_str_radix(port, 16).ok()?,
        state: u8::from_str_radix(state, 16).ok()?,
        receive_queue: u64::from_str_radix(receive_queue, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_parsed() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000";
        assert_eq!(parse(line), Some(Line { port: 8080, state: LISTEN, receive_queue: 3 }));
        assert_eq!(parse("   0: 0100007F"), None);
    }
}
