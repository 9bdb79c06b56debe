use super::*;
use crate::{
    cli::list::tests::{listener, member, owned},
    model::group::Holder,
};

fn at(netns: &str, address: &str, port: u16, process: &str) -> ListenerDto {
    let listener = owned(listener(port), process);
    ListenerDto { netns: netns.to_owned(), address: address.to_owned(), ..listener }
}

/// Sockets of python3 on ephemeral ports.
fn ephemeral(ports: &[u16]) -> ListenerDto {
    let member = |port: &u16| MemberDto {
        address: "127.0.0.1".to_owned(),
        port: *port,
        enqueued: Some(7),
        ..member(QueueDto { length: 1, limit: 5 })
    };
    ListenerDto {
        port: None,
        folded: Some(FoldedInto::Ephemeral),
        members: ports.iter().map(member).collect(),
        sockets: ports.len() as u64,
        ..at("host", "~python3", 0, "python3")
    }
}

fn all() -> ListenersDto {
    ListenersDto {
        listeners: vec![
            at("host", "0.0.0.0", 443, "nginx"),
            at("web1", "10.0.0.1", 443, "haproxy"),
            at("host", "::", 8080, "java"),
            at("host", "127.0.0.1", 22, "sshd"),
            at("host", "::1", 22, "sshd"),
            ephemeral(&[40_001, 40_002]),
        ],
        audit: Vec::new(),
        namespaces: Vec::new(),
    }
}

fn found(target: &str, netns: Option<&str>) -> Result<Found, NotOne> {
    find(&all(), &target.parse().unwrap(), netns)
}

fn address(target: &str, netns: Option<&str>) -> String {
    let Found { listener, .. } = found(target, netns).unwrap();
    endpoint(&listener.address, listener.port.unwrap_or(0))
}

#[test]
fn one_fits() {
    assert_eq!(address("8080", None), "[::]:8080");
    assert_eq!(address("443", Some("web1")), "10.0.0.1:443");
    assert_eq!(address("127.0.0.1:22", None), "127.0.0.1:22");
    assert_eq!(address("[::1]:22", None), "[::1]:22");
    assert_eq!(address("nginx", None), "0.0.0.0:443");
    assert_eq!(address("python3", None), "~python3:0");
    assert_eq!(address("~python3", None), "~python3:0");
}

#[test]
fn a_port_of_a_group_of_many_is_one_listener() {
    let Found { listener, .. } = found("40002", None).unwrap();
    assert_eq!((listener.port, listener.sockets, listener.enqueued), (Some(40_002), 1, Some(7)));
    assert_eq!(listener.accept_queue, QueueDto { length: 1, limit: 5 });
    assert_eq!(Key::of(&listener).again(&all()), Some(listener));
}

#[test]
fn a_wildcard_takes_the_connections_of_an_address() {
    let Found { listener, instead } = found("127.0.0.1:443", Some("host")).unwrap();
    assert_eq!(listener.address, "0.0.0.0");
    assert_eq!(
        instead.unwrap(),
        "nothing listens on 127.0.0.1:443 itself; 0.0.0.0:443 takes its connections"
    );
    let instead = found("127.0.0.1:8080", None).unwrap().instead.unwrap();
    assert!(instead.contains("unless it is for IPv6 only"), "{instead}");
    assert!(found("10.9.9.9:22", None).is_err());
}

#[test]
fn several_are_listed_with_how_to_pick_one() {
    let error = found("443", None).unwrap_err();
    assert!(matches!(error, NotOne::Several { .. }));
    assert_eq!(
        error.to_string(),
        "2 listeners fit port 443; pick one:\n  \
         tcpq explain 0.0.0.0:443 --netns host   # nginx\n  \
         tcpq explain 10.0.0.1:443 --netns web1   # haproxy"
    );
    assert!(matches!(found("sshd", None), Err(NotOne::Several { .. })));
}

#[test]
fn none_is_said_with_what_is_near() {
    let error = found("22", Some("web1")).unwrap_err();
    assert!(matches!(error, NotOne::None { .. }));
    let text = error.to_string();
    assert!(text.starts_with("no listener fits port 22 in namespace web1; nearest:\n"), "{text}");
    assert!(text.contains("127.0.0.1:22 --netns host"), "{text}");
    let text = found("ngin", None).unwrap_err().to_string();
    assert!(text.contains("0.0.0.0:443 --netns host   # nginx"), "{text}");
    let text = found("9", None).unwrap_err().to_string();
    assert_eq!(text, "no listener fits port 9; `tcpq list` shows all there are");
}

#[test]
fn the_living_is_meant_first() {
    let closed = ListenerDto { sockets: 0, ..at("old", "0.0.0.0", 443, "nginx") };
    let mut all = all();
    all.listeners[1] = closed;
    let found = find(&all, &Target::Port(443), None).unwrap();
    assert_eq!(found.listener.netns, "host");
    let found = find(&all, &Target::Port(443), Some("old")).unwrap();
    assert_eq!(found.listener.sockets, 0);
}

#[test]
fn names_as_the_kernel_cuts_them_and_files_are_found() {
    let mut all = all();
    all.listeners[0].owners[0].process = Some("prometheus-node".to_owned());
    all.listeners[0].owners[0].executable = Some("/usr/bin/exporter".to_owned());
    for name in ["prometheus-node-exporter", "prometheus-node", "exporter"] {
        let found = find(&all, &Target::Process(name.to_owned()), None).unwrap();
        assert_eq!(found.listener.port, Some(443), "{name}");
    }
}

#[test]
fn a_holder_is_found_if_no_owner_is() {
    let mut all = all();
    let mut socket = member(QueueDto { length: 0, limit: 5 });
    socket.holders = vec![Holder { pid: 9, process: "worker".to_owned(), fd: 3 }];
    all.listeners[0].members = vec![socket];
    let found = find(&all, &Target::Process("worker".to_owned()), None).unwrap();
    assert_eq!(found.listener.port, Some(443));
}

#[test]
fn hostile_names_are_neither_shown_nor_made_commands() {
    let mut all = all();
    all.listeners[0].netns = "a\u{1b}[2Jb".to_owned();
    all.listeners[1].netns = "x;reboot".to_owned();
    let text = find(&all, &Target::Port(443), None).unwrap_err().to_string();
    assert!(!text.contains('\u{1b}') && text.contains("--netns 'x;reboot'"), "{text}");
}

#[test]
fn listeners_beyond_the_limit_keep_their_namespaces() {
    let socket = |netns: &str| MemberDto {
        netns: netns.to_owned(),
        port: 9000,
        ..member(QueueDto { length: 1, limit: 5 })
    };
    let mut all = all();
    all.listeners.push(ListenerDto {
        port: None,
        folded: Some(FoldedInto::Other),
        sockets: 3,
        members: vec![socket("web"), socket("db"), socket("web")],
        ..at("~other", "~other", 0, "node")
    });
    let find = |netns| find(&all, &Target::Port(9000), netns);
    let Found { listener, .. } = find(Some("web")).unwrap();
    assert_eq!((listener.netns.as_str(), listener.sockets), ("web", 2));
    assert_eq!(Key::of(&listener).again(&all), Some(listener));
    assert_eq!(find(Some("db")).unwrap().listener.sockets, 1);
    let several = find(None).unwrap_err().to_string();
    assert!(several.starts_with("2 listeners fit port 9000"), "{several}");
    assert!(several.contains("0.0.0.0:9000 --netns db"), "{several}");
}
