//! What lists are made of, for the tests of all commands, and what is said around a table.

use super::*;
use crate::{
    model::owner::Owner,
    serve::api::{ListenerDto, MemberDto, QueueDto},
};

pub(in crate::cli) fn listener(port: u16) -> ListenerDto {
    ListenerDto {
        netns: "host".to_owned(),
        address: "0.0.0.0".to_owned(),
        port: Some(port),
        folded: None,
        owners: Vec::new(),
        started: None,
        backlog_requested: None,
        members: Vec::new(),
        sockets: 1,
        accept_queue: QueueDto { length: 5, limit: 4 },
        syn_queue: QueueDto { length: 0, limit: 4 },
        overflows: None,
        listen_drops: None,
        syn_drops: None,
        requests_lost: None,
        cookies_sent: None,
        cookies_validated: None,
        cookies_failed: None,
        synack_retransmits: None,
        syns_received: None,
        enqueued: None,
        accepts: None,
        accept_errors: None,
        abandoned: None,
        accept_wait: None,
        handshake: None,
        accept_queue_fill: None,
        syn_queue_fill: None,
    }
}

pub(in crate::cli) fn member(accept_queue: QueueDto) -> MemberDto {
    MemberDto {
        netns: "host".to_owned(),
        address: "0.0.0.0".to_owned(),
        port: 80,
        started: None,
        owner: Owner::default(),
        holders: Vec::new(),
        accept_queue,
        syn_queue: QueueDto { length: 0, limit: accept_queue.limit },
        backlog_requested: None,
        overflows: None,
        enqueued: None,
        accepts: None,
    }
}

pub(in crate::cli) fn owned(listener: ListenerDto, process: &str) -> ListenerDto {
    let owner = Owner { process: Some(process.to_owned()), pid: Some(1234), ..Owner::default() };
    ListenerDto { owners: vec![owner], ..listener }
}

/// The pictures are looked at by people: `TCPQ_BLESS=1` makes them anew.
pub(in crate::cli) fn is_as_in(picture: &str, text: &str) {
    let path = format!("{}/src/cli/{picture}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("TCPQ_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{path}");
}

fn netns(drops: u64, unattributed: Option<Unattributed>) -> NetnsAudit {
    NetnsAudit {
        netns: "host".to_owned(),
        listen_overflows: drops,
        listen_drops: drops,
        unattributed,
    }
}

#[test]
fn the_audit_speaks_of_namespaces_with_drops() {
    assert_eq!(audit(&[netns(0, Some(Unattributed::default()))]), "");
    let all = audit(&[netns(52, Some(Unattributed::default()))]);
    assert!(all.contains("52 overflows and 52 drops, all attributed"), "{all}");
    let some = audit(&[netns(52, Some(Unattributed { overflows: 0, drops: 2 }))]);
    assert!(some.contains("2 drops NOT attributed"), "{some}");
}

#[test]
fn filters_that_match_nothing_say_how_many_there_are() {
    let mut all = ListenersDto {
        listeners: vec![listener(80), listener(443)],
        audit: vec![netns(1, None)],
        namespaces: Vec::new(),
    };
    let port = |text: &str| FilterArgs { port: vec![text.parse().unwrap()], ..Default::default() };
    assert_eq!(select(&mut all, &FilterArgs::default()), None);
    assert_eq!(select(&mut all, &port("80")), None);
    assert_eq!((all.listeners.len(), all.audit.len()), (1, 1));
    let none = select(&mut all, &port("8080")).unwrap();
    assert_eq!(none, "nothing matches; there is 1 listener without filters");
    assert!(all.listeners.is_empty() && all.audit.is_empty());
}

#[test]
fn nothing_is_said_in_words() {
    let none = ListenersDto { listeners: Vec::new(), audit: Vec::new(), namespaces: Vec::new() };
    assert_eq!(table(&none, Some(80)), "no TCP listeners\n");
}
