//! The run directory: one daemon per directory, and its unix socket.

use std::{
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Why the run directory cannot be used.
#[derive(Debug, Error)]
pub enum RunDirError {
    /// Another daemon has it.
    #[error(
        "a tcpq daemon is already running{}; it holds {lock}. Stop it first, or give this one \
         another --run-dir and --web.listen-address",
        pid.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Taken {
        /// The lock file.
        lock: PathBuf,
        /// Who holds it, if it says.
        pid: Option<String>,
    },
    /// It cannot be made or written to.
    #[error("the run directory {path} cannot be used; create it or choose another with --run-dir")]
    Unusable {
        /// The directory or a file in it.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A locked run directory. The lock ends with the process, however it ends.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes the directory if needed and takes its lock.
    pub fn claim(path: &Path) -> Result<Self, RunDirError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| RunDirError::Unusable { path, source }
        };
        fs::create_dir_all(path).map_err(unusable(path))?;
        let lock_path = path.join("tcpq.pid");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(unusable(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let read = lock.read_to_string(&mut pid);
                let pid = read.ok().map(|_| pid.trim().to_owned()).filter(|pid| !pid.is_empty());
                return Err(RunDirError::Taken { lock: lock_path, pid });
            }
            Err(TryLockError::Error(source)) => {
                return Err(RunDirError::Unusable { path: lock_path, source });
            }
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(unusable(&lock_path))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Binds the unix socket, replacing one that a killed daemon left: the lock
    /// says that nobody listens on it.
    pub fn bind_socket(&self) -> Result<tokio::net::UnixListener, RunDirError> {
        let path = self.socket();
        let unusable = |source| RunDirError::Unusable { path: path.clone(), source };
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(error)),
        }
        let listener = tokio::net::UnixListener::bind(&path).map_err(unusable)?;
        fs::set_permissions(&path, Permissions::from_mode(0o660)).map_err(unusable)?;
        Ok(listener)
    }

    fn socket(&self) -> PathBuf {
        crate::serve::client::socket_path(&self.path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // Best effort: the next daemon replaces it anyway.
        drop(fs::remove_file(self.socket()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_daemon_is_told_who_is_first() {
        let root = tempfile::tempdir().unwrap();
        let first = RunDir::claim(root.path()).unwrap();
        let second = RunDir::claim(root.path()).unwrap_err();
        let pid = std::process::id().to_string();
        assert!(matches!(&second, RunDirError::Taken { pid: Some(found), .. } if *found == pid));
        drop(first);
        RunDir::claim(root.path()).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "").unwrap();
        let error = RunDir::claim(&path).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
