//! Work on other threads while the case goes on, until the case says that it is over.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::Result;

use crate::netns;

/// Says when to end.
#[derive(Debug, Default)]
pub struct Over(AtomicBool);

impl Over {
    /// Whether it is.
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn declare(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Work for a thread, which ends soon after it is over.
pub type Work<'a> = Box<dyn FnOnce(&Over) -> Result<()> + Send + 'a>;

/// Runs `main` on this thread and each of `works` on one of its own. When `main`
/// has ended, however it did, it is over for the others, and they are waited for.
pub fn beside<T>(works: Vec<Work<'_>>, main: impl FnOnce() -> Result<T>) -> Result<T> {
    let over = Over::default();
    thread::scope(|scope| {
        let over = &over;
        // Before the threads, so that a failure to start one ends the others.
        let ending = Ending(over);
        let threads: Vec<_> =
            works.into_iter().map(|work| scope.spawn(move || work(over))).collect();
        let result = main();
        drop(ending);
        for thread in threads {
            netns::joined(thread.join())?;
        }
        result
    })
}

/// Declares it over when dropped: a scope waits for its threads for ever.
struct Ending<'a>(&'a Over);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.declare();
    }
}

/// The same work on several threads, each with its number; all to their end.
pub fn on_threads(count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        // All are waited for before the first error is passed on.
        let outcomes: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        outcomes.into_iter().try_for_each(netns::joined)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use anyhow::bail;

    use super::*;

    fn until_over() -> Work<'static> {
        Box::new(|over| {
            while !over.is_so() {
                thread::yield_now();
            }
            Ok(())
        })
    }

    #[test]
    fn it_is_over_when_the_case_ends_or_fails() {
        assert_eq!(beside(vec![until_over(), until_over()], || Ok(7)).unwrap(), 7);
        let failed: Result<()> = beside(vec![until_over()], || bail!("no"));
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }

    #[test]
    fn the_failure_of_a_thread_is_the_cases() {
        let works: Vec<Work<'_>> = vec![until_over(), Box::new(|_| bail!("a thread failed"))];
        assert_eq!(beside(works, || Ok(())).unwrap_err().to_string(), "a thread failed");
    }

    #[test]
    fn every_thread_has_a_number() {
        let sum = AtomicU32::new(0);
        on_threads(3, |number| {
            sum.fetch_add(1 << number, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(sum.into_inner(), 0b111);
        assert!(on_threads(2, |number| if number == 1 { bail!("no") } else { Ok(()) }).is_err());
    }
}
