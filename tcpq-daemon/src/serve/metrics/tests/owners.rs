//! Whose a listener is, and the settings of its namespace.

use super::*;

fn with_owners(owners: Vec<Owner>) -> String {
    let mut snapshot = Snapshot::clone(&snapshot("host", &exact()));
    group(&mut snapshot).owners = owners.into_iter().map(Arc::new).collect();
    text(&Arc::new(snapshot), Format::Classic)
}

fn infos(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("tcpq_listener_info{")).collect()
}

#[test]
fn nobody_known_is_one_series_of_nothing() {
    let text = with_owners(Vec::new());
    assert_eq!(
        infos(&text),
        [concat!(
            r#"tcpq_listener_info{netns="host",address="127.0.0.1",port="80",process="","#,
            r#"cgroup="",container_id="",k8s_namespace="",k8s_pod="",k8s_container=""} 1"#
        )]
    );
}

#[test]
fn processes_that_differ_in_their_pid_are_one_series() {
    let executable = Some("/usr/sbin/nginx".to_owned());
    let text = with_owners(vec![owner(10), owner(11), Owner { executable, ..owner(12) }]);
    assert_eq!(infos(&text).len(), 1);
}

#[test]
fn of_many_owners_eight_are_told_in_order() {
    let named = |n: u32| Owner { process: Some(format!("worker{n:02}")), ..Owner::default() };
    let text = with_owners((0..20).rev().map(named).collect());
    let infos = infos(&text);
    assert_eq!(infos.len(), 8);
    for (n, line) in infos.iter().enumerate() {
        assert!(line.contains(&format!("process=\"worker{n:02}\"")), "{line}");
    }
}

#[test]
fn what_was_not_seen_has_no_series() {
    let mut snapshot = Snapshot::clone(&snapshot("host", &exact()));
    group(&mut snapshot).started = None;
    group(&mut snapshot).backlog_requested = None;
    let text = text(&Arc::new(snapshot), Format::Classic);
    assert!(!text.contains("tcpq_listener_start_time_seconds{"));
    assert!(!text.contains("tcpq_backlog_requested{"));
}

#[test]
fn of_namespaces_with_one_name_the_first_is_told() {
    let mut snapshot = Snapshot::clone(&snapshot("host", &exact()));
    snapshot.namespaces = vec![settings("web", 128), settings("web", 4096), settings("x", 5)];
    let text = text(&Arc::new(snapshot), Format::Classic);
    let lines: Vec<_> =
        text.lines().filter(|line| line.starts_with("tcpq_netns_somaxconn{")).collect();
    assert_eq!(
        lines,
        ["tcpq_netns_somaxconn{netns=\"web\"} 128", "tcpq_netns_somaxconn{netns=\"x\"} 5"]
    );
}
