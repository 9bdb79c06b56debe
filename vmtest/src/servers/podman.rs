//! Containers of podman, with an image, a storage and a network that nobody else has.

use std::{
    fs,
    net::SocketAddr,
    num::ParseIntError,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context as _, Result, ensure};

use super::{path_text, wait_for};
use crate::{
    bench::Bench, cgroups::Cgroup, claims::Truth, netns::Netns, processes, promtool::program,
};

/// The image: a static busybox and nothing else.
const IMAGE: &str = "localhost/tcpq-truth";

/// A podman of our own.
#[derive(Debug)]
pub struct Podman<'a> {
    bench: &'a Bench,
    folder: PathBuf,
    /// Where its bridge and its packet filter are made, instead of the machine's own.
    bridge: Netns,
    /// What its containers' groups are in.
    parent: Cgroup,
}

/// A container that listens; removed when dropped.
#[derive(Debug)]
pub struct Container<'a> {
    podman: &'a Podman<'a>,
    what: String,
    id: String,
    address: SocketAddr,
    network: Network,
}

/// A container's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// One of its own.
    Bridge,
    /// The host's.
    Host,
}

impl<'a> Podman<'a> {
    /// Makes the storage and the image.
    pub fn new(bench: &'a Bench) -> Result<Self> {
        let folder = bench.scratch().path().join("podman");
        let root = folder.join("rootfs");
        fs::create_dir_all(root.join("bin")).context("cannot make an image")?;
        for empty in ["proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir(root.join(empty)).context("cannot make an image")?;
        }
        fs::copy(program("TCPQ_BUSYBOX")?, root.join("bin/busybox"))
            .context("cannot copy busybox into an image")?;
        symlink("busybox", root.join("bin/httpd")).context("cannot make an image")?;
        // A podman that finds old configuration of another kind takes that for its network.
        fs::write(
            folder.join("containers.conf"),
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n\
             [network]\nnetwork_backend = \"netavark\"\n",
        )
        .context("cannot write podman's configuration")?;
        let (bridge, parent) = (Netns::new()?, Cgroup::new("podman".as_ref())?);
        let new = Self { bench, folder, bridge, parent };
        let archive = new.folder.join("rootfs.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".");
        let packed = bench.finish(tar)?;
        ensure!(packed.code == Some(0), "tar: {}", packed.stderr);
        let archive = path_text(&archive)?;
        new.run(Network::Host, &["import", "--quiet", &archive, IMAGE])?;
        Ok(new)
    }

    /// Builds an image from a folder with a `Containerfile`.
    pub fn build(&self, folder: &Path, image: &str) -> Result<()> {
        let folder = path_text(folder)?;
        self.run(Network::Host, &["build", "--quiet", "--tag", image, &folder])?;
        Ok(())
    }

    /// Starts a container that listens there.
    pub fn start(
        &'a self,
        what: &str,
        network: Network,
        address: SocketAddr,
    ) -> Result<Container<'a>> {
        let network_flag = match network {
            Network::Bridge => "--network=bridge",
            Network::Host => "--network=host",
        };
        let name = format!("--name={what}");
        let mut arguments = vec!["--detach", network_flag, &name, "--ulimit=nofile=1024:1024"];
        let port = address.to_string();
        arguments.extend([IMAGE, "/bin/httpd", "-f", "-p", &port]);
        self.start_as(what, (network, address), &arguments)
    }

    /// Starts a container with these arguments of `podman run`, by which it listens there.
    pub fn start_as(
        &'a self,
        what: &str,
        (network, address): (Network, SocketAddr),
        arguments: &[&str],
    ) -> Result<Container<'a>> {
        let parent = path_text(self.parent.path())?;
        // Podman's own limits are above those that a machine may allow itself.
        let ours = ["run", "--cgroup-parent", &parent, "--ulimit=nproc=1024:1024"];
        let id = self.run(network, &[&ours[..], arguments].concat())?;
        let (what, id) = (what.to_owned(), id.trim().to_owned());
        let container = Container { podman: self, what, id, address, network };
        container.wait_up()?;
        Ok(container)
    }

    /// Runs it where the containers of this network are to have it; what it printed.
    fn run(&self, network: Network, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program("TCPQ_PODMAN")?);
        command.env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        for (flag, folder) in [
            ("--root", "storage"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
            ("--network-config-dir", "networks"),
        ] {
            command.arg(flag).arg(self.folder.join(folder));
        }
        command.arg("--runtime").arg(program("TCPQ_RUNC")?).args(["--storage-driver", "vfs"]);
        command.args(arguments);
        let finished = match network {
            Network::Bridge => self.bridge.run(|| self.bench.finish(command)),
            Network::Host => self.bench.finish(command),
        }?;
        ensure!(
            finished.code == Some(0),
            "podman {} ended with {:?}: {}",
            arguments.join(" "),
            finished.code,
            finished.stderr.trim()
        );
        Ok(finished.stdout)
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        // One that was made and could not be started is nobody's.
        let all = ["rm", "--all", "--force", "--time=0"];
        if let Err(error) = self.run(Network::Bridge, &all) {
            eprintln!("cannot remove all containers: {error:#}");
        }
    }
}

impl Container<'_> {
    /// Has podman end it and start it again.
    pub fn restart(&self) -> Result<()> {
        self.podman.run(self.network, &["restart", "--time=0", &self.id])?;
        self.wait_up()
    }

    /// Has podman end it as it ends any; its exit code.
    pub fn stop(&self) -> Result<i32> {
        self.podman.run(self.network, &["stop", &self.id])?;
        self.inspect("{{.State.ExitCode}}")
    }

    /// Runs a command in it; what that printed.
    pub fn exec(&self, command: &[&str]) -> Result<String> {
        let ours = ["exec", self.id.as_str()];
        self.podman.run(self.network, &[&ours[..], command].concat())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The owner of its listener, as the kernel and podman know it.
    pub fn truth(&self) -> Result<Truth> {
        let pid = self.pid()?;
        let mut groups = processes::cgroup_lines(pid)?;
        groups.dedup_by(|one, other| one.1 == other.1);
        let [(_, group)] = groups.as_slice() else {
            anyhow::bail!("{} is in several control groups: {groups:?}", self.what);
        };
        Ok(Truth {
            what: self.what.clone(),
            netns: Netns::of_process(pid)?.label_by_name()?,
            address: self.address,
            process: String::from_utf8(processes::name(pid)?)?,
            pid,
            executable: path_text(&processes::executable(pid)?)?,
            cgroup: Some(String::from_utf8(group.clone())?),
            container: Some(self.id.clone()),
        })
    }

    /// Its first process, as we see it.
    pub fn pid(&self) -> Result<u32> {
        self.inspect("{{.State.Pid}}")
    }

    /// A number that podman has of it.
    fn inspect<T: FromStr<Err = ParseIntError>>(&self, format: &str) -> Result<T> {
        let said = self.podman.run(self.network, &["inspect", "--format", format, &self.id])?;
        said.trim().parse().with_context(|| format!("{format} is {said}, no number"))
    }

    fn wait_up(&self) -> Result<()> {
        let pid = self.pid()?;
        let netns = Netns::of_process(pid)?;
        // Else the case would show less than it says.
        ensure!(
            (self.network == Network::Host) == (netns.inode() == Netns::current()?.inode()),
            "{} is not on the network it was to have",
            self.what
        );
        wait_for(&netns, self.address).with_context(|| format!("{} does not come up", self.what))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.podman.run(self.network, &["rm", "--force", "--time=0", &self.id])
        {
            eprintln!("cannot remove a container: {error:#}");
        }
    }
}
