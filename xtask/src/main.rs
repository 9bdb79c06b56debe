//! `cargo xtask`: what a developer, or CI, does with this repository.
//!
//! `setup` prepares the machine, `run` and `demo` start the daemon, `test`
//! proves it on this machine and on a matrix of kernels, `bench` measures what it
//! costs, `vm` opens one of those kernels to look around in. Every task that needs something brings it.

mod accel;
mod apt;
mod artifacts;
mod bench;
mod cmd;
mod console;
mod debian;
mod dist;
#[path = "../../tcpq-daemon/build/toolchain.rs"]
mod ebpf_toolchain;
mod failures;
#[path = "../../vmtest/src/fleet/words.rs"]
mod fleet_words;
mod foreign;
mod guest;
mod initramfs;
mod kernels;
mod launch;
mod linked;
mod matrix;
mod notices;
mod packages;
mod planes;
#[path = "../../vmtest/src/init/protocol.rs"]
mod protocol;
mod qemu;
mod report;
#[path = "../../vmtest/src/measure/line.rs"]
mod said;
mod sbom;
mod setup;
mod store;
mod stream;
mod suites;
mod supply;
mod versions;
mod vm;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    bench::{Bench, Effort, Wanted},
    kernels::Series,
    planes::{Depth, Plane},
    setup::Purpose,
    store::Freshness,
};

/// tcpq's developer tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, or testing, needs and the machine lacks
    Setup(SetupArgs),
    /// Build the daemon and serve on this machine
    Run(LaunchArgs),
    /// Build the daemon and show it a real incident
    Demo(LaunchArgs),
    /// Check, test, and prove the daemon against real kernels
    Test(TestArgs),
    /// Measure what tcpq costs, and write docs/bench
    Bench(BenchArgs),
    /// Build what is released, into target/dist
    Dist,
    /// Write what the shipped binary is made of, as CycloneDX
    Sbom(FileArgs),
    /// Write the licences of what the shipped binary is made of
    Notices(FileArgs),
    /// Boot one kernel of the matrix and run a command inside it
    Vm(VmArgs),
}

#[derive(Args)]
struct SetupArgs {
    /// What to prepare for
    #[arg(long = "for", value_enum, default_value_t = Purpose::Build)]
    purpose: Purpose,
    /// Look for newer kernels even if the known ones are recent (with --for test)
    #[arg(long)]
    refresh: bool,
}

#[derive(Args)]
struct LaunchArgs {
    /// Passed on
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Args)]
struct TestArgs {
    /// Which part to test
    #[arg(value_enum, default_value_t = Plane::All)]
    plane: Plane,
    /// Boot this kernel instead of the default set; may be repeated
    #[arg(long = "kernel", value_name = "SERIES", value_parser = kernels::find)]
    kernels: Vec<&'static Series>,
    /// Run the long tests at their whole size, and boot every kernel of the matrix unless some
    /// are named
    #[arg(long)]
    full: bool,
}

#[derive(Args)]
struct BenchArgs {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    benches: Vec<Bench>,
    /// Measure in a guest with this kernel instead of the published ones; may be repeated
    #[arg(long = "kernel", value_name = "SERIES", value_parser = kernels::find)]
    kernels: Vec<&'static Series>,
    /// One short round without peers, to see what a change does
    #[arg(long)]
    quick: bool,
}

#[derive(Args)]
struct FileArgs {
    /// The file to write
    #[arg(long = "to", value_name = "FILE")]
    to: PathBuf,
}

#[derive(Args)]
struct VmArgs {
    /// The kernel to boot
    #[arg(long, value_name = "SERIES", value_parser = kernels::find, required_unless_present = "list")]
    kernel: Option<&'static Series>,
    /// Print the matrix and what of it is cached
    #[arg(long, conflicts_with = "kernel")]
    list: bool,
    /// The command to run inside [default: a shell]; `busybox ...` needs no build of the daemon
    #[arg(last = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup(args) => {
            let freshness = if args.refresh { Freshness::Renewed } else { Freshness::Recent };
            setup::prepare(args.purpose, freshness).map(|()| ExitCode::SUCCESS)
        }
        Task::Run(args) => launch::run(&args.arguments).map(|never| match never {}),
        Task::Demo(args) => launch::demo(&args.arguments).map(|never| match never {}),
        Task::Test(args) => {
            let depth = if args.full { Depth::Full } else { Depth::Default };
            Ok(planes::test(args.plane, depth, &depth.kernels(&args.kernels)))
        }
        Task::Bench(args) => {
            let effort = if args.quick { Effort::Quick } else { Effort::Whole };
            Ok(bench::run(&args.benches, &Wanted { kernels: args.kernels, effort }))
        }
        Task::Dist => dist::run().map(|()| ExitCode::SUCCESS),
        Task::Sbom(args) => sbom::write(&args.to).map(|()| ExitCode::SUCCESS),
        Task::Notices(args) => notices::write(&args.to).map(|()| ExitCode::SUCCESS),
        Task::Vm(args) => match args.kernel {
            Some(series) => vm::enter(series, &args.command),
            None => vm::list().map(|()| ExitCode::SUCCESS),
        },
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
