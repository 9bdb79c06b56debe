//! Understands a guest's console: did the kernel come up, how did the command
//! end, is the kernel in trouble. Pure.

use crate::{protocol, report::Counts, stream::Lines};

/// How far a guest has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    Booting,
    /// Init runs, on a kernel of this release.
    Up {
        release: String,
    },
    Ended {
        release: String,
        code: i32,
    },
}

/// Everything heard so far.
#[derive(Default)]
pub(crate) struct Console {
    lines: Lines,
    pub(crate) stage: Stage,
    /// The kernel's words, when it reports that it is broken or stuck.
    pub(crate) trouble: Option<String>,
    /// The sum of the test results, once there is one.
    pub(crate) counts: Option<Counts>,
}

impl Console {
    /// Takes in what the guest printed, and returns the lines it completed.
    pub(crate) fn hear(&mut self, chunk: &[u8]) -> Vec<String> {
        let lines = self.lines.push(chunk);
        for line in &lines {
            self.understand(line);
        }
        lines
    }

    fn understand(&mut self, line: &str) {
        // Not at the start only: firmware leaves escape codes on the line.
        if let Some((_, release)) = line.split_once(protocol::UP) {
            self.stage = Stage::Up { release: release.to_owned() };
        } else if let Some((_, code)) = line.split_once(protocol::EXIT)
            && let Stage::Up { release } = &self.stage
            && let Ok(code) = code.parse()
        {
            self.stage = Stage::Ended { release: release.clone(), code };
        }
        if let Some(counts) = Counts::parse(line) {
            *self.counts.get_or_insert_default() += counts;
        }
        if self.trouble.is_none() {
            self.trouble = kernel_trouble(line).map(str::to_owned);
        }
    }

    /// The release of the kernel that booted, if one did.
    pub(crate) fn release(&self) -> Option<&str> {
        match &self.stage {
            Stage::Booting => None,
            Stage::Up { release } | Stage::Ended { release, .. } => Some(release),
        }
    }
}

/// The kernel's words for: nothing good will come after this.
const TROUBLES: [&str; 7] = [
    "Kernel panic",
    "BUG: ",
    "Oops: ",
    "general protection fault",
    "self-detected stall",
    "detected stalls on CPUs",
    "blocked for more than",
];

/// The message, if the line is the kernel's and tells of trouble.
///
/// Only after a kernel timestamp, because tests may print such words themselves.
fn kernel_trouble(line: &str) -> Option<&str> {
    let message = line.match_indices('[').find_map(|(at, _)| {
        let (stamp, message) = line[at + 1..].split_once("] ")?;
        let (seconds, micros) = stamp.trim_start().split_once('.')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        (digits(seconds) && micros.len() == 6 && digits(micros)).then_some(message)
    })?;
    TROUBLES.iter().any(|trouble| message.contains(trouble)).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &str) -> Console {
        let mut console = Console::default();
        // In small pieces, as a serial port delivers them.
        for chunk in text.as_bytes().chunks(7) {
            console.hear(chunk);
        }
        console
    }

    #[test]
    fn a_guest_that_reports_is_understood() {
        let console = heard(
            "\u{1b}c\u{1b}[?7ltcpq-init: up 6.1.0-56-cloud-amd64\r\n\
             running 2 tests\r\ntest result: ok. 2 passed; 0 failed; 0 ignored\r\n\
             \r\ntcpq-init: exit 0\r\n",
        );
        let release = "6.1.0-56-cloud-amd64".to_owned();
        assert_eq!(console.stage, Stage::Ended { release, code: 0 });
        assert_eq!(console.counts, Some(Counts { passed: 2, failed: 0 }));
        assert_eq!(console.trouble, None);
    }

    #[test]
    fn a_guest_that_never_came_up_has_no_release() {
        let console = heard("[    0.000001] Kernel panic - not syncing: no init found\n");
        assert_eq!(console.stage, Stage::Booting);
        assert_eq!(console.release(), None);
        assert!(console.trouble.is_some());
    }

    #[test]
    fn an_exit_before_init_came_up_is_not_believed() {
        assert_eq!(heard("tcpq-init: exit 0\n").stage, Stage::Booting);
        let torn = heard("tcpq-init: up 6.1\ntcpq-init: exit 0[   12.1\n");
        assert_eq!(torn.stage, Stage::Up { release: "6.1".to_owned() });
    }

    #[test]
    fn trouble_is_the_kernels_word_not_a_tests() {
        let stuck = "[   48.123456] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!";
        assert_eq!(kernel_trouble(stuck), stuck.split_once("] ").map(|(_, message)| message));
        let torn = format!("test half a line ... {stuck}");
        assert!(kernel_trouble(&torn).is_some());
        let stall = "[   60.000000] rcu: INFO: rcu_sched self-detected stall on CPU";
        assert!(kernel_trouble(stall).is_some());
        assert_eq!(kernel_trouble("explains Kernel panic and BUG: lines ... ok"), None);
        assert_eq!(kernel_trouble("[    1.000000] EXT4-fs mounted"), None);
    }
}
