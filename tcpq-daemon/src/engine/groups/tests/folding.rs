//! Sockets that have no series of their own.

use super::*;
use crate::{
    engine::groups::placement::EphemeralPorts,
    model::{
        filter::{Filters, Patterns},
        group::Folded,
    },
};

fn rules(max_groups: usize, exclude: &str) -> Rules {
    let exclude = exclude.parse::<Patterns>().unwrap().0;
    Rules {
        ephemeral: EphemeralPorts::Fold,
        max_groups,
        filters: Filters { include: Vec::new(), exclude },
    }
}

fn labels(view: &GroupView) -> (String, String, String) {
    (view.netns.to_string(), view.key.place.address(), view.key.place.port())
}

fn label(netns: &str, address: &str, port: &str) -> (String, String, String) {
    (netns.to_owned(), address.to_owned(), port.to_owned())
}

#[test]
fn ephemeral_ports_are_one_group_for_each_process() {
    let mut groups = Bench::with(rules(2000, ""));
    groups.own(key(1, 1), "node", 10);
    groups.own(key(2, 2), "node", 11);
    let rows = [row(1, 1, 40000), row(2, 2, 40001), row(3, 3, 40002), row(4, 4, 80)];
    let totals = [(key(1, 1), accepts(3)), (key(2, 2), accepts(4)), (key(3, 3), accepts(5))];
    groups.apply(&sample(&rows, &totals), Instant::now());
    let views = groups.views();
    let found: Vec<_> =
        views.iter().map(|view| (labels(view), view.sockets, view.counts.accepts)).collect();
    assert_eq!(
        found,
        [
            (label("7", "127.0.0.1", "80"), 1, 0),
            (label("7", "~unknown", "~ephemeral"), 1, 5),
            (label("7", "~node", "~ephemeral"), 2, 7),
        ]
    );
    assert_eq!(groups.groups.folded(), Folded { ephemeral: 3, other: 0, excluded: 0 });
}

#[test]
fn the_range_is_the_namespaces_own() {
    let mut groups = Bench::with(rules(2000, ""));
    let mut wide = row(1, 1, 2000);
    wide.now.ephemeral_ports = [1024, 65535];
    groups.apply(&sample(&[wide], &[]), Instant::now());
    assert_eq!(only(&mut groups).key.place.port(), "~ephemeral");
    // One that had closed before it was read: by what was read of the namespace.
    let mut closed = closing(&[key(2, 2)], 2001, &[(key(2, 2), accepts(1))]);
    closed.rows = vec![wide];
    groups.apply(&closed, Instant::now());
    assert_eq!(only(&mut groups).counts.accepts, 1);
}

#[test]
fn a_life_between_two_samples_in_an_unknown_namespace_is_folded_by_the_kernels_default() {
    let mut groups = Bench::with(rules(2000, ""));
    groups.apply(&closing(&[key(5, 5)], 40000, &[(key(5, 5), accepts(2))]), Instant::now());
    assert_eq!(only(&mut groups).key.place.port(), "~ephemeral");
}

#[test]
fn a_socket_keeps_its_place_when_its_process_takes_another_name() {
    let mut groups = Bench::with(rules(2000, ""));
    groups.own(key(1, 1), "node", 10);
    let now = Instant::now();
    groups.apply(&sample(&[row(1, 1, 40000)], &[]), now);
    groups.own(key(1, 1), "server", 10);
    groups.apply(&sample(&[row(1, 1, 40000), row(2, 2, 40000)], &[]), now);
    let views = groups.views();
    let addresses: Vec<_> = views.iter().map(|view| view.key.place.address()).collect();
    assert_eq!(addresses, ["~unknown", "~node"]);
    assert_eq!(views[1].owners[0].process.as_deref(), Some("server"));
}

#[test]
fn beyond_the_limit_there_is_one_group_of_all_namespaces() {
    let mut groups = Bench::with(rules(2, ""));
    groups.name(7, "web");
    let now = Instant::now();
    groups.apply(&sample(&[row(1, 1, 80), row(2, 2, 81)], &[]), now);
    let mut elsewhere = row(4, 4, 83);
    (elsewhere.listener.netns, elsewhere.listener.netns_id) = (8, 80);
    let rows = [row(2, 2, 81), row(3, 3, 82), elsewhere, row(5, 5, 81)];
    let totals = [(key(3, 3), accepts(3)), (key(4, 4), accepts(4))];
    groups.apply(
        &Sample { retired: closing(&[key(1, 1)], 80, &[]).retired, ..sample(&rows, &totals) },
        now,
    );
    // A group whose sockets are gone keeps its series, for a socket that comes again.
    groups.apply(&sample(&[row(6, 6, 80)], &[]), now + GRACE);
    let views = groups.views();
    let found: Vec<_> = views.iter().map(|view| (labels(view), view.sockets)).collect();
    assert_eq!(
        found,
        [
            (label("web", "127.0.0.1", "80"), 1),
            (label("web", "127.0.0.1", "81"), 2),
            (label("~other", "~other", "~other"), 2),
        ]
    );
    assert_eq!(views[2].counts.accepts, 7);
    // Each of its sockets is still known to be of its namespace.
    let members = |view: &GroupView| -> Vec<_> {
        view.members.iter().map(|it| (it.netns.to_string(), it.port)).collect()
    };
    assert_eq!(members(&views[2]), [("web".to_owned(), 82), ("8".to_owned(), 83)]);
    assert_eq!(members(&views[0]), [("web".to_owned(), 80)]);
    assert_eq!(groups.groups.folded(), Folded { ephemeral: 0, other: 2, excluded: 0 });
}

#[test]
fn what_is_excluded_is_not_shown_and_stays_in_the_audit() {
    let mut groups = Bench::with(rules(2000, "process:ssh*"));
    groups.own(key(1, 1), "sshd", 10);
    let drops = |count| Totals { listen_drops: count, records_suppressed: 1, ..accepts(9) };
    let now = Instant::now();
    groups.apply(&sample(&[row(1, 1, 22)], &[(key(1, 1), drops(5))]), now);
    assert!(groups.views().is_empty());
    assert!(groups.groups.settings(&mut groups.books).is_empty());
    assert_eq!(groups.groups.sockets(), 1);
    assert_eq!(groups.groups.drops_by_netns()[&0].drops, 5);
    close(&mut groups, &[key(1, 1)], &[(key(1, 1), drops(6))], now);
    assert!(groups.views().is_empty());
    assert_eq!(groups.groups.drops_by_netns()[&0].drops, 6);
    assert_eq!(groups.groups.records_suppressed(), 1);
    assert_eq!(groups.groups.folded(), Folded { ephemeral: 0, other: 0, excluded: 1 });
}

#[test]
fn what_expires_makes_room() {
    let mut groups = Bench::with(rules(1, ""));
    let start = Instant::now();
    groups.apply(&sample(&[row(1, 1, 40000)], &[]), start);
    close(&mut groups, &[key(1, 1)], &[], start);
    let later = start + GRACE + RETENTION;
    groups.apply(&Sample::default(), later);
    assert!(groups.views().is_empty());
    groups.apply(&sample(&[row(2, 2, 80)], &[]), later);
    assert_eq!(only(&mut groups).key.place.port(), "80");
}

/// Longer than a storm.
const LONG: Duration = Duration::from_hours(1);

fn lasting(rules: Rules) -> Bench {
    Bench { groups: Groups::new(SOURCES, rules, LONG, 4096), books: Books::default() }
}

/// Opens and closes so many, most of them between two readings.
fn storm(groups: &mut Bench, process: impl Fn(u64) -> String) -> Instant {
    const READINGS: u64 = 200;
    const EACH: u64 = 100;
    let mut now = Instant::now();
    let mut retired: Vec<ListenerKey> = Vec::new();
    for reading in 0..READINGS {
        now += Duration::from_secs(1);
        let fresh: Vec<_> = (0..EACH).map(|n| key(n, reading * EACH + n + 1)).collect();
        for key in &fresh {
            groups.own(*key, &process(key.born_ns), 10);
        }
        retired.extend(&fresh);
        let totals: Vec<_> = retired.iter().map(|key| (*key, accepts(1))).collect();
        let chores = groups.apply(&closing(&retired, 40000, &totals), now);
        retired.retain(|key| !chores.retired.contains(key));
        groups.views();
    }
    let shown: u64 = groups.views().iter().map(|view| view.counts.accepts).sum();
    assert_eq!(shown, READINGS * EACH);
    while !retired.is_empty() {
        now += Duration::from_secs(1);
        let totals: Vec<_> = retired.iter().map(|key| (*key, accepts(1))).collect();
        let chores = groups.apply(&closing(&retired, 40000, &totals), now);
        retired.retain(|key| !chores.retired.contains(key));
    }
    groups.apply(&Sample::default(), now);
    now
}

/// Nothing is kept of sockets that are gone.
fn is_bare(bench: &Bench) -> bool {
    let Groups { sockets, closing, done, absent, .. } = &bench.groups;
    sockets.is_empty()
        && closing.is_empty()
        && done.is_empty()
        && absent.is_empty()
        && bench.books.known.is_empty()
}

#[test]
fn twenty_thousand_short_lives_leave_as_many_groups_as_processes() {
    let mut groups = lasting(rules(2000, ""));
    let now = storm(&mut groups, |n| format!("job{}", n % 3));
    assert_eq!(groups.views().len(), 3);
    assert!(is_bare(&groups));
    groups.apply(&Sample::default(), now + LONG);
    assert!(groups.views().is_empty());
}

#[test]
fn twenty_thousand_names_leave_as_many_groups_as_are_allowed() {
    let mut groups = lasting(rules(50, ""));
    let now = storm(&mut groups, |n| format!("job{n}"));
    assert_eq!(groups.views().len(), 51);
    assert_eq!(groups.groups.folded().other, 20_000 - 50);
    assert!(is_bare(&groups));
    groups.apply(&Sample::default(), now + LONG);
    assert!(groups.views().is_empty());
}
