//! A procfs of the tests' own making.

use std::{fs, path::Path};

use tempfile::TempDir;

/// A folder of processes.
pub(super) struct Proc(TempDir);

impl Proc {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn root(&self) -> &Path {
        self.0.path()
    }

    /// A process that runs; one that has the number is replaced.
    pub(super) fn put(&self, pid: u32, start: u64, name: &[u8], cgroup: &str) {
        let folder = self.root().join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("stat"), stat(pid, name, 'S', start)).unwrap();
        fs::write(folder.join("comm"), [name, b"\n"].concat()).unwrap();
        fs::write(folder.join("cgroup"), cgroup).unwrap();
        let exe = folder.join("exe");
        if exe.symlink_metadata().is_ok() {
            fs::remove_file(&exe).unwrap();
        }
        let program = String::from_utf8_lossy(name).replace(['/', '\0'], "_");
        std::os::unix::fs::symlink(format!("/usr/bin/{program}"), exe).unwrap();
    }

    pub(super) fn end(&self, pid: u32) {
        fs::remove_dir_all(self.root().join(pid.to_string())).unwrap();
    }
}

/// A `stat` file as the kernel writes it.
pub(super) fn stat(pid: u32, name: &[u8], state: char, start: u64) -> Vec<u8> {
    let before = format!("{pid} (");
    let after = format!(
        ") {state} 1 {pid} {pid} 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 {start} 123456 78 \
         18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    );
    [before.as_bytes(), name, after.as_bytes()].concat()
}
