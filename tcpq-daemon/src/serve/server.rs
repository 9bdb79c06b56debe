//! Accepts connections: bounded in number and in time, so that a client that sends
//! nothing, sends without an end, or never reads its answer, holds up nobody but itself.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

use crate::serve::{
    crowd::{Activity, Clock, Crowd},
    web::{Policy, Web},
};

/// Connections of one listener at the same time. Each is a file descriptor, and the
/// usual limit of those is 1024.
const CONNECTIONS: usize = 128;

/// How long a client may take to send its request's head, the first or the next.
const HEAD: Duration = Duration::from_secs(5);

/// Bytes of a request's head, more is refused; and of an answer that is not read yet.
const BUFFER: usize = 64 * 1024;

/// How long a connection may live, whatever it does. A scraper that keeps its
/// connection opens a new one after that.
const LIFE: Duration = Duration::from_mins(2);

/// A pause after a failure to accept (no file descriptors, say), which will not have
/// gone away at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Something that accepts connections.
pub trait Accept: Send {
    /// What it accepts.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// Waits for the next one.
    fn accept(&self) -> impl Future<Output = std::io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> std::io::Result<Self::Stream> {
        Ok(Self::accept(self).await?.0)
    }
}

impl Accept for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> std::io::Result<Self::Stream> {
        Ok(Self::accept(self).await?.0)
    }
}

/// Serves until the task is aborted, which ends its connections. `web` says with which TLS, if
/// with any.
pub async fn serve(listener: impl Accept, app: Router, web: Option<Arc<Web>>) {
    let mut crowd = Crowd::new(CONNECTIONS);
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                warn!(%error, "connection not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        crowd.make_room().await;
        let app = app.clone();
        let policy = web.as_ref().map(|web| web.policy());
        crowd.join(|clock, activity| async move {
            let app = following(app, clock, activity);
            match policy.filter(|policy| policy.tls.is_some()) {
                Some(policy) => {
                    if let Some(stream) = handshake(stream, &policy).await {
                        answer(stream, app).await;
                    }
                }
                None => answer(stream, app).await,
            }
        });
    }
}

/// The router of one connection, which says when it has something to do.
fn following(app: Router, clock: Clock, activity: Activity) -> Router {
    app.layer(middleware::from_fn(move |request: Request, next: Next| {
        let busy = clock.busy(&activity);
        async move { next.run(request).await.map(|body| busy.until_the_end_of(body)) }
    }))
}

/// The TLS side of a connection; `None`: the client does not speak it, has no certificate
/// that is taken, or takes its time.
async fn handshake<S>(stream: S, policy: &Policy) -> Option<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let tls = policy.tls.as_ref()?;
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.server));
    let stream = match tokio::time::timeout(HEAD, acceptor.accept(stream)).await.ok()? {
        Ok(stream) => stream,
        Err(error) => {
            debug!(%error, "a client's TLS handshake failed");
            return None;
        }
    };
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    if !policy.admits(certificate) {
        debug!("a client's certificate has no name of client_allowed_sans");
        return None;
    }
    Some(stream)
}

async fn answer<S>(stream: S, app: Router)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
    );
    // How a connection ends is its client's affair: an error, a time-out.
    if tokio::time::timeout(LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        drop(tokio::time::timeout(HEAD, connection).await);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(address: std::net::SocketAddr) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn served(app: Router) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, tokio::spawn(serve(listener, app, None)))
    }

    fn hi() -> Router {
        Router::new().route("/", get(|| async { "hi" }))
    }

    #[tokio::test]
    async fn silent_clients_make_room_at_once() {
        let (address, server) = served(hi()).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS * 3 {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            // Half of them trickle a head.
            if silent.len() % 2 == 0 {
                stream.write_all(b"GET / HTTP/1.1\r\nX-").await.unwrap();
            }
            silent.push(stream);
        }
        let answer = tokio::time::timeout(HEAD / 2, ask(address)).await.unwrap();
        assert!(answer.ends_with("hi"), "{answer}");
        server.abort();
    }

    #[tokio::test]
    async fn who_is_being_answered_is_not_turned_out() {
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            "slow"
        };
        let (address, server) = served(hi().route("/slow", get(slow))).await;
        let mut waiting = tokio::net::TcpStream::connect(address).await.unwrap();
        waiting
            .write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS * 2 {
            silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("slow"), "{answer}");
        server.abort();
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_refused() {
        let (address, server) = served(hi()).await;
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        let (mut read, mut write) = stream.split();
        let endless = async {
            while write.write_all(&[b'a'; 4096]).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        let refused = async {
            // A reset may overtake the answer.
            drop(read.read_to_end(&mut answer).await);
        };
        let both = async {
            tokio::select! { () = endless => {}, () = refused => {} }
        };
        tokio::time::timeout(HEAD, both).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
        assert!(ask(address).await.ends_with("hi"));
        server.abort();
    }
}
