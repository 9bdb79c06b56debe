//! What a kernel says when it refuses a hook.

use aya::programs::ProgramError;

/// Why a hook was not attached.
#[derive(Debug)]
pub(super) struct Refusal {
    /// In words.
    pub(super) text: String,
    /// What else it is true of.
    pub(super) extent: Extent,
}

/// What a refusal is true of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// This hook.
    Hook,
    /// Every program of this kind: the caller, or the whole kernel, may not load one.
    Backend,
}

impl Refusal {
    /// Of one hook, in our words.
    pub(super) fn of_hook(text: String) -> Self {
        Self { text, extent: Extent::Hook }
    }
}

impl From<ProgramError> for Refusal {
    fn from(error: ProgramError) -> Self {
        let is_forbidden = matches!(&error, ProgramError::LoadError { io_error, verifier_log }
            if io_error.kind() == std::io::ErrorKind::PermissionDenied
                && verifier_log.to_string().is_empty());
        let extent = if is_forbidden { Extent::Backend } else { Extent::Hook };
        Self { text: text(&error), extent }
    }
}

/// Kernel-internal, include/linux/errno.h; bpf(2) lets it out, and libc has no text
/// for it.
const ENOTSUPP: i32 = 524;

/// The kernel's answer in one line: its error, and of the verifier's log the line
/// that says why.
fn text(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        return match verdict(&verifier_log.to_string()) {
            Some(line) => format!("load refused: {io_error}: {line}"),
            None => format!("load refused: {io_error}"),
        };
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let io = cause.downcast_ref::<std::io::Error>();
    if io.and_then(std::io::Error::raw_os_error) == Some(ENOTSUPP) {
        return "attach refused: not supported for this function (ENOTSUPP)".to_owned();
    }
    format!("attach refused: {}", cause.to_string().lines().next().unwrap_or_default())
}

/// The verifier gives its reason last, but for its statistics.
fn verdict(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_before_the_statistics() {
        let log = "0: (79) r6 = *(u64 *)(r1 +16)\n\
                   R1 invalid mem access 'inv'\n\
                   processed 3913 insns (limit 1000000) max_states_per_insn 7\n\n";
        assert_eq!(verdict(log), Some("R1 invalid mem access 'inv'"));
        assert_eq!(verdict(""), None);
    }
}
