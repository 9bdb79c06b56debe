//! A `tcpq` of our own: started on a free port with its own run directory,
//! ended by SIGTERM whatever happens.

use std::{
    ffi::{CStr, OsString},
    fmt::Display,
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    process::{Gid, Uid},
    thread::{self as thread_of, CapabilitySet, CapabilitySets},
};

use crate::{
    cgroups::{self, Cgroup},
    exposition::Metrics,
    http,
    scratch::Scratch,
    wait,
};

/// From start to ready: reading BTF and verifying takes its time when emulated.
pub const READY_WITHIN: Duration = Duration::from_mins(3);

/// After this a daemon that was asked to end is killed. That it ends in time is
/// a case of its own; here an emulated guest may take longer.
const END_WITHIN: Duration = Duration::from_secs(10);

/// The value of `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The best hook per signal.
    Auto,
    /// Only fentry and fexit.
    Fentry,
    /// Only kprobe and kretprobe.
    Kprobe,
    /// Only raw tracepoints and iterators.
    Tracepoint,
}

impl Backend {
    /// As the command line has it.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// Finds the binary to test: `TCPQ_BIN`, else beside this one, else `/bin/tcpq`.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TCPQ_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    [own.with_file_name("tcpq"), PathBuf::from("/bin/tcpq")]
        .into_iter()
        .find(|path| path.is_file())
        .context("no tcpq beside this program nor in /bin; name it with TCPQ_BIN")
}

/// How a daemon is to be started.
#[derive(Debug)]
pub struct Launch {
    program: PathBuf,
    backend: Backend,
    port: u16,
    run_dir: PathBuf,
    storage: Option<PathBuf>,
    log: PathBuf,
    in_pid_namespace: bool,
    nobody_with: Option<CapabilitySet>,
    control_group: Option<Vec<PathBuf>>,
    settings: Vec<String>,
    environment: Vec<(&'static str, OsString)>,
    socket: Option<TcpListener>,
}

impl Launch {
    /// With a free port, and a run directory and a log in `scratch`.
    pub fn new(program: &Path, scratch: &Scratch) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let run_dir = scratch.path().join(format!("run-{serial}"));
        fs::create_dir(&run_dir).context("cannot make a run directory")?;
        Ok(Self {
            program: program.to_owned(),
            backend: Backend::Auto,
            port: free_port()?,
            log: scratch.path().join(format!("daemon-{serial}.log")),
            run_dir,
            storage: None,
            in_pid_namespace: false,
            nobody_with: None,
            control_group: None,
            settings: Vec::new(),
            environment: Vec::new(),
            socket: None,
        })
    }

    /// Forces a backend.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Without the self-test of its start.
    #[must_use]
    pub fn no_self_test(mut self) -> Self {
        self.settings.push("--no-self-test".to_owned());
        self
    }

    /// With one more flag and its value.
    #[must_use]
    pub fn setting(mut self, flag: &str, value: impl Display) -> Self {
        self.settings.extend([flag.to_owned(), value.to_string()]);
        self
    }

    /// With one more variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// On a socket that listens already, passed on as systemd does (sd_listen_fds(3)).
    pub fn on_socket(mut self, socket: TcpListener) -> Result<Self> {
        self.port = socket.local_addr().context("a socket without an address")?.port();
        self.settings.push("--web.systemd-socket".to_owned());
        self.socket = Some(socket);
        Ok(self)
    }

    /// The file of its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// As process 1 of a new pid namespace with a `/proc` of its own, as in a
    /// container that shares the host's network.
    #[must_use]
    pub fn in_pid_namespace(mut self) -> Self {
        self.in_pid_namespace = true;
        self
    }

    /// In a control group that is the root of what it sees of them, as in a container.
    #[must_use]
    pub fn confined_to(mut self, group: &Cgroup) -> Self {
        self.control_group = Some(group.doors());
        self
    }

    /// As a user with these privileges only, who may yet write the run directory.
    pub fn as_nobody_with(mut self, privileges: CapabilitySet) -> Result<Self> {
        fs::set_permissions(&self.run_dir, fs::Permissions::from_mode(0o777))
            .context("cannot open up the run directory")?;
        self.nobody_with = Some(privileges);
        Ok(self)
    }

    /// On the port of another daemon.
    #[must_use]
    pub fn port_of(mut self, other: &Daemon) -> Self {
        self.port = other.address.port();
        self
    }

    /// In the run directory of another daemon.
    #[must_use]
    pub fn run_dir_of(mut self, other: &Daemon) -> Self {
        self.run_dir.clone_from(&other.run_dir);
        self
    }

    /// With its incidents in this folder instead of one in its run directory.
    #[must_use]
    pub fn storage(mut self, folder: &Path) -> Self {
        self.storage = Some(folder.to_owned());
        self
    }

    /// Where it will serve.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The command line, with nothing of our environment that would change it.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .args(["--backend", self.backend.flag()])
            .args(["--web.listen-address", &self.address().to_string()])
            .arg("--run-dir")
            .arg(&self.run_dir)
            .arg("--storage.path")
            .arg(self.storage.clone().unwrap_or_else(|| self.run_dir.join("state")))
            .args(&self.settings)
            .stdin(Stdio::null());
        without_settings(&mut command);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(doors) = &self.control_group {
            cgroups::join(&mut command, doors)?;
            // SAFETY: a system call only, which changes what the new process sees.
            unsafe { command.pre_exec(own_control_groups) };
        }
        if let Some(privileges) = self.nobody_with {
            // SAFETY: system calls only, of a process with one thread.
            unsafe { command.pre_exec(move || become_nobody(privileges)) };
        }
        Ok(command)
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Result<Daemon> {
        let log = File::create(&self.log).context("cannot make the daemon's log")?;
        let mut command = self.command()?;
        if let Some(socket) = &self.socket {
            command = handing_over(&command, socket)?;
        }
        command.stdout(log.try_clone().context("cannot share the daemon's log")?).stderr(log);
        let child =
            if self.in_pid_namespace { spawn_in_pid_namespace(command) } else { command.spawn() }
                .with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut daemon = Daemon { child, address: self.address(), run_dir: self.run_dir };
        daemon.wait_ready()?;
        Ok(daemon)
    }
}

/// The same command with a socket as its descriptor 3, and the variables that say so: they
/// have the number of the process, which only the process knows.
fn handing_over(command: &Command, socket: &TcpListener) -> Result<Command> {
    const SCRIPT: &str = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
    let socket = socket.try_clone().context("cannot share a socket")?;
    let mut wrapped = Command::new("sh");
    wrapped.args(["-c", SCRIPT, "sh"]).arg(command.get_program()).args(command.get_args());
    wrapped.stdin(OwnedFd::from(socket));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    Ok(wrapped)
}

/// Removes what would set the flags from the environment of the test run.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TCPQ_") {
            command.env_remove(name);
        }
    }
}

fn own_control_groups() -> io::Result<()> {
    // SAFETY: changes only what this process sees.
    if unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Becomes `nobody`, by number: a guest has no /etc/passwd. What is run next has these
/// privileges, as a unit's `AmbientCapabilities=` gives them.
fn become_nobody(privileges: CapabilitySet) -> io::Result<()> {
    const NOBODY: u32 = 65_534;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    thread_of::set_keep_capabilities(true)?;
    thread_of::set_thread_groups(&[])?;
    thread_of::set_thread_res_gid(group, group, group)?;
    thread_of::set_thread_res_uid(user, user, user)?;
    let sets =
        CapabilitySets { effective: privileges, permitted: privileges, inheritable: privileges };
    thread_of::set_capabilities(None, sets)?;
    for one in privileges.iter() {
        thread_of::configure_capability_in_ambient_set(one, true)?;
    }
    Ok(())
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    address: SocketAddr,
    run_dir: PathBuf,
}

impl Daemon {
    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its run directory.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Its process id, as we see it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Scrapes it once, as an old Prometheus would.
    pub fn scrape(&self) -> Result<Metrics> {
        scrape(self.address)
    }

    /// Whether it says that it is ready.
    pub fn is_ready(&self) -> bool {
        is_ready(self.address)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        let pid = libc::pid_t::try_from(self.child.id()).context("a pid out of range")?;
        // SAFETY: no memory is involved. The child is not yet waited for, so its
        // pid cannot be another's.
        if unsafe { libc::kill(pid, signal) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error()).context("cannot signal the daemon")
        }
    }

    /// Waits for its end, and says how long that took.
    pub fn wait_end(&mut self, deadline: Duration) -> Result<(ExitStatus, Duration)> {
        let start = Instant::now();
        let status = wait::until("the daemon ends", deadline, || {
            self.child.try_wait().context("cannot wait for the daemon")
        })?;
        Ok((status, start.elapsed()))
    }

    fn wait_ready(&mut self) -> Result<()> {
        wait::until_true("the daemon is ready", READY_WITHIN, || {
            if let Some(status) = self.child.try_wait().context("cannot wait for the daemon")? {
                bail!("the daemon ended before it was ready: {status}");
            }
            Ok(self.is_ready())
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let ended = self.signal(libc::SIGTERM).and_then(|()| self.wait_end(END_WITHIN));
        if let Err(error) = ended {
            eprintln!("the daemon is killed, for it did not end: {error:#}");
            if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
                eprintln!("cannot kill the daemon: {error}");
            }
        }
    }
}

/// Scrapes the daemon that serves there, as [`Daemon::scrape`].
pub fn scrape(address: SocketAddr) -> Result<Metrics> {
    Metrics::parse(&http::get_ok(address, "/metrics", "text/plain")?)
}

/// Whether a daemon serves there that says it is ready.
pub fn is_ready(address: SocketAddr) -> bool {
    // Refused connections are expected until it listens.
    http::get(address, "/readyz", "*/*").is_ok_and(|answer| answer.status == 200)
}

/// Starts a process as number 1 of a new pid namespace with its own `/proc`.
pub fn spawn_in_pid_namespace(mut command: Command) -> io::Result<Child> {
    // SAFETY: between fork and exec the closure makes system calls only; it
    // neither allocates nor takes a lock.
    unsafe { command.pre_exec(mount_own_proc) };
    // A thread of its own, because unshare() of a pid namespace is for good: all
    // later children of that thread are born in it, and it may make no threads.
    thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: changes only where the calling thread's children go.
                if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
                    return Err(io::Error::last_os_error());
                }
                command.spawn()
            })
            .join()
    })
    .unwrap_or_else(|_| Err(io::Error::other("the thread that starts a process panicked")))
}

/// Has a command find no BTF, as on a kernel that was built without.
pub fn without_btf(command: &mut Command) {
    // SAFETY: as above, system calls only.
    unsafe { command.pre_exec(|| mount_privately(c"tmpfs", c"/sys/kernel/btf")) };
}

/// Has a command find tracepoints where other tools look for them, on a machine that has not
/// mounted them there.
pub fn with_tracefs(command: &mut Command) {
    // SAFETY: as above, system calls only.
    unsafe { command.pre_exec(|| mount_privately(c"tracefs", c"/sys/kernel/tracing")) };
}

fn mount_own_proc() -> io::Result<()> {
    mount_privately(c"proc", c"/proc")
}

/// Covers a folder, for the calling process only.
fn mount_privately(kind: &CStr, folder: &CStr) -> io::Result<()> {
    let check = |answer: libc::c_int| {
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    let none = std::ptr::null();
    // SAFETY: system calls with strings that end in a zero and outlive them.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        check(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
        check(libc::mount(kind.as_ptr(), folder.as_ptr(), kind.as_ptr(), 0, none.cast()))
    }
}

fn free_port() -> Result<u16> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(probe.local_addr().context("no free port")?.port())
}
