//! The settings of `tcpq serve`: file < environment < flag.

pub(super) mod file;
#[cfg(test)]
mod sample;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use crate::cli::{args::Args, config::file::Keys};

/// What was given, and what of it holds where.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) args: Args,
    pub(super) values: Values,
}

/// The value of each setting of `serve`, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Values(BTreeMap<String, Vec<OsString>>);

impl Values {
    /// Settings that are another's in `other`.
    pub(super) fn changed(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let differs = |name: &&&String| self.0.get(**name) != other.0.get(**name);
        names.iter().filter(differs).map(|name| (*name).clone()).collect()
    }

    /// Takes over one setting of `other`.
    pub(super) fn take(&mut self, name: &str, other: &Self) {
        match other.0.get(name) {
            Some(values) => drop(self.0.insert(name.to_owned(), values.clone())),
            None => drop(self.0.remove(name)),
        }
    }
}

/// Parses a command line, and what its `--config` names.
pub(super) fn parse(line: &[OsString]) -> anyhow::Result<Given> {
    let matches = Args::command().try_get_matches_from(line)?;
    let mut whole = line.to_vec();
    if let Some(("serve", serve)) = matches.subcommand() {
        let mut command = Args::command();
        command.build();
        let command = command.find_subcommand("serve").cloned().unwrap_or_default();
        if let Some(path) = serve.get_one::<std::path::PathBuf>("config") {
            let keys = Keys::read(path, &command)?;
            let id = |key: &str| {
                let argument = command.get_arguments().find(|arg| arg.get_long() == Some(key));
                argument.map(|arg| arg.get_id().clone())
            };
            whole.extend(keys.flags_beside(|key| serve.value_source(id(key)?.as_str())));
        }
    }
    let matches = Args::command().try_get_matches_from(whole)?;
    let args = Args::from_arg_matches(&matches)?;
    let values = match matches.subcommand() {
        Some(("serve", serve)) => values(serve),
        _ => Values::default(),
    };
    Ok(Given { args, values })
}

fn values(serve: &ArgMatches) -> Values {
    let mut command = Args::command();
    command.build();
    let arguments =
        command.find_subcommand("serve").into_iter().flat_map(clap::Command::get_arguments);
    let named = arguments.filter_map(|arg| {
        let raw = serve.try_get_raw(arg.get_id().as_str()).ok()??;
        Some((arg.get_long()?.to_owned(), raw.map(OsStr::to_owned).collect()))
    });
    Values(named.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Command;

    fn line(more: &[&str]) -> Vec<OsString> {
        ["tcpq", "serve"].iter().chain(more).map(OsString::from).collect()
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tcpq.toml");
        let text = "web.listen-address = [\":1\", \":2\"]\nlistener.max = 64\nrecords.rate = 7\n";
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let given = parse(&line(&["--config", path, "--web.listen-address=:9"])).unwrap();
        let Command::Serve(serve) = given.args.command else { panic!("not serve") };
        let listen: Vec<_> = serve.listen.iter().map(ToString::to_string).collect();
        assert_eq!((listen, serve.max_listeners), (vec![":9".to_owned()], 64));
        assert_eq!((serve.records_per_second, serve.retention), (7, 600));

        let other = parse(&line(&["--config", path, "--listener.max=65"])).unwrap();
        let changed = given.values.changed(&other.values);
        assert_eq!(changed, ["listener.max", "web.listen-address"]);
        assert_eq!(given.values.changed(&given.values), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = parse(&line(&["--config", "/none/tcpq.toml"])).unwrap_err();
        assert!(format!("{error:#}").contains("/none/tcpq.toml"), "{error:#}");
    }
}
