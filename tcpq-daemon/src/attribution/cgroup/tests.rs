use proptest::prelude::*;

use super::*;
use crate::model::owner::Runtime;

const A: &str = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";

fn check(text: &str, path: &str, unit: Option<&str>, runtime: Option<Runtime>) {
    let found = membership(text.replace("{A}", A).as_bytes());
    assert_eq!(found.path, Some(path.replace("{A}", A)), "{text}");
    assert_eq!(found.unit, unit.map(|unit| unit.replace("{A}", A)), "{text}");
    assert_eq!(found.container.as_ref().map(|container| container.runtime), runtime, "{text}");
    assert!(found.container.is_none_or(|container| container.id == A));
}

#[test]
fn version_2() {
    for (path, unit) in [
        ("/", None),
        ("/init.scope", Some("init.scope")),
        ("/system.slice/nginx.service", Some("nginx.service")),
        ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
        ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service",
            Some("foo.service"),
        ),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice", Some("user@1000.service")),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/\
             vte-spawn-0b1c2d3e.scope",
            Some("vte-spawn-0b1c2d3e.scope"),
        ),
        ("/system.slice/postgresql@16-main.service", Some("postgresql@16-main.service")),
        ("/system.slice/web.service/workers", Some("web.service")),
        ("/system.slice", Some("system.slice")),
        ("/a.slice/a-b.slice", Some("a-b.slice")),
        ("/system.slice/_cpu.service", Some("cpu.service")),
        ("/system.slice/.service", Some("system.slice")),
        ("/lxc.payload.web", None),
        ("/a:b:c/d.service", Some("d.service")),
    ] {
        check(&format!("0::{path}\n"), path, unit, None);
    }
}

#[test]
fn version_2_in_a_container() {
    check(
        "0::/system.slice/docker-{A}.scope\n",
        "/system.slice/docker-{A}.scope",
        Some("docker-{A}.scope"),
        Some(Runtime::Docker),
    );
    check("0::/docker/{A}\n", "/docker/{A}", None, Some(Runtime::Docker));
}

#[test]
fn version_1() {
    let systemd = "12:pids:/system.slice/ssh.service\n\
                   11:cpu,cpuacct:/system.slice/ssh.service\n\
                   5:memory:/system.slice/ssh.service\n\
                   2:cpuset:/\n\
                   1:name=systemd:/system.slice/ssh.service\n";
    check(systemd, "/system.slice/ssh.service", Some("ssh.service"), None);
    let no_systemd = "3:cpuset:/sets/one\n2:cpu,cpuacct:/cpus\n1:memory:/mem\n";
    check(no_systemd, "/mem", None, None);
    let root = "4:memory:/\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/\n";
    check(root, "/", None, None);
    let one = "3:cpuset:/\n2:devices:/dev\n1:cpu:/\n";
    check(one, "/dev", None, None);
}

#[test]
fn version_1_in_a_container() {
    let docker = "3:cpuset:/docker/{A}\n2:memory:/docker/{A}\n1:name=systemd:/docker/{A}\n";
    check(docker, "/docker/{A}", None, Some(Runtime::Docker));
    // Only some hierarchies know of it.
    let partly = "3:memory:/default/{A}\n2:cpu:/\n1:name=systemd:/system.slice/x.service\n";
    check(partly, "/default/{A}", None, Some(Runtime::Containerd));
}

#[test]
fn both_versions() {
    let systemd = "2:memory:/system.slice/ssh.service\n\
                   1:name=systemd:/system.slice/ssh.service\n\
                   0::/system.slice/ssh.service\n";
    check(systemd, "/system.slice/ssh.service", Some("ssh.service"), None);
    let unused = "1:name=systemd:/system.slice/ssh.service\n0::/\n";
    check(unused, "/system.slice/ssh.service", Some("ssh.service"), None);
    // As recorded with Docker 19.03 on Ubuntu 20.04: version 2 still has the container
    // where its runtime was.
    let docker = "12:cpuset:/docker/{A}\n\
                  2:memory:/docker/{A}\n\
                  1:name=systemd:/docker/{A}\n\
                  0::/system.slice/containerd.service\n";
    check(docker, "/docker/{A}", None, Some(Runtime::Docker));
}

#[test]
fn outside_of_the_daemons_cgroup_namespace() {
    check("0::/../../system.slice/a.service\n", "/system.slice/a.service", Some("a.service"), None);
    check("0::/../docker/{A}\n", "/docker/{A}", None, Some(Runtime::Docker));
    check("0::/..\n", "/", None, None);
    check("0::/../..\n", "/", None, None);
    check("0::/..a/b\n", "/..a/b", None, None);
}

#[test]
fn one_that_was_removed() {
    check(
        "0::/system.slice/a.service (deleted)\n",
        "/system.slice/a.service",
        Some("a.service"),
        None,
    );
}

#[test]
fn what_is_not_of_the_form_is_unknown() {
    for text in ["", "\n", "0", "0:", "0::", "0::x", "::", "a\nb\n"] {
        assert_eq!(membership(text.as_bytes()), Membership::default(), "{text:?}");
    }
    check("garbage\n0::/a.service\n", "/a.service", Some("a.service"), None);
}

#[test]
fn hostile_paths_are_fit_to_show() {
    let found = membership(b"0::/a\"} 1\x1b\xff/b\x07.service\n");
    assert_eq!(found.path.as_deref(), Some("/a\"} 1\u{fffd}\u{fffd}/b\u{fffd}.service"));
    assert_eq!(found.unit.as_deref(), Some("b\u{fffd}.service"));
    // The container is found where the path shown no longer reaches.
    let long = format!("0::/{}/docker-{A}.scope\n", "deep/".repeat(800));
    let found = membership(long.as_bytes());
    let path = found.path.unwrap();
    assert!(path.len() <= 512 && path.ends_with('…'));
    assert_eq!(found.container.unwrap().id, A);
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(text: Vec<u8>) {
        membership(&text);
        membership(&[b"0::/".as_slice(), &text].concat());
        membership(&[b"1:name=systemd:/".as_slice(), &text].concat());
    }
}
