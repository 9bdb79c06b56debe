use super::*;
use crate::{
    cli::{
        explain::diagnose::{
            diagnose,
            tests::{Scene, scene},
        },
        list::tests::is_as_in,
    },
    model::group::Holder,
    serve::api::{FoldedInto, ListenerDto},
};

fn screen(scene: &Scene, columns: Option<usize>) -> String {
    let evidence = scene.evidence();
    render(&evidence, &diagnose(&evidence), None, columns)
}

fn clipped() -> Scene {
    scene(511, 128).somaxconn(128).overflows(0, 30).accepts(500).waiting(0, 100)
}

fn stuck() -> Scene {
    scene(511, 511).waiting(512, 512).overflows(3, 40).with_workers()
}

#[test]
fn clipped_at_eighty_columns() {
    is_as_in("explain/render/clipped-80.txt", &screen(&clipped(), Some(80)));
}

#[test]
fn clipped_at_two_hundred_columns() {
    is_as_in("explain/render/clipped-200.txt", &screen(&clipped(), Some(200)));
}

#[test]
fn a_stuck_worker_at_eighty_columns() {
    is_as_in("explain/render/stuck-80.txt", &screen(&stuck(), Some(80)));
}

#[test]
fn nothing_wrong_at_eighty_columns() {
    is_as_in("explain/render/quiet-80.txt", &screen(&scene(511, 511), Some(80)));
}

#[test]
fn late_accepts_at_eighty_columns() {
    is_as_in("explain/render/late-80.txt", &screen(&scene(511, 511).waited(50, 9.0), Some(80)));
}

#[test]
fn one_screen_is_enough() {
    for scene in [
        clipped(),
        stuck(),
        stuck().waited(30, 0.6),
        scene(5, 5).waiting(6, 6).overflows(3, 9),
        scene(5, 5),
    ] {
        let text = screen(&scene, Some(80));
        assert!(text.lines().count() <= 32, "{text}");
        assert!(text.lines().all(|line| width(line) <= 80), "{text}");
    }
}

#[test]
fn without_a_daemon_limits_are_told_and_counters_are_not() {
    let text = screen(&scene(5, 5).waiting(6, 6).looked_at(), Some(80));
    assert!(text.contains("node asked listen() for 5"), "{text}");
    assert!(text.contains("counted   nothing: no daemon is running"), "{text}");
    assert!(text.contains("tcpq serve"), "{text}");
}

#[test]
fn commands_are_one_line_each_however_narrow_it_is() {
    let text = screen(&clipped(), Some(40));
    assert!(text.contains("  ip netns exec web1 sysctl -w net.core.somaxconn=511\n"), "{text}");
}

#[test]
fn a_bar_shows_something_if_anything_waits_and_is_full_when_it_is() {
    let filled =
        |length, limit| bar(QueueDto { length, limit }, 1).chars().filter(|c| *c == '#').count();
    assert_eq!(filled(0, 128), 0);
    assert_eq!(filled(1, 4096), 1);
    assert_eq!(filled(64, 127), 10);
    assert_eq!(filled(4, 4), 16);
    assert_eq!([filled(5, 4), filled(9, 4), filled(1, 0), filled(u64::MAX, 4)], [20; 4]);
}

#[test]
fn a_group_of_many_is_named_like_its_series() {
    let folded = scene(5, 5).each(|listener| {
        listener.port = None;
        listener.folded = Some(FoldedInto::Ephemeral);
        listener.address = "~node".to_owned();
    });
    let text = screen(&folded, None);
    assert!(text.starts_with("node on ~node ~ephemeral in web1: nothing is wrong\n"), "{text}");
}

#[test]
fn hostile_names_reach_no_terminal() {
    let bad = "a\u{1b}[2J\u{202e}\n\u{9b}b";
    let hostile = stuck().each(|listener: &mut ListenerDto| {
        listener.netns = bad.to_owned();
        for owner in &mut listener.owners {
            owner.process = Some(bad.to_owned());
            owner.executable = Some(bad.repeat(500));
            owner.cgroup = Some(format!("/{bad}"));
        }
        for member in &mut listener.members {
            member.owner = listener.owners[0].clone();
            member.holders[0].process = bad.to_owned();
        }
    });
    let text = screen(&hostile, Some(80));
    let harm = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
    assert_eq!(harm, None, "{text}");
    assert!(text.lines().count() < 40, "{text}");
}

#[test]
fn who_set_the_limit_is_said_once_and_of_the_socket_in_trouble() {
    let activated = scene(5, 5).waiting(0, 3).overflows(0, 9).accepts(900).each(|listener| {
        let manager = Holder { pid: 1, process: "systemd".to_owned(), fd: 40 };
        listener.members[0].holders.push(manager);
    });
    // Two programs share a port; the one in trouble is not the first owner.
    let mixed = scene(5, 5).waiting(0, 3).overflows(0, 9).accepts(900).each(|listener| {
        let other = Owner { process: Some("haproxy".to_owned()), ..Owner::default() };
        listener.owners.insert(0, other);
    });
    for (scene, asker, others) in [(activated, "systemd", "node"), (mixed, "node", "haproxy")] {
        let text = screen(&scene, Some(200));
        assert_eq!(text.matches("asked listen() for").count(), 1, "{text}");
        assert!(text.contains(&format!("{asker} asked listen() for 5")), "{text}");
        assert!(text.contains(&format!("the backlog that {asker} passes to listen()")), "{text}");
        assert!(!text.contains(&format!("{others} asked")), "{text}");
    }
}
