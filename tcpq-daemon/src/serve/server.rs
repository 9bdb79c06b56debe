//! Accepts connections: bounded in number and in time, so that a client that sends
//! nothing, or never reads its answer, holds up nobody but itself.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};
use tracing::warn;

/// Connections of one listener at the same time. Each is a file descriptor, and the
/// usual limit of those is 1024.
const CONNECTIONS: usize = 128;

/// How long a client may take to send its request's head, the first or the next.
const HEAD: Duration = Duration::from_secs(5);

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

/// Serves until the task is aborted; its connections end with the runtime.
pub async fn serve(listener: impl Accept, app: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Only closing would fail this, and nobody closes it.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                warn!(%error, "connection not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let app = app.clone();
        tokio::spawn(async move {
            let mut connection = pin!(
                hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
            );
            // How a connection ends is its client's affair: an error, a time-out.
            if tokio::time::timeout(LIFE, connection.as_mut()).await.is_err() {
                connection.as_mut().graceful_shutdown();
                drop(tokio::time::timeout(HEAD, connection).await);
            }
            drop(place);
        });
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

    #[tokio::test]
    async fn silent_clients_are_let_go_and_the_next_one_is_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            tokio::spawn(serve(listener, Router::new().route("/", get(|| async { "hi" }))));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        let answer = tokio::time::timeout(HEAD * 3, ask(address)).await.unwrap();
        assert!(answer.ends_with("hi"), "{answer}");
        server.abort();
    }
}
