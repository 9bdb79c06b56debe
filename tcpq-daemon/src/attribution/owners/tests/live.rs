//! With processes that the kernel knows, too.

use std::process::{Child, Command};

use super::*;

fn sleeper() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// Real processes, since what is watched is the kernel's, in a made procfs that can be
/// changed.
#[test]
fn of_many_unchanged_processes_some_are_read_again_in_turn() {
    const COUNT: u32 = 150;
    let proc = Proc::new();
    let children: Vec<Child> = (0..COUNT).map(|_| sleeper()).collect();
    let pids: Vec<u32> = children.iter().map(Child::id).collect();
    let mut owners = Owners::new(proc.root(), Pods::off());
    let mut now = Instant::now();
    let mut rows = Vec::new();
    for pid in &pids {
        proc.put(*pid, 5, b"sleep", "0::/before.service\n");
        owners.opened(key((*pid).into()), *pid, name("sleep"), now);
        rows.push(row((*pid).into(), *pid, 3, "sleep"));
    }
    let mut walk = |owners: &mut Owners, rows: &[HolderRow]| {
        now += SECOND;
        owners.walk_began(now);
        owners.walked(rows, 2 * BORN_NS, SECOND, now);
    };
    let moved = |owners: &Owners| {
        let of = |pid: &&u32| owners.owner(key((**pid).into()));
        pids.iter().filter(|pid| of(pid).unit.as_deref() == Some("after.service")).count()
    };
    walk(&mut owners, &rows);
    for pid in &pids {
        proc.put(*pid, 5, b"sleep", "0::/after.service\n");
    }
    walk(&mut owners, &rows);
    assert_eq!(moved(&owners), 128, "not all at once");
    walk(&mut owners, &rows);
    assert_eq!(moved(&owners), 150);
    // One with another name is read at once, whoever's turn it is.
    for (index, pid) in pids.iter().enumerate() {
        proc.put(*pid, 5, b"renamed", "0::/after.service\n");
        rows[index].name = name("renamed");
    }
    walk(&mut owners, &rows);
    let is_renamed = |pid: &u32| {
        owners.owner(key((*pid).into())).executable.as_deref() == Some("/usr/bin/renamed")
    };
    assert!(pids.iter().all(is_renamed));
    for mut child in children {
        end(&mut child);
    }
}

#[test]
fn an_end_hands_the_socket_to_the_heir_without_a_walk() {
    let mut owners = Owners::new(Path::new("/proc"), Pods::off());
    let (mut first, mut heir) = (sleeper(), sleeper());
    let key = ListenerKey { sk: 1, born_ns: monotonic_ns() };
    let now = Instant::now();
    let opened = owners.opened(key, first.id(), name("sleep"), now);
    assert_eq!(opened.pid, Some(first.id()));
    owners.walk_began(now);
    let rows = [row(1, first.id(), 3, "sleep"), row(1, heir.id(), 3, "sleep")];
    owners.walked(&rows, monotonic_ns(), Duration::from_millis(1), now);
    assert_eq!(owners.exited(now), 0);
    end(&mut first);
    assert_eq!(owners.exited(now + SECOND), 1);
    assert_eq!(owners.owner(key).pid, Some(heir.id()));
    assert_eq!(owners.holders(key).len(), 1);
    assert!(owners.wants_walk(now + SECOND), "somebody else may have it, too");
    end(&mut heir);
    assert_eq!(owners.exited(now + SECOND), 1);
    let owner = owners.owner(key);
    assert_eq!((owner.process.as_deref(), owner.pid), (Some("sleep"), None));
    assert!(owner.executable.as_deref().is_some_and(|path| path.starts_with('/')));
    assert!(owners.holders(key).is_empty());
    assert_eq!(owners.exited(now + SECOND), 0);
}

#[test]
fn the_opener_may_end_before_anything_is_looked_up() {
    let mut owners = Owners::new(Path::new("/proc"), Pods::off());
    let mut child = sleeper();
    end(&mut child);
    let key = ListenerKey { sk: 1, born_ns: monotonic_ns() };
    let owner = owners.opened(key, child.id(), name("sleep"), Instant::now());
    assert_eq!((owner.process.as_deref(), owner.pid), (Some("sleep"), None));
}
