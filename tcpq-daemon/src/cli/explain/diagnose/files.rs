//! accept() fails for want of a file: each connection is one.

use tcpq_common::totals::AcceptError;

use crate::cli::explain::diagnose::{Case, Finding, Found, rate, seconds};

/// Errors that leave the connection in the queue until something is closed.
const OUT_OF_FILES: [AcceptError; 2] = [AcceptError::Emfile, AcceptError::Enfile];

impl Case<'_> {
    /// Connections wait, and accept() fails to take them. Where none waits, nobody is hurt.
    pub(super) fn out_of_files(&self) -> Option<Found> {
        let window = self.evidence.window.as_ref()?;
        let now = self.evidence.listener.accept_queue.length;
        let waiting = now.max(window.accept_queue_before.length);
        let failures = |error| Some(window.change.accept_errors(error)).filter(|it| *it > 0);
        let (error, count) =
            OUT_OF_FILES.into_iter().find_map(|error| Some((error, failures(error)?)))?;
        if waiting == 0 {
            return None;
        }
        let because = format!(
            "accept() failed {count} times in {} with {}, {} per second, while up to {waiting} \
             connections waited",
            seconds(window.seconds),
            error.label(),
            rate(window, count),
        );
        let program = self.adviser.program();
        let (finding, why, advice) = match error {
            AcceptError::Enfile => (
                Finding::HostOutOfFiles,
                "as many files are open on the host as fs.file-max allows".to_owned(),
                self.adviser.raise_file_max(),
            ),
            _ => (
                Finding::OutOfFiles,
                format!("{program} has as many files open as RLIMIT_NOFILE allows it"),
                self.adviser.raise_nofile(),
            ),
        };
        let queue = "a longer queue would not help: what waits in it is not taken".to_owned();
        Some(Found { finding, because: vec![because, why, queue], advice: Some(advice) })
    }

    /// What failed before, and does not now.
    pub(super) fn failed_before(&self) -> Option<String> {
        let window = self.evidence.window.as_ref()?;
        let total = self.total.as_ref()?;
        let quiet = |error: &AcceptError| window.change.accept_errors(*error) == 0;
        let failed: Vec<_> = OUT_OF_FILES
            .into_iter()
            .filter(quiet)
            .map(|error| (error.label(), total.accept_errors(error)))
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{count} times with {name}"))
            .collect();
        (!failed.is_empty()).then(|| {
            format!(
                "accept() failed {} since it is watched, but not in the last {}",
                failed.join(" and "),
                seconds(window.seconds)
            )
        })
    }
}
