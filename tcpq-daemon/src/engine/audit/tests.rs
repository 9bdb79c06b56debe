use tcpq_common::iterator::NetnsBase;

use super::*;

fn counters(overflows: u64, drops: u64) -> DropCounters {
    DropCounters { overflows, drops }
}

fn row(cpu: u32, state: AuditState, kernel: DropCounters, credited: DropCounters) -> AuditRow {
    AuditRow { cpu, state: state as u32, kernel, credited }
}

fn reading(cpus: Vec<AuditRow>) -> NetnsReading {
    NetnsReading { id: 9, inode: NetnsInode(7), base: None, before: None, cpus }
}

fn audits(comparison: Comparison) -> Audits {
    Audits::new(comparison)
}

fn only(audits: &mut Audits) -> NetnsAudit {
    let mut views = audits.views(|inode| inode.to_string());
    assert_eq!(views.len(), 1);
    views.remove(0)
}

const NONE: DropCounters = DropCounters::ZERO;

#[test]
fn what_was_there_before_is_the_base() {
    let mut audits = audits(Comparison::PerCpu);
    let first = row(0, AuditState::Consistent, counters(100, 120), NONE);
    audits.apply(&[reading(vec![first])], &HashMap::new());
    let second = row(0, AuditState::Consistent, counters(105, 127), counters(5, 6));
    audits.apply(&[reading(vec![second])], &HashMap::new());
    let view = only(&mut audits);
    assert_eq!((view.listen_overflows, view.listen_drops), (5, 7));
    assert_eq!(view.unattributed, Some(Unattributed { overflows: 0, drops: 1 }));
}

#[test]
fn a_namespace_seen_from_its_first_listener_on_has_no_blind_moment() {
    let mut audits = audits(Comparison::PerCpu);
    let base = NetnsBase { kernel: counters(3, 3), credited: NONE, is_known: 1 };
    let cpu = row(0, AuditState::Consistent, counters(10, 10), counters(6, 6));
    let reading = NetnsReading { base: Some(base), ..reading(vec![cpu]) };
    audits.apply(&[reading], &HashMap::new());
    let view = only(&mut audits);
    assert_eq!((view.listen_overflows, view.listen_drops), (7, 7));
    assert_eq!(view.unattributed, Some(Unattributed { overflows: 1, drops: 1 }));
}

#[test]
fn a_busy_cpu_keeps_its_last_difference_and_holds_up_the_first() {
    let mut audits = audits(Comparison::PerCpu);
    let idle = row(0, AuditState::Consistent, counters(1, 1), NONE);
    let busy = row(1, AuditState::Busy, counters(2, 2), NONE);
    audits.apply(&[reading(vec![idle, busy])], &HashMap::new());
    assert!(audits.views(|inode| inode.to_string()).is_empty());
    let calm = row(1, AuditState::Consistent, counters(4, 4), counters(2, 2));
    audits.apply(&[reading(vec![idle, calm])], &HashMap::new());
    assert_eq!(only(&mut audits).unattributed, Some(Unattributed::default()));
    let busy = row(1, AuditState::Busy, counters(9, 9), counters(2, 2));
    audits.apply(&[reading(vec![idle, busy])], &HashMap::new());
    let view = only(&mut audits);
    assert_eq!(view.unattributed, Some(Unattributed::default()));
    // Since the start of the counting, the two of before the first whole reading included.
    assert_eq!(view.listen_drops, 7);
}

#[test]
fn a_reading_of_a_namespace_that_may_be_gone_is_none() {
    let mut audits = audits(Comparison::PerCpu);
    let gone = row(0, AuditState::Gone, counters(77, 77), NONE);
    audits.apply(&[reading(vec![gone])], &HashMap::new());
    assert!(audits.views(|inode| inode.to_string()).is_empty());
}

#[test]
fn derived_sums_are_compared_only_in_a_quiet_moment() {
    let mut audits = audits(Comparison::Sums);
    let read = |kernel: DropCounters, before| NetnsReading {
        before: Some(before),
        ..reading(vec![row(0, AuditState::Consistent, kernel, NONE)])
    };
    let ours = |sum| HashMap::from([(9, sum)]);
    audits.apply(&[read(counters(5, 5), counters(4, 4))], &ours(NONE));
    assert!(audits.views(|inode| inode.to_string()).is_empty());
    audits.apply(&[read(counters(5, 5), counters(5, 5))], &ours(counters(1, 1)));
    audits.apply(&[read(counters(8, 8), counters(8, 8))], &ours(counters(3, 4)));
    let view = only(&mut audits);
    assert_eq!(view.unattributed, Some(Unattributed { overflows: 1, drops: 0 }));
    // One was ours before the first quiet moment, and is the kernel's as well.
    assert_eq!(view.listen_overflows, 4);
}

#[test]
fn an_identity_that_is_used_again_starts_anew() {
    let mut audits = audits(Comparison::PerCpu);
    for kernel in [counters(50, 50), counters(2, 2)] {
        let cpu = row(0, AuditState::Consistent, kernel, NONE);
        audits.apply(&[reading(vec![cpu])], &HashMap::new());
    }
    let view = only(&mut audits);
    assert_eq!((view.listen_drops, view.unattributed), (0, Some(Unattributed::default())));
}

#[test]
fn a_namespace_made_again_under_its_name_continues_its_figures() {
    let mut audits = audits(Comparison::PerCpu);
    for (id, inode) in [(9, 7), (10, 8)] {
        for kernel in [NONE, counters(4, 5)] {
            let cpu = row(0, AuditState::Consistent, kernel, kernel);
            let reading = NetnsReading { id, inode: NetnsInode(inode), ..reading(vec![cpu]) };
            audits.apply(&[reading], &HashMap::new());
        }
    }
    let views = audits.views(|_| "web".to_owned());
    assert_eq!(views.len(), 1);
    assert_eq!((views[0].listen_overflows, views[0].listen_drops), (8, 10));
    // What has been told stays told as long as one of the name is there.
    audits.forget(9);
    assert_eq!(audits.views(|_| "web".to_owned())[0].listen_drops, 10);
    audits.forget(10);
    assert!(audits.views(|_| "web".to_owned()).is_empty());
    assert!(audits.inherited.is_empty());
}

#[test]
fn a_namespace_that_is_gone_keeps_its_name() {
    let mut audits = audits(Comparison::PerCpu);
    let cpu = row(0, AuditState::Consistent, NONE, NONE);
    audits.apply(&[reading(vec![cpu])], &HashMap::new());
    assert_eq!(audits.views(|_| "web".to_owned())[0].netns, "web");
    // Another namespace has its number by now.
    audits.apply(&[], &HashMap::new());
    assert_eq!(audits.views(|_| "db".to_owned())[0].netns, "web");
}
