use super::*;
use crate::attribution::fixture::Proc;

mod live;

const SECOND: Duration = Duration::from_secs(1);

/// Later than all processes of a bench started, by the machine's clock since boot.
const BORN_NS: u64 = 1_000_000_000_000;

fn key(sk: u64) -> ListenerKey {
    ListenerKey { sk, born_ns: BORN_NS }
}

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn row(sk: u64, pid: u32, fd: u32, process: &str) -> HolderRow {
    HolderRow { sk, pid, fd, name: name(process) }
}

/// Owners by a made procfs, in which no end is noticed but by walks.
struct Bench {
    proc: Proc,
    owners: Owners,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let proc = Proc::new();
        let owners = Owners::with_exits(proc.root(), Pods::off(), Exits::blind());
        Self { proc, owners, now: Instant::now() }
    }

    fn put(&self, pid: u32, start: u64, process: &str) {
        let cgroup = format!("0::/system.slice/{process}.service\n");
        self.proc.put(pid, start, process.as_bytes(), &cgroup);
    }

    fn open(&mut self, sk: u64, pid: u32, process: &str) -> SharedOwner {
        self.owners.opened(key(sk), pid, name(process), self.now)
    }

    /// A walk that begins now, when all that was read before is old.
    fn walk(&mut self, rows: &[HolderRow]) {
        self.walk_begun_at(rows, 2 * BORN_NS);
    }

    fn walk_begun_at(&mut self, rows: &[HolderRow], began_ns: u64) {
        self.now += SECOND;
        self.owners.walk_began(self.now);
        self.owners.walked(rows, began_ns, Duration::from_millis(1), self.now);
    }

    /// Name and number of a socket's owner.
    fn owner(&self, sk: u64) -> (Option<String>, Option<u32>) {
        let owner = self.owners.owner(key(sk));
        (owner.process.clone(), owner.pid)
    }

    fn check(&self, sk: u64, process: &str, pid: Option<u32>) {
        assert_eq!(self.owner(sk), (Some(process.to_owned()), pid));
    }
}

#[test]
fn who_calls_listen_owns_the_socket_at_once() {
    let mut bench = Bench::new();
    bench.put(70, 5, "nginx");
    let owner = bench.open(1, 70, "nginx");
    assert_eq!(owner.process.as_deref(), Some("nginx"));
    assert_eq!(owner.pid, Some(70));
    assert_eq!(owner.executable.as_deref(), Some("/usr/bin/nginx"));
    assert_eq!(owner.cgroup.as_deref(), Some("/system.slice/nginx.service"));
    assert_eq!(owner.unit.as_deref(), Some("nginx.service"));
    assert_eq!((&owner.container, &owner.pod), (&None, &None));
    assert!(bench.owners.holders(key(1)).is_empty());
    // All its sockets share one object.
    assert!(Arc::ptr_eq(&owner, &bench.open(2, 70, "nginx")));
    assert!(Arc::ptr_eq(&owner, &bench.owners.owner(key(1))));
}

#[test]
fn an_opener_that_is_gone_leaves_its_name() {
    let mut bench = Bench::new();
    bench.open(1, 70, "short\n");
    bench.check(1, "short\u{fffd}", None);
    bench.open(2, 0, "");
    assert_eq!(*bench.owners.owner(key(2)), Owner::default());
    assert_eq!(*bench.owners.owner(key(3)), Owner::default(), "never heard of");
}

#[test]
fn a_process_that_came_after_the_socket_did_not_open_it() {
    let mut bench = Bench::new();
    bench.put(70, u64::MAX, "later");
    bench.open(1, 70, "short");
    bench.check(1, "short", None);
}

#[test]
fn sockets_that_were_there_before_belong_to_their_oldest_holder() {
    let mut bench = Bench::new();
    bench.put(70, 5, "nginx");
    bench.put(60, 9, "nginx");
    bench.put(61, 9, "nginx");
    bench.walk(&[row(1, 60, 6, "nginx"), row(1, 61, 6, "nginx"), row(1, 70, 6, "nginx")]);
    bench.open(1, 0, "");
    bench.check(1, "nginx", Some(70));
    let holders: Vec<u32> = bench.owners.holders(key(1)).iter().map(|holder| holder.pid).collect();
    assert_eq!(holders, [70, 60, 61], "the owner first");
}

#[test]
fn what_a_walk_found_before_a_socket_began_is_another_ones() {
    let mut bench = Bench::new();
    bench.put(70, 5, "old");
    bench.walk_begun_at(&[row(1, 70, 6, "old")], BORN_NS - 1);
    bench.open(1, 0, "");
    assert_eq!(bench.owner(1), (None, None));
    // The same while it is known.
    bench.walk_begun_at(&[row(1, 70, 6, "old")], BORN_NS - 1);
    assert_eq!(bench.owner(1), (None, None));
    assert!(bench.owners.holders(key(1)).is_empty());
    bench.walk_begun_at(&[row(1, 70, 6, "old")], BORN_NS);
    bench.check(1, "old", Some(70));
}

#[test]
fn an_address_used_again_is_another_socket() {
    let mut bench = Bench::new();
    bench.put(70, 5, "first");
    bench.put(71, 6, "second");
    bench.open(1, 70, "first");
    let again = ListenerKey { sk: 1, born_ns: BORN_NS + 1 };
    bench.owners.opened(again, 71, name("second"), bench.now);
    bench.walk(&[row(1, 71, 4, "second")]);
    bench.check(1, "first", Some(70));
    assert!(bench.owners.holders(key(1)).is_empty());
    assert_eq!(bench.owners.owner(again).pid, Some(71));
    assert_eq!(bench.owners.holders(again).len(), 1);
    bench.owners.forget(key(1));
    assert_eq!(bench.owner(1), (None, None));
    bench.walk(&[row(1, 71, 5, "second")]);
    assert_eq!(bench.owners.holders(again)[0].fd, 5);
}

#[test]
fn the_opener_stays_owner_while_it_holds_the_socket() {
    let mut bench = Bench::new();
    bench.put(70, 9, "python");
    bench.put(60, 5, "older");
    bench.open(1, 70, "python");
    bench.walk(&[row(1, 60, 3, "older"), row(1, 70, 3, "python")]);
    bench.check(1, "python", Some(70));
    // It has closed it: the child it forked owns it now.
    bench.walk(&[row(1, 60, 3, "older")]);
    bench.check(1, "older", Some(60));
    // Its number is another's: that one did not open it.
    bench.put(70, 99, "other");
    bench.walk(&[row(1, 60, 3, "older"), row(1, 70, 3, "other")]);
    bench.check(1, "older", Some(60));
}

#[test]
fn a_service_manager_owns_only_what_nobody_else_holds() {
    let mut bench = Bench::new();
    bench.put(1, 0, "systemd");
    bench.put(700, 3, "systemd");
    bench.put(70, 9, "sshd");
    bench.open(1, 1, "systemd");
    bench.check(1, "systemd", Some(1));
    bench.walk(&[row(1, 1, 40, "systemd")]);
    bench.check(1, "systemd", Some(1));
    bench.walk(&[row(1, 1, 40, "systemd"), row(1, 70, 3, "sshd")]);
    bench.check(1, "sshd", Some(70));
    bench.walk(&[row(1, 700, 40, "systemd"), row(1, 70, 3, "sshd")]);
    bench.check(1, "sshd", Some(70));
    bench.proc.end(70);
    bench.walk(&[row(1, 1, 40, "systemd")]);
    bench.check(1, "systemd", Some(1));
}

#[test]
fn a_socket_that_nobody_holds_keeps_what_was_known() {
    let mut bench = Bench::new();
    bench.put(70, 9, "web");
    bench.open(1, 70, "web");
    bench.walk(&[]);
    bench.check(1, "web", Some(70));
    bench.proc.end(70);
    bench.walk(&[]);
    bench.check(1, "web", None);
    assert_eq!(bench.owners.owner(key(1)).unit.as_deref(), Some("web.service"));
    // Another process that gets the number gets nothing else.
    bench.put(70, 10, "other");
    bench.walk(&[]);
    bench.check(1, "web", None);
}

#[test]
fn a_holder_that_dies_before_it_is_read_is_a_name_or_nothing() {
    let mut bench = Bench::new();
    bench.put(61, 9, "heir");
    bench.open(1, 0, "");
    bench.walk(&[row(1, 60, 3, "gone")]);
    bench.check(1, "gone", None);
    bench.walk(&[row(1, 60, 3, "gone"), row(1, 61, 3, "heir")]);
    bench.check(1, "heir", Some(61));
    bench.proc.end(61);
    bench.walk(&[row(1, 61, 3, "heir")]);
    bench.check(1, "heir", None);
    assert_eq!(bench.owners.owner(key(1)).unit.as_deref(), Some("heir.service"));
    // One without a number in the daemon's pid namespace.
    bench.walk(&[row(1, 0, 3, "far")]);
    bench.check(1, "far", None);
    bench.walk(&[row(1, 0, 3, "")]);
    assert_eq!(bench.owner(1), (None, None));
}

#[test]
fn exec_renames_and_other_cgroups_are_seen_by_the_next_walk() {
    let mut bench = Bench::new();
    bench.put(70, 9, "sh");
    let before = bench.open(1, 70, "sh");
    let rows = [row(1, 70, 3, "sh")];
    bench.walk(&rows);
    assert!(Arc::ptr_eq(&before, &bench.owners.owner(key(1))), "unchanged: the same object");
    bench.put(70, 9, "nginx");
    bench.walk(&rows);
    let after = bench.owners.owner(key(1));
    assert_eq!(after.process.as_deref(), Some("nginx"));
    assert_eq!(after.executable.as_deref(), Some("/usr/bin/nginx"));
    assert_eq!(after.cgroup.as_deref(), Some("/system.slice/nginx.service"));
}

#[test]
fn facts_that_go_while_a_process_ends_are_kept() {
    let mut bench = Bench::new();
    bench.put(70, 9, "web");
    let before = bench.open(1, 70, "web");
    std::fs::remove_file(bench.proc.root().join("70/exe")).unwrap();
    std::fs::remove_file(bench.proc.root().join("70/cgroup")).unwrap();
    bench.walk(&[row(1, 70, 3, "web")]);
    assert_eq!(bench.owners.owner(key(1)), before);
}

#[test]
fn holders_are_distinct_and_bounded() {
    let mut bench = Bench::new();
    bench.put(500, 1, "prefork");
    bench.open(1, 500, "prefork");
    let mut rows: Vec<HolderRow> = (100..900).map(|pid| row(1, pid, 3, "prefork")).collect();
    rows.extend_from_slice(&rows.clone());
    rows.push(row(1, 500, 4, "prefork"));
    bench.walk(&rows);
    let holders = bench.owners.holders(key(1));
    let first: Vec<(u32, u32)> = holders.iter().take(3).map(|h| (h.pid, h.fd)).collect();
    assert_eq!(first, [(500, 3), (500, 4), (100, 3)]);
    assert_eq!(holders.len(), 64);
}

#[test]
fn what_is_forgotten_leaves_nothing() {
    let mut bench = Bench::new();
    bench.put(70, 9, "web");
    bench.open(1, 70, "web");
    bench.owners.forget(key(1));
    bench.owners.exited(bench.now);
    assert_eq!(bench.owner(1), (None, None));
    let id = ProcessId { start: 9, pid: 70 };
    assert!(bench.owners.processes.remembered(id).is_none());
    bench.walk(&[row(1, 70, 3, "web")]);
    assert_eq!(bench.owner(1), (None, None));
}

#[test]
fn a_new_socket_is_cause_for_a_walk_a_second_later() {
    let mut bench = Bench::new();
    assert!(bench.owners.wants_walk(bench.now), "the first");
    bench.walk(&[]);
    assert!(!bench.owners.wants_walk(bench.now + SECOND * 2));
    bench.open(1, 0, "");
    assert!(!bench.owners.wants_walk(bench.now + SECOND / 2));
    assert!(bench.owners.wants_walk(bench.now + SECOND));
    bench.owners.walk_began(bench.now + SECOND);
    bench.owners.walk_failed(bench.now + SECOND);
    assert!(!bench.owners.wants_walk(bench.now + SECOND * 5));
    assert!(bench.owners.wants_walk(bench.now + SECOND * 11));
}

#[test]
fn a_pod_is_known_as_soon_as_it_can_be_and_stays_known() {
    let id = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605";
    let uid = "2c48913c-b29f-11e7-9350-020968147796";
    let list = |status: &str| {
        format!(
            r#"{{"items":[{{"metadata":{{"namespace":"shop","name":"web-1","uid":"{uid}"}},
                "status":{status}}}]}}"#
        )
    };
    let whole =
        list(&format!(r#"{{"containerStatuses":[{{"name":"web","containerID":"cri://{id}"}}]}}"#));
    let (pods, put) = Pods::fixed();
    let proc = Proc::new();
    proc.put(70, 5, b"nginx", &format!("0::/kubepods/burstable/pod{uid}/{id}\n"));
    let mut owners = Owners::with_exits(proc.root(), pods, Exits::blind());
    let now = Instant::now();
    let pod = |owners: &Owners| {
        owners.owner(key(1)).pod.clone().map(|pod| (pod.namespace, pod.name, pod.container))
    };
    let known =
        |container: &str| Some(("shop".to_owned(), "web-1".to_owned(), container.to_owned()));
    let owner = owners.opened(key(1), 70, name("nginx"), now);
    assert_eq!(owner.container.as_ref().unwrap().pod_uid.as_deref(), Some(uid));
    assert_eq!(owner.pod, None);
    put(&list("{}"));
    owners.exited(now);
    assert_eq!(pod(&owners), known(""));
    put(&whole);
    owners.exited(now);
    assert_eq!(pod(&owners), known("web"));
    for less in [list("{}"), r#"{"items":null}"#.to_owned()] {
        put(&less);
        owners.exited(now);
        assert_eq!(pod(&owners), known("web"));
        owners.walk_began(now + SECOND);
        owners.walked(&[row(1, 70, 3, "nginx")], 2 * BORN_NS, SECOND, now + SECOND);
        assert_eq!(pod(&owners), known("web"));
    }
    // Another container is another pod's.
    proc.put(70, 5, b"nginx", &format!("0::/docker/{id}\n"));
    owners.walk_began(now + SECOND * 2);
    owners.walked(&[row(1, 70, 3, "nginx")], 2 * BORN_NS, SECOND, now + SECOND * 2);
    assert_eq!(pod(&owners), None);
}
