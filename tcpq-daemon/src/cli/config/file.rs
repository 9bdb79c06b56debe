//! From a TOML file to flags: each key is a flag's name, tables are its dots, so that
//! `[listener] max = 16` is `--listener.max=16`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{ArgAction, Command, builder::Resettable, parser::ValueSource};
use thiserror::Error;
use toml::{Table, Value};

/// Flags that are no settings.
const NO_KEYS: [&str; 3] = ["config", "check-config", "help"];

/// Why the file cannot be used.
#[derive(Debug, Error)]
#[error("the configuration {path} cannot be used")]
pub(crate) struct ConfigError {
    path: PathBuf,
    #[source]
    reason: Reason,
}

#[derive(Debug, Error)]
enum Reason {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is no TOML: {0}")]
    Syntax(String),
    #[error("{key} is no key{}; `tcpq serve --help` has them all", like.as_ref().map(|like| format!(" (is it {like}?)")).unwrap_or_default())]
    Unknown { key: String, like: Option<String> },
    #[error("{key} is {found}; it takes {wanted}")]
    Kind { key: String, found: &'static str, wanted: &'static str },
    #[error("{key}: {reason}")]
    Value { key: String, reason: String },
}

/// The settings of a file, by flag.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keys(BTreeMap<String, Vec<OsString>>);

impl Keys {
    /// Reads the file; each value is one that its flag takes.
    pub(super) fn read(path: &Path, command: &Command) -> Result<Self, ConfigError> {
        let failed = |reason| ConfigError { path: path.to_owned(), reason };
        let text = fs::read_to_string(path).map_err(|error| failed(Reason::Read(error)))?;
        Self::parse(&text, command).map_err(failed)
    }

    fn parse(text: &str, command: &Command) -> Result<Self, Reason> {
        let table: Table = text.parse().map_err(|error| Reason::Syntax(brief(&error, text)))?;
        let mut flat = Vec::new();
        flatten("", table, &mut flat);
        let mut keys = BTreeMap::new();
        for (key, value) in flat {
            let flags = flags(&key, value, command)?;
            check(&key, &flags, command)?;
            keys.insert(key, flags);
        }
        Ok(Self(keys))
    }

    /// The flags of those keys of which neither a flag nor the environment says anything.
    pub(super) fn flags_beside(
        &self,
        given: impl Fn(&str) -> Option<ValueSource>,
    ) -> Vec<OsString> {
        let is_free = |key: &str| {
            !matches!(given(key), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        };
        let free = self.0.iter().filter(|(key, _)| is_free(key));
        free.flat_map(|(_, flags)| flags.clone()).collect()
    }
}

/// One line, with the line's number.
fn brief(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map(|span| text.get(..span.start).unwrap_or(text).lines().count());
    let line = line.map(|line| format!("line {}: ", line.max(1))).unwrap_or_default();
    format!("{line}{}", error.message())
}

fn flatten(prefix: &str, table: Table, into: &mut Vec<(String, Value)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(table) => flatten(&key, table, into),
            value => into.push((key, value)),
        }
    }
}

fn flags(key: &str, value: Value, command: &Command) -> Result<Vec<OsString>, Reason> {
    let long = |arg: &clap::Arg| arg.get_long() == Some(key);
    let known = || command.get_arguments().filter_map(clap::Arg::get_long);
    let argument = command.get_arguments().find(|arg| long(arg) && !NO_KEYS.contains(&key));
    let Some(argument) = argument else {
        let like = known()
            .map(|name| (strsim::jaro(name, key), name))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|(a, _), (b, _)| a.total_cmp(b));
        let like = like.map(|(_, name)| name.to_owned());
        return Err(Reason::Unknown { key: key.to_owned(), like });
    };
    let wrong =
        |value: &Value, wanted| Reason::Kind { key: key.to_owned(), found: kind(value), wanted };
    if !argument.get_action().takes_values() {
        return match value {
            Value::Boolean(true) => Ok(vec![format!("--{key}").into()]),
            Value::Boolean(false) => Ok(Vec::new()),
            other => Err(wrong(&other, "true or false")),
        };
    }
    let is_list = matches!(argument.get_action(), ArgAction::Append);
    match value {
        Value::Array(values) if is_list => {
            let one = |value: &Value| match text(value) {
                Some(text) => Ok(format!("--{key}={text}").into()),
                None => Err(wrong(value, "a list of texts or numbers")),
            };
            values.iter().map(one).collect()
        }
        value => match text(&value) {
            Some(text) => Ok(vec![format!("--{key}={text}").into()]),
            None if is_list => Err(wrong(&value, "a text, a number, or a list of them")),
            None => Err(wrong(&value, "a text or a number")),
        },
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// Alone, so that the error is of this key.
fn check(key: &str, flags: &[OsString], command: &Command) -> Result<(), Reason> {
    let line = std::iter::once(OsString::from("tcpq")).chain(flags.iter().cloned());
    // The environment is checked with the command line.
    let alone = command.clone().mut_args(|arg| arg.env(Resettable::Reset));
    alone.try_get_matches_from(line).map(drop).map_err(|error| {
        let rendered = error.render().to_string();
        let first = rendered.lines().next().unwrap_or_default();
        let reason = first.trim_start_matches("error: ").to_owned();
        Reason::Value { key: key.to_owned(), reason }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Args;

    fn serve() -> Command {
        Args::command().find_subcommand("serve").unwrap().clone()
    }

    fn parse(text: &str) -> Result<Vec<OsString>, String> {
        let keys = Keys::parse(text, &serve()).map_err(|reason| reason.to_string())?;
        Ok(keys.flags_beside(|_| None))
    }

    #[test]
    fn keys_are_flags() {
        let text = "
backend = \"kprobe\"
no-self-test = true
[web]
listen-address = [\"127.0.0.1:1\", \":2\"]
telemetry-path = \"/m\"
[listener]
max = 64
include = \"port:80 port:443\"
";
        let flags = parse(text).unwrap();
        assert_eq!(
            flags,
            [
                "--backend=kprobe",
                "--listener.include=port:80 port:443",
                "--listener.max=64",
                "--no-self-test",
                "--web.listen-address=127.0.0.1:1",
                "--web.listen-address=:2",
                "--web.telemetry-path=/m",
            ]
        );
        assert_eq!(parse("no-self-test = false").unwrap(), Vec::<OsString>::new());
        assert_eq!(parse("web.telemetry-path = \"/m\"").unwrap(), ["--web.telemetry-path=/m"]);
    }

    #[test]
    fn what_a_flag_or_the_environment_says_wins() {
        let keys = Keys::parse("backend = \"kprobe\"\nlistener.max = 64", &serve()).unwrap();
        let given = |key: &str| match key {
            "backend" => Some(ValueSource::EnvVariable),
            "listener.max" => Some(ValueSource::DefaultValue),
            _ => None,
        };
        assert_eq!(keys.flags_beside(given), ["--listener.max=64"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        for (text, words) in [
            ("lisener.max = 3", "lisener.max is no key (is it listener.max?)"),
            ("zzz = 3", "zzz is no key;"),
            ("config = \"x\"", "config is no key"),
            ("listener.max = 3", "listener.max: invalid value '3'"),
            ("listener.max = true", "listener.max is true or false; it takes a text or a number"),
            ("no-self-test = 1", "no-self-test is a number; it takes true or false"),
            ("listener.include = [[1]]", "listener.include is a list; it takes"),
            ("backend = \"magic\"", "backend: invalid value 'magic'"),
            ("web.telemetry-path = \"x\"", "a path begins with /"),
            ("a = 1\nb =\n", "line 2"),
            ("backend = \"auto\"\nbackend = \"auto\"", "duplicate key"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
