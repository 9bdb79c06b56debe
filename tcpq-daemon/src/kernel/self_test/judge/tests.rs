use super::{
    super::tests::{FAMILIES, all_of, without},
    *,
};
use crate::{
    kernel::plan::{BackendChoice, plan, tests::complete},
    model::hooks::Backend,
};

fn the_plan() -> Plan {
    plan(&complete(), BackendChoice::Auto)
}

/// Judges with a change to what is seen of one family.
fn judge_with(plan: &Plan, family: Family, change: impl Fn(Seen) -> Seen) -> Vec<Verdict> {
    let listeners = FAMILIES.map(|other| {
        let forced = Forced::by_script(other);
        let seen = all_of(&forced);
        (forced, if other == family { change(seen) } else { seen })
    });
    judge(plan, &listeners)
}

fn suspects(verdicts: &[Verdict]) -> Vec<Hook> {
    let mut hooks: Vec<_> =
        verdicts.iter().flat_map(|verdict| &verdict.suspects).map(|hook| hook.hook).collect();
    hooks.sort_unstable();
    hooks.dedup();
    hooks
}

#[test]
fn what_was_forced_and_seen_passes() {
    assert_eq!(judge_with(&the_plan(), Family::V4, |seen| seen), []);
}

#[test]
fn a_wrong_count_names_its_hook() {
    for (signal, hook) in [
        (Signal::SynsReceived, Hook::SynV6),
        (Signal::OverflowSyn, Hook::SynV6),
        (Signal::OverflowAck, Hook::ChildV6),
        (Signal::Enqueued, Hook::Hashdance),
        (Signal::Accepts, Hook::Accept),
        (Signal::AcceptErrors, Hook::AcceptCall),
    ] {
        let verdicts = judge_with(&the_plan(), Family::V6, |seen| without(seen, signal));
        assert_eq!(verdicts.len(), 1, "{signal:?}");
        assert_eq!(verdicts[0].finding.signal, signal);
        assert_eq!(suspects(&verdicts), [hook], "{signal:?}");
    }
}

#[test]
fn too_many_is_as_wrong_as_too_few() {
    let verdicts = judge_with(&the_plan(), Family::V4, |mut seen| {
        seen.counts.overflows.syn += 1;
        seen
    });
    let says = verdicts.iter().map(|verdict| &*verdict.finding.says).collect::<Vec<_>>();
    assert_eq!(says, ["expected 1 overflows at the SYN over IPv4, saw 2"]);
}

#[test]
fn a_hook_that_another_signal_proves_is_not_to_blame() {
    // The sum is wrong with one of its parts: the other part's hook is innocent.
    let verdicts = judge_with(&the_plan(), Family::V4, |seen| {
        without(without(seen, Signal::OverflowAck), Signal::ListenDrops)
    });
    assert_eq!(suspects(&verdicts), [Hook::ChildV4]);
    // The sum alone is wrong: nobody is innocent, but who is not in that family.
    let verdicts = judge_with(&the_plan(), Family::V4, |seen| without(seen, Signal::ListenDrops));
    assert_eq!(suspects(&verdicts), [Hook::SynV4, Hook::ChildV4]);
}

#[test]
fn an_overflow_at_the_wrong_stage_is_wrong_twice() {
    let verdicts = judge_with(&the_plan(), Family::V4, |mut seen| {
        seen.counts.overflows.cookie = std::mem::take(&mut seen.counts.overflows.ack);
        seen
    });
    let signals: Vec<_> = verdicts.iter().map(|verdict| verdict.finding.signal).collect();
    assert_eq!(signals, [Signal::OverflowAck, Signal::OverflowCookie]);
}

#[test]
fn what_the_plan_has_not_is_not_asked_for() {
    let mut plan = the_plan();
    for signal in &mut plan.signals {
        signal.exactness = Exactness::Absent;
    }
    let nothing = [(Forced::by_script(Family::V4), Seen::default())];
    assert_eq!(judge(&plan, &nothing), []);
}

#[test]
fn the_functions_of_the_life_cycle_can_be_done_without() {
    let verdicts =
        judge_with(&the_plan(), Family::V4, |seen| without(seen, Signal::ListenerLifecycle));
    assert_eq!(verdicts.len(), 1);
    assert_eq!(suspects(&verdicts), [Hook::ListenStart, Hook::ListenStop]);
    let verdict = closes(&the_plan(), 2, 0);
    assert_eq!(suspects(std::slice::from_ref(&verdict)), [Hook::ListenStart, Hook::ListenStop]);
    assert_eq!(verdict.finding.says, "expected 2 listeners to close, saw 0");
}

#[test]
fn without_its_tracepoint_no_other_plan_helps() {
    let kprobe = BackendChoice::Only(Backend::Kprobe);
    let plan = plan(&complete(), kprobe);
    let verdicts = judge_with(&plan, Family::V4, |seen| without(seen, Signal::ListenerLifecycle));
    assert_eq!(verdicts.len(), 1);
    assert!(verdicts[0].suspects.is_empty());
    assert_eq!(verdicts[0].finding.hooks, ["tp_btf:inet_sock_set_state"]);
    assert!(closes(&plan, 2, 0).suspects.is_empty());
}

#[test]
fn a_hook_that_counts_is_not_given_up_for_an_observation() {
    for signal in [Signal::AcceptWait, Signal::HandshakeTime, Signal::AcceptQueueFill] {
        let verdicts = judge_with(&the_plan(), Family::V4, |seen| without(seen, signal));
        assert_eq!(verdicts.len(), 1, "{signal:?}");
        assert_eq!(verdicts[0].finding.signal, signal);
        // `QueueAdd` and the like are not staged, and are no suspects at all.
        assert_eq!(suspects(&verdicts), [], "{signal:?}");
    }
    let verdicts = judge_with(&the_plan(), Family::V4, |seen| without(seen, Signal::SynQueueFill));
    assert_eq!(suspects(&verdicts), [Hook::RequestQueued], "nothing else rests on it");
}
