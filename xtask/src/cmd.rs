//! Runs other programs: what is said meanwhile, how long they may take, and
//! what remains of a failure.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// After this long without an end, a quiet step says that it is still going.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A step that took less is not worth a second line.
const WORTH_MENTIONING: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);
/// How much of a failed program's output helps.
const TAIL_LINES: usize = 30;

/// Administrators' folders that a user's `PATH` often lacks.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// One line of progress.
pub(crate) fn say(line: impl AsRef<str>) {
    println!("xtask: {}", line.as_ref());
}

/// Runs a program whose output only matters if it fails.
pub(crate) fn quietly(what: &str, command: &mut Command, limit: Duration) -> Result<()> {
    say(what);
    let start = Instant::now();
    let mut log = scratch_file()?;
    let (out, err) = (log.try_clone()?, log.try_clone()?);
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
    let mut child = OnDropKilled(child.with_context(|| cannot_start(command))?);
    let status = wait(&mut child, what, start, limit)?;
    if !status.success() {
        let mut text = Vec::new();
        log.rewind()?;
        log.read_to_end(&mut text)?;
        bail!("{what}: {status}\n{}", tail(&String::from_utf8_lossy(&text)));
    }
    if start.elapsed() > WORTH_MENTIONING {
        say(format!("{what}: done in {} s", start.elapsed().as_secs()));
    }
    Ok(())
}

/// Runs a program that speaks for itself, such as cargo.
pub(crate) fn openly(what: &str, command: &mut Command) -> Result<ExitStatus> {
    say(what);
    command.status().with_context(|| cannot_start(command))
}

/// Runs a program for what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    if !out.status.success() {
        bail!(
            "{}: {}\n{}",
            shown(command),
            out.status,
            tail(&String::from_utf8_lossy(&out.stderr))
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A child that does not outlive the interest in it.
pub(crate) struct OnDropKilled(pub(crate) Child);

impl Drop for OnDropKilled {
    fn drop(&mut self) {
        // Both fail only if it has already ended and been waited for.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn wait(
    child: &mut OnDropKilled,
    what: &str,
    start: Instant,
    limit: Duration,
) -> Result<ExitStatus> {
    let mut said = start;
    loop {
        if let Some(status) = child.0.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > limit {
            bail!("{what}: not finished after {} s, ended", limit.as_secs());
        }
        if said.elapsed() > HEARTBEAT {
            said = Instant::now();
            say(format!("{what}: {} s", start.elapsed().as_secs()));
        }
        thread::sleep(POLL);
    }
}

/// Where a program lies, in `PATH` or an administrator's folder.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    programs(name).into_iter().next()
}

/// As [`program`], but each of that name, in the order of the folders.
pub(crate) fn programs(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .filter(|file| file.is_file())
        .collect()
}

/// Whether this process may do everything, and what to do about it if not.
pub(crate) enum Power {
    Root,
    /// `sudo` is there to become root.
    Sudo,
    User,
}

pub(crate) fn power() -> Power {
    // The owner of /proc/self is the effective user of this process.
    let root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    match (root, program("sudo")) {
        (true, _) => Power::Root,
        (false, Some(_)) => Power::Sudo,
        (false, None) => Power::User,
    }
}

/// A program that needs root, with its environment: directly, or through `sudo`.
pub(crate) fn as_root(program: &Path, env: &[(&str, &OsStr)], because: &str) -> Result<Command> {
    match power() {
        Power::Root => {
            let mut command = Command::new(program);
            command.envs(env.iter().copied());
            Ok(command)
        }
        Power::Sudo => {
            say(format!("sudo, because {because}"));
            let mut command = Command::new("sudo");
            command.arg("env");
            for (name, value) in env {
                let mut entry = OsStr::new(name).to_owned();
                entry.push("=");
                entry.push(value);
                command.arg(entry);
            }
            command.arg(program);
            Ok(command)
        }
        Power::User => bail!("root is needed ({because}), and sudo is not installed"),
    }
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn cannot_start(command: &Command) -> String {
    format!("cannot run {}", command.get_program().to_string_lossy())
}

/// The last lines of a text.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// A file nobody else sees, so that output of any size can wait for a verdict.
fn scratch_file() -> io::Result<File> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = env::temp_dir().join(format!("xtask-{}-{number}.log", process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_quietly_shows_its_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let error = quietly("try", &mut command, Duration::from_secs(5)).expect_err("exits with 3");
        let text = format!("{error:#}");
        assert!(text.contains("out\nerr") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let mut command = Command::new("sleep");
        let start = Instant::now();
        quietly("sleep", command.arg("30"), Duration::from_millis(200)).expect_err("too slow");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_tail_is_the_end() {
        let text = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert!(tail(&text).starts_with("70\n") && tail(&text).ends_with("99"));
        assert_eq!(tail("one"), "one");
    }
}
