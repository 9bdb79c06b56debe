//! The flags that decide which series there are.

use clap::{Args as ClapArgs, ValueEnum};

use crate::{
    engine::groups::placement::{EphemeralPorts, Rules},
    model::filter::{Filters, Patterns},
};

#[derive(Debug, ClapArgs)]
pub(super) struct SeriesArgs {
    /// Show only listeners that match: port:80, port:8000-8999, address:10.0.0.0/8, or a
    /// glob as in netns:web-*, process:nginx*, cgroup:/system.slice/*. May be given more than
    /// once; one match is enough. Blanks separate patterns; in a glob, ? stands for one
    #[arg(
        long = "listener.include",
        env = "TCPQ_LISTENER_INCLUDE",
        value_name = "KIND:PATTERN",
        value_parser = str::parse::<Patterns>
    )]
    include: Vec<Patterns>,
    /// Do not show listeners that match; as --listener.include, and wins over it
    #[arg(
        long = "listener.exclude",
        env = "TCPQ_LISTENER_EXCLUDE",
        value_name = "KIND:PATTERN",
        value_parser = str::parse::<Patterns>
    )]
    exclude: Vec<Patterns>,
    /// Listeners on ports of net.ipv4.ip_local_port_range: one group for each network
    /// namespace and process, or one for each port
    #[arg(
        long = "listener.ephemeral",
        env = "TCPQ_LISTENER_EPHEMERAL",
        value_name = "HOW",
        default_value = "fold"
    )]
    ephemeral: EphemeralArg,
    /// Groups with series of their own at most; what is beyond them is in one, ~other
    #[arg(
        long = "listener.max-groups",
        env = "TCPQ_LISTENER_MAX_GROUPS",
        value_name = "COUNT",
        default_value_t = 2000,
        value_parser = clap::value_parser!(u32).range(1..=1_048_576)
    )]
    max_groups: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EphemeralArg {
    Fold,
    Keep,
}

impl SeriesArgs {
    pub(super) fn rules(&self) -> Rules {
        let patterns =
            |given: &[Patterns]| given.iter().flat_map(|given| given.0.clone()).collect();
        Rules {
            ephemeral: match self.ephemeral {
                EphemeralArg::Fold => EphemeralPorts::Fold,
                EphemeralArg::Keep => EphemeralPorts::Keep,
            },
            max_groups: self.max_groups as usize,
            filters: Filters { include: patterns(&self.include), exclude: patterns(&self.exclude) },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        series: SeriesArgs,
    }

    fn parse(args: &[&str]) -> Result<Rules, clap::Error> {
        let args = std::iter::once("tcpq").chain(args.iter().copied());
        Only::try_parse_from(args).map(|only| only.series.rules())
    }

    #[test]
    fn by_default_ephemeral_ports_are_folded_and_all_is_shown() {
        let rules = parse(&[]).unwrap();
        assert_eq!((rules.ephemeral, rules.max_groups), (EphemeralPorts::Fold, 2000));
        assert!(rules.filters.is_empty());
    }

    #[test]
    fn flags_add_up() {
        let rules = parse(&[
            "--listener.include=port:80 port:443",
            "--listener.include",
            "process:nginx*",
            "--listener.exclude=netns:test-*",
            "--listener.ephemeral=keep",
            "--listener.max-groups=10",
        ])
        .unwrap();
        assert_eq!((rules.ephemeral, rules.max_groups), (EphemeralPorts::Keep, 10));
        assert_eq!((rules.filters.include.len(), rules.filters.exclude.len()), (3, 1));
    }

    #[test]
    fn a_wrong_pattern_is_told_with_its_flag() {
        let error = parse(&["--listener.exclude=port:80,443"]).unwrap_err().to_string();
        for part in ["--listener.exclude", "`port:80,443`", "once for each", "port:8000-8999"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
