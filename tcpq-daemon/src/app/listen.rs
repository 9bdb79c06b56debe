//! Where the endpoint listens.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _},
    str::FromStr,
};

use listenfd::ListenFd;
use socket2::{Domain, Socket, Type};
use thiserror::Error;

use crate::serve::router::Reach;

/// `HOST:PORT`; without a host, `:PORT` is every address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    text: String,
    host: Option<String>,
    port: u16,
}

/// What is wrong with a listen address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadAddress {
    /// No port.
    #[error("an address has the form HOST:PORT or :PORT, for example 127.0.0.1:10391")]
    NoPort,
    /// The port is no number.
    #[error("the port must be a number from 0 to 65535")]
    BadPort,
    /// A bare IPv6 address.
    #[error("an IPv6 address is written in brackets, for example [::1]:10391")]
    Brackets,
}

impl FromStr for ListenAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(BadAddress::NoPort)?;
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err(BadAddress::Brackets);
        }
        let port = port.parse().ok().ok_or(BadAddress::BadPort)?;
        let host = host.trim_matches(['[', ']']);
        let host = (!host.is_empty()).then(|| host.to_owned());
        Ok(Self { text: text.to_owned(), host, port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Someone else has it.
    #[error(
        "the address {address} is in use; choose another with --web.listen-address, or stop what \
         listens there (`ss -ltnp` names it)"
    )]
    InUse {
        /// As it was given.
        address: String,
    },
    /// Anything else.
    #[error("the address {address} cannot be listened on; check --web.listen-address")]
    Unusable {
        /// As it was given.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Not started by a socket unit.
    #[error(
        "--web.systemd-socket is given, but systemd has passed no socket: start the service by a \
         socket unit with ListenStream=, or leave the flag out"
    )]
    NoneInherited,
    /// Not a TCP socket, say.
    #[error("a socket that systemd has passed cannot be used; it must be a listening TCP socket")]
    NotInherited {
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The sockets that systemd listens on for the daemon, and has passed on.
pub fn inherited() -> Result<Vec<(TcpListener, Reach)>, ListenError> {
    let failed = |source| ListenError::NotInherited { source };
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for place in 0..passed.len() {
        let Some(listener) = passed.take_tcp_listener(place).map_err(failed)? else { continue };
        listener.set_nonblocking(true).map_err(failed)?;
        let reach = reach(&listener).map_err(failed)?;
        listeners.push((listener, reach));
    }
    if listeners.is_empty() { Err(ListenError::NoneInherited) } else { Ok(listeners) }
}

/// Binds an address.
pub fn bind(address: &ListenAddress) -> Result<(TcpListener, Reach), ListenError> {
    let failed = |source: io::Error| {
        let address = address.to_string();
        if source.kind() == io::ErrorKind::AddrInUse {
            return ListenError::InUse { address };
        }
        ListenError::Unusable { address, source }
    };
    let candidates: Vec<SocketAddr> = match &address.host {
        // Both families by one socket; without IPv6, the other.
        None => vec![
            (Ipv6Addr::UNSPECIFIED, address.port).into(),
            (Ipv4Addr::UNSPECIFIED, address.port).into(),
        ],
        Some(host) => (host.as_str(), address.port).to_socket_addrs().map_err(failed)?.collect(),
    };
    let listener = listen_on_first(&candidates).map_err(failed)?;
    let reach = reach(&listener).map_err(failed)?;
    Ok((listener, reach))
}

/// The standard library's own backlog is 128, which a thousand clients at once overflow: who
/// scrapes then waits a second, until its SYN is sent again.
const BACKLOG: i32 = 1024;

/// Listens on the first of these that can be.
fn listen_on_first(candidates: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut outcome = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
    for address in candidates {
        outcome = listen(*address);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // After a restart old connections may still be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn reach(listener: &TcpListener) -> io::Result<Reach> {
    let local = listener.local_addr()?;
    Ok(if local.ip().is_loopback() { Reach::Local } else { Reach::Remote })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let parse = |text: &str| text.parse::<ListenAddress>();
        assert_eq!(parse("127.0.0.1:1").unwrap().host.as_deref(), Some("127.0.0.1"));
        assert_eq!(parse(":10391").unwrap().host, None);
        assert_eq!(parse("[::1]:1").unwrap().host.as_deref(), Some("::1"));
        assert_eq!(parse("10391"), Err(BadAddress::NoPort));
        assert_eq!(parse("localhost:http"), Err(BadAddress::BadPort));
        assert_eq!(parse("localhost:70000"), Err(BadAddress::BadPort));
        assert_eq!(parse("::1:80"), Err(BadAddress::Brackets));
    }
}
