use std::{collections::BTreeMap, fs};

use tempfile::TempDir;

use super::*;
use crate::model::incident::{
    id::IncidentId,
    probe::{CgroupReading, Pressure},
};

/// A host of the tests' own making.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        host.put("proc/pressure/cpu", "some avg10=1.00 avg60=0.00 avg300=0.00 total=5000\n");
        host
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A process of two threads: one is stopped in the kernel, one runs.
    fn process(&self, pid: u32, cgroup: &str) {
        let stat = |state: &str| {
            format!("{pid} (a b) c) {state} 1 1 1 0 -1 0 0 0 0 0 30 20 0 0 20 0 2 0 777 0 0\n")
        };
        self.put(&format!("proc/{pid}/stat"), &stat("T"));
        for (thread, state, wait) in [(pid, "T", "do_signal_stop"), (pid + 1, "R", "0")] {
            self.put(&format!("proc/{pid}/task/{thread}/stat"), &stat(state));
            self.put(&format!("proc/{pid}/task/{thread}/wchan"), wait);
        }
        for file in 0..3 {
            self.put(&format!("proc/{pid}/fd/{file}"), "");
        }
        self.put(
            &format!("proc/{pid}/limits"),
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024        4096  \
             files\n",
        );
        self.put(&format!("proc/{pid}/cgroup"), cgroup);
    }

    fn look(&self, pids: &[u32]) -> Report {
        let roots =
            Roots { procfs: self.0.path().join("proc"), cgroup: self.0.path().join("cgroup") };
        let incident = IncidentId::new(Moment(1), "x");
        look(&roots, &Wish { incident, holders: pids.to_vec() }, Moment(9))
    }
}

#[test]
fn threads_files_and_limits_are_read() {
    let host = Host::new();
    host.process(40, "0::/\n");
    let report = host.look(&[40]);
    let [process] = report.processes.as_slice() else { panic!("{report:?}") };
    assert_eq!((process.pid, process.start, &*process.name), (40, 777, "a b) c"));
    assert_eq!(process.states, BTreeMap::from([('T', 1), ('R', 1)]));
    assert_eq!(process.waits, BTreeMap::from([("do_signal_stop".to_owned(), 1)]));
    assert_eq!((process.threads, process.cpu_ms), (2, 500));
    assert_eq!((process.files, process.files_limit), (Some(3), Some(1024)));
    assert_eq!(&process.cgroup, &None);
    assert_eq!(report.host, Some(Pressure { cpu: Some(5000), ..Pressure::default() }));
    assert_eq!(report.failures, Vec::<String>::new());
}

#[test]
fn what_cannot_be_read_is_said_and_the_rest_is_told() {
    let host = Host::new();
    host.process(40, "0::/\n");
    fs::remove_dir_all(host.0.path().join("proc/40/fd")).unwrap();
    let report = host.look(&[39, 40]);
    assert_eq!(report.processes.len(), 1);
    let said = report.failures.join("\n");
    assert!(said.contains("pid 39: ") && said.contains("proc/40/fd"), "{said}");
}

#[test]
fn of_version_2_the_group_that_is_throttled_most_is_told() {
    let host = Host::new();
    host.process(40, "0::/pods/one\n");
    let stat = |periods, throttled, us| {
        format!(
            "usage_usec 1\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec {us}\n"
        )
    };
    host.put("cgroup/pods/one/cpu.stat", &stat(9, 1, 10));
    host.put("cgroup/pods/one/cpu.max", "max 100000\n");
    host.put("cgroup/pods/one/cpu.pressure", "some avg10=0 total=70\nfull avg10=0 total=1\n");
    host.put("cgroup/pods/cpu.stat", &stat(50, 40, 4_000_000));
    host.put("cgroup/pods/cpu.max", "50000 100000\n");
    let cgroup = host.look(&[40]).processes[0].cgroup.clone();
    let expected = CgroupReading {
        path: "/pods".to_owned(),
        quota: Some(500),
        file: Some(host.0.path().join("cgroup/pods/cpu.max").display().to_string()),
        periods: 50,
        throttled: 40,
        throttled_us: 4_000_000,
        pressure: Some(Pressure { cpu: Some(70), ..Pressure::default() }),
    };
    assert_eq!(cgroup, Some(expected));
}

#[test]
fn where_both_versions_are_the_cpu_is_that_of_version_1() {
    let host = Host::new();
    host.process(40, "3:cpu,cpuacct:/web\n0::/web.service\n");
    host.put(
        "cgroup/cpu,cpuacct/web/cpu.stat",
        "nr_periods 7\nnr_throttled 6\nthrottled_time 9000\n",
    );
    host.put("cgroup/cpu,cpuacct/web/cpu.cfs_quota_us", "20000\n");
    host.put("cgroup/cpu,cpuacct/web/cpu.cfs_period_us", "100000\n");
    host.put("cgroup/unified/web.service/cpu.stat", "usage_usec 1\n");
    host.put("cgroup/unified/web.service/cpu.pressure", "some avg10=0 total=8\n");
    let cgroup = host.look(&[40]).processes[0].cgroup.clone().unwrap();
    assert_eq!((cgroup.quota, cgroup.periods, cgroup.throttled_us), (Some(200), 7, 9));
    assert_eq!(cgroup.pressure, Some(Pressure { cpu: Some(8), ..Pressure::default() }));
}

#[test]
fn a_real_process_can_be_read() {
    let roots = Roots { procfs: "/proc".into(), cgroup: "/sys/fs/cgroup".into() };
    let wish =
        Wish { incident: IncidentId::new(Moment(1), "x"), holders: vec![std::process::id()] };
    let report = look(&roots, &wish, Moment(9));
    let [process] = report.processes.as_slice() else { panic!("{report:?}") };
    assert!(process.threads >= 1 && process.files > Some(2) && !process.states.is_empty());
}
