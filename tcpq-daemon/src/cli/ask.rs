//! Where commands get the listeners from: the daemon if one runs, else a look.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use serde::{Serialize, de::DeserializeOwned};
use tcpq_common::totals::Loss;

use crate::{
    app::look,
    cli::args::PathArgs,
    kernel::attach::Limits,
    serve::{
        api::ListenersDto,
        client::{self, ClientError, Endpoint},
    },
};

#[derive(Debug, ClapArgs)]
pub(super) struct AskArgs {
    #[command(flatten)]
    paths: PathArgs,
    /// Ask the daemon at this URL, of a loopback address, instead of by its unix socket
    #[arg(long, env = "TCPQ_URL", value_name = "URL", value_parser = url)]
    url: Option<hyper::Uri>,
}

impl AskArgs {
    /// Where the daemon is, if there is one.
    pub(super) fn endpoint(&self) -> Endpoint {
        match &self.url {
            Some(url) => Endpoint::Url(url.clone()),
            None => Endpoint::Socket(client::socket_path(&self.paths.run_dir)),
        }
    }
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// The daemon, which counts.
    Daemon,
    /// A look at what is now: nothing was counted.
    Look,
}

/// A daemon that is asked.
pub(super) struct Daemon {
    endpoint: Endpoint,
    runtime: tokio::runtime::Runtime,
}

impl Daemon {
    /// Where the arguments say.
    pub(super) fn new(args: &AskArgs) -> anyhow::Result<Self> {
        let endpoint = args.endpoint();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no asynchronous runtime")?;
        Ok(Self { endpoint, runtime })
    }

    /// One document.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.runtime.block_on(client::get(&self.endpoint, path))
    }
}

/// All listeners. Without a daemon it says so on stderr.
pub(super) fn listeners(args: &AskArgs) -> anyhow::Result<(Source, ListenersDto)> {
    match Daemon::new(args)?.get("/api/v1/listeners") {
        Ok(listeners) => Ok((Source::Daemon, listeners)),
        // A URL was meant; without one, no daemon is no error.
        Err(ClientError::NoDaemon { .. }) if args.url.is_none() => Ok((Source::Look, look(args)?)),
        Err(error) => Err(error.into()),
    }
}

fn look(args: &AskArgs) -> anyhow::Result<ListenersDto> {
    let (snapshot, discovery) = look::listeners(&args.paths.roots(), Limits::default())?;
    let mut err = std::io::stderr().lock();
    writeln!(err, "no daemon is running: queues as they are now, nothing was counted")?;
    let untracked = snapshot.losses[Loss::ListenersFull as usize];
    if untracked > 0 {
        writeln!(err, "there are {untracked} more listeners than are shown")?;
    }
    for failure in discovery.failures {
        writeln!(err, "not searched: {failure}")?;
    }
    Ok(ListenersDto::of_a_look(&snapshot))
}

/// `http://HOST:PORT`.
fn url(text: &str) -> Result<hyper::Uri, String> {
    let url: hyper::Uri = text.parse().map_err(|error| format!("{error}"))?;
    if url.scheme_str() != Some("http") || url.authority().is_none() {
        return Err("a URL has the form http://HOST:PORT".to_owned());
    }
    Ok(url)
}
