//! Writes the manual pages and the shells' completions of `tcpq` into a folder: `man` and
//! `completions`. Not a command of `tcpq` itself, which would carry it about.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap_complete::Shell;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.context("say into which folder: tcpq-pages FOLDER")?;
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    clap_mangen::generate_to(tcpq::cli::command(), &man).context("no manual pages")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut tcpq::cli::command(), "tcpq", &completions)
            .with_context(|| format!("no completions for {shell}"))?;
    }
    Ok(())
}
