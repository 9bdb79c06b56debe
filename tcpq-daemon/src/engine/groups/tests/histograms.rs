//! What was observed: of a listener, of those before it, of those beside it.

use tcpq_common::histogram::Histograms;

use super::*;

/// As many waits for accept(), none of them long.
pub(super) fn waits(count: u64) -> Observations {
    let mut histograms = Histograms::ZERO;
    histograms.accept_wait.cells[0] = count;
    histograms.accept_wait.sum_us = count * 5;
    (&histograms).into()
}

fn with(sample: Sample, observed: &[(ListenerKey, u64)]) -> Sample {
    let histograms = observed.iter().map(|(key, count)| (*key, waits(*count).into()));
    Sample { histograms: Arc::new(histograms.collect()), ..sample }
}

fn seen(view: &GroupView) -> (u64, u64) {
    let observed = view.histograms.as_ref().unwrap();
    (observed.accept_wait().count(), observed.accept_wait().sum_us)
}

#[test]
fn an_idle_listener_has_none() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    groups.apply(&sample(&[row(1, 1, 80)], &[]), Instant::now());
    assert_eq!(only(&mut groups).histograms, None);
}

#[test]
fn those_of_one_socket_are_shared_and_not_copied() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let sample = with(sample(&[row(1, 1, 80)], &[]), &[(key(1, 1), 3)]);
    groups.apply(&sample, Instant::now());
    let shown = only(&mut groups).histograms.clone().unwrap();
    assert!(Arc::ptr_eq(&shown, &sample.histograms[&key(1, 1)]));
}

#[test]
fn members_of_a_group_are_summed_and_stay_as_they_are() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let rows = [row(1, 1, 80), row(2, 2, 80)];
    let sample = with(sample(&rows, &[]), &[(key(1, 1), 3), (key(2, 2), 4)]);
    groups.apply(&sample, Instant::now());
    for _ in 0..2 {
        assert_eq!(seen(&only(&mut groups)), (7, 35));
    }
    assert_eq!(*sample.histograms[&key(1, 1)], waits(3));
}

#[test]
fn what_a_reading_lacks_stays() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    groups.apply(&with(sample(&[row(1, 1, 80)], &[]), &[(key(1, 1), 3)]), now);
    groups.apply(&sample(&[row(1, 1, 80)], &[]), now);
    assert_eq!(seen(&only(&mut groups)), (3, 15));
}

#[test]
fn a_listener_that_a_pass_has_skipped_goes_on() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    groups.apply(&with(sample(&[row(1, 1, 80)], &[]), &[(key(1, 1), 3)]), now);
    groups.apply(&with(sample(&[], &[(key(1, 1), accepts(4))]), &[(key(1, 1), 4)]), now);
    assert_eq!(seen(&only(&mut groups)), (4, 20));
}

#[test]
fn what_comes_while_a_listener_closes_is_in_its_group_when_it_is_let_go() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let now = Instant::now();
    groups.apply(&with(sample(&[row(1, 1, 80)], &[]), &[(key(1, 1), 3)]), now);
    let last = |count| with(closing(&[key(1, 1)], 80, &[]), &[(key(1, 1), count)]);
    groups.apply(&last(5), now);
    // With the reading after which the kernel side forgets it.
    assert_eq!(groups.apply(&last(6), now + GRACE).retired, [key(1, 1)]);
    assert_eq!(seen(&only(&mut groups)), (6, 30));
    // Another one on its address goes on from there.
    groups.apply(&with(sample(&[row(2, 2, 80)], &[]), &[(key(2, 2), 1)]), now + GRACE);
    assert_eq!(seen(&only(&mut groups)), (7, 35));
}

#[test]
fn one_that_was_never_seen_open_leaves_its_own() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    let totals = [(key(5, 5), accepts(2))];
    let sample = with(closing(&[key(5, 5)], 80, &totals), &[(key(5, 5), 2)]);
    groups.apply(&sample, Instant::now());
    assert_eq!(seen(&only(&mut groups)), (2, 10));
}

#[test]
fn groups_of_one_name_are_one_and_go_on_when_one_of_them_ends() {
    let mut groups = Bench::new(SOURCES, RETENTION, 4096);
    groups.name(7, "web");
    groups.name(8, "web");
    let now = Instant::now();
    groups.apply(&with(sample(&[row(1, 1, 80)], &[]), &[(key(1, 1), 5)]), now);
    groups.views();
    let mut next = row(2, 2, 80);
    next.listener.netns = 8;
    let mut both = with(sample(&[next], &[]), &[(key(1, 1), 5), (key(2, 2), 2)]);
    both.retired = closing(&[key(1, 1)], 80, &[]).retired;
    groups.apply(&both, now);
    groups.apply(&both, now + GRACE);
    assert_eq!(seen(&only(&mut groups)), (7, 35), "merged");
    let alone = with(sample(&[next], &[]), &[(key(2, 2), 2)]);
    groups.apply(&alone, now + GRACE + RETENTION);
    assert_eq!(groups.groups.series.groups.len(), 1, "the first one has ended");
    assert_eq!(seen(&only(&mut groups)), (7, 35), "bequeathed");
}
