//! Asks a source of pods once.

use std::{
    fs::File,
    future::Future,
    io::{self, Read as _},
    net::IpAddr,
    path::Path,
    pin::pin,
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::attribution::pods::{
    Kubelet, PodsError,
    list::{ListError, Table},
    tls::{self, TlsError},
};

/// Longest answer. 110 pods, the usual most on a node, have some 2 MB.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Longest token or file of certificates.
const MAX_SMALL_BYTES: u64 = 1024 * 1024;

/// Why a source gave no table.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    /// The list cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Its file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The token cannot be read.
    #[error("cannot read the token of {path}")]
    Token {
        /// Its file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It cannot be asked.
    #[error("cannot connect to {host}")]
    Connect {
        /// Whom.
        host: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It did not answer in time.
    #[error("no answer within {} s", patience.as_secs_f32())]
    Hangs {
        /// How long it had.
        patience: Duration,
    },
    /// It broke off.
    #[error("the answer broke off")]
    BrokeOff {
        /// How.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It will not tell.
    #[error("the kubelet refuses ({status}); it wants a token that may get nodes/proxy")]
    Denied {
        /// Its answer.
        status: StatusCode,
    },
    /// It answers something else.
    #[error("the answer is {status}")]
    Status {
        /// Its answer.
        status: StatusCode,
    },
    /// It answers too much.
    #[error("the answer has more than {} MiB", MAX_BYTES >> 20)]
    TooLong,
    /// It is not true.
    #[error(transparent)]
    List(#[from] ListError),
}

/// Whether this can be asked at all.
pub(super) fn check(kubelet: &Kubelet) -> Result<(), PodsError> {
    let url = || kubelet.url.clone();
    let Some(host) = kubelet.url.host() else { return Err(PodsError::BadUrl { url: url() }) };
    match kubelet.url.scheme_str() {
        Some("https") if ServerName::try_from(bare(host)).is_err() => {
            Err(PodsError::BadUrl { url: url() })
        }
        Some("https") if kubelet.trust.is_none() => Err(PodsError::NoTrust { url: url() }),
        Some("http") if kubelet.token.is_some() && !is_loopback(host) => {
            Err(PodsError::TokenInClear { url: url() })
        }
        Some("http" | "https") => Ok(()),
        _ => Err(PodsError::BadUrl { url: url() }),
    }
}

fn is_loopback(host: &str) -> bool {
    bare(host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A list in a file.
pub(super) fn file(path: &Path) -> Result<Table, FetchError> {
    let error = |source| FetchError::File { path: path.display().to_string(), source };
    let file = File::open(path).map_err(error)?;
    let mut content = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut content).map_err(error)?;
    if content.len() > MAX_BYTES {
        return Err(FetchError::TooLong);
    }
    Ok(Table::parse(&content)?)
}

/// A small file. An error if it is not small.
pub(super) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_SMALL_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_SMALL_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

/// The kubelet's list. Takes no longer than `patience`.
pub(super) async fn kubelet(kubelet: &Kubelet, patience: Duration) -> Result<Table, FetchError> {
    let answer = tokio::time::timeout(patience, ask(kubelet))
        .await
        .map_err(|_elapsed| FetchError::Hangs { patience })??;
    Ok(Table::parse(&answer)?)
}

async fn ask(kubelet: &Kubelet) -> Result<Bytes, FetchError> {
    let host = kubelet.url.host().map(bare).unwrap_or_default();
    let is_secure = kubelet.url.scheme_str() == Some("https");
    let port = kubelet.url.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let request = request(kubelet)?;
    let error = |source| FetchError::Connect { host: host.to_owned(), source };
    let stream = TcpStream::connect((host, port)).await.map_err(error)?;
    let Some(trust) = kubelet.trust.as_ref().filter(|_| is_secure) else {
        return exchange(stream, request).await;
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other).map_err(error)?;
    let stream = tls::connector(trust)?.connect(name, stream).await.map_err(error)?;
    exchange(stream, request).await
}

fn request(kubelet: &Kubelet) -> Result<Request<Empty<Bytes>>, FetchError> {
    let broken = |source: hyper::http::Error| FetchError::BrokeOff { source: source.into() };
    let path = kubelet.url.path_and_query().map_or("/", |path| path.as_str());
    let host = kubelet.url.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close");
    if let Some(path) = &kubelet.token {
        request = request.header(AUTHORIZATION, bearer(path)?);
    }
    request.body(Empty::new()).map_err(broken)
}

fn bearer(path: &Path) -> Result<HeaderValue, FetchError> {
    let error = |source| FetchError::Token { path: path.display().to_string(), source };
    let token = read_small(path).map_err(error)?;
    let value = [b"Bearer ".as_slice(), token.trim_ascii()].concat();
    let mut value = HeaderValue::from_bytes(&value).map_err(|e| error(io::Error::other(e)))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|source| FetchError::BrokeOff { source: source.into() })?;
    let answer = async move {
        let response = sender
            .send_request(request)
            .await
            .map_err(|source| FetchError::BrokeOff { source: source.into() })?;
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(FetchError::Denied { status });
            }
            status => return Err(FetchError::Status { status }),
        }
        // One that says beforehand that it is too long need not be read.
        let announced = hyper::body::Body::size_hint(response.body()).lower();
        if announced > MAX_BYTES as u64 {
            return Err(FetchError::TooLong);
        }
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|source| {
            if source.is::<LengthLimitError>() {
                FetchError::TooLong
            } else {
                FetchError::BrokeOff { source }
            }
        })
    };
    drive(answer, connection).await
}

/// Runs a connection for as long as its answer needs it, and no longer: both end here.
async fn drive<T>(answer: impl Future<Output = T>, connection: impl Future) -> T {
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        result = &mut answer => return result,
        _ = connection => {}
    }
    answer.await
}
