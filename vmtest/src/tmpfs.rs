//! A small disk of our own, which can be full or read-only without anybody else's harm.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// Whether a disk can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It can.
    Writable,
    /// It cannot.
    ReadOnly,
}

/// A tmpfs, which is unmounted when this is dropped.
#[derive(Debug)]
pub struct Tmpfs {
    path: PathBuf,
    kib: u32,
}

impl Tmpfs {
    /// Of so many KiB, mounted at a new folder.
    pub fn mount(path: PathBuf, kib: u32) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let new = Self { path, kib };
        new.call(0).with_context(|| format!("cannot mount {}", new.path.display()))?;
        Ok(new)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts it again, in another way. To become read-only, nothing on it may be open for
    /// writing.
    pub fn remount(&self, access: Access) -> Result<()> {
        let read_only = if access == Access::ReadOnly { libc::MS_RDONLY } else { 0 };
        self.call(libc::MS_REMOUNT | read_only)
            .with_context(|| format!("cannot mount {} as {access:?}", self.path.display()))
    }

    /// Takes all room that is left, by a file of this name.
    pub fn fill(&self, name: &str) -> Result<()> {
        let mut ballast = File::create(self.path.join(name)).context("cannot make a ballast")?;
        loop {
            match ballast.write(&[1; 1024]) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => bail!("cannot fill {}: {error}", self.path.display()),
            }
        }
    }

    fn call(&self, flags: libc::c_ulong) -> Result<()> {
        let target = CString::new(self.path.as_os_str().as_bytes())?;
        let options = CString::new(format!("size={}k,mode=755", self.kib))?;
        let kind = c"tmpfs".as_ptr();
        // SAFETY: all strings end in a zero and outlive the call.
        let answer =
            unsafe { libc::mount(kind, target.as_ptr(), kind, flags, options.as_ptr().cast()) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error().into()) }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let Ok(target) = CString::new(self.path.as_os_str().as_bytes()) else { return };
        // SAFETY: the string ends in a zero and outlives the call.
        if unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) } != 0 {
            let error = io::Error::last_os_error();
            eprintln!("cannot unmount {}: {error}", self.path.display());
        }
    }
}
