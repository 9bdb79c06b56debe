//! Follows a program's output while it runs, with a deadline that can move closer.

use std::{
    io::{PipeReader, Read as _},
    process::{Command, ExitStatus},
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::cmd::OnDropKilled;

/// How a followed program came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(ExitStatus),
    /// It was killed at the deadline.
    OutOfTime,
}

/// How many chunks may wait; a full queue makes the program wait, which is fine.
const QUEUE: usize = 64;
const CHUNK: usize = 16 * 1024;

/// Runs a program whose output has been directed into a pipe.
///
/// `on_chunk` sees the output as it comes. When it returns a duration, the
/// program has only that long left: its story is over, what follows is epilogue.
pub(crate) fn follow(
    mut command: Command,
    output: PipeReader,
    limit: Option<Duration>,
    mut on_chunk: impl FnMut(&[u8]) -> Option<Duration>,
) -> Result<End> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn().with_context(|| format!("cannot run {name}"))?;
    let mut child = OnDropKilled(child);
    // The command owns our copies of the pipe's writing end: while one lives,
    // the output never ends.
    drop(command);
    let chunks = read_apart(output);
    let after = |limit: Duration| Instant::now().checked_add(limit);
    let mut deadline = limit.and_then(after);
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        match chunks.recv_timeout(left.unwrap_or(Duration::from_hours(1))) {
            Ok(chunk) => {
                if let Some(at) = on_chunk(&chunk).and_then(after) {
                    deadline = Some(deadline.map_or(at, |deadline| deadline.min(at)));
                }
            }
            Err(RecvTimeoutError::Timeout) if left.is_none() => {}
            Err(RecvTimeoutError::Timeout) => return Ok(End::OutOfTime),
            Err(RecvTimeoutError::Disconnected) => return Ok(End::Exited(child.0.wait()?)),
        }
    }
}

/// Reads in a thread of its own, so that the reader's wait can have a deadline.
fn read_apart(mut output: PipeReader) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(QUEUE);
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        loop {
            match output.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(size) if sender.send(buffer[..size].to_vec()).is_err() => return,
                Ok(_) => {}
            }
        }
    });
    receiver
}

/// Cuts chunks into lines, without their ends.
#[derive(Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// The lines that this chunk completes.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Vec<String> {
        self.partial.extend_from_slice(chunk);
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        String::from_utf8_lossy(&whole).lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow_shell(script: &str, limit: Duration) -> (End, Vec<String>) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(writer);
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let end = follow(command, reader, Some(limit), |chunk| {
            seen.extend(lines.push(chunk));
            seen.iter().any(|line| line == "over").then_some(Duration::from_millis(100))
        });
        (end.expect("sh runs"), seen)
    }

    #[test]
    fn a_program_is_followed_to_its_end() {
        let (end, seen) = follow_shell("echo one; echo two; exit 3", Duration::from_secs(20));
        assert!(matches!(end, End::Exited(status) if status.code() == Some(3)));
        assert_eq!(seen, ["one", "two"]);
    }

    #[test]
    fn the_deadline_moves_closer_when_the_story_is_over() {
        let start = Instant::now();
        let (end, _) = follow_shell("echo over; exec sleep 30", Duration::from_mins(1));
        assert_eq!(end, End::OutOfTime);
        assert!(start.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn lines_are_joined_across_chunks() {
        let mut lines = Lines::default();
        assert!(lines.push(b"on").is_empty());
        assert_eq!(lines.push(b"e\r\n\ntw"), ["one", ""]);
        assert_eq!(lines.push(b"o\n"), ["two"]);
    }
}
