//! Who owns a listener.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::text::printable;

/// The owner of a listening socket: the process that answers for it. What is not known
/// is absent.
///
/// Several processes may hold one socket (`fork()`, `SCM_RIGHTS`, socket activation). The
/// owner is the one that called `listen()`, as long as it holds the socket and is no
/// service manager that passes sockets on; else the oldest other holder; else the service
/// manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Owner {
    /// Its name: `comm` of the process's first thread, as `ps` and `ss` show it. Control
    /// characters and what is not UTF-8 are replaced.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub process: Option<String>,
    /// Its number in the daemon's pid namespace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// Path of what it executes, as the process's own mount namespace names it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub executable: Option<String>,
    /// Path of its control group, from the root of the hierarchy.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup: Option<String>,
    /// The systemd unit that the control group is, or is in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
    /// The container that the control group is, or is in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<Container>,
    /// The Kubernetes pod that the container is of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<Pod>,
}

/// A container, by its control group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Container {
    /// Its id: 64 hexadecimal digits for all runtimes known here.
    pub id: String,
    /// Who runs it, as far as the path tells.
    pub runtime: Runtime,
    /// The pod's UID, if the path names one. Form: as Kubernetes writes it, with dashes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod_uid: Option<String>,
}

/// Digits of a container's id that its runtime shows, too.
const SHORT_ID: usize = 12;

impl Container {
    /// The id as runtimes show it.
    pub fn short_id(&self) -> String {
        printable(&self.id).chars().take(SHORT_ID).collect()
    }
}

/// A container runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd, with or without Kubernetes.
    Containerd,
    /// CRI-O.
    Crio,
    /// podman.
    Podman,
    /// The path has an id of a container, but names no runtime.
    Unknown,
}

/// A Kubernetes pod, and the container's name in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pod {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The container's name in the pod; empty if it is not known.
    pub container: String,
}

/// An owner, shared by all its sockets.
pub type SharedOwner = Arc<Owner>;
