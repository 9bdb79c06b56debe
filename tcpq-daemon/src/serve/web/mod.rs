//! What `--web.config.file` asks for: TLS, client certificates, users, headers, a rate. Without
//! the file, nothing.

mod auth;
mod config;
pub mod guard;
mod rate;
mod tls;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tracing::{info, warn};

use crate::serve::web::{
    auth::{BadHash, Users},
    config::{TlsSection, WebFile},
    rate::{BadRate, Rate},
    tls::{Authenticates, Tls, TlsError},
};

/// Why the file cannot be used.
#[derive(Debug, Error)]
#[error("the web configuration {path} cannot be used")]
pub struct WebError {
    path: PathBuf,
    #[source]
    reason: Reason,
}

#[derive(Debug, Error)]
enum Reason {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error(
        "it is not as <https://prometheus.io/docs/prometheus/latest/configuration/https/> says"
    )]
    Parse(#[source] serde_norway::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Users(#[from] BadHash),
    #[error(transparent)]
    Rate(#[from] BadRate),
    #[error("the header {0} is none, or its value is")]
    Header(String),
}

/// What holds for one connection or request.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) tls: Option<Tls>,
    users: Users,
    headers: HeaderMap,
    rate: Option<Arc<Rate>>,
}

impl Policy {
    /// Whether all who come in are known: then client addresses may be told to other hosts.
    fn authenticates(&self) -> bool {
        let by_certificate =
            self.tls.as_ref().is_some_and(|tls| tls.authenticates == Authenticates::Always);
        by_certificate || !self.users.is_empty()
    }

    /// Whether a client with this certificate may come in.
    pub(super) fn admits(&self, certificate: Option<&CertificateDer<'_>>) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.allowed.admits(certificate))
    }
}

/// The file as it is now: whenever it or what it names changes, it is read again.
#[derive(Debug)]
pub struct Web {
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    policy: Arc<Policy>,
    stamps: Stamps,
}

/// When which files were changed; a file that is not there has no time.
type Stamps = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl Web {
    /// Reads the file; what is wrong with it now is an error.
    pub fn open(path: &Path) -> Result<Arc<Self>, WebError> {
        let (policy, stamps) = read(path)?;
        let held = Mutex::new(Held { policy: Arc::new(policy), stamps });
        Ok(Arc::new(Self { path: path.to_owned(), held }))
    }

    /// What holds now. A change that is wrong is told once, and what held before stays: an
    /// endpoint that opens itself or goes away because of a misspelt key helps nobody.
    pub(super) fn policy(&self) -> Arc<Policy> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<_> = held.stamps.iter().map(|(path, _)| path.clone()).collect();
        let stamps = stamps(names);
        if stamps != held.stamps {
            match read(&self.path) {
                Ok((policy, stamps)) => {
                    info!(file = %self.path.display(), "the web configuration was read again");
                    *held = Held { policy: Arc::new(policy), stamps };
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    warn!(error, "what held before goes on");
                    held.stamps = stamps;
                }
            }
        }
        Arc::clone(&held.policy)
    }
}

fn read(path: &Path) -> Result<(Policy, Stamps), WebError> {
    let failed = |reason| WebError { path: path.to_owned(), reason };
    let directory = path.parent().unwrap_or(Path::new(""));
    let before = stamps(vec![path.to_owned()]);
    let text = fs::read_to_string(path).map_err(|error| failed(Reason::Read(error)))?;
    let file = config::parse(&text).map_err(|error| failed(Reason::Parse(error)))?;
    // Before they are read: what changes meanwhile is read again.
    let named = file.tls_server_config.iter().flat_map(|tls| files(tls, directory));
    let stamps = before.into_iter().chain(stamps(named.collect())).collect();
    Ok((policy(&file, directory).map_err(failed)?, stamps))
}

fn policy(file: &WebFile, directory: &Path) -> Result<Policy, Reason> {
    let tls = file.tls_server_config.as_ref().map(|section| tls::load(section, directory));
    let mut headers = HeaderMap::new();
    for (name, value) in &file.http_server_config.headers {
        let parsed = name.parse::<HeaderName>().ok().zip(value.parse::<HeaderValue>().ok());
        let (name, value) = parsed.ok_or_else(|| Reason::Header(name.clone()))?;
        headers.insert(name, value);
    }
    Ok(Policy {
        tls: tls.transpose()?,
        users: Users::new(&file.basic_auth_users)?,
        headers,
        rate: file.rate_limit.as_ref().map(Rate::new).transpose()?.map(Arc::new),
    })
}

fn files(tls: &TlsSection, directory: &Path) -> Vec<PathBuf> {
    let named = [&tls.cert_file, &tls.key_file, &tls.client_ca_file];
    named.into_iter().flatten().map(|file| directory.join(file)).collect()
}

/// A file that is replaced by another of the same second and size has the same stamp only
/// where the file system's times are that coarse.
fn stamps(paths: Vec<PathBuf>) -> Stamps {
    let stamp = |path: PathBuf| {
        let metadata = fs::metadata(&path);
        let stamp = metadata.and_then(|it| Ok((it.modified()?, it.len()))).ok();
        (path, stamp)
    };
    paths.into_iter().map(stamp).collect()
}

#[cfg(test)]
mod tests;
