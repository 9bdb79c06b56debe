use std::{fs, os::unix::fs::symlink, process::Command, thread};

use proptest::prelude::*;

use super::*;
use crate::attribution::fixture::{Proc, stat};

#[test]
fn all_facts_of_a_process() {
    let proc = Proc::new();
    proc.put(7, 4711, b"nginx", "0::/system.slice/nginx.service\n");
    let facts = read(proc.root(), 7).unwrap();
    assert_eq!(facts.id, ProcessId { start: 4711, pid: 7 });
    assert_eq!(facts.name.as_deref(), Some("nginx"));
    assert_eq!(facts.executable.as_deref(), Some("/usr/bin/nginx"));
    assert_eq!(facts.cgroup.as_deref(), Some(b"0::/system.slice/nginx.service\n".as_slice()));
    assert_eq!(start_of(proc.root(), 7), Some(4711));
}

#[test]
fn no_name_hides_where_the_other_fields_begin() {
    for name in [b"a) S 1 2".as_slice(), b")))", b"(", b"a\nb", b"\xff) R", b") Z 1 1 1 1 1 1"] {
        let proc = Proc::new();
        proc.put(7, 99, name, "0::/\n");
        assert_eq!(start_of(proc.root(), 7), Some(99), "{name:?}");
        assert!(is_running(proc.root(), ProcessId { start: 99, pid: 7 }), "{name:?}");
    }
}

#[test]
fn a_newline_in_a_name_is_not_its_end() {
    let proc = Proc::new();
    proc.put(7, 99, b"a\nb\n", "");
    assert_eq!(read(proc.root(), 7).unwrap().name.as_deref(), Some("a\u{fffd}b\u{fffd}"));
}

#[test]
fn an_executable_that_was_replaced_keeps_its_name() {
    let proc = Proc::new();
    proc.put(7, 1, b"x", "");
    let exe = proc.root().join("7/exe");
    for (link, shown) in [
        ("/usr/sbin/nginx (deleted)", Some("/usr/sbin/nginx")),
        ("/usr/sbin/nginx", Some("/usr/sbin/nginx")),
        ("/tmp/a\nb", Some("/tmp/a\u{fffd}b")),
        (" (deleted)", None),
    ] {
        fs::remove_file(&exe).unwrap();
        symlink(link, &exe).unwrap();
        assert_eq!(read(proc.root(), 7).unwrap().executable.as_deref(), shown, "{link}");
    }
}

#[test]
fn each_fact_that_cannot_be_read_is_unknown_alone() {
    let proc = Proc::new();
    proc.put(7, 1, b"x", "0::/a\n");
    fs::remove_file(proc.root().join("7/exe")).unwrap();
    assert_eq!(read(proc.root(), 7).unwrap().executable, None);
    fs::remove_file(proc.root().join("7/comm")).unwrap();
    // Reading a folder fails after it could be opened.
    fs::create_dir(proc.root().join("7/comm")).unwrap();
    assert_eq!(read(proc.root(), 7).unwrap().name, None);
    fs::remove_file(proc.root().join("7/cgroup")).unwrap();
    let facts = read(proc.root(), 7).unwrap();
    assert_eq!(facts.cgroup, None);
    assert_eq!(facts.id.start, 1);
}

#[test]
fn what_is_endless_is_not_read_to_its_end() {
    let proc = Proc::new();
    proc.put(7, 1, b"x", "0::/a\n");
    fs::remove_file(proc.root().join("7/cgroup")).unwrap();
    symlink("/dev/zero", proc.root().join("7/cgroup")).unwrap();
    assert_eq!(read(proc.root(), 7).unwrap().cgroup, None);
}

#[test]
fn a_number_without_a_process_has_no_facts() {
    let proc = Proc::new();
    assert_eq!(read(proc.root(), 7), None);
    assert_eq!(start_of(proc.root(), 7), None);
    assert!(!is_running(proc.root(), ProcessId { start: 1, pid: 7 }));
    for text in
        ["", "7", "7 (x", "7 (x)", "7 (x) S 1", "7 (x) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 x"]
    {
        fs::create_dir_all(proc.root().join("7")).unwrap();
        fs::write(proc.root().join("7/stat"), text).unwrap();
        assert_eq!(read(proc.root(), 7), None, "{text}");
    }
}

#[test]
fn a_number_that_changes_hands_while_it_is_read_tells_nothing() {
    let proc = Proc::new();
    proc.put(7, 1, b"x", "");
    let comm = proc.root().join("7/comm");
    fs::remove_file(&comm).unwrap();
    assert!(Command::new("mkfifo").arg(&comm).status().unwrap().success());
    let stat_file = proc.root().join("7/stat");
    // Who reads the name waits here until there is another process.
    let other = thread::spawn(move || {
        let mut name = fs::OpenOptions::new().write(true).open(&comm).unwrap();
        fs::write(stat_file, stat(7, b"other", 'S', 2)).unwrap();
        std::io::Write::write_all(&mut name, b"other\n").unwrap();
    });
    assert_eq!(read(proc.root(), 7), None);
    other.join().unwrap();
}

#[test]
fn one_that_ended_does_not_run() {
    let proc = Proc::new();
    proc.put(7, 1, b"x", "");
    assert!(is_running(proc.root(), ProcessId { start: 1, pid: 7 }));
    assert!(!is_running(proc.root(), ProcessId { start: 2, pid: 7 }), "another one");
    for state in ['Z', 'X', 'x'] {
        fs::write(proc.root().join("7/stat"), stat(7, b"x", state, 1)).unwrap();
        assert!(!is_running(proc.root(), ProcessId { start: 1, pid: 7 }), "{state}");
    }
}

#[test]
fn the_kernel_writes_what_is_read_here() {
    let facts = read(Path::new("/proc"), std::process::id()).unwrap();
    let exe = fs::read_link("/proc/self/exe").unwrap();
    assert_eq!(facts.executable.as_deref(), exe.to_str());
    let stat = Process::myself().unwrap().stat().unwrap();
    assert_eq!(facts.id.start, stat.starttime);
    assert_eq!(facts.name.as_deref(), Some(stat.comm.as_str()));
    assert!(facts.cgroup.is_some());
    assert!(is_running(Path::new("/proc"), facts.id));
}

proptest! {
    #[test]
    fn any_bytes_of_a_stat_file_are_survived(bytes: Vec<u8>) {
        parse(&bytes);
        parse(&[b"1 (a) ".as_slice(), &bytes].concat());
    }
}
