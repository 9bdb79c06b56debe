//! The container that a control group belongs to, from its path alone.

use crate::model::owner::{Container, Runtime};

/// Length of an id: 32 bytes in hexadecimal digits, for all runtimes known here.
const ID_DIGITS: usize = 64;

/// What runtimes put before an id, with or without `.scope` behind it.
const PREFIXES: [(&str, Runtime); 6] = [
    ("docker", Runtime::Docker),
    ("cri-containerd", Runtime::Containerd),
    ("nerdctl", Runtime::Containerd),
    ("crio", Runtime::Crio),
    ("libpod", Runtime::Podman),
    // `podman run --cgroups=split`.
    ("libpod-payload", Runtime::Podman),
];

/// Folders that hold nothing but groups named by an id. The latter two are what containerd
/// calls namespaces: that of `ctr` and that of its Kubernetes side.
const FOLDERS: [(&str, Runtime); 3] = [
    ("docker", Runtime::Docker),
    ("default", Runtime::Containerd),
    ("k8s.io", Runtime::Containerd),
];

/// podman's folder: an id there is a pod's, its containers are named `libpod-ID`.
const PODMAN_FOLDER: &str = "libpod_parent";

/// The innermost container on the path.
///
/// Containers are nested by Docker in Docker and by Kubernetes in Docker. The outer one
/// holds dozens of programs there; the inner one is what tells them apart, and its id is
/// the one that the pod's kubelet knows.
pub fn container(path: &str) -> Option<Container> {
    let components: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let (depth, id, runtime) = components.iter().enumerate().rev().find_map(|(depth, name)| {
        let parent = depth.checked_sub(1).and_then(|above| components.get(above)).copied();
        let (id, runtime) = identify(name, parent)?;
        Some((depth, id, runtime))
    })?;
    let pod_uid = components[..=depth].iter().rev().find_map(|name| pod_uid(name));
    Some(Container { id: id.to_owned(), runtime, pod_uid })
}

fn identify<'path>(name: &'path str, parent: Option<&str>) -> Option<(&'path str, Runtime)> {
    if is_id(name) {
        return bare(parent).map(|runtime| (name, runtime));
    }
    // runc's systemd notation, taken for a path by its other driver:
    // `system.slice:docker:ID`.
    if let Some((before, id)) = name.rsplit_once(':') {
        let prefix = before.rsplit_once(':').map_or(before, |(_, prefix)| prefix);
        return is_id(id).then(|| (id, named(prefix)));
    }
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (prefix, id) = name.rsplit_once('-')?;
    // A container's monitor is a process of the host that has the container's id.
    let is_monitor = prefix.ends_with("conmon");
    (is_id(id) && !is_monitor).then(|| (id, named(prefix)))
}

/// An id without a word before it. What Kubernetes calls `/kubepods/.../podUID/ID` is made
/// by whichever runtime it was given, and the path does not tell which.
fn bare(parent: Option<&str>) -> Option<Runtime> {
    if parent == Some(PODMAN_FOLDER) {
        return None;
    }
    let known = FOLDERS.iter().find(|(folder, _)| Some(*folder) == parent);
    Some(known.map_or(Runtime::Unknown, |(_, runtime)| *runtime))
}

fn named(prefix: &str) -> Runtime {
    let known = PREFIXES.iter().find(|(name, _)| *name == prefix);
    known.map_or(Runtime::Unknown, |(_, runtime)| *runtime)
}

/// Whether this is a container's id, as all runtimes write it.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(is_digit)
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The UID in `podUID` or in `kubepods-burstable-podUID.slice`, where a dash would mean a
/// level and is written as `_`. Before a colon, too: see [`identify`].
fn pod_uid(name: &str) -> Option<String> {
    let name = name.split(':').next().unwrap_or(name);
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    is_uid(&uid).then_some(uid)
}

/// A UUID, or the hash that a static pod has for one: 32 digits without dashes.
pub(super) fn is_uid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    let is_shaped = groups == [8, 4, 4, 4, 12] || groups == [32];
    is_shaped && text.bytes().all(|byte| byte == b'-' || is_digit(byte))
}

#[cfg(test)]
mod tests;
