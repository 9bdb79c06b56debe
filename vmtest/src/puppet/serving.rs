//! How a puppet serves who comes: quickly, or as programs do that have incidents.

use std::{io, time::Duration};

use anyhow::{Context as _, Result};
use socket2::Socket;

use super::orders::Manner;
use crate::{sockets, sockets::Listener, wait};

/// Serves until accept() fails in a way that no server would live with.
pub(super) fn serve(listener: &Listener, manner: Manner) {
    let mut kept = Vec::new();
    while let Ok(()) = turn(listener, manner, &mut kept) {
        wait::pace();
    }
}

/// Takes all that waits.
fn turn(listener: &Listener, manner: Manner, kept: &mut Vec<Socket>) -> Result<()> {
    while let Some(connection) = accept(listener)? {
        match manner {
            Manner::Quick => {}
            Manner::Waiting(pause) => std::thread::sleep(pause),
            Manner::Computing(work) => compute(work)?,
            Manner::Keeping => {
                kept.push(connection);
                continue;
            }
        }
        sockets::end(&connection)?;
    }
    Ok(())
}

/// As servers do, it takes the want of a descriptor for something that passes.
fn accept(listener: &Listener) -> Result<Option<Socket>> {
    listener.accept().or_else(|error| {
        let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if errno == Some(libc::EMFILE) { Ok(None) } else { Err(error) }
    })
}

/// Uses so much CPU time.
fn compute(work: Duration) -> Result<()> {
    let start = cpu_time()?;
    let mut number = 1_u64;
    while cpu_time()?.saturating_sub(start) < work {
        for _ in 0..10_000 {
            number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005) + 1);
        }
    }
    Ok(())
}

/// Of the calling thread.
fn cpu_time() -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which outlives the call.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot read the thread's CPU time");
    }
    let seconds = u64::try_from(time.tv_sec).context("a negative CPU time")?;
    Ok(Duration::new(seconds, u32::try_from(time.tv_nsec).context("a negative CPU time")?))
}
