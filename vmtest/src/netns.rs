//! A private network namespace: its counters start at zero and nobody else's
//! traffic moves them.

use std::{
    ffi::{CStr, CString},
    fs::{self, File},
    io, mem,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::Path,
    thread,
};

use anyhow::{Context as _, Result};

/// Where `ip netns` keeps the names of namespaces.
const NAMES: &str = "/run/netns";

/// A network namespace, without a name and without a process in it: sockets made
/// by [`Netns::run`] stay in it wherever they are used afterwards.
///
/// It lives until this process ends. The kernel gives a free inode number to the
/// next namespace at once, and the number is all that tcpq can tell namespaces
/// without a name apart by: a case could find the figures of an earlier one.
#[derive(Debug)]
pub struct Netns {
    handle: File,
    inode: u64,
}

impl Netns {
    /// A new, empty one with its loopback interface up.
    pub fn new() -> Result<Self> {
        let new = Self::passing()?;
        // See above: the last reference is never given up.
        mem::forget(new.handle.try_clone().context("cannot keep a network namespace")?);
        Ok(new)
    }

    /// As [`Netns::new`], but it ends with the last socket and handle. Its number may
    /// be one that another had.
    pub fn passing() -> Result<Self> {
        let handle = joined(thread::scope(|scope| scope.spawn(create).join()))
            .context("cannot make a network namespace (this needs root)")?;
        let inode = handle.metadata().context("cannot read a namespace's inode number")?.ino();
        Ok(Self { handle, inode })
    }

    /// The namespace this process was started in.
    pub fn current() -> Result<Self> {
        let handle = File::open("/proc/self/ns/net").context("cannot open /proc/self/ns/net")?;
        let inode = handle.metadata().context("cannot read a namespace's inode number")?.ino();
        Ok(Self { handle, inode })
    }

    /// The namespace that a process lives in.
    pub fn of_process(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/net");
        let handle = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        let inode = handle.metadata().context("cannot read a namespace's inode number")?.ino();
        Ok(Self { handle, inode })
    }

    /// The value of the label `netns` for it: its name below `/run/netns`, `host` for the
    /// one that the machine booted in, where the tests run, else its number.
    pub fn label_by_name(&self) -> Result<String> {
        if let Ok(names) = fs::read_dir(NAMES) {
            for entry in names {
                let entry = entry.context("cannot list the names of namespaces")?;
                // One that is being removed may be gone.
                if entry.path().metadata().is_ok_and(|file| file.ino() == self.inode) {
                    return Ok(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        let ours = Self::current()?;
        Ok(if ours.inode == self.inode { "host".to_owned() } else { self.label() })
    }

    /// The value of the label `netns` for a namespace without a name.
    pub fn label(&self) -> String {
        self.inode.to_string()
    }

    /// Its inode number.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `work` on a thread inside the namespace and returns what it returned.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || {
            self.enter()?;
            work()
        };
        joined(thread::scope(|scope| scope.spawn(inside).join()))
    }

    /// Sets one of the namespace's own sysctls, as `net.ipv4.tcp_syncookies`.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        self.run(|| {
            fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))
        })
    }

    /// Names it as `ip netns` does, until the result is dropped.
    pub fn with_name(&self, name: &str) -> Result<NetnsName> {
        share_names().context("cannot make /run/netns as ip netns does")?;
        let path = Path::new(NAMES).join(name);
        File::create_new(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let source = CString::new(format!("/proc/self/fd/{}", self.handle.as_raw_fd()))?;
        let target = CString::new(path.as_os_str().as_bytes())?;
        let mounted = mount(&source, &target, libc::MS_BIND);
        // From here on dropping it cleans up, mounted or not.
        let named = NetnsName { path: target };
        mounted.context("cannot bind a network namespace to its name")?;
        Ok(named)
    }

    /// Moves the calling thread in, for good.
    pub fn enter(&self) -> Result<()> {
        // SAFETY: the descriptor is open; the call touches no memory of ours.
        let answer = unsafe { libc::setns(self.handle.as_raw_fd(), libc::CLONE_NEWNET) };
        if answer == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error()).context("cannot enter a network namespace")
        }
    }
}

/// Makes the folder of names a mount that passes on to others what is mounted in it, as
/// ip-netns(8) and podman do. One that comes later would cover the names that are there, and
/// they could not be removed any more.
fn share_names() -> io::Result<()> {
    fs::create_dir_all(NAMES)?;
    let folder = CString::new(NAMES)?;
    let share = || mount(c"none", &folder, libc::MS_SHARED | libc::MS_REC);
    match share() {
        // It is no mount yet.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            mount(&folder, &folder, libc::MS_BIND | libc::MS_REC)?;
            share()
        }
        done => done,
    }
}

fn mount(source: &CStr, target: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    let none = std::ptr::null();
    // SAFETY: both strings end in a zero and outlive the call.
    let answer = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), none, flags, none.cast()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The name of a network namespace, below `/run/netns`.
#[derive(Debug)]
pub struct NetnsName {
    path: CString,
}

impl Drop for NetnsName {
    fn drop(&mut self) {
        // SAFETY: the path ends in a zero and outlives both calls.
        let failed = unsafe {
            libc::umount2(self.path.as_ptr(), libc::MNT_DETACH);
            libc::unlink(self.path.as_ptr()) != 0
        };
        if failed {
            eprintln!("cannot remove {}", self.path.to_string_lossy());
        }
    }
}

/// What a thread returned; its panic goes on in the caller.
pub fn joined<T>(outcome: thread::Result<T>) -> T {
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Moves the calling thread into a new namespace and returns a handle to it.
fn create() -> io::Result<File> {
    // SAFETY: plain system call on the calling thread only, which ends after this.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    loopback_up()?;
    // Not /proc/self: that is the main thread's namespace.
    File::open("/proc/thread-self/ns/net")
}

/// Brings the loopback interface of the calling thread's namespace up.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: no pointer is passed; the result is checked before it is owned.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: all-zero is a valid `ifreq`, which is plain integers and bytes.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: `request` outlives both calls and its name ends in a zero; the
    // first call fills the union's `ifru_flags`, which the second reads.
    let failed = unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) != 0 {
            true
        } else if i32::from(request.ifr_ifru.ifru_flags) & libc::IFF_UP != 0 {
            false
        } else {
            request.ifr_ifru.ifru_flags |= IFF_UP;
            libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) != 0
        }
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `IFF_UP` in the width that `ifru_flags` has.
const IFF_UP: libc::c_short = 1;
