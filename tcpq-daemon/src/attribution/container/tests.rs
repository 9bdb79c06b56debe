use proptest::prelude::*;

use super::*;

const A: &str = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";
const B: &str = "c56236f3c7b1d1f0a5c8d2a0d4f8ac4bdd7bd8fd9cf5a2f8b4b1e8e9c3f0a1b2";
const UID: &str = "2c48913c-b29f-11e7-9350-020968147796";
const UNDERSCORED: &str = "2c48913c_b29f_11e7_9350_020968147796";
const STATIC: &str = "5f0b4b2a9c1d4e6f8a7b3c2d1e0f9a8b";

/// A path with A, B, UID, UND and STATIC in it, and what it names.
fn check(path: &str, expected: Option<(&str, Runtime, Option<&str>)>) {
    let full = path
        .replace("UND", UNDERSCORED)
        .replace("UID", UID)
        .replace("STATIC", STATIC)
        .replace("{A}", A)
        .replace("{B}", B);
    let expected = expected.map(|(id, runtime, pod_uid)| Container {
        id: id.to_owned(),
        runtime,
        pod_uid: pod_uid.map(str::to_owned),
    });
    assert_eq!(container(&full), expected, "{path}");
}

#[test]
fn docker() {
    use Runtime::Docker;
    for path in [
        "/docker/{A}",
        "/system.slice/docker-{A}.scope",
        "/system.slice/docker-{A}.scope/init.scope",
        "/system.slice/docker-{A}.scope/system.slice/nginx.service",
        "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope",
        "/system.slice:docker:{A}",
        "/docker/{A}/system.slice/ssh.service",
        "/system.slice/docker.service/docker/{A}",
        "/docker/buildx/docker-{A}.scope",
    ] {
        check(path, Some((A, Docker, None)));
    }
}

#[test]
fn containerd() {
    use Runtime::Containerd;
    for path in [
        "/default/{A}",
        "/k8s.io/{A}",
        "/system.slice/nerdctl-{A}.scope",
        "/system.slice/cri-containerd-{A}.scope",
        "/system.slice:cri-containerd:{A}",
        "/user.slice/user-1000.slice/user@1000.service/user.slice/nerdctl-{A}.scope",
    ] {
        check(path, Some((A, Containerd, None)));
    }
}

#[test]
fn podman() {
    use Runtime::Podman;
    for path in [
        "/machine.slice/libpod-{A}.scope",
        "/machine.slice/libpod-{A}.scope/container",
        "/machine.slice/libpod-{A}.scope/container/system.slice/httpd.service",
        "/libpod_parent/libpod-{A}",
        "/libpod_parent/{B}/libpod-{A}",
        "/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope",
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-{A}",
        "/system.slice/web.service/libpod-payload-{A}",
    ] {
        check(path, Some((A, Podman, None)));
    }
}

#[test]
fn kubernetes() {
    use Runtime::{Containerd, Crio, Docker, Unknown};
    for (path, runtime) in [
        ("/kubepods/burstable/podUID/{A}", Unknown),
        ("/kubepods/podUID/{A}", Unknown),
        ("/kubepods/besteffort/podUID/crio-{A}", Crio),
        ("/kubepods.slice/kubepods-podUND.slice/docker-{A}.scope", Docker),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUND.slice/\
             cri-containerd-{A}.scope",
            Containerd,
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUND.slice/\
             crio-{A}.scope",
            Crio,
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUND.slice/\
             crio-{A}.scope/container",
            Crio,
        ),
        // containerd with SystemdCgroup off below a kubelet with the systemd driver.
        ("/kubepods-burstable-podUND.slice:cri-containerd:{A}", Containerd),
        (
            "/system.slice/containerd.service/kubepods-burstable-podUND.slice:cri-containerd:{A}",
            Containerd,
        ),
        // k3s, cgroup version 2 in a unit of its own.
        ("/system.slice/k3s.service/kubepods/burstable/podUID/{A}", Unknown),
    ] {
        check(path, Some((A, runtime, Some(UID))));
    }
}

#[test]
fn a_static_pod_has_a_hash_for_a_uid() {
    check("/kubepods/burstable/podSTATIC/{A}", Some((A, Runtime::Unknown, Some(STATIC))));
    check(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSTATIC.slice/\
         cri-containerd-{A}.scope",
        Some((A, Runtime::Containerd, Some(STATIC))),
    );
}

#[test]
fn of_nested_containers_the_innermost() {
    use Runtime::{Containerd, Docker, Unknown};
    check("/docker/{B}/docker/{A}", Some((A, Docker, None)));
    check("/system.slice/docker-{B}.scope/docker/{A}", Some((A, Docker, None)));
    // kind, with cgroup version 2 and version 1.
    check(
        "/system.slice/docker-{B}.scope/kubelet.slice/kubelet-kubepods.slice/\
         kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podUND.slice/\
         cri-containerd-{A}.scope",
        Some((A, Containerd, Some(UID))),
    );
    check("/docker/{B}/kubelet/kubepods/besteffort/podUID/{A}", Some((A, Unknown, Some(UID))));
    // A Docker in a pod: the pod is the outer one's, and the right one to ask.
    check("/kubepods/burstable/podUID/{B}/docker/{A}", Some((A, Docker, Some(UID))));
    // A pod below the container is not the container's.
    check("/docker/{A}/kubepods/burstable/podUID", Some((A, Docker, None)));
}

#[test]
fn an_id_in_other_surroundings_is_of_a_runtime_unknown() {
    for path in [
        "/ecs/0a1b/{A}",
        "/actions_job/{A}",
        "/{A}",
        "/system.slice/buildkit-{A}.scope",
        "/x:y:{A}",
    ] {
        check(path, Some((A, Runtime::Unknown, None)));
    }
}

#[test]
fn what_is_no_container() {
    for path in [
        "",
        "/",
        "//",
        "/system.slice/docker.service",
        "/system.slice/crio.service",
        "/user.slice/user-1000.slice/session-3.scope",
        // Monitors: processes of the host.
        "/machine.slice/libpod-conmon-{A}.scope",
        "/libpod_parent/conmon",
        "/libpod_parent/{A}",
        "/libpod_parent/{A}/conmon",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUND.slice/\
         crio-conmon-{A}.scope",
        "/kubepods/burstable/podUID/crio-conmon-{A}",
        // A pod without a container, and podman's.
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUND.slice",
        "/machine.slice/machine-libpod_pod_{A}.slice",
        // Ids that are none.
        "/docker/7be92808767a",
        "/docker/7BE92808767A667F35C8505CBF40D14E931EF6DB5B0210329CF193B15BA9D605",
        "/docker/{A}0",
        "/system.slice/docker-{A}.service",
        "/default/redis",
    ] {
        check(path, None);
    }
}

#[test]
fn what_is_no_pod() {
    for path in
        ["/podman/docker/{A}", "/pod/{A}", "/x-podUND/{A}", "/kubepods/pod2c48913c-b29f/{A}"]
    {
        let found = container(&path.replace("UND", UNDERSCORED).replace("{A}", A)).unwrap();
        assert_eq!(found.pod_uid, None, "{path}");
    }
}

proptest! {
    #[test]
    fn any_path_gets_an_answer(path: String) {
        container(&path);
    }

    #[test]
    fn any_parts_of_real_paths_get_an_answer(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "/", "-", ":", ".scope", ".slice", "pod", "-pod", "docker", "libpod_parent",
                "conmon", "é", "\u{fffd}", A, UID, UNDERSCORED,
            ]),
            0..12,
        ),
    ) {
        if let Some(found) = container(&parts.concat()) {
            prop_assert!(is_id(&found.id));
            prop_assert!(found.pod_uid.is_none_or(|uid| is_uid(&uid)));
        }
    }
}
