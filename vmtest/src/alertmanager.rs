//! A real Alertmanager, and the one it tells.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{http, promtool, wait};

/// What a webhook is told: a group of alerts.
#[derive(Clone, Debug, Deserialize)]
pub struct Notification {
    /// `firing`, or `resolved` if all are.
    pub status: String,
    /// What is told.
    pub alerts: Vec<Alert>,
}

/// One alert.
#[derive(Clone, Debug, Deserialize)]
pub struct Alert {
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Its texts.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// Takes notifications until the process ends.
#[derive(Debug)]
pub struct Webhook {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Notification>>>,
}

impl Webhook {
    /// On a port of its own.
    pub fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let address = listener.local_addr().context("no address")?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                match take(&stream) {
                    Ok(one) => told.lock().unwrap_or_else(PoisonError::into_inner).push(one),
                    Err(error) => eprintln!("a notification was not understood: {error:#}"),
                }
            }
        });
        Ok(Self { address, heard })
    }

    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that was told so far.
    pub fn heard(&self) -> Vec<Notification> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn take(mut stream: &std::net::TcpStream) -> Result<Notification> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).context("no head")?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().context("no length")?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).context("no body")?;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .context("cannot answer")?;
    serde_json::from_slice(&body).context("no notification")
}

/// One that ends when dropped.
#[derive(Debug)]
pub struct Alertmanager {
    child: Child,
    address: SocketAddr,
}

impl Alertmanager {
    /// Starts it by this configuration, and waits until it is ready.
    pub fn start(directory: &Path, configuration: &str) -> Result<Self> {
        let file = directory.join("alertmanager.yml");
        fs::write(&file, configuration).context("cannot write a configuration")?;
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        let address = probe.local_addr().context("no free port")?;
        drop(probe);
        let log = File::create(directory.join("alertmanager.log")).context("cannot make a log")?;
        let child = Command::new(promtool::program("TCPQ_ALERTMANAGER")?)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", directory.join("alertmanager").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start Alertmanager")?;
        let mut server = Self { child, address };
        wait::until_true("Alertmanager is ready", Duration::from_mins(1), || {
            if let Some(status) = server.child.try_wait().context("cannot wait")? {
                bail!("Alertmanager ended: {status}");
            }
            Ok(http::get(address, "/-/ready", "*/*").is_ok_and(|answer| answer.status == 200))
        })?;
        Ok(server)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        // Its data is thrown away, so it need not be asked kindly.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("cannot end Alertmanager: {error}");
        }
    }
}
