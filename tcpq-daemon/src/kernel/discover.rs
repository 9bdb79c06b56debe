//! Finds the listeners that were there before the programs were attached.
//!
//! Two iterators, because each misses some: `iter/tcp` sees one network
//! namespace, the one its opener is in; `iter/task_file` sees every namespace,
//! but only sockets that a process of the opener's pid namespace has open. The
//! programs themselves put what they find into the map, and what is there stays,
//! so neither order nor concurrent events matter.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    os::fd::AsRawFd as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::programs::Iter;
use tcpq_common::iterator::HolderRow;
use tracing::warn;

use crate::{
    kernel::{attach::Attached, clock, facts::Roots, programs::Hook, walk::FileWalk},
    model::hooks::Backend,
};

/// What discovery could look into.
#[derive(Debug, Default)]
pub struct Discovery {
    /// Network namespaces that were searched.
    pub namespaces: usize,
    /// Processes whose namespace is not for us to see; their open files were searched.
    pub unreadable: usize,
    /// Those that could not be, and why.
    pub failures: Vec<String>,
    /// Who has each listener open.
    pub holders: Vec<HolderRow>,
    /// The walk that told, to be made again.
    pub walk: Option<FileWalk>,
    /// When it began. Unit: nanoseconds of `CLOCK_MONOTONIC`.
    pub walk_began_ns: u64,
    /// CPU time that it took.
    pub walk_took: Duration,
}

/// Runs both iterators.
pub fn discover(attached: &mut Attached, roots: &Roots) -> Discovery {
    let mut discovery = Discovery::default();
    let mut files = None;
    if is_planned(attached, Hook::IterTaskFile) {
        match walk(attached) {
            Ok(walk) => files = Some(walk),
            Err(error) => {
                discovery.failures.push(format!("open files of processes: {error:#}"));
            }
        }
    }
    if is_planned(attached, Hook::IterTcp) {
        // The namespace of a thread is its own to change; a fresh thread leaves
        // this one where it is, whatever happens.
        let searched = std::thread::scope(|scope| {
            scope.spawn(|| every_namespace(attached, roots, &mut discovery)).join()
        });
        if searched.is_err() {
            discovery.failures.push("the search of the namespaces ended early".to_owned());
        }
    }
    if let Some(files) = files {
        see_holders(files, &mut discovery);
    }
    for failure in &discovery.failures {
        warn!(failure, "listeners from before the start may be unknown until their next event");
    }
    discovery
}

/// The first walk makes listeners known. Who holds them is taken from another one, once all
/// are known: what a walk says of a listener that became known later is not believed.
fn walk(attached: &Attached) -> anyhow::Result<FileWalk> {
    let walk = FileWalk::new(attached)?;
    walk.walk()?;
    Ok(walk)
}

fn see_holders(walk: FileWalk, discovery: &mut Discovery) {
    discovery.walk_began_ns = clock::monotonic_ns();
    let before = clock::thread_cpu();
    match walk.walk() {
        Ok(holders) => {
            discovery.holders = holders;
            discovery.walk_took = clock::thread_cpu().saturating_sub(before);
            discovery.walk = Some(walk);
        }
        Err(error) => discovery.failures.push(format!("who holds the listeners: {error:#}")),
    }
}

fn is_planned(attached: &Attached, hook: Hook) -> bool {
    attached
        .plan
        .hooks
        .iter()
        .any(|planned| planned.hook == hook && planned.backend == Backend::Iterator)
}

fn every_namespace(attached: &mut Attached, roots: &Roots, discovery: &mut Discovery) {
    // The own namespace comes first: it needs no change.
    let own = fs::metadata(roots.procfs.join("thread-self/ns/net")).map(|meta| meta.ino()).ok();
    if let Err(error) = run(attached, "it_tcp") {
        discovery.failures.push(format!("own network namespace: {error}"));
        return;
    }
    discovery.namespaces = 1;
    for (inode, ways) in namespaces(roots, &mut discovery.unreadable) {
        if Some(inode) == own {
            continue;
        }
        match enter(&ways).and_then(|()| run(attached, "it_tcp")) {
            Ok(()) => discovery.namespaces += 1,
            // Every process in it has ended in the meantime, and so has it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => discovery.failures.push(format!("network namespace {inode}: {error}")),
        }
    }
}

/// Every network namespace that a visible process is in or that has a name, with the
/// ways to reach it: the first may be a process that ends before it is used.
fn namespaces(roots: &Roots, unreadable: &mut usize) -> BTreeMap<u64, Vec<PathBuf>> {
    let mut found: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let processes = entries(&roots.procfs).filter(|path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
    });
    for path in processes.map(|path| path.join("ns/net")).chain(entries(&roots.netns)) {
        match fs::metadata(&path) {
            Ok(meta) => found.entry(meta.ino()).or_default().push(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => *unreadable += 1,
            // Its process has ended.
            Err(_) => {}
        }
    }
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Moves this thread into a namespace by the first way that works.
fn enter(ways: &[PathBuf]) -> io::Result<()> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for way in ways {
        result = File::open(way).and_then(|namespace| set_namespace(&namespace));
        if result.is_ok() {
            break;
        }
    }
    result
}

#[expect(unsafe_code, reason = "std has no call for this")]
fn set_namespace(namespace: &File) -> io::Result<()> {
    // SAFETY: the file is open for the time of the call; only this thread moves.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Opens the iterator here and now, and reads it to its end. It writes nothing:
/// its work is done in the map.
fn run(attached: &mut Attached, program: &str) -> io::Result<()> {
    let program = attached
        .ebpf
        .program_mut(program)
        .ok_or_else(|| io::Error::other("the object has no such iterator"))?;
    let iterator: &mut Iter = program.try_into().map_err(io::Error::other)?;
    let link = iterator.attach().map_err(io::Error::other)?;
    let mut file = iterator
        .take_link(link)
        .map_err(io::Error::other)?
        .into_file()
        .map_err(io::Error::other)?;
    // The kernel breaks off with EAGAIN after a million objects that wrote nothing.
    while let Err(error) = file.read_to_end(&mut Vec::new()) {
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
    }
    Ok(())
}
