//! More open files, or fewer that are needed.

use crate::{
    engine::advice::{Adviser, PIDS, is_of_pod},
    model::{advice::Advice, owner::Runtime},
};

impl Adviser<'_> {
    /// A process has as many files open as it may.
    pub fn raise_nofile(&self) -> Advice {
        let program = self.program();
        let owner = self.owner();
        let unit = self.restartable_unit();
        let container = owner.and_then(|owner| owner.container.as_ref());
        let by_flag = container.filter(|_| !owner.is_some_and(is_of_pod));
        let by_flag = by_flag.map(|container| container.runtime);
        let knob = match (&unit, by_flag) {
            (Some(unit), _) => format!("LimitNOFILE= of {unit}"),
            (None, Some(Runtime::Docker | Runtime::Podman)) => {
                "--ulimit nofile=N of its container".to_owned()
            }
            _ => "RLIMIT_NOFILE: ulimit -n, or LimitNOFILE= of its unit".to_owned(),
        };
        let change = format!(
            "raise the limit of open files of {program} ({knob}) and restart it; if what it has \
             open is more than its connections, find what it forgets to close"
        );
        let mut commands = match self.pids().as_slice() {
            [] => self.find_process(),
            [pid] => vec![format!("ls /proc/{pid}/fd | wc -l"), format!("prlimit -p {pid} -n")],
            several => {
                let some: Vec<_> = several.iter().take(PIDS).map(ToString::to_string).collect();
                vec![format!(
                    "for pid in {}; do ls /proc/$pid/fd | wc -l; prlimit -p $pid -n; done",
                    some.join(" ")
                )]
            }
        };
        commands.extend(unit.map(|unit| format!("systemctl edit {unit}")));
        Advice { change, commands }
    }

    /// All processes together have.
    pub fn raise_file_max(&self) -> Advice {
        Advice {
            change: format!(
                "find the process that has most files open (it need not be {}), or raise \
                 fs.file-max of the host",
                self.program()
            ),
            commands: vec!["cat /proc/sys/fs/file-nr".to_owned(), "sysctl fs.file-max".to_owned()],
        }
    }
}
