//! As a service of systemd: what it tells, what it takes over, and settings that change.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::net::UnixDatagram,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    bench::{Bench, Case, Held, Target},
    scratch::Scratch,
    wait,
};

pub(super) const CASES: &[Case] = &[
    Case::new("service_tells_systemd", tells, HERE),
    Case::new("service_takes_a_socket", takes_a_socket, HERE),
    Case::new("service_reads_its_settings_again", reads_again, HERE),
    Case::new("service_settings_are_checked", checked, HERE),
];

const HERE: Held = Held::Only(&[Target::Host], "nothing of it depends on the kernel");

/// Until something has been told or logged.
const SOON: Duration = Duration::from_secs(20);

/// What systemd would be told: a socket that takes it.
struct Systemd {
    socket: UnixDatagram,
    _scratch: Scratch,
}

impl Systemd {
    fn new() -> Result<(Self, std::path::PathBuf)> {
        let scratch = Scratch::new()?;
        let path = scratch.path().join("notify");
        let socket = UnixDatagram::bind(&path).context("cannot bind a socket")?;
        socket.set_read_timeout(Some(SOON)).context("cannot set a time-out")?;
        Ok((Self { socket, _scratch: scratch }, path))
    }

    /// Waits until it is told this.
    fn hears(&self, line: &str) -> Result<()> {
        let mut message = [0; 512];
        loop {
            let length = self.socket.recv(&mut message);
            let length = length.with_context(|| format!("not told: {line}"))?;
            let told = String::from_utf8_lossy(&message[..length]).into_owned();
            if told.lines().any(|told| told == line) {
                return Ok(());
            }
        }
    }
}

fn tells(bench: &Bench) -> Result<()> {
    let (systemd, path) = Systemd::new()?;
    let launch = bench.launch()?.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "2000000");
    let mut daemon = launch.start()?;
    systemd.hears("READY=1")?;
    for _ in 0..3 {
        systemd.hears("WATCHDOG=1")?;
    }
    daemon.signal(libc::SIGHUP)?;
    systemd.hears("RELOADING=1")?;
    systemd.hears("READY=1")?;
    daemon.signal(libc::SIGTERM)?;
    systemd.hears("STOPPING=1")?;
    let (status, _) = daemon.wait_end(SOON)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn takes_a_socket(bench: &Bench) -> Result<()> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
    let port = socket.local_addr().context("no address")?.port();
    let daemon = bench.launch()?.on_socket(socket)?.start()?;
    ensure!(daemon.address().port() == port, "it is at {}", daemon.address());
    daemon.scrape()?;
    let alone = bench.finish(bench.launch()?.env("TCPQ_WEB_SYSTEMD_SOCKET", "true").command()?)?;
    ensure!(alone.code == Some(1), "without a socket: {alone:?}");
    ensure!(alone.stderr.contains("socket unit"), "{}", alone.stderr);
    Ok(())
}

fn reads_again(bench: &Bench) -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("tcpq.toml");
    let write = |text: &str| fs::write(&file, text).context("cannot write the settings");
    write("log.level = \"warn\"\nlistener.max = 64\n")?;
    let launch = bench.launch()?.setting("--config", file.display());
    let log = launch.log().to_owned();
    let daemon = launch.start()?;
    ensure!(!logged(&log)?.contains(" INFO "), "the level of the file is not taken");
    let again = |text: &str, words: &[&str]| {
        write(text)?;
        daemon.signal(libc::SIGHUP)?;
        wait::until_true(&format!("{words:?} are logged"), SOON, || {
            let logged = logged(&log)?;
            Ok(words.iter().all(|word| logged.contains(word)))
        })
    };
    again(
        "log.level = \"info\"\nlistener.max = 65\n",
        &["were read again", "log.level", "listener.max", "started again"],
    )?;
    again("lisener.max = 64\n", &["those before go on", "is it listener.max?"])?;
    daemon.scrape()?;
    Ok(())
}

fn logged(log: &Path) -> Result<String> {
    fs::read_to_string(log).context("cannot read the daemon's log")
}

fn checked(bench: &Bench) -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.path().join("tcpq.toml");
    let web = scratch.path().join("web.yml");
    let path = file.to_str().context("a path that is no text")?;
    let check = |text: &str, of_web: &str| {
        fs::write(&file, text).context("cannot write the settings")?;
        fs::write(&web, of_web).context("cannot write the web configuration")?;
        bench.run(&["serve", "--check-config", "--config", path])
    };
    let settings =
        format!("web.config.file = {:?}\nlistener.max = 64\n", web.display().to_string());
    let right = check(&settings, "")?;
    ensure!(right.code == Some(0) && right.stdout.contains("right"), "{right:?}");
    let wrong = check("listener.max = 1\n", "")?;
    ensure!(wrong.code == Some(2) && wrong.stderr.contains("listener.max"), "{wrong:?}");
    let wrong = check(&settings, "basic_auth_users: {a: secret}\n")?;
    ensure!(wrong.code == Some(1) && wrong.stderr.contains("bcrypt"), "{wrong:?}");
    Ok(())
}
