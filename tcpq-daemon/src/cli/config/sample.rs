//! The file that is shipped: every setting with its meaning and its default.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, CommandFactory as _};

use crate::cli::{args::Args, config::file::Keys, text::wrap};

const HEAD: &str = "\
# Settings of tcpq serve. A flag of the same name wins over a line here, and so does the
# environment: TCPQ_ and the name in capitals, with _ for dots and hyphens. The names may be
# written as tables, too: [web] and telemetry-path = \"/metrics\". Whether this file is right:
#     tcpq serve --check-config --config FILE
# After a change, systemctl reload tcpq applies log.level and says what needs a restart.
";

/// As `deploy/tcpq.toml` has to be.
fn sample() -> String {
    let mut command = Args::command();
    command.build();
    let serve = command.find_subcommand("serve").unwrap();
    let mut text = HEAD.to_owned();
    let no_keys = ["config", "check-config", "help"];
    for arg in serve.get_arguments() {
        let Some(key) = arg.get_long().filter(|key| !no_keys.contains(key)) else { continue };
        text.push('\n');
        for line in wrap(&arg.get_help().unwrap().to_string(), 95) {
            writeln!(text, "# {line}").unwrap();
        }
        let names: Vec<_> =
            arg.get_possible_values().iter().map(|it| it.get_name().to_owned()).collect();
        if !names.is_empty() && arg.get_action().takes_values() {
            writeln!(text, "# One of: {}", names.join(", ")).unwrap();
        }
        let unit = arg.get_value_names().and_then(<[_]>::first).filter(|_| names.is_empty());
        if !arg.get_action().takes_values() {
            writeln!(text, "# Takes: true or false").unwrap();
        } else if let Some(unit) = unit {
            writeln!(text, "# Takes: {unit}").unwrap();
        }
        match default(arg) {
            Some(value) => writeln!(text, "#{key} = {value}").unwrap(),
            None => writeln!(text, "# Not set by default.\n#{key} = {UNSET}").unwrap(),
        }
    }
    text
}

/// Stands for the value of a setting that has none by default.
const UNSET: &str = "\"...\"";

fn default(arg: &Arg) -> Option<String> {
    if !arg.get_action().takes_values() {
        return Some("false".to_owned());
    }
    let quoted = |text: &str| {
        if text.parse::<f64>().is_ok() { text.to_owned() } else { format!("{text:?}") }
    };
    let values: Vec<_> =
        arg.get_default_values().iter().map(|value| quoted(value.to_str().unwrap())).collect();
    match arg.get_action() {
        ArgAction::Append => Some(format!("[{}]", values.join(", "))),
        _ => values.first().cloned(),
    }
}

#[test]
fn the_file_that_is_shipped_has_every_setting() {
    let expected = sample();
    let shipped = include_str!("../../../../deploy/tcpq.toml");
    if shipped != expected {
        let path = std::env::temp_dir().join("tcpq.toml");
        std::fs::write(&path, &expected).unwrap();
        panic!("deploy/tcpq.toml is not as it should be; {} is", path.display());
    }
}

#[test]
fn its_defaults_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tcpq.toml");
    let text = sample();
    let lines = text.lines().filter(|line| !line.ends_with(UNSET)).map(|line| {
        let setting = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
        setting.unwrap_or(line)
    });
    let lines: Vec<_> = lines.collect();
    let lines = lines.join("\n");
    std::fs::write(&path, lines).unwrap();
    let mut command = Args::command();
    command.build();
    Keys::read(&path, command.find_subcommand("serve").unwrap()).unwrap();
}
