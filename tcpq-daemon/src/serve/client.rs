//! The commands' side of the API: one GET over the unix socket or to a URL.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Uri, body::Bytes};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Its unix socket.
    Socket(PathBuf),
    /// Its HTTP address.
    Url(Uri),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Url(uri) => uri.fmt(f),
        }
    }
}

/// Why a daemon gave no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no daemon runs at {endpoint}")]
    NoDaemon {
        /// Where.
        endpoint: Endpoint,
    },
    /// It cannot be reached.
    #[error(
        "the daemon at {endpoint} cannot be reached; its socket is for root and its group, its \
         loopback address for all: --url http://127.0.0.1:10391"
    )]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The URL is not one of HTTP.
    #[error("{url} is no URL of the form http://HOST:PORT")]
    BadUrl {
        /// What was given.
        url: Uri,
    },
    /// It broke off or took too long.
    #[error("the daemon at {endpoint} did not answer: {what}")]
    NoAnswer {
        /// Where.
        endpoint: Endpoint,
        /// What went wrong.
        what: String,
    },
    /// It answered something else.
    #[error(
        "the daemon at {endpoint} answered {status} {text}{}",
        advice(*status)
    )]
    Refused {
        /// Where.
        endpoint: Endpoint,
        /// The HTTP status.
        status: u16,
        /// The start of the answer.
        text: String,
    },
}

/// What may help against a refusal.
const fn advice(status: u16) -> &'static str {
    match status {
        401 => "; commands know no password: leave out --url, and the unix socket is asked",
        403 => "; without users the API is served on loopback addresses and the unix socket only",
        503 => "; try again in a moment, and see the daemon's log",
        _ => "",
    }
}

/// Fetches a JSON document.
pub async fn get<T: DeserializeOwned>(endpoint: &Endpoint, path: &str) -> Result<T, ClientError> {
    let no_answer = |what: String| ClientError::NoAnswer { endpoint: endpoint.clone(), what };
    let answer = tokio::time::timeout(PATIENCE, fetch(endpoint, path))
        .await
        .map_err(|_elapsed| no_answer(format!("not within {} s", PATIENCE.as_secs())))??;
    serde_json::from_slice(&answer).map_err(|error| no_answer(error.to_string()))
}

async fn fetch(endpoint: &Endpoint, path: &str) -> Result<Bytes, ClientError> {
    let no_daemon = |source: io::Error| {
        let endpoint = endpoint.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon { endpoint }
            }
            _ => ClientError::Unreachable { endpoint, source },
        }
    };
    match endpoint {
        Endpoint::Socket(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(no_daemon)?;
            exchange(endpoint, stream, "localhost", path).await
        }
        Endpoint::Url(uri) => {
            let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
                return Err(ClientError::BadUrl { url: uri.clone() });
            };
            let address =
                (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
            let stream = TcpStream::connect(address).await.map_err(no_daemon)?;
            exchange(endpoint, stream, authority.as_str(), path).await
        }
    }
}

async fn exchange<S>(
    endpoint: &Endpoint,
    stream: S,
    host: &str,
    path: &str,
) -> Result<Bytes, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let no_answer = |error: &dyn std::error::Error| ClientError::NoAnswer {
        endpoint: endpoint.clone(),
        what: error.to_string(),
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| no_answer(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(hyper::header::HOST, host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| no_answer(&error))?;
    let response = sender.send_request(request).await.map_err(|error| no_answer(&error))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| no_answer(&error))?.to_bytes();
    connection.abort();
    if status.is_success() {
        return Ok(body);
    }
    let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
    Err(ClientError::Refused {
        endpoint: endpoint.clone(),
        status: status.as_u16(),
        text: text.trim().to_owned(),
    })
}

/// The daemon's unix socket in its run directory.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("tcpq.sock")
}
