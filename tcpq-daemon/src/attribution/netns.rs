//! Names of network namespaces.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::model::ids::NetnsInode;

/// How long a look at the names holds for a namespace that is known.
const FRESH: Duration = Duration::from_secs(10);

/// And for one that is not: it may have been named since.
const FRESH_UNKNOWN: Duration = Duration::from_millis(500);

/// The initial namespace's name.
const HOST: &str = "host";

/// The names, looked up by inode number.
#[derive(Debug)]
pub struct NetnsNames {
    procfs: PathBuf,
    named: PathBuf,
    initial: Option<NetnsInode>,
    names: HashMap<NetnsInode, String>,
    looked: Option<Instant>,
}

impl NetnsNames {
    /// `named` is the folder of `ip netns`, usually `/run/netns`. `initial` is the
    /// initial namespace where the kernel fixes its number; else it is taken to be
    /// that of process 1.
    pub fn new(procfs: &Path, named: &Path, initial: Option<NetnsInode>) -> Self {
        Self {
            procfs: procfs.to_owned(),
            named: named.to_owned(),
            initial,
            names: HashMap::new(),
            looked: None,
        }
    }

    /// `host` for the initial namespace, a name from `ip netns`, else the inode number.
    pub fn name(&mut self, netns: NetnsInode, now: Instant) -> String {
        let holds = if self.names.contains_key(&netns) { FRESH } else { FRESH_UNKNOWN };
        if self.looked.is_none_or(|looked| now.duration_since(looked) >= holds) {
            self.look();
            self.looked = Some(now);
        }
        self.names.get(&netns).cloned().unwrap_or_else(|| netns.to_string())
    }

    fn look(&mut self) {
        self.names.clear();
        for entry in fs::read_dir(&self.named).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // A name that reads like another namespace's would merge two in one series.
            let is_ambiguous = name == HOST || name.bytes().all(|byte| byte.is_ascii_digit());
            if let Some(inode) = inode(&entry.path()).filter(|_| !is_ambiguous) {
                self.names.insert(inode, name);
            }
        }
        if let Some(inode) = self.initial.or_else(|| inode(&self.procfs.join("1/ns/net"))) {
            self.names.insert(inode, HOST.to_owned());
        }
    }
}

fn inode(path: &Path) -> Option<NetnsInode> {
    fs::metadata(path).ok().and_then(|meta| u32::try_from(meta.ino()).ok()).map(NetnsInode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_process_1_is_the_host_and_others_are_numbers() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("1/ns")).unwrap();
        fs::write(root.path().join("1/ns/net"), "").unwrap();
        let folder = root.path().join("netns");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("blue"), "").unwrap();
        let of = |path: &Path| inode(path).unwrap();
        let mut names = NetnsNames::new(root.path(), &folder, None);
        let now = Instant::now();
        assert_eq!(names.name(of(&root.path().join("1/ns/net")), now), "host");
        assert_eq!(names.name(of(&folder.join("blue")), now), "blue");
        assert_eq!(names.name(NetnsInode(1), now), "1");
    }

    #[test]
    fn nobody_else_is_the_host_or_a_number() {
        let root = tempfile::tempdir().unwrap();
        let mut names = NetnsNames::new(root.path(), root.path(), None);
        for name in ["host", "4026531840"] {
            let path = root.path().join(name);
            fs::write(&path, "").unwrap();
            let netns = inode(&path).unwrap();
            assert_eq!(names.name(netns, Instant::now()), netns.to_string());
        }
    }

    #[test]
    fn a_name_given_later_is_found_later() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("netns");
        fs::create_dir(&folder).unwrap();
        let mut names = NetnsNames::new(root.path(), &folder, None);
        let start = Instant::now();
        fs::write(root.path().join("file"), "").unwrap();
        let netns = inode(&root.path().join("file")).unwrap();
        assert_eq!(names.name(netns, start), netns.to_string());
        fs::hard_link(root.path().join("file"), folder.join("green")).unwrap();
        assert_eq!(names.name(netns, start + FRESH_UNKNOWN), "green");
    }
}
