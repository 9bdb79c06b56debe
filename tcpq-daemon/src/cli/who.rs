//! An owner in short.

use crate::{
    model::owner::{Container, Owner, Pod, Runtime},
    model::text::printable,
};

/// Where the owner runs, by the name that says most: its pod, container, unit, or the end
/// of its control group's path.
pub(super) fn place(owner: &Owner) -> Option<String> {
    let Owner { unit, container, pod, cgroup, .. } = owner;
    let told = match (pod, container, unit, cgroup) {
        (Some(Pod { namespace, name, container }), ..) if container.is_empty() => {
            format!("{namespace}/{name}")
        }
        (Some(Pod { namespace, name, container }), ..) => format!("{namespace}/{name}/{container}"),
        (None, Some(container), ..) => self::container(container),
        (None, None, Some(unit), _) => unit.clone(),
        (None, None, None, Some(cgroup)) => tail(cgroup).to_owned(),
        (None, None, None, None) => return None,
    };
    Some(printable(&told))
}

/// `docker 0123456789ab`.
pub(super) fn container(container: &Container) -> String {
    let id = container.short_id();
    match runtime(container.runtime) {
        Some(runtime) => format!("{runtime} {id}"),
        None => format!("container {id}"),
    }
}

/// The runtime's name; `None`: not known.
pub(super) const fn runtime(runtime: Runtime) -> Option<&'static str> {
    match runtime {
        Runtime::Docker => Some("docker"),
        Runtime::Containerd => Some("containerd"),
        Runtime::Crio => Some("cri-o"),
        Runtime::Podman => Some("podman"),
        Runtime::Unknown => None,
    }
}

/// The last part of a path; `/` is the root of the hierarchy.
fn tail(cgroup: &str) -> &str {
    match cgroup.trim_end_matches('/').rsplit('/').next() {
        None | Some("") => "/",
        Some(last) => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            cgroup: Some("/system.slice/nginx.service".to_owned()),
            unit: Some("nginx.service".to_owned()),
            ..Owner::default()
        }
    }

    #[test]
    fn the_name_that_says_most_is_told() {
        let podman = Container {
            id: "0123456789abcdef".to_owned(),
            runtime: Runtime::Podman,
            pod_uid: None,
        };
        let pod = |container: &str| Pod {
            namespace: "shop".to_owned(),
            name: "web-1".to_owned(),
            container: container.to_owned(),
        };
        assert_eq!(place(&owner()).unwrap(), "nginx.service");
        let contained = Owner { container: Some(podman), ..owner() };
        assert_eq!(place(&contained).unwrap(), "podman 0123456789ab");
        let in_a_pod = |name| Owner { pod: Some(pod(name)), ..contained.clone() };
        assert_eq!(place(&in_a_pod("nginx")).unwrap(), "shop/web-1/nginx");
        assert_eq!(place(&in_a_pod("")).unwrap(), "shop/web-1");
        assert_eq!(place(&Owner::default()), None);
    }

    #[test]
    fn of_a_control_group_the_end_is_told() {
        let of = |cgroup: &str| {
            place(&Owner { cgroup: Some(cgroup.to_owned()), ..Owner::default() }).unwrap()
        };
        assert_eq!(of("/a/b"), "b");
        assert_eq!(of("/a/b/"), "b");
        assert_eq!(of("/"), "/");
        assert_eq!(of("/a/b\u{1b}c"), "b\u{fffd}c");
    }
}
