//! `tcpq serve`.

use std::{
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::Context as _;
use tracing_subscriber::{
    Registry, filter::LevelFilter, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::{
    app::{
        daemon::{self, Listen, Settings},
        reload::{Reload, Reloaded},
    },
    cli::{
        args::{Command, LogLevel, ServeArgs},
        config::{self, Values},
    },
    kernel::attach::Limits,
    serve::web::Web,
};

/// The one setting that can change while the daemon runs; the web configuration is a file of
/// its own, which is read again whenever it changes.
const LOG_LEVEL: &str = "log.level";

/// How the settings are read again.
pub(super) struct Reloading {
    line: Vec<OsString>,
    /// Those that hold.
    values: Values,
    level: Option<reload::Handle<LevelFilter, Registry>>,
}

impl Reloading {
    /// Of this command line, which gave these.
    pub(super) const fn new(line: Vec<OsString>, values: Values) -> Self {
        Self { line, values, level: None }
    }
}

impl Reload for Reloading {
    fn reload(&mut self) -> anyhow::Result<Reloaded> {
        let given = config::parse(&self.line)?;
        let (applied, needs_restart): (Vec<_>, Vec<_>) =
            self.values.changed(&given.values).into_iter().partition(|name| name == LOG_LEVEL);
        if let (Command::Serve(args), Some(level)) = (&given.args.command, &self.level) {
            level.reload(filter(args.log_level)).context("the log's level cannot be changed")?;
        }
        self.values.take(LOG_LEVEL, &given.values);
        Ok(Reloaded { applied, needs_restart })
    }
}

pub(super) fn run(args: &ServeArgs, mut reloading: Reloading) -> anyhow::Result<()> {
    if args.check_config {
        if let Some(file) = &args.web_config {
            Web::open(file)?;
        }
        writeln!(std::io::stdout(), "the settings are right")?;
        return Ok(());
    }
    let (level, handle) = reload::Layer::new(filter(args.log_level));
    reloading.level = Some(handle);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(level).with(lines).init();
    let settings = Settings {
        roots: args.paths.roots(),
        backend: args.backend.choice(),
        limits: Limits {
            listeners: args.max_listeners,
            records_per_second: args.records_per_second,
            ..Limits::default()
        },
        self_test: args.self_test.wish(),
        run_counting: args.collectors.run_counting(),
        run_dir: args.paths.run_dir.clone(),
        listen: if args.systemd_socket {
            Listen::Inherited
        } else {
            Listen::On(args.listen.clone())
        },
        telemetry_path: args.telemetry_path.clone(),
        web_config: args.web_config.clone(),
        tick: Duration::from_secs(1),
        retention: Duration::from_secs(args.retention),
        pods: args.pods.source(),
        rules: args.series.rules(),
        incidents: args.incidents.incidents(),
        store: args.incidents.store(),
    };
    daemon::run(&settings, Box::new(reloading))
}

fn filter(level: LogLevel) -> LevelFilter {
    LevelFilter::from_level(level.into())
}
