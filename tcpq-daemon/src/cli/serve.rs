//! `tcpq serve`.

use std::{io::IsTerminal as _, time::Duration};

use crate::{
    app::daemon::{self, Settings},
    cli::args::ServeArgs,
    kernel::attach::Limits,
};

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::from(args.log_level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    daemon::run(&Settings {
        roots: args.paths.roots(),
        backend: args.backend.choice(),
        limits: Limits {
            listeners: args.max_listeners,
            records_per_second: args.records_per_second,
            ..Limits::default()
        },
        self_test: args.self_test.wish(),
        run_dir: args.paths.run_dir.clone(),
        listen: args.listen.clone(),
        telemetry_path: args.telemetry_path.clone(),
        web_config: args.web_config.clone(),
        tick: Duration::from_secs(1),
        retention: Duration::from_secs(args.retention),
        pods: args.pods.source(),
        rules: args.series.rules(),
        incidents: args.incidents.incidents(),
        store: args.incidents.store(),
    })
}
