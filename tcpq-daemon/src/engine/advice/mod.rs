//! The one change that would help, and the command to make it: of a listener now, and of
//! an incident.

mod causes;
mod files;

use crate::model::{
    advice::Advice,
    group::Holder,
    limit::{Limit, SetBy},
    owner::{Container, Owner, Runtime},
    text::printable,
};

/// Requested backlogs above this are a way to say "as much as is allowed".
const MEANT: u64 = 65_535;

/// Processes named in a command at most.
const PIDS: usize = 8;

/// Of whom and where: what all advice is made from.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The namespace's name, `host`, or its inode number.
    pub netns: &'a str,
    /// `None`: a group of many.
    pub port: Option<u16>,
    /// Who answers for the socket that matters most.
    pub owner: Option<&'a Owner>,
    /// Who has it open.
    pub holders: &'a [Holder],
}

/// Gives advice to one subject.
#[derive(Clone, Copy, Debug)]
pub struct Adviser<'a> {
    subject: Subject<'a>,
}

/// How a setting of the listener's namespace is changed.
enum Namespace<'a> {
    Host,
    Container(&'a Container),
    Pod,
    Named(String),
    Of(u32),
    Unreachable,
}

impl<'a> Adviser<'a> {
    /// For this one.
    pub const fn new(subject: Subject<'a>) -> Self {
        Self { subject }
    }

    const fn owner(&self) -> Option<&'a Owner> {
        self.subject.owner
    }

    fn pid(&self) -> Option<u32> {
        self.owner().and_then(|owner| owner.pid)
    }

    /// The program, as sentences name it.
    pub fn program(&self) -> String {
        let name = self.owner().and_then(|owner| owner.process.as_deref());
        name.map_or_else(|| "the program".to_owned(), printable)
    }

    /// Whether a service manager made the socket and passes it on.
    fn is_of_systemd(&self) -> bool {
        self.subject.holders.iter().any(|holder| holder.process == "systemd")
            || self.owner().is_some_and(|owner| owner.process.as_deref() == Some("systemd"))
    }

    /// Who called listen().
    pub fn asker(&self) -> String {
        if self.is_of_systemd() { "systemd".to_owned() } else { self.program() }
    }

    /// A longer accept queue; where it is as long as is sensible, less waiting in it.
    pub fn raise(&self, limit: &Limit) -> Advice {
        self.lengthen(limit).unwrap_or_else(|| self.accept_faster())
    }

    /// A longer accept queue: the SYN queue has the same limit. `None`: it is long enough.
    pub fn lengthen(&self, limit: &Limit) -> Option<Advice> {
        let allowed = limit.somaxconn.map_or(u64::MAX, u64::from);
        let asks_for_more = asked(limit).is_some_and(|asked| is_worth_it(limit.effective, asked));
        match limit.set_by {
            SetBy::SomaxconnAtListen if allowed > limit.effective => Some(self.listen_anew(limit)),
            SetBy::Somaxconn | SetBy::SomaxconnAtListen if asks_for_more => {
                self.raise_setting(limit, "")
            }
            SetBy::Program => self.raise_backlog(limit),
            SetBy::Unknown if allowed > limit.effective => self.raise_backlog(limit),
            SetBy::Somaxconn | SetBy::SomaxconnAtListen | SetBy::Both | SetBy::Unknown => {
                self.raise_setting(limit, &self.and_backlog())
            }
        }
    }

    fn raise_setting(&self, limit: &Limit, and: &str) -> Option<Advice> {
        let asked = asked(limit);
        let value = match asked.filter(|it| *it <= MEANT && is_worth_it(limit.effective, *it)) {
            Some(asked) => asked,
            None => larger(limit.effective)?.max(4096),
        };
        let program = self.program();
        let netns = self.netns();
        let namespace = self.namespace();
        let commands = set(&namespace, "net.core.somaxconn", value);
        let then = format!("{program}: a listener keeps the limit it got from listen()");
        let (change, restart) = match namespace {
            Namespace::Container(_) => (
                format!("create the container anew with net.core.somaxconn={value}{and}"),
                Vec::new(),
            ),
            Namespace::Pod => (
                format!(
                    "set net.core.somaxconn={value} in the pod's spec{and} (the kubelet has to \
                     allow it: --allowed-unsafe-sysctls)"
                ),
                Vec::new(),
            ),
            _ => (
                format!("raise net.core.somaxconn of {netns} to {value}{and}, then restart {then}"),
                self.restart(),
            ),
        };
        Some(Advice { change, commands: [commands, restart].concat() })
    }

    fn and_backlog(&self) -> String {
        format!(", and the backlog that {} ({}) if it is lower", self.passes(), self.knob("N"))
    }

    fn passes(&self) -> String {
        format!("{} passes to listen()", self.asker())
    }

    fn raise_backlog(&self, limit: &Limit) -> Option<Advice> {
        let value = larger(limit.effective)?;
        let knob = self.knob(&value.to_string());
        let mut change = format!(
            "raise the backlog that {} from {} to {value} ({knob}), then restart it",
            self.passes(),
            limit.effective,
        );
        let mut commands = Vec::new();
        if limit.somaxconn.is_some_and(|allowed| u64::from(allowed) < value) {
            change = format!("raise net.core.somaxconn of {} to {value}; {change}", self.netns());
            commands = set(&self.namespace(), "net.core.somaxconn", value);
        }
        if self.is_of_systemd() {
            change = change.replace("restart it", "restart the .socket unit");
            commands.push("systemctl list-sockets --show-types".to_owned());
        } else {
            commands.extend(self.restart());
        }
        Some(Advice { change, commands })
    }

    fn listen_anew(&self, limit: &Limit) -> Advice {
        let Limit { effective, somaxconn, .. } = limit;
        let now = somaxconn.map_or_else(String::new, |now| format!(" and is {now} now"));
        Advice {
            change: format!(
                "restart {}: net.core.somaxconn of {} was {effective} when it called listen(){now}",
                self.program(),
                self.netns(),
            ),
            commands: self.restart(),
        }
    }

    /// Where programs take their backlog from.
    fn knob(&self, value: &str) -> String {
        if self.is_of_systemd() {
            return format!("Backlog={value} in the .socket unit");
        }
        let process = self.owner().and_then(|owner| owner.process.as_deref());
        match process.unwrap_or_default() {
            "nginx" => format!("nginx: listen ... backlog={value}"),
            "apache2" | "httpd" => format!("ListenBacklog {value}"),
            "haproxy" => format!("backlog {value}"),
            "redis-server" | "valkey-server" => format!("tcp-backlog {value}"),
            "mysqld" | "mariadbd" => format!("back_log={value}"),
            "gunicorn" | "uvicorn" => format!("--backlog {value}"),
            "node" => format!("server.listen({{ port, backlog: {value} }})"),
            _ => format!("listen(fd, {value})"),
        }
    }

    /// A setting of the listener's namespace.
    fn set_here(&self, key: &str, value: u64) -> Vec<String> {
        set(&self.namespace(), key, value)
    }

    /// The unit that the host's systemd runs it as, fit for a command line.
    fn restartable_unit(&self) -> Option<String> {
        let owner = self.owner().filter(|it| it.container.is_none() && is_of_hosts_manager(it))?;
        quoted(owner.unit.as_deref().filter(|unit| unit.ends_with(".service"))?)
    }

    /// Makes the program call listen() again, where the command is known.
    fn restart(&self) -> Vec<String> {
        let Some(owner) = self.owner() else { return Vec::new() };
        if is_of_pod(owner) {
            // The kubelet would start another container in its place.
            return Vec::new();
        }
        if let Some(container) = &owner.container {
            let id = container.short_id();
            return match container.runtime {
                Runtime::Docker => vec![format!("docker restart {id}")],
                Runtime::Podman => vec![format!("podman restart {id}")],
                Runtime::Containerd | Runtime::Crio | Runtime::Unknown => Vec::new(),
            };
        }
        let unit = self.restartable_unit();
        unit.map(|unit| format!("systemctl restart {unit}")).into_iter().collect()
    }

    /// Who may call accept() on the socket.
    fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<_> = self.subject.holders.iter().map(|holder| holder.pid).collect();
        pids.dedup();
        if pids.is_empty() {
            pids.extend(self.pid());
        }
        pids
    }

    /// Nobody takes connections from the socket.
    pub fn look_at_process(&self) -> Advice {
        let pids = self.pids();
        let program = self.program();
        match pids.as_slice() {
            [] => Advice {
                change: "find the process that has the socket open (it is not known), and what \
                         its threads wait for"
                    .to_owned(),
                commands: self.find_process(),
            },
            [pid] => Advice {
                change: format!(
                    "look at pid {pid} ({program}) and what its threads wait for: it does not call \
                     accept()"
                ),
                commands: vec![format!("cat /proc/{pid}/stack"), format!("strace -f -p {pid}")],
            },
            several => {
                let each = |before: &str, between: &str| {
                    let some: Vec<_> =
                        several.iter().take(PIDS).map(|pid| format!("{before}{pid}")).collect();
                    some.join(between)
                };
                Advice {
                    change: format!(
                        "look at the processes that have the socket open ({program}: {}) and what \
                         their threads wait for: none calls accept() on it",
                        each("", ", ")
                    ),
                    commands: vec![
                        format!("head /proc/{{{}}}/stack", each("", ",")),
                        format!("strace -f {}", each("-p ", " ")),
                    ],
                }
            }
        }
    }

    fn find_process(&self) -> Vec<String> {
        let Some(port) = self.subject.port else { return Vec::new() };
        let find = format!("ss -ltnp 'sport = :{port}'");
        match self.namespace() {
            Namespace::Host => vec![find],
            Namespace::Named(name) => vec![format!("ip netns exec {name} {find}")],
            Namespace::Of(pid) => vec![format!("nsenter -t {pid} -n {find}")],
            Namespace::Container(_) | Namespace::Pod | Namespace::Unreachable => Vec::new(),
        }
    }

    /// It accepts, but not as fast as connections come.
    pub fn accept_faster(&self) -> Advice {
        Advice {
            change: format!(
                "let {} accept faster: more workers or threads that call accept(), or less work \
                 between two calls; a longer queue would only make connections wait longer",
                self.program()
            ),
            commands: self.pid().map(|pid| format!("top -H -p {pid}")).into_iter().collect(),
        }
    }

    /// A full SYN queue drops what SYN cookies would answer.
    pub fn turn_cookies_on(&self) -> Advice {
        let namespace = self.namespace();
        let change = match namespace {
            Namespace::Container(_) => {
                "create the container anew with net.ipv4.tcp_syncookies=1".to_owned()
            }
            Namespace::Pod => "set net.ipv4.tcp_syncookies=1 in the pod's spec".to_owned(),
            _ => format!("turn SYN cookies on in {}", self.netns()),
        };
        Advice { change, commands: set(&namespace, "net.ipv4.tcp_syncookies", 1) }
    }

    /// One look cannot tell a slow program from a short queue.
    pub fn start_daemon() -> Advice {
        Advice {
            change:
                "start the daemon, and ask again while it runs: it counts what is accepted and \
                     what is refused"
                    .to_owned(),
            commands: vec!["tcpq serve".to_owned()],
        }
    }

    /// The namespace, as sentences name it.
    pub fn netns(&self) -> String {
        let name = self.subject.netns;
        if is_inode(name) { format!("namespace {name}") } else { printable(name) }
    }

    fn namespace(&self) -> Namespace<'a> {
        let name = self.subject.netns;
        if name == "host" {
            return Namespace::Host;
        }
        if let Some(owner) = self.owner() {
            let by_flag = |it: &&Container| matches!(it.runtime, Runtime::Docker | Runtime::Podman);
            if is_of_pod(owner) {
                return Namespace::Pod;
            }
            if let Some(container) = owner.container.as_ref().filter(by_flag) {
                return Namespace::Container(container);
            }
        }
        let by_name = quoted(name).filter(|_| !is_inode(name) && !name.starts_with(['-', '~']));
        match (by_name, self.pid()) {
            (Some(name), _) => Namespace::Named(name),
            (None, Some(pid)) => Namespace::Of(pid),
            (None, None) => Namespace::Unreachable,
        }
    }
}

fn is_inode(netns: &str) -> bool {
    netns.bytes().all(|b| b.is_ascii_digit())
}

fn set(namespace: &Namespace<'_>, key: &str, value: u64) -> Vec<String> {
    let sysctl = format!("sysctl -w {key}={value}");
    match namespace {
        Namespace::Host => vec![sysctl],
        Namespace::Named(name) => vec![format!("ip netns exec {name} {sysctl}")],
        Namespace::Of(pid) => vec![format!("nsenter -t {pid} -n {sysctl}")],
        Namespace::Container(container) => {
            let program = if container.runtime == Runtime::Docker { "docker" } else { "podman" };
            vec![format!("{program} run --sysctl {key}={value} ...")]
        }
        Namespace::Pod => {
            vec![format!("securityContext: {{sysctls: [{{name: {key}, value: \"{value}\"}}]}}")]
        }
        Namespace::Unreachable => Vec::new(),
    }
}

/// Whether Kubernetes runs it. The pod's UID is in the control group's path; its name is
/// known only if pods are looked up.
fn is_of_pod(owner: &Owner) -> bool {
    let uid = owner.container.as_ref().and_then(|container| container.pod_uid.as_ref());
    owner.pod.is_some() || uid.is_some()
}

/// Whether the unit is one that the host's systemd starts. A second `.service` in the path is
/// of a manager within it: a user's, or that of a container that has one; other slices than
/// `system.slice` are of users and of machines.
fn is_of_hosts_manager(owner: &Owner) -> bool {
    let cgroup = owner.cgroup.as_deref().unwrap_or_default();
    let services = cgroup.split('/').filter(|part| part.ends_with(".service"));
    cgroup.starts_with("/system.slice/") && services.count() == 1
}

/// What listen() was asked for, as the kernel takes it.
fn asked(limit: &Limit) -> Option<u64> {
    limit.requested.map(|asked| u64::from(asked.cast_unsigned()))
}

/// A backlog that is worth a restart; `None`: no sensible one is.
fn larger(limit: u64) -> Option<u64> {
    let value = limit.saturating_mul(4).clamp(128, MEANT).next_power_of_two().min(MEANT);
    is_worth_it(limit, value).then_some(value)
}

/// A queue that is longer by less than half overflows as the one before did.
const fn is_worth_it(limit: u64, value: u64) -> bool {
    value >= limit.saturating_add(limit / 2) && value > limit
}

/// A word of a shell's command line; `None` if it cannot be shown as it is.
pub fn quoted(word: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.@:/+%".contains(c);
    if printable(word) != word || word.is_empty() {
        return None;
    }
    if word.chars().all(plain) {
        return Some(word.to_owned());
    }
    Some(format!("'{}'", word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("web1").unwrap(), "web1");
        assert_eq!(quoted("a b").unwrap(), "'a b'");
        assert_eq!(quoted("a'b;$(x)").unwrap(), "'a'\\''b;$(x)'");
        assert_eq!(quoted("~python3").unwrap(), "'~python3'");
        assert_eq!(quoted("a\nb"), None);
        assert_eq!(quoted(""), None);
    }

    #[test]
    fn a_larger_backlog_is_large_enough_and_no_larger_than_is_meant() {
        let some = [0, 5, 128, 511, 4096, 16_384, 40_000].map(larger);
        assert_eq!(some, [128, 128, 512, 2048, 16_384, 65_535, 65_535].map(Some));
        assert_eq!([60_000, 65_535, 65_536, 131_072, u64::MAX].map(larger), [None; 5]);
    }
}
