//! What is told of a group beside its counters.

use std::time::SystemTime;

use tcpq_common::listener::Origin;

use super::*;
use crate::model::{group::Member, sample::Moved};

/// Opened so many seconds after the clock began, with that backlog.
fn opened(sk: u64, second: u64, port: u16, requested: i32) -> ListenerRow {
    let mut row = row(sk, second * 1_000_000_000, port);
    row.listener.origin = Origin::Opened as u32;
    row.listener.requested = requested;
    row.listener.is_requested_known = 1;
    row.listener.limit_base = row.now.accept_queue_limit;
    row
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn since_1000(rows: &[ListenerRow]) -> Sample {
    Sample { monotonic_zero: Duration::from_secs(1000), ..sample(rows, &[]) }
}

fn ports(members: &[Member]) -> Vec<u16> {
    members.iter().map(|member| member.port).collect()
}

#[test]
fn a_group_is_as_old_as_its_oldest_socket() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    let rows = [opened(1, 50, 80, 5), opened(2, 40, 80, 5)];
    groups.apply(&since_1000(&rows), now);
    let view = only(&mut groups);
    assert_eq!(view.started, Some(at(1040)));
    let started: Vec<_> = view.members.iter().map(|member| member.started).collect();
    assert_eq!(started, [Some(at(1040)), Some(at(1050))]);
    // One that was there before may be older than any.
    groups.apply(&since_1000(&[rows[0], rows[1], row(3, 3, 80)]), now);
    let view = only(&mut groups);
    assert_eq!((view.started, view.members[0].started), (None, None));
}

#[test]
fn backlogs_are_summed_if_all_are_known() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    let requested = |groups: &mut Bench, rows: &[ListenerRow]| {
        groups.apply(&sample(rows, &[]), now);
        let view = only(groups);
        let members: Vec<_> = view.members.iter().map(|m| m.backlog_requested).collect();
        (view.backlog_requested, members)
    };
    let mut rows = vec![opened(1, 1, 80, 511), opened(2, 2, 80, 0)];
    assert_eq!(requested(&mut groups, &rows), (Some(511), vec![Some(511), Some(0)]));
    // Below 0 means as much as there may be.
    rows.push(opened(3, 3, 80, -1));
    let all = vec![Some(511), Some(0), Some(-1)];
    assert_eq!(requested(&mut groups, &rows), (Some(511 + 2_147_483_647), all));
    // Another listen() has set another limit.
    rows[0].now.accept_queue_limit += 1;
    assert_eq!(requested(&mut groups, &rows), (None, vec![None, Some(0), Some(-1)]));
}

#[test]
fn a_group_without_sockets_asks_for_nothing_and_did_not_start() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    groups.apply(&since_1000(&[opened(1, 1, 80, 511)]), now);
    close(&mut groups, &[key(1, 1_000_000_000)], &[], now);
    let view = only(&mut groups);
    assert_eq!((view.started, view.backlog_requested), (None, None));
    assert!(view.members.is_empty());
}

#[test]
fn owners_are_distinct_ordered_and_known() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    for (sk, process, pid) in [(1, "nginx", 11), (2, "nginx", 10), (3, "nginx", 11)] {
        groups.own(key(sk, sk), process, pid);
    }
    let rows = [row(1, 1, 80), row(2, 2, 80), row(3, 3, 80), row(4, 4, 80)];
    groups.apply(&sample(&rows, &[]), now);
    let view = only(&mut groups);
    let pids: Vec<_> = view.owners.iter().map(|owner| owner.pid).collect();
    assert_eq!(pids, [Some(10), Some(11)]);
    assert_eq!(*view.members[3].owner, Owner::default());
    // When all have closed, whose it was is still known; which processes it were, is not.
    close(&mut groups, &[1, 2, 3, 4].map(|n| key(n, n)), &[], now);
    let view = only(&mut groups);
    let process = Some("nginx".to_owned());
    assert_eq!(view.owners, [Arc::new(Owner { process, ..Owner::default() })]);
    assert_eq!(only(&mut groups).owners, view.owners);
}

#[test]
fn an_owner_that_is_another_one_now_replaces_the_first() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    groups.own(key(1, 1), "systemd", 1);
    groups.apply(&sample(&[row(1, 1, 80)], &[]), Instant::now());
    groups.own(key(1, 1), "sshd", 10);
    assert_eq!(only(&mut groups).owners[0].process.as_deref(), Some("sshd"));
}

#[test]
fn of_a_folded_group_the_oldest_members_are_told() {
    let rules = Rules { ephemeral: placement::EphemeralPorts::Fold, ..Rules::plain() };
    let mut groups = Bench::with(rules);
    let rows: Vec<_> =
        (0..100_u16).rev().map(|n| opened(n.into(), u64::from(n) + 1, 40000 + n, 1)).collect();
    groups.apply(&sample(&rows, &[]), Instant::now());
    let view = only(&mut groups);
    assert_eq!((view.sockets, view.backlog_requested), (100, Some(100)));
    assert_eq!(ports(&view.members), (40000..40064).collect::<Vec<_>>());
}

#[test]
fn two_live_namespaces_of_one_name_are_one_group_and_two_settings() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    groups.name(7, "web");
    groups.name(8, "web");
    let mut first = opened(1, 1, 80, 5);
    (first.listener.netns_id, first.now.somaxconn) = (70, 128);
    let mut second = opened(2, 2, 80, 6);
    (second.listener.netns, second.listener.netns_id, second.now.somaxconn) = (8, 80, 4096);
    groups.apply(&since_1000(&[second, first]), Instant::now());
    let view = only(&mut groups);
    assert_eq!((view.sockets, view.backlog_requested), (2, Some(11)));
    assert_eq!((view.started, view.members.len()), (Some(at(1001)), 2));
    let settings = groups.groups.settings(&mut groups.books);
    let found: Vec<_> = settings.iter().map(|it| (&*it.netns, it.inode, it.somaxconn)).collect();
    assert_eq!(found, [("web", 7, 128), ("web", 8, 4096)]);
}

#[test]
fn a_namespace_made_again_does_not_borrow_from_the_one_before() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    groups.name(7, "web");
    groups.name(8, "web");
    let now = Instant::now();
    groups.own(key(1, 1_000_000_000), "old", 1);
    groups.apply(&since_1000(&[opened(1, 1, 80, 5)]), now);
    close(&mut groups, &[key(1, 1_000_000_000)], &[], now);
    let mut next = opened(2, 2, 80, 6);
    next.listener.netns = 8;
    groups.own(key(2, 2_000_000_000), "new", 2);
    groups.apply(&since_1000(&[next]), now);
    let view = only(&mut groups);
    assert_eq!(
        (view.key.netns, view.started, view.backlog_requested),
        (NetnsInode(8), Some(at(1002)), Some(6))
    );
    assert_eq!((view.owners.len(), view.owners[0].pid), (1, Some(2)));
}

#[test]
fn a_look_has_settings() {
    let mut groups = Bench::new(SOURCES, Duration::ZERO, 4096);
    groups.apply(&sample(&[row(1, 1, 80)], &[]), Instant::now());
    assert_eq!(groups.groups.settings(&mut groups.books).len(), 1);
}

#[test]
fn where_nothing_has_happened_all_is_handed_on_as_it_was() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    let all = |groups: &mut Bench, rows: &[ListenerRow]| {
        groups.apply(&Sample { moved: Moved::Only(HashSet::default()), ..sample(rows, &[]) }, now);
        groups.groups.views(&mut groups.books)
    };
    let mut rows = vec![row(1, 1, 80), row(2, 2, 81)];
    let first = all(&mut groups, &rows);
    assert!(Arc::ptr_eq(&first, &all(&mut groups, &rows)));
    rows[1].now.accept_queue_length += 1;
    let second = all(&mut groups, &rows);
    assert!(Arc::ptr_eq(&first[0], &second[0]));
    assert_eq!(second[1].accept_queue.length, first[1].accept_queue.length + 1);
    rows.push(row(3, 3, 82));
    assert_eq!(all(&mut groups, &rows).len(), 3);
    close(&mut groups, &[key(3, 3)], &[], now);
    let later = now + RETENTION;
    groups.apply(&sample(&rows[..2], &[]), later);
    assert_eq!(groups.groups.views(&mut groups.books).len(), 2);
}
