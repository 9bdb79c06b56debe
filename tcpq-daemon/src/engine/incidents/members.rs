//! Which sockets of a group are full, and which of them nothing is accepted from.

use std::collections::HashMap;

use crate::model::group::{GroupView, Member};

/// Whether an accept queue of one of its sockets is full.
pub(super) fn has_full(group: &GroupView) -> bool {
    group.members.iter().any(is_full)
}

/// Overflows since `before` at sockets that are full and had no accept() since, while others
/// of the group had; `None`: there are no such two kinds.
pub(super) fn overflows_of_stuck(before: &GroupView, now: &GroupView) -> Option<u64> {
    let known: HashMap<_, _> = before.members.iter().map(|it| (it.key, it)).collect();
    let change = |member: &Member| Some(member.counts.since(*known.get(&member.key)?.counts));
    let (mut stuck, mut works) = (None, false);
    for member in &now.members {
        match change(member) {
            Some(change) if change.accepts > 0 => works = true,
            Some(change) if is_full(member) => {
                *stuck.get_or_insert(0) += change.overflows.total();
            }
            _ => {}
        }
    }
    stuck.filter(|_| works)
}

/// The kernel lets limit + 1 in.
fn is_full(member: &Member) -> bool {
    member.accept_queue.length > member.accept_queue.limit
}
