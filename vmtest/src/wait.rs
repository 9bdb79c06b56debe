//! Waiting for something to be so, never for time to pass.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Between two looks. Short against every deadline, long against one look.
const PAUSE: Duration = Duration::from_millis(10);

/// Reads that must agree before a counter counts as settled. Together with the
/// pause this outlasts a softirq that was put off to `ksoftirqd`.
const STEADY_READS: u32 = 8;

/// The pause between two bursts of a load that shall leave others some CPU. Not a
/// wait: nothing may depend on how long it takes.
pub fn pace() {
    thread::sleep(PAUSE);
}

/// Looks until `look` finds something; an error ends the wait at once.
///
/// `look` must ask for a level ("is it so?"), which cannot be missed, and never
/// for an edge ("did it just happen?").
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > deadline {
            bail!("waited {} s in vain: {what}", deadline.as_secs());
        }
        thread::sleep(PAUSE);
    }
}

/// Looks until `look` finds it so.
pub fn until_true(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, deadline, || Ok(look()?.then_some(())))
}

/// Looks until the same value came several times in a row.
pub fn until_steady<T: PartialEq + Copy>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut last = look()?;
    let mut repeats = 0;
    until(what, deadline, || {
        let now = look()?;
        repeats = if now == last { repeats + 1 } else { 0 };
        last = now;
        Ok((repeats >= STEADY_READS).then_some(now))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_needs_repeats_in_a_row() {
        let mut values = [1, 2, 2, 3].into_iter().chain(std::iter::repeat(9));
        let steady = until_steady("a value", Duration::from_secs(5), || {
            Ok(values.next().unwrap_or_default())
        });
        assert_eq!(steady.unwrap(), 9);
    }

    #[test]
    fn a_deadline_names_what_was_waited_for() {
        let error = until::<()>("the moon", Duration::ZERO, || Ok(None)).unwrap_err().to_string();
        assert_eq!(error, "waited 0 s in vain: the moon");
    }
}
