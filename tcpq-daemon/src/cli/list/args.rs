//! The flags of `tcpq list`.

use clap::{Args as ClapArgs, ValueEnum};

use crate::cli::{
    ask::AskArgs,
    list::filter::{AddressRange, NameGlob, PortRange},
};

/// What to do where the terminal is narrow, and what filters do.
const MORE: &str = "\
Filters of one kind add up, those of different kinds narrow down. A filter that nothing \
matches is no failure: stderr says so, the exit code is 0.

WAIT P99 is how long 99 of 100 connections waited for accept() at most, since the listener is \
known: an estimate. Of those that waited longer than 90 s it says no more.

Where the terminal (or COLUMNS, if set) is narrow, columns go in this order: BACKLOG; WAIT \
P99; the three stages of OVERFLOWS become their sum; UNIT/CONTAINER; SYN-Q; PID; DROPS. Then names \
are cut in the middle. Numbers and addresses never are. Where the output is no terminal \
and COLUMNS is not set, all is shown in full.";

#[derive(Debug, ClapArgs)]
#[command(after_long_help = MORE)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    pub(super) ask: AskArgs,
    /// Order of the listeners
    #[arg(long, value_name = "ORDER", default_value = "trouble")]
    pub(super) sort: Order,
    /// Turn the order round
    #[arg(long)]
    pub(super) reverse: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) filters: FilterArgs,
}

#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Filters; repeatable")]
pub(in crate::cli) struct FilterArgs {
    /// Only listeners on this port, or on these: 80, 8000-8999
    #[arg(long, value_name = "PORTS")]
    pub(super) port: Vec<PortRange>,
    /// Only listeners on this address, or in this network: 127.0.0.1, 10.0.0.0/8
    #[arg(long, value_name = "ADDRESS")]
    pub(super) address: Vec<AddressRange>,
    /// Only listeners in network namespaces named like this
    #[arg(id = "of_netns", long = "netns", value_name = "GLOB")]
    pub(super) netns: Vec<NameGlob>,
    /// Only listeners of processes named like this
    #[arg(long, value_name = "GLOB")]
    pub(super) process: Vec<NameGlob>,
    /// Only listeners of processes in control groups with a path like this; * matches / too
    #[arg(long, value_name = "GLOB")]
    pub(super) cgroup: Vec<NameGlob>,
    /// Only listeners that have overflowed, or that are full now
    #[arg(long)]
    pub(super) overflowing: bool,
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Order {
    /// Most overflows and drops, then the fullest accept queue, then by address
    Trouble,
    /// Lowest address and port
    Address,
    /// Name of the process
    Process,
    /// Name of the network namespace
    Netns,
    /// Fullest accept queue
    Queue,
    /// Most overflows
    Overflows,
}
