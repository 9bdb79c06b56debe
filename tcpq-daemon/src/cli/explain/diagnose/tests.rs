use std::collections::BTreeMap;

use super::*;
use crate::{
    cli::{
        ask::Source,
        explain::evidence::Evidence,
        list::tests::{listener, member, owned},
    },
    model::{
        group::{Holder, NetnsSettings},
        limit::SetBy,
        owner::{Container, Owner, Pod, Runtime},
    },
    serve::api::{
        DistributionDto, FoldedInto, ListenerDto, ListenersDto, MemberDto, OverflowsDto, QueueDto,
    },
};

/// One case: a listener at two readings, and what its namespace says.
#[derive(Clone)]
pub(in crate::cli::explain) struct Scene {
    before: ListenerDto,
    now: ListenerDto,
    settings: NetnsSettings,
    source: Source,
}

/// A quiet listener of limit 128 of node's, in `web1`; what was asked for is known.
pub(in crate::cli::explain) fn scene(requested: i32, limit: u64) -> Scene {
    let drops = ["backlog_pressure", "no_memory", "not_unicast", "queue_full", "rejected"];
    let mut socket = member(QueueDto { length: 0, limit });
    let quiet = Some(OverflowsDto { syn: Some(0), ack: Some(0), cookie: Some(0) });
    socket.port = 3000;
    socket.owner = Owner {
        process: Some("node".to_owned()),
        pid: Some(3321),
        executable: Some("/usr/bin/node".to_owned()),
        ..Owner::default()
    };
    socket.holders = vec![Holder { pid: 3321, process: "node".to_owned(), fd: 18 }];
    socket.backlog_requested = Some(requested);
    socket.overflows = quiet;
    socket.enqueued = Some(100);
    socket.accepts = Some(100);
    let now = ListenerDto {
        netns: "web1".to_owned(),
        owners: vec![socket.owner.clone()],
        members: vec![socket],
        accept_queue: QueueDto { length: 0, limit },
        syn_queue: QueueDto { length: 0, limit },
        overflows: quiet,
        listen_drops: Some(0),
        syn_drops: Some(drops.iter().map(|reason| ((*reason).to_owned(), 0)).collect()),
        requests_lost: Some(BTreeMap::from([("timeout".to_owned(), 0)])),
        cookies_sent: Some(0),
        cookies_validated: Some(0),
        enqueued: Some(100),
        accepts: Some(100),
        accept_errors: Some(BTreeMap::from([("EMFILE".to_owned(), 0), ("ENFILE".to_owned(), 0)])),
        abandoned: Some(0),
        ..owned(listener(3000), "node")
    };
    Scene {
        before: now.clone(),
        now,
        settings: NetnsSettings {
            netns: "web1".to_owned(),
            inode: 4_026_532_781,
            somaxconn: 4096,
            tcp_max_syn_backlog: 256,
            tcp_syncookies: 1,
            tcp_abort_on_overflow: 0,
            ephemeral_ports: [32_768, 60_999],
        },
        source: Source::Daemon,
    }
}

impl Scene {
    pub(in crate::cli::explain) fn somaxconn(mut self, somaxconn: u32) -> Self {
        self.settings.somaxconn = somaxconn;
        self
    }

    /// Lengths of the accept queue at both readings.
    pub(in crate::cli::explain) fn waiting(mut self, before: u64, now: u64) -> Self {
        for (listener, length) in [(&mut self.before, before), (&mut self.now, now)] {
            listener.accept_queue.length = length;
            listener.members[0].accept_queue.length = length;
        }
        self
    }

    /// Overflows at the SYN, before and between the readings.
    pub(in crate::cli::explain) fn overflows(mut self, before: u64, more: u64) -> Self {
        for (listener, count) in [(&mut self.before, before), (&mut self.now, before + more)] {
            let told = Some(OverflowsDto { syn: Some(count), ack: Some(0), cookie: Some(0) });
            listener.overflows = told;
            listener.members[0].overflows = told;
            listener.listen_drops = Some(count);
        }
        self
    }

    /// Connections accepted between the readings.
    pub(in crate::cli::explain) fn accepts(mut self, more: u64) -> Self {
        let listener = &mut self.now;
        for counter in [&mut listener.accepts, &mut listener.enqueued] {
            *counter = counter.map(|count| count + more);
        }
        let socket = &mut listener.members[0];
        for counter in [&mut socket.accepts, &mut socket.enqueued] {
            *counter = counter.map(|count| count + more);
        }
        self
    }

    /// SYNs dropped for a reason, before and between the readings.
    fn syn_drops(mut self, reason: &str, before: u64, more: u64) -> Self {
        for (listener, count) in [(&mut self.before, before), (&mut self.now, before + more)] {
            let drops = listener.syn_drops.get_or_insert_default();
            drops.insert(reason.to_owned(), count);
            listener.listen_drops = listener.listen_drops.map(|drops| drops + count);
        }
        self
    }

    /// Connections accepted between the readings, and how long all of them waited. Unit: s.
    pub(in crate::cli::explain) fn waited(self, count: u64, sum: f64) -> Self {
        let before = DistributionDto {
            count: 100,
            sum: 0.5,
            p50: Some(0.000_03),
            p90: Some(0.004),
            p99: Some(0.25),
            max: Some(0.353_553),
        };
        let now = DistributionDto { count: 100 + count, sum: 0.5 + sum, ..before };
        let mut scene = self.accepts(count);
        (scene.before.accept_wait, scene.now.accept_wait) = (Some(before), Some(now));
        scene
    }

    /// Calls of accept() that failed, before and between the readings.
    fn accept_errors(mut self, errno: &str, before: u64, more: u64) -> Self {
        for (listener, count) in [(&mut self.before, before), (&mut self.now, before + more)] {
            listener.accept_errors.get_or_insert_default().insert(errno.to_owned(), count);
        }
        self
    }

    fn cookies(mut self, sent: u64, validated: u64) -> Self {
        self.now.cookies_sent = Some(sent);
        self.now.cookies_validated = Some(validated);
        self
    }

    pub(in crate::cli::explain) fn settings(mut self, change: impl Fn(&mut NetnsSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Changes the owner everywhere.
    fn owner(self, change: impl Fn(&mut Owner)) -> Self {
        self.each(|listener| {
            change(&mut listener.owners[0]);
            change(&mut listener.members[0].owner);
        })
    }

    pub(in crate::cli::explain) fn each(mut self, change: impl Fn(&mut ListenerDto)) -> Self {
        change(&mut self.before);
        change(&mut self.now);
        self
    }

    fn in_netns(self, netns: &str) -> Self {
        self.each(|listener| listener.netns = netns.to_owned())
            .settings(|settings| settings.netns = netns.to_owned())
    }

    /// Three more workers with a socket each, which accept.
    pub(in crate::cli::explain) fn with_workers(mut self) -> Self {
        for (listener, accepts) in [(&mut self.before, 500), (&mut self.now, 520)] {
            for pid in [3322, 3323, 3324] {
                let mut socket: MemberDto = listener.members[0].clone();
                socket.owner.pid = Some(pid);
                socket.holders[0].pid = pid;
                socket.accept_queue.length = 0;
                socket.overflows =
                    Some(OverflowsDto { syn: Some(0), ack: Some(0), cookie: Some(0) });
                socket.accepts = Some(accepts);
                listener.owners.push(socket.owner.clone());
                listener.members.push(socket);
            }
            listener.sockets = 4;
            listener.accept_queue.limit *= 4;
            listener.syn_queue.limit *= 4;
            listener.accepts = listener.accepts.map(|count| count + 3 * accepts);
        }
        self
    }

    /// As it is without a daemon.
    pub(in crate::cli::explain) fn looked_at(mut self) -> Self {
        self.source = Source::Look;
        self.now = ListenerDto {
            overflows: None,
            listen_drops: None,
            syn_drops: None,
            requests_lost: None,
            cookies_sent: None,
            cookies_validated: None,
            enqueued: None,
            accepts: None,
            accept_errors: None,
            abandoned: None,
            accept_wait: None,
            ..self.now
        };
        let socket = &mut self.now.members[0];
        (socket.overflows, socket.enqueued, socket.accepts) = (None, None, None);
        self
    }

    pub(in crate::cli::explain) fn evidence(&self) -> Evidence {
        let Self { before, now, settings, source } = self;
        let all = ListenersDto {
            listeners: Vec::new(),
            audit: Vec::new(),
            namespaces: vec![settings.clone()],
        };
        let before = (*source == Source::Daemon).then_some((2.0, before));
        Evidence::new(*source, &all, now.clone(), before)
    }

    fn diagnosis(&self) -> Diagnosis {
        diagnose(&self.evidence())
    }

    fn advice(&self) -> Advice {
        self.diagnosis().advice.expect("an advice")
    }
}

#[test]
fn each_case_has_its_finding() {
    use Finding as F;
    let quiet = || scene(511, 511);
    let no_stage = |listener: &mut ListenerDto| listener.overflows = Some(OverflowsDto::default());
    let no_accepts = |listener: &mut ListenerDto| {
        listener.accepts = None;
        listener.members[0].accepts = None;
    };
    let closed = |listener: &mut ListenerDto| {
        listener.sockets = 0;
        listener.members.clear();
    };
    let cases = vec![
        ("quiet", quiet(), F::NothingWrong),
        ("busy", quiet().accepts(5000), F::NothingWrong),
        ("clipped, and quiet", scene(511, 128).somaxconn(128), F::NothingWrong),
        ("closed", quiet().each(closed), F::Closed),
        ("full, no accept()", scene(5, 5).waiting(6, 6).overflows(0, 10), F::NotAccepting),
        ("full, no accept(), no client", scene(5, 5).waiting(6, 6), F::NotAccepting),
        ("some wait, no accept()", scene(5, 5).waiting(2, 2), F::NotAccepting),
        (
            "no file left",
            scene(5, 5).waiting(6, 6).overflows(0, 10).accept_errors("EMFILE", 3, 900),
            F::OutOfFiles,
        ),
        (
            "no file left now and then",
            quiet().waiting(9, 0).accepts(700).accept_errors("EMFILE", 0, 2),
            F::OutOfFiles,
        ),
        (
            "no file left on the host",
            quiet().waiting(2, 3).accept_errors("ENFILE", 0, 7),
            F::HostOutOfFiles,
        ),
        ("no file for nobody", quiet().accept_errors("EMFILE", 0, 9), F::NothingWrong),
        (
            "no file left before",
            scene(5, 5).waiting(6, 6).accept_errors("EMFILE", 9, 0),
            F::NotAccepting,
        ),
        ("one came just now", scene(5, 5).waiting(0, 1), F::NothingWrong),
        ("a stuck worker", quiet().waiting(512, 512).with_workers(), F::StuckSocket),
        ("a worker about to be stuck", quiet().waiting(9, 9).with_workers(), F::StuckSocket),
        (
            "all full, slow",
            quiet().waiting(512, 512).overflows(9, 90).accepts(40),
            F::AcceptsTooSlowly,
        ),
        (
            "all full, fast",
            scene(5, 5).waiting(6, 6).overflows(9, 90).accepts(4000),
            F::AcceptQueueTooShort,
        ),
        ("bursts", quiet().waiting(0, 300).overflows(0, 7).accepts(800), F::AcceptQueueTooShort),
        ("full, accepts unknown", quiet().waiting(512, 512).each(no_accepts), F::Full),
        (
            "bursts, accepts unknown",
            quiet().overflows(0, 7).each(no_accepts),
            F::AcceptQueueTooShort,
        ),
        ("full at one look", quiet().waiting(512, 512).looked_at(), F::Full),
        ("quiet at one look", quiet().looked_at(), F::NothingWrongNow),
        (
            "SYN queue full",
            quiet().settings(|it| it.tcp_syncookies = 0).syn_drops("queue_full", 0, 5),
            F::SynQueueFull,
        ),
        (
            "pressure",
            quiet().settings(|it| it.tcp_syncookies = 0).syn_drops("backlog_pressure", 0, 5),
            F::SynQueueFull,
        ),
        ("a flood", quiet().cookies(9000, 12), F::SynFlood),
        ("slow clients", quiet().cookies(9000, 8800), F::SynQueueTooShort),
        (
            "cookies always",
            quiet().settings(|it| it.tcp_syncookies = 2).cookies(90, 90),
            F::NothingWrong,
        ),
        ("no memory", quiet().syn_drops("no_memory", 0, 3), F::OtherDrops),
        ("no way back", quiet().syn_drops("rejected", 0, 3), F::OtherDrops),
        ("broadcast", quiet().syn_drops("not_unicast", 4, 3), F::NothingWrong),
        ("ACKs", quiet().each(|it| it.listen_drops = None), F::NothingWrong),
        ("nearly full", quiet().waiting(480, 480).accepts(300), F::NearlyFull),
        ("full, and accepted", quiet().waiting(512, 512).accepts(300), F::NearlyFull),
        ("accepted at once", quiet().waited(500, 0.04), F::NothingWrong),
        ("accepted late", quiet().waited(50, 9.0), F::AcceptsLate),
        ("late, and it overflows", quiet().waited(50, 9.0).overflows(0, 7), F::AcceptQueueTooShort),
        ("late, and nearly full", quiet().waiting(480, 480).waited(50, 9.0), F::NearlyFull),
        ("late, and it overflowed", quiet().waited(1, 0.3).overflows(70, 0), F::AcceptsLate),
        ("overflowed", quiet().overflows(70, 0), F::OverflowedBefore),
        ("dropped", quiet().syn_drops("rejected", 3, 0), F::DroppedBefore),
        ("dropped for want of room", quiet().syn_drops("queue_full", 3, 0), F::DroppedBefore),
        ("no stage is told", quiet().each(no_stage), F::CannotTell),
    ];
    for (case, scene, finding) in cases {
        let diagnosis = scene.diagnosis();
        assert_eq!(diagnosis.finding, finding, "{case}: {diagnosis:#?}");
        let quiet = matches!(finding, F::NothingWrong | F::NothingWrongNow | F::CannotTell);
        assert!(!quiet || diagnosis.advice.is_none(), "{case}: {diagnosis:#?}");
    }
}

#[test]
fn drops_that_are_neither_overflows_nor_of_syns_are_seen() {
    let mut scene = scene(511, 511);
    scene.now.listen_drops = Some(4);
    let Diagnosis { finding, because, .. } = scene.diagnosis();
    assert_eq!(finding, Finding::OtherDrops);
    assert!(because[0].starts_with("4 final ACKs"), "{because:?}");
}

#[test]
fn clipped_by_somaxconn_names_both_figures_and_the_namespace() {
    let clipped = scene(511, 128).somaxconn(128).overflows(0, 30).accepts(500);
    let Diagnosis { finding, because, limit, .. } = clipped.diagnosis();
    assert_eq!(finding, Finding::AcceptQueueTooShort);
    assert_eq!(limit.map(|limit| limit.set_by), Some(SetBy::Somaxconn));
    let said = because.join("\n");
    assert!(
        said.contains("node asked listen() for 511, net.core.somaxconn of web1 clipped it to 128"),
        "{said}"
    );
    let Advice { change, commands } = clipped.advice();
    assert!(
        change.contains("raise net.core.somaxconn of web1 to 511, then restart node"),
        "{change}"
    );
    assert_eq!(commands, ["ip netns exec web1 sysctl -w net.core.somaxconn=511"]);
}

#[test]
fn a_small_backlog_names_the_program() {
    let small = scene(5, 5).overflows(0, 30).accepts(500);
    let said = small.diagnosis().because.join("\n");
    assert!(
        said.contains("node asked listen() for 5; net.core.somaxconn of web1 would allow 4096"),
        "{said}"
    );
    let Advice { change, .. } = small.advice();
    assert!(
        change.contains("raise the backlog that node passes to listen() from 5 to 128"),
        "{change}"
    );
    assert!(change.contains("server.listen({ port, backlog: 128 })"), "{change}");
}

#[test]
fn where_a_setting_is_changed() {
    let clipped = || scene(511, 128).somaxconn(128).overflows(0, 30).accepts(500);
    let container = |runtime| {
        move |owner: &mut Owner| {
            owner.container = Some(Container { id: "ab".repeat(32), runtime, pod_uid: None });
        }
    };
    let pod = |owner: &mut Owner| {
        container(Runtime::Containerd)(owner);
        owner.pod = Some(Pod {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            container: "app".to_owned(),
        });
    };
    let in_cgroup = |cgroup: &'static str| {
        move |owner: &mut Owner| {
            owner.cgroup = Some(cgroup.to_owned());
            owner.unit = cgroup.rsplit('/').find(|it| it.ends_with(".service")).map(str::to_owned);
        }
    };
    let nobody = |owner: &mut Owner| owner.pid = None;
    let cases: Vec<(Scene, &[&str])> = vec![
        (clipped(), &["ip netns exec web1 sysctl -w net.core.somaxconn=511"]),
        (clipped().in_netns("host"), &["sysctl -w net.core.somaxconn=511"]),
        (
            clipped().in_netns("host").owner(in_cgroup("/system.slice/web.service/worker")),
            &["sysctl -w net.core.somaxconn=511", "systemctl restart web.service"],
        ),
        (
            clipped().in_netns("4026532781"),
            &["nsenter -t 3321 -n sysctl -w net.core.somaxconn=511"],
        ),
        (clipped().in_netns("4026532781").owner(nobody), &[]),
        (clipped().in_netns("a\u{1b}b"), &["nsenter -t 3321 -n sysctl -w net.core.somaxconn=511"]),
        (
            clipped().in_netns("4026532781").owner(container(Runtime::Docker)),
            &["docker run --sysctl net.core.somaxconn=511 ..."],
        ),
        (
            clipped().in_netns("host").owner(container(Runtime::Podman)),
            &["sysctl -w net.core.somaxconn=511", "podman restart abababababab"],
        ),
        (
            clipped().in_netns("4026532781").owner(pod),
            &["securityContext: {sysctls: [{name: net.core.somaxconn, value: \"511\"}]}"],
        ),
    ];
    for (scene, commands) in cases {
        assert_eq!(scene.advice().commands, commands, "{:?}", scene.now.netns);
    }
}

#[test]
fn a_unit_of_another_manager_than_the_hosts_is_not_restarted() {
    for cgroup in [
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app.service",
        "/user.slice/user-1000.slice/user@1000.service",
        "/machine.slice/systemd-nspawn@x.service/payload/system.slice/nginx.service",
        "/system.slice/systemd-nspawn@x.service/payload/system.slice/nginx.service",
        "/lxc.payload.x/system.slice/nginx.service",
    ] {
        let clipped = scene(511, 128).somaxconn(128).overflows(0, 30).accepts(500);
        let clipped = clipped.in_netns("host").owner(|owner| {
            owner.cgroup = Some(cgroup.to_owned());
            owner.unit = cgroup.rsplit('/').find(|it| it.ends_with(".service")).map(str::to_owned);
        });
        assert_eq!(clipped.advice().commands, ["sysctl -w net.core.somaxconn=511"], "{cgroup}");
    }
}

#[test]
fn a_pod_is_known_by_its_path_alone() {
    let clipped = scene(511, 128).somaxconn(128).overflows(0, 30).accepts(500).owner(|owner| {
        owner.container = Some(Container {
            id: "ab".repeat(32),
            runtime: Runtime::Docker,
            pod_uid: Some("5d0a1c2e-0000-0000-0000-000000000000".to_owned()),
        });
    });
    let Advice { change, commands } = clipped.clone().in_netns("4026532781").advice();
    assert!(change.contains("in the pod's spec"), "{change}");
    let spec = "securityContext: {sysctls: [{name: net.core.somaxconn, value: \"511\"}]}";
    assert_eq!(commands, [spec]);
    let on_the_host = clipped.in_netns("host").advice().commands;
    assert_eq!(on_the_host, ["sysctl -w net.core.somaxconn=511"]);
}

#[test]
fn who_sets_the_limit_decides_the_advice() {
    let bursts = |scene: Scene| scene.overflows(0, 30).accepts(500).advice();
    let change = |scene: Scene| bursts(scene).change;
    // It was lower at listen(): nothing is to be set any more.
    let anew = change(scene(511, 128).somaxconn(4096));
    assert!(anew.contains("restart node") && anew.contains("was 128 when it called"), "{anew}");
    let both = change(scene(128, 128).somaxconn(128));
    assert!(both.contains("net.core.somaxconn") && both.contains("passes to listen()"), "{both}");
    let unknown =
        |limit| scene(5, limit).each(|it| it.members[0].backlog_requested = None).somaxconn(128);
    assert!(change(unknown(128)).contains("raise net.core.somaxconn of web1"));
    assert!(change(unknown(50)).contains("the backlog that node passes"));
    // A backlog that the namespace would clip needs both.
    let low = bursts(scene(100, 100).somaxconn(128));
    assert!(low.change.contains("raise net.core.somaxconn of web1 to 512"), "{}", low.change);
    assert_eq!(low.commands[0], "ip netns exec web1 sysctl -w net.core.somaxconn=512");
    let all = bursts(scene(-1, 4096));
    assert!(all.commands[0].ends_with("net.core.somaxconn=16384"), "{all:?}");
}

#[test]
fn a_socket_of_systemd_has_its_backlog_in_the_unit() {
    let activated = scene(64, 64).overflows(0, 30).accepts(500).each(|listener| {
        let manager = Holder { pid: 1, process: "systemd".to_owned(), fd: 40 };
        listener.members[0].holders.push(manager);
    });
    let Advice { change, commands } = activated.advice();
    assert!(change.contains("the backlog that systemd passes to listen()"), "{change}");
    assert!(change.contains("Backlog=256 in the .socket unit"), "{change}");
    assert_eq!(commands, ["systemctl list-sockets --show-types"]);
}

#[test]
fn nobody_accepts_so_the_threads_are_looked_at_and_not_the_backlog() {
    let Advice { change, commands } = scene(5, 5).waiting(6, 6).overflows(0, 9).advice();
    assert!(change.contains("pid 3321 (node)"), "{change}");
    assert_eq!(commands, ["cat /proc/3321/stack", "strace -f -p 3321"]);
    let unowned = scene(5, 5).waiting(6, 6).overflows(0, 9).each(|listener| {
        listener.owners.clear();
        listener.members[0].owner = Owner::default();
        listener.members[0].holders.clear();
    });
    assert_eq!(unowned.advice().commands, ["ip netns exec web1 ss -ltnp 'sport = :3000'"]);
}

#[test]
fn the_stuck_one_of_four_is_named() {
    let stuck = scene(511, 511).waiting(512, 512).overflows(0, 40).with_workers();
    let Diagnosis { because, advice, .. } = stuck.diagnosis();
    assert!(because[0].starts_with("of 4 sockets, 1 had no accept() in 2.0 s"), "{because:?}");
    let advice = advice.unwrap();
    assert!(advice.change.contains("pid 3321"), "{advice:?}");
    // Where all workers have all sockets open, none is blamed.
    let shared = stuck.each(|listener| {
        let also = Holder { pid: 77, process: "node".to_owned(), fd: 18 };
        listener.members.iter_mut().for_each(|it| it.holders.push(also.clone()));
    });
    let advice = shared.advice();
    assert!(advice.change.contains("3321, 77"), "{advice:?}");
    assert_eq!(advice.commands[1], "strace -f -p 3321 -p 77");
}

#[test]
fn overflows_of_sockets_that_are_gone_need_no_advice() {
    let gone = scene(5, 5).overflows(70, 0).each(|listener| {
        let none = Some(OverflowsDto { syn: Some(0), ack: Some(0), cookie: Some(0) });
        listener.members[0].overflows = none;
    });
    let Diagnosis { finding, because, advice, .. } = gone.diagnosis();
    assert_eq!((finding, advice), (Finding::OverflowedBefore, None));
    assert!(because[1].contains("have closed since"), "{because:?}");
}

#[test]
fn what_cannot_be_known_is_noted() {
    let blind = scene(5, 5).each(|listener| {
        listener.overflows = Some(OverflowsDto { syn: Some(0), ack: None, cookie: None });
        listener.syn_drops = None;
    });
    let notes = blind.diagnosis().notes.join("\n");
    assert!(notes.contains("not told here: overflows at the final ACK"), "{notes}");
    let harsh = scene(5, 5).settings(|it| {
        it.tcp_abort_on_overflow = 1;
        it.tcp_syncookies = 0;
    });
    let notes = harsh.diagnosis().notes.join("\n");
    assert!(notes.contains("tcp_abort_on_overflow is on in web1"), "{notes}");
    assert!(notes.contains("SYN cookies are off in web1"), "{notes}");
    let mut anew = scene(5, 5);
    anew.now.accepts = Some(3);
    let notes = anew.diagnosis().notes.join("\n");
    assert!(notes.contains("began anew"), "{notes}");
}

#[test]
fn a_slow_worker_is_slow_however_fast_the_others_are() {
    let mut slow = scene(511, 511).waiting(512, 512).overflows(3, 40).accepts(4).with_workers();
    for worker in &mut slow.now.members[1..] {
        worker.accepts = worker.accepts.map(|count| count + 6000);
    }
    slow.now.accepts = slow.now.accepts.map(|count| count + 18_000);
    let Diagnosis { finding, because, advice, .. } = slow.diagnosis();
    assert_eq!(finding, Finding::AcceptsTooSlowly, "{because:?}");
    assert!(because[1].contains("one of 4 sockets") && because[1].contains("2.0 per second"));
    assert!(because[2].contains("waits 256.0 s"), "{because:?}");
    assert_eq!(advice.unwrap().commands, ["top -H -p 3321"]);
}

#[test]
fn a_backlog_is_never_raised_to_less_nor_to_hardly_more() {
    let bursts = |scene: Scene| scene.overflows(0, 30).accepts(500).advice().change;
    for (requested, limit, somaxconn) in [
        (131_072, 131_072, 200_000),
        (131_072, 131_072, 131_072),
        (65_535, 65_535, 65_535),
        (-1, 65_535, 65_535),
        (65_535, 60_000, 60_000),
    ] {
        let change = bursts(scene(requested, limit).somaxconn(somaxconn));
        assert!(change.starts_with("let node accept faster"), "{limit}: {change}");
    }
    // What was asked for is hardly more than what is allowed: both are to be raised.
    let both = bursts(scene(511, 500).somaxconn(500));
    assert!(both.contains("to 4096, and the backlog that node passes"), "{both}");
    let cookies = scene(65_535, 65_535).somaxconn(65_535).cookies(9000, 8800).diagnosis();
    assert_eq!((cookies.finding, cookies.advice), (Finding::SynQueueTooShort, None));
}

#[test]
fn only_sockets_of_one_port_share_its_connections() {
    let stuck = scene(511, 511).waiting(512, 512).overflows(0, 40).with_workers();
    let spreads = |scene: &Scene| scene.diagnosis().because.join("\n").contains("spreads");
    assert!(spreads(&stuck));
    let folded = stuck.each(|listener| listener.folded = Some(FoldedInto::Other));
    assert_eq!(folded.diagnosis().finding, Finding::StuckSocket);
    assert!(!spreads(&folded));
}

#[test]
fn who_has_no_file_left_is_told_how_many_it_has() {
    let out = scene(511, 511).waiting(3, 5).accept_errors("EMFILE", 0, 40);
    let Diagnosis { because, .. } = out.diagnosis();
    assert!(because[0].starts_with("accept() failed 40 times in 2.0 s with EMFILE"), "{because:?}");
    assert!(because[0].contains("5 connections"), "{because:?}");
    let Advice { change, commands } = out.advice();
    assert!(change.contains("raise the limit of open files of node"), "{change}");
    assert_eq!(commands, ["ls /proc/3321/fd | wc -l", "prlimit -p 3321 -n"]);
    let unit = out.clone().in_netns("host").owner(|owner| {
        owner.cgroup = Some("/system.slice/web.service".to_owned());
        owner.unit = Some("web.service".to_owned());
    });
    let Advice { change, commands } = unit.advice();
    assert!(change.contains("LimitNOFILE= of web.service"), "{change}");
    assert_eq!(commands.last().unwrap(), "systemctl edit web.service");
    let workers = out.each(|listener| {
        let also = Holder { pid: 77, process: "node".to_owned(), fd: 18 };
        listener.members[0].holders.push(also);
    });
    let commands = workers.advice().commands;
    assert!(commands[0].starts_with("for pid in 3321 77; do "), "{commands:?}");
}

#[test]
fn a_host_without_a_file_left_has_a_setting() {
    let out = scene(511, 511).waiting(3, 5).accept_errors("ENFILE", 0, 40);
    let Advice { change, commands } = out.advice();
    assert!(change.contains("fs.file-max"), "{change}");
    assert_eq!(commands, ["cat /proc/sys/fs/file-nr", "sysctl fs.file-max"]);
}

#[test]
fn failures_from_before_are_noted() {
    let before = scene(5, 5).accept_errors("EMFILE", 9, 0).accept_errors("EINVAL", 2, 0);
    let notes = before.diagnosis().notes.join("\n");
    assert!(notes.contains("accept() failed 9 times with EMFILE"), "{notes}");
    assert!(!notes.contains("EINVAL"), "{notes}");
}
