//! What would help against causes that only an incident shows.

use crate::{
    engine::advice::{Adviser, quoted},
    model::{advice::Advice, incident::probe::CgroupReading, limit::Limit},
};

impl Adviser<'_> {
    /// Every thread is stopped by a signal or a debugger.
    pub fn resume(&self, pid: u32) -> Advice {
        Advice {
            change: format!(
                "let pid {pid} ({}) go on: its threads are stopped by a signal or a debugger; if \
                 nobody did it on purpose, find out who",
                self.program()
            ),
            commands: vec![
                format!("grep -E 'State|TracerPid' /proc/{pid}/status"),
                format!("kill -CONT {pid}"),
            ],
        }
    }

    /// It has less CPU than it needs.
    pub fn loosen_quota(&self, cgroup: &CgroupReading) -> Advice {
        let unit = self.restartable_unit();
        let knob = match &unit {
            Some(unit) => format!("CPUQuota= of {unit}"),
            None => "the CPU limit of its unit, container or pod".to_owned(),
        };
        let commands = if let Some(unit) = unit {
            vec![format!("systemctl set-property {unit} CPUQuota=")]
        } else {
            let file = cgroup.file.as_deref().and_then(quoted);
            file.map(|file| format!("cat {file}")).into_iter().collect()
        };
        Advice {
            change: format!("give {} more CPU, or take the limit away ({knob})", self.program()),
            commands,
        }
    }

    /// SYNs that nobody follows up.
    pub fn fend_off(&self, are_cookies_off: bool) -> Advice {
        if are_cookies_off {
            return self.turn_cookies_on();
        }
        Advice {
            change:
                "SYN cookies answer for the full SYN queue, so clients still get in; limit the \
                     SYNs where they enter if they cost too much"
                    .to_owned(),
            commands: vec![
                "nft add rule inet filter input tcp flags syn limit rate over \
                            10000/second drop"
                    .to_owned(),
            ],
        }
    }

    /// Real clients whose handshakes take their time.
    pub fn longer_syn_queue(&self, limit: Option<&Limit>) -> Option<Advice> {
        let mut advice = self.lengthen(limit?)?;
        advice.change = format!("{}: the SYN queue has the same limit", advice.change);
        Some(advice)
    }

    /// Many clients at once.
    pub fn spread_reconnects(&self, limit: Option<&Limit>) -> Advice {
        let longer = limit.and_then(|limit| self.lengthen(limit));
        let mut advice = Advice {
            change: "let clients wait a random time before they connect again (back-off with \
                     jitter)"
                .to_owned(),
            commands: Vec::new(),
        };
        if let Some(longer) = longer {
            advice.change = format!("{}; until then, {}", advice.change, longer.change);
            advice.commands = longer.commands;
        }
        advice
    }

    /// A request waits for data.
    pub fn defer_less(&self) -> Advice {
        Advice {
            change: format!(
                "turn TCP_DEFER_ACCEPT off in {} (nginx: listen ... deferred; Apache: AcceptFilter \
                 none), then restart it: clients that send nothing fill the SYN queue",
                self.program()
            ),
            commands: self.restart(),
        }
    }

    /// A socket of the group that nobody accepts from, or that was closed.
    pub fn drain_before_close(&self) -> Advice {
        Advice {
            change: format!(
                "let connections go to another socket of the group when {} closes one: \
                 net.ipv4.tcp_migrate_req, from Linux 5.14 on",
                self.program()
            ),
            commands: self.set_here("net.ipv4.tcp_migrate_req", 1),
        }
    }
}
