//! PID 1 of a test guest: makes the machine usable, runs one command on the
//! console, says how it ended, and ends the machine.
//!
//! The outcome travels as console text because that works on every kernel and
//! needs no device; `protocol.rs` holds the words. A panic here is a kernel
//! panic, which the host recognises as a guest that did not report.

#[path = "../init/command.rs"]
mod command;
#[path = "../init/mounts.rs"]
mod mounts;
#[path = "../init/protocol.rs"]
mod protocol;
#[path = "../init/setup.rs"]
mod setup;

use std::{fs, io, process};

/// Outside a fresh guest this program would mount over the machine and reboot it.
const PID_OF_INIT: u32 = 1;

fn main() {
    if process::id() != PID_OF_INIT {
        eprintln!("vmtest-init: this is the PID 1 of a test guest; it does nothing elsewhere");
        process::exit(1);
    }
    let troubles = mounts::all();
    println!("{}{}", protocol::UP, release());
    for trouble in troubles {
        println!("tcpq-init: {trouble}");
    }
    complain("raise limits", setup::limits());
    complain("bring up loopback", setup::loopback());

    let code = command::Order::read().and_then(|order| order.run()).unwrap_or_else(|error| {
        println!("tcpq-init: {error}");
        command::CANNOT_START
    });
    // The command may have left its last line open; the marker starts a new one.
    println!("\n{}{code}", protocol::EXIT);
    end()
}

/// The release of the running kernel, as `uname -r` prints it.
fn release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease");
    text.map_or_else(|error| format!("unknown ({error})"), |text| text.trim().to_owned())
}

fn complain(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        println!("tcpq-init: cannot {what}: {error}");
    }
}

/// Resets the machine; the virtual one was told not to start again.
fn end() -> ! {
    // SAFETY: waits until the console has sent what was printed; no memory involved.
    unsafe { libc::tcdrain(libc::STDOUT_FILENO) };
    // SAFETY: writes back file systems; takes nothing.
    unsafe { libc::sync() };
    // SAFETY: takes one number; returns only on failure.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    panic!("the guest cannot be rebooted: {}", io::Error::last_os_error());
}
