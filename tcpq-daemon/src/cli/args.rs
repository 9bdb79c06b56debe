//! The command line. Every flag is also an environment variable, `TCPQ_` and its
//! name in capitals; the flag wins.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};

use crate::{
    app::listen::ListenAddress,
    cli::{
        explain::args::ExplainArgs, incidents::args::IncidentsArgs,
        incidents_settings::IncidentSettings, list::args::ListArgs, pods::PodArgs,
        series::SeriesArgs, top::args::TopArgs,
    },
    kernel::{attach::Limits, facts::Roots, plan::BackendChoice, readout::RunCounting},
    model::{hooks::Backend, self_test::Wish},
};

/// Which TCP listener's SYN queue or accept queue overflows, at which stage, how often.
#[derive(Debug, Parser)]
#[command(
    name = "tcpq",
    version,
    after_help = "Exit codes: 0 success, 1 failure, 2 wrong usage or more than one listener \
                  fits, 3 missing privilege, 4 unsupported kernel, 5 address in use, 6 another \
                  daemon is running."
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Watch all listeners and serve metrics
    Serve(Box<ServeArgs>),
    /// Show the listeners of this host
    List(ListArgs),
    /// Say what limits a listener now, and what would help most
    Explain(ExplainArgs),
    /// Show what happened: incidents, their causes, and what to change
    Incidents(Box<IncidentsArgs>),
    /// Watch the listeners live, those in trouble first
    Top(TopArgs),
    /// Show what this kernel offers, and what each signal rests on
    Doctor(DoctorArgs),
}

#[derive(Debug, ClapArgs)]
pub(super) struct ServeArgs {
    /// TOML file of settings: each key is a flag's name, as in [listener] max = 64. The
    /// environment and flags win over it
    #[arg(long, env = "TCPQ_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Say whether the settings are right, and end
    #[arg(long = "check-config")]
    pub(super) check_config: bool,
    #[command(flatten)]
    pub(super) paths: PathArgs,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
    #[command(flatten)]
    pub(super) self_test: SelfTestArgs,
    #[command(flatten)]
    pub(super) pods: PodArgs,
    #[command(flatten)]
    pub(super) series: SeriesArgs,
    #[command(flatten)]
    pub(super) incidents: IncidentSettings,
    /// Address to listen on; may be given more than once
    #[arg(
        long = "web.listen-address",
        env = "TCPQ_WEB_LISTEN_ADDRESS",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:10391"
    )]
    pub(super) listen: Vec<ListenAddress>,
    /// Listen on the sockets of a systemd socket unit, not on addresses of its own
    #[arg(
        long = "web.systemd-socket",
        env = "TCPQ_WEB_SYSTEMD_SOCKET",
        value_parser = BoolishValueParser::new()
    )]
    pub(super) systemd_socket: bool,
    /// Path of the metrics
    #[arg(
        long = "web.telemetry-path",
        env = "TCPQ_WEB_TELEMETRY_PATH",
        value_name = "PATH",
        default_value = "/metrics",
        value_parser = telemetry_path
    )]
    pub(super) telemetry_path: String,
    /// File with TLS, users and limits of the endpoint, as of all Prometheus exporters; it is
    /// read again when it changes
    #[arg(long = "web.config.file", env = "TCPQ_WEB_CONFIG_FILE", value_name = "FILE")]
    pub(super) web_config: Option<PathBuf>,
    /// How long a listener's counters stay after it closed
    #[arg(
        long = "listener.retention",
        env = "TCPQ_LISTENER_RETENTION",
        value_name = "SECONDS",
        default_value_t = 600
    )]
    pub(super) retention: u64,
    /// Listening sockets tracked at most
    #[arg(
        long = "listener.max",
        env = "TCPQ_LISTENER_MAX",
        value_name = "COUNT",
        default_value_t = Limits::default().listeners,
        value_parser = clap::value_parser!(u32).range(16..=1_048_576)
    )]
    pub(super) max_listeners: u32,
    /// Records per second that one listener may send, per CPU; totals are never limited
    #[arg(
        long = "records.rate",
        env = "TCPQ_RECORDS_RATE",
        value_name = "COUNT",
        default_value_t = Limits::default().records_per_second,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(super) records_per_second: u32,
    #[command(flatten)]
    pub(super) collectors: CollectorArgs,
    /// What to log: error, warn, info or debug
    #[arg(
        long = "log.level",
        env = "TCPQ_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    pub(super) log_level: LogLevel,
}

/// What is read besides the listeners, as exporters name such flags.
#[derive(Debug, ClapArgs)]
pub(super) struct CollectorArgs {
    /// Count the runs of tcpq's own BPF programs and their time (the kernel counts those of all
    /// BPF programs meanwhile, which costs each run two readings of the clock)
    #[arg(
        long = "collector.bpf-stats",
        env = "TCPQ_COLLECTOR_BPF_STATS",
        value_parser = BoolishValueParser::new()
    )]
    bpf_stats: bool,
}

impl CollectorArgs {
    pub(super) fn run_counting(&self) -> RunCounting {
        if self.bpf_stats { RunCounting::On } else { RunCounting::Off }
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    pub(super) paths: PathArgs,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
    #[command(flatten)]
    pub(super) self_test: SelfTestArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct BackendArgs {
    /// Hook the kernel only this way; auto takes the best for each hook
    #[arg(long, env = "TCPQ_BACKEND", value_name = "BACKEND", default_value = "auto")]
    backend: BackendName,
}

#[derive(Debug, ClapArgs)]
pub(super) struct SelfTestArgs {
    /// Do not test the hooks in a network namespace of tcpq's own
    #[arg(
        long = "no-self-test",
        env = "TCPQ_NO_SELF_TEST",
        value_parser = BoolishValueParser::new()
    )]
    no_self_test: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct PathArgs {
    /// Directory of the daemon's lock and unix socket
    #[arg(long = "run-dir", env = "TCPQ_RUN_DIR", value_name = "DIR", default_value = "/run/tcpq")]
    pub(super) run_dir: PathBuf,
    /// Where procfs is mounted
    #[arg(
        long = "path.procfs",
        env = "TCPQ_PATH_PROCFS",
        value_name = "DIR",
        default_value = "/proc"
    )]
    procfs: PathBuf,
    /// Where sysfs is mounted
    #[arg(
        long = "path.sysfs",
        env = "TCPQ_PATH_SYSFS",
        value_name = "DIR",
        default_value = "/sys"
    )]
    sysfs: PathBuf,
    /// Where named network namespaces are
    #[arg(
        long = "path.netns",
        env = "TCPQ_PATH_NETNS",
        value_name = "DIR",
        default_value = "/run/netns"
    )]
    netns: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendName {
    Auto,
    Fentry,
    Kprobe,
    Tracepoint,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

impl BackendArgs {
    pub(super) fn choice(&self) -> BackendChoice {
        match self.backend {
            BackendName::Auto => BackendChoice::Auto,
            BackendName::Fentry => BackendChoice::Only(Backend::Fentry),
            BackendName::Kprobe => BackendChoice::Only(Backend::Kprobe),
            BackendName::Tracepoint => BackendChoice::Only(Backend::Tracepoint),
        }
    }
}

impl SelfTestArgs {
    pub(super) fn wish(&self) -> Wish {
        if self.no_self_test { Wish::Skip } else { Wish::Run }
    }
}

impl PathArgs {
    pub(super) fn roots(&self) -> Roots {
        Roots { procfs: self.procfs.clone(), sysfs: self.sysfs.clone(), netns: self.netns.clone() }
    }
}

/// Paths that the daemon itself serves cannot be the metrics' path.
fn telemetry_path(text: &str) -> Result<String, String> {
    let reserved = ["/healthz", "/readyz"];
    if !text.starts_with('/') {
        return Err("a path begins with /".to_owned());
    }
    if text.contains(['{', '}', '*', '?', '#', ' ']) {
        return Err("a path has no { } * ? # or blanks".to_owned());
    }
    if reserved.contains(&text) || text.starts_with("/api/") {
        return Err("this path is the daemon's for health, readiness or the API".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn telemetry_paths() {
        assert!(telemetry_path("/metrics").is_ok());
        for bad in ["metrics", "/healthz", "/{x}", "/api/v1", "/a b"] {
            assert!(telemetry_path(bad).is_err(), "{bad}");
        }
    }
}
