//! Builds the daemon and becomes it, or the demonstration of it.

use std::{convert::Infallible, ffi::OsStr, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};

use crate::{
    artifacts::{self, DEMO, TCPQ},
    cmd,
    setup::{self, Purpose},
    store::Freshness,
};

/// Serves on this machine; returns only if that cannot be started.
pub(crate) fn run(arguments: &[String]) -> Result<Infallible> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    let daemon = artifacts::release(TCPQ)?;
    let mut command = cmd::as_root(&daemon, &[], "loading eBPF programs needs it")?;
    command.arg("serve").args(arguments);
    cmd::say(cmd::shown(&command));
    Err(command.exec()).context("cannot start the daemon")
}

/// Shows an incident; returns only if that cannot be started.
pub(crate) fn demo(arguments: &[String]) -> Result<Infallible> {
    setup::prepare(Purpose::Build, Freshness::Recent)?;
    let daemon = artifacts::release(TCPQ)?;
    let demo = artifacts::release(DEMO)?;
    let env: [(&str, &OsStr); 1] = [("TCPQ_BIN", daemon.as_os_str())];
    let mut command = cmd::as_root(&demo, &env, "loading eBPF programs needs it")?;
    command.args(arguments);
    cmd::say(cmd::shown(&command));
    Err(command.exec()).context("cannot start the demonstration")
}
