//! A program on a terminal of its own.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus},
    ptr,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::wait;

/// A terminal, and the program on it.
#[derive(Debug)]
pub struct Pty {
    ours: File,
    /// The program's side, held so that its settings can be read when the program is gone.
    theirs: File,
    child: Child,
    written: Vec<u8>,
}

/// Settings of a terminal: input, output, control and local modes, and control characters.
pub type Modes = (u32, u32, u32, u32, [u8; libc::NCCS]);

impl Pty {
    /// Starts a program on a terminal of this size.
    pub fn start(program: &OsStr, arguments: &[&str], (columns, rows): (u16, u16)) -> Result<Self> {
        let (mut ours, mut theirs) = (-1, -1);
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: two numbers go to valid places, and a valid size is read; no name and no
        // settings are given.
        let opened = unsafe {
            libc::openpty(
                &raw mut ours,
                &raw mut theirs,
                ptr::null_mut(),
                ptr::null(),
                &raw const size,
            )
        };
        if opened != 0 {
            return Err(io::Error::last_os_error()).context("no terminal");
        }
        // SAFETY: openpty has just opened both, and nobody else has them.
        let (ours, theirs) =
            unsafe { (File::from(OwnedFd::from_raw_fd(ours)), OwnedFd::from_raw_fd(theirs)) };
        let share = || theirs.try_clone().context("cannot share a terminal");
        let mut command = Command::new(program);
        command.args(arguments).stdin(share()?).stdout(share()?).stderr(share()?);
        command.env("TERM", "xterm-256color").env_remove("COLUMNS");
        // SAFETY: setsid and ioctl are system calls; nothing is allocated.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().context("cannot start it on a terminal")?;
        set_nonblocking(&ours)?;
        Ok(Self { ours, theirs: File::from(theirs), child, written: Vec::new() })
    }

    /// Settings as they are now.
    pub fn modes(&self) -> Result<Modes> {
        // SAFETY: the kernel writes one valid termios.
        unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(self.theirs.as_raw_fd(), &raw mut modes) == 0 {
                let libc::termios { c_iflag, c_oflag, c_cflag, c_lflag, c_cc, .. } = modes;
                return Ok((c_iflag, c_oflag, c_cflag, c_lflag, c_cc));
            }
        }
        Err(io::Error::last_os_error()).context("cannot read a terminal's settings")
    }

    /// Types.
    pub fn types(&mut self, keys: &str) -> Result<()> {
        self.ours.write_all(keys.as_bytes()).context("cannot type")
    }

    /// Another size.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads one valid size.
        if unsafe { libc::ioctl(self.ours.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error()).context("cannot resize a terminal")
        }
    }

    /// The program's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that was written so far.
    pub fn written(&mut self) -> Result<String> {
        let mut buffer = [0; 4096];
        loop {
            match self.ours.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => self.written.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("cannot read a terminal"),
            }
        }
        Ok(String::from_utf8_lossy(&self.written).into_owned())
    }

    /// Waits until a text has been written since a place; the end of what is there then.
    pub fn sees(&mut self, text: &str, since: usize, within: Duration) -> Result<usize> {
        wait::until(&format!("{text:?} is on the terminal"), within, || {
            let written = self.written()?;
            let is_there = written.get(since..).is_some_and(|new| new.contains(text));
            Ok(is_there.then_some(written.len()))
        })
    }

    /// Waits for its end.
    pub fn ends(&mut self, within: Duration) -> Result<ExitStatus> {
        wait::until("the program on the terminal ends", within, || {
            self.written()?;
            self.child.try_wait().context("cannot wait")
        })
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // After an error it may still run.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn set_nonblocking(file: &File) -> Result<()> {
    // SAFETY: fcntl on a descriptor that is open.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error()).context("cannot set a terminal non-blocking")
    }
}
