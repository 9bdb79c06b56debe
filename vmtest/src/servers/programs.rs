//! How each server is made to listen on one address, with nothing of the machine's own
//! configuration.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{promtool::program, scratch::Scratch};

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// nginx with two workers, each with a socket of its own on the one port.
    Nginx,
    /// nginx with one worker, which accepts who has sent a request, and closes each connection after its answer.
    NginxAlone,
    /// nginx with one worker, which accepts at once, and closes each connection after its answer.
    NginxBrief,
    /// An HTTP server of Node.
    Node,
    /// Python's `http.server`.
    Python,
    /// A Python server that takes the socket that it is passed.
    PythonActivated,
    /// Redis, without persistence.
    Redis,
}

/// Takes descriptor 3, as `sd_listen_fds(3)` has it, and insists on being meant.
const ACTIVATED: &str = "
import os, socket
assert os.environ['LISTEN_FDS'] == '1' and os.environ['LISTEN_PID'] == str(os.getpid())
listener = socket.socket(fileno=3)
listener.setblocking(True)
while True:
    listener.accept()[0].close()
";

const NODE: &str = "
const [host, port] = process.argv.slice(1);
require('http').createServer((_, answer) => answer.end()).listen(Number(port), host);
";

impl Program {
    /// Where it is.
    pub(super) fn path(self) -> Result<PathBuf> {
        let variable = match self {
            Self::Nginx | Self::NginxAlone | Self::NginxBrief => "TCPQ_NGINX",
            Self::Node => "TCPQ_NODE",
            Self::Python | Self::PythonActivated => "TCPQ_PYTHON",
            Self::Redis => "TCPQ_REDIS",
        };
        program(variable).map(PathBuf::from)
    }

    /// Its command line, and the files that this names.
    pub(super) fn arguments(
        self,
        what: &str,
        address: SocketAddr,
        scratch: &Scratch,
    ) -> Result<Vec<String>> {
        let folder = scratch.path().join(what);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = folder.to_str().context("a scratch folder that is no text")?.to_owned();
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let arguments: Vec<String> = match self {
            Self::Nginx | Self::NginxAlone | Self::NginxBrief => {
                let configuration = format!("{folder}/nginx.conf");
                fs::write(&configuration, nginx(self, &folder, address))
                    .context("cannot write a configuration")?;
                ["-e", "stderr", "-p", &folder, "-c", &configuration].map(str::to_owned).to_vec()
            }
            Self::Node => vec!["-e".into(), NODE.into(), ip, port],
            Self::Python => ["-m", "http.server", &port, "--bind", &ip, "--directory", &folder]
                .map(str::to_owned)
                .to_vec(),
            Self::PythonActivated => vec!["-c".into(), ACTIVATED.into()],
            Self::Redis => [
                "--bind",
                &ip,
                "--port",
                &port,
                "--dir",
                &folder,
                "--save",
                "",
                "--appendonly",
                "no",
                "--daemonize",
                "no",
            ]
            .map(str::to_owned)
            .to_vec(),
        };
        Ok(arguments)
    }
}

fn nginx(kind: Program, folder: &str, address: SocketAddr) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {folder}/{name};\n"))
        .concat();
    let (workers, at_once, keep_alive, listen) = match kind {
        // It accepts a connection with its request: else most clients are accepted already
        // when the worker is stopped, and wait for an answer.
        Program::NginxAlone => (1, 512, 0, "backlog=511 deferred"),
        Program::NginxBrief => (1, 1024, 0, "backlog=511"),
        _ => (2, 64, 75, "reuseport"),
    };
    // As root its workers would become another user, who may not enter the folder.
    format!(
        "user root;\nworker_processes {workers};\ndaemon off;\npid {folder}/nginx.pid;\n\
         error_log stderr;\nevents {{ worker_connections {at_once}; }}\nhttp {{\n{temporary}    \
         access_log off;\n    keepalive_timeout {keep_alive};\n    server {{ listen {address} {listen}; return 204; }}\n}}\n"
    )
}
