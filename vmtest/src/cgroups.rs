//! Control groups of our own, the same path in every hierarchy there is: whichever of
//! them tcpq reads, the answer has to be this one.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::wait;

/// A group that has just lost its last process may be busy for a moment.
const REMOVED_WITHIN: Duration = Duration::from_secs(10);

/// The kernel's default. Unit: microseconds.
const CPU_PERIOD: u32 = 100_000;

/// A control group; removed when dropped, when what is in it has ended.
#[derive(Debug)]
pub struct Cgroup {
    /// Its path from the root of each hierarchy.
    path: PathBuf,
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// At `/tcpq-truth-PID/NAME`.
    pub fn new(name: &OsStr) -> Result<Self> {
        let path = Path::new("/").join(format!("tcpq-truth-{}", std::process::id())).join(name);
        let mut new = Self { path, folders: Vec::new() };
        let hierarchies = hierarchies()?;
        ensure!(!hierarchies.is_empty(), "no hierarchy of control groups is mounted");
        for root in hierarchies {
            let mut folder = root;
            for part in new.path.iter().skip(1) {
                let parent = folder.clone();
                folder = folder.join(part);
                make(&folder)?;
                complete(&parent, &folder)?;
            }
            new.folders.push(folder);
        }
        Ok(new)
    }

    /// Its path from the root of each hierarchy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets what is in it use so many thousandths of a CPU, in periods of 100 ms.
    pub fn limit_cpu(&self, thousandths: u32) -> Result<()> {
        let quota = thousandths * (CPU_PERIOD / 1000);
        let mut limited = false;
        for folder in &self.folders {
            // Of version 1; it has its usual period.
            let old = folder.join("cpu.cfs_quota_us");
            if old.exists() {
                fs::write(&old, quota.to_string())
                    .with_context(|| format!("cannot write {}", old.display()))?;
                limited = true;
            } else if offers_cpu(folder)? {
                let new = folder.join("cpu.max");
                fs::write(&new, format!("{quota} {CPU_PERIOD}"))
                    .with_context(|| format!("cannot write {}", new.display()))?;
                limited = true;
            }
        }
        ensure!(limited, "no hierarchy of control groups limits CPU time");
        Ok(())
    }

    /// The files that a process's number is written into, to have it live here.
    pub fn doors(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| folder.join("cgroup.procs")).collect()
    }
}

/// Whether a group of ours can limit CPU time, once both groups that it is in pass that on.
fn offers_cpu(folder: &Path) -> Result<bool> {
    let outer = folder.parent().context("a control group without a parent")?;
    let root = outer.parent().context("a control group without a root")?;
    let Ok(offered) = fs::read_to_string(root.join("cgroup.controllers")) else {
        return Ok(false);
    };
    if !offered.split_whitespace().any(|controller| controller == "cpu") {
        return Ok(false);
    }
    for group in [root, outer] {
        let file = group.join("cgroup.subtree_control");
        fs::write(&file, "+cpu").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(true)
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            let removed = wait::until_true("a control group is empty", REMOVED_WITHIN, || {
                match remove_with_all_in_it(folder) {
                    Ok(()) => Ok(true),
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(false),
                    Err(error) => Err(error).context("cannot remove a control group"),
                }
            });
            if let Err(error) = removed {
                eprintln!("{}: {error:#}", folder.display());
            }
            // The last of our groups removes what they are in; until then it is busy.
            if let Some(Err(error)) = folder.parent().map(fs::remove_dir)
                && error.raw_os_error() != Some(libc::EBUSY)
            {
                eprintln!("cannot remove what {} was in: {error}", folder.display());
            }
        }
    }
}

/// With the groups that others have made in it.
fn remove_with_all_in_it(folder: &Path) -> io::Result<()> {
    let open = File::open(folder)?;
    for entry in fs::read_dir(short(&open))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_with_all_in_it(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// A path of a few bytes to an open folder, however long its own is.
fn short(folder: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string())
}

/// There may be one already, which another of our groups is in.
fn make(folder: &Path) -> Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// A group in a group in a group, and so on: its path may be longer than any path that the
/// kernel takes.
#[derive(Debug)]
pub struct Nested {
    /// Those at the end, which no path leads to.
    ends: Vec<File>,
    path: PathBuf,
    /// Dropped last, with all that is in it.
    _outermost: Cgroup,
}

impl Nested {
    /// So many groups of this name, each in the one before.
    pub fn new(name: &OsStr, depth: usize) -> Result<Self> {
        let outermost = Cgroup::new(name)?;
        let mut path = outermost.path.clone();
        path.extend((1..depth).map(|_| name));
        let mut ends = Vec::new();
        for folder in &outermost.folders {
            let open = |path: &Path| File::open(path).context("cannot open a control group");
            let mut end = open(folder)?;
            for _ in 1..depth {
                let (parent, inner) = (short(&end), short(&end).join(name));
                make(&inner)?;
                complete(&parent, &inner)?;
                end = open(&inner)?;
            }
            ends.push(end);
        }
        Ok(Self { ends, path, _outermost: outermost })
    }

    /// Its path from the root of each hierarchy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As [`Cgroup::doors`]; only this process can open them.
    pub fn doors(&self) -> Vec<PathBuf> {
        self.ends.iter().map(|end| short(end).join("cgroup.procs")).collect()
    }
}

/// Has a command's process join a group before it executes anything, so that nobody ever
/// sees it elsewhere.
pub fn join(command: &mut Command, doors: &[PathBuf]) -> Result<()> {
    let doors = doors
        .iter()
        .map(|door| {
            let file = File::options().write(true).open(door);
            file.with_context(|| format!("cannot open {}", door.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    // SAFETY: between fork and exec the closure makes system calls only, on descriptors
    // that it owns.
    unsafe {
        command.pre_exec(move || {
            for door in &doors {
                // 0 stands for whoever writes it.
                let written = libc::write(door.as_raw_fd(), b"0".as_ptr().cast(), 1);
                if written != 1 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    Ok(())
}

/// A group of the old `cpuset` takes no process before it has been given processors.
fn complete(parent: &Path, folder: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), folder.join(file));
        let (Ok(theirs), Ok(ours)) = (fs::read_to_string(&from), fs::read_to_string(&to)) else {
            continue;
        };
        if ours.trim().is_empty() && !theirs.trim().is_empty() {
            fs::write(&to, theirs.trim())
                .with_context(|| format!("cannot write {}", to.display()))?;
        }
    }
    Ok(())
}

/// Where each hierarchy is mounted from its root on.
pub fn hierarchies() -> Result<Vec<PathBuf>> {
    let text = fs::read("/proc/self/mountinfo").context("cannot read the mounts")?;
    let mounts = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        (root == b"/" && (kind == b"cgroup" || kind == b"cgroup2"))
            .then(|| PathBuf::from(OsStr::from_bytes(point)))
    });
    Ok(mounts.collect())
}
