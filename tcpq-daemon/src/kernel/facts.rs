//! What this kernel is, read once: no decision is made here.

use std::{
    collections::BTreeMap,
    fs::File,
    io::BufReader,
    ops::Range,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use tcpq_common::globals::Globals;
use tracing::debug;

use crate::{
    kernel::{
        btf::{Btf, BtfError},
        error::KernelError,
        layout,
        preemption::Preemption,
        programs::Hook,
        symbols::Symbols,
    },
    model::{hooks::Backend, ids::NetnsInode},
};

/// Where the kernel shows itself; other roots in tests and containers.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Usually `/proc`.
    pub procfs: PathBuf,
    /// Usually `/sys`.
    pub sysfs: PathBuf,
    /// Usually `/run/netns`: where `ip netns` names namespaces.
    pub netns: PathBuf,
}

impl Roots {
    /// The kernel's own type information.
    pub fn btf(&self) -> PathBuf {
        self.sysfs.join("kernel/btf/vmlinux")
    }
}

/// Functions that call `sk_drops_add` and then free the packet. `tcp_drop_reason` is
/// static: where it is inlined, it is part of `tcp_rcv_state_process`.
const DROPPING: [&str; 4] =
    ["tcp_v4_rcv", "tcp_v6_rcv", "tcp_rcv_state_process", "tcp_drop_reason"];

/// Functions that free a cookie's ACK.
const COOKIE: [&str; 2] = ["cookie_v4_check", "cookie_v6_check"];

/// How to find a CPU's part of a per-CPU variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuOffsets {
    /// Kernel address of `__per_cpu_offset`.
    Symbol(u64),
    /// A program finds out by a per-CPU map of its own.
    Program,
    /// Not at all, and why.
    Unknown(String),
}

/// Facts about the running kernel. A hook's refusal becomes a fact, too.
#[derive(Clone, Debug)]
pub struct KernelFacts {
    /// `uname -r`, for messages only.
    pub release: String,
    /// Arity of each hooked function that exists.
    pub functions: BTreeMap<Hook, usize>,
    /// Arity of each hooked tracepoint that exists.
    pub tracepoints: BTreeMap<Hook, usize>,
    /// Where each CPU's own memory is.
    pub cpu_offsets: CpuOffsets,
    /// Where the functions are that add to `sk_drops` and then free the packet, or why
    /// that is not known.
    pub dropping_functions: Result<Vec<Range<u64>>, String>,
    /// Whether a socket tells when it was established, or why not.
    pub established: Result<(), String>,
    /// Whether a request tells when its first SYN-ACK was sent, or why not.
    pub synack_sent: Result<(), String>,
    /// `kfree_skb` names the receiving socket.
    pub kfree_has_rx_sk: bool,
    /// `SKB_DROP_REASON_TCP_LISTEN_OVERFLOW`.
    pub reason_listen_overflow: Option<u32>,
    /// Inode number of the initial network namespace, where the kernel fixes it
    /// (`NET_NS_INIT_INO`, since Linux 6.18).
    pub initial_netns: Option<NetnsInode>,
    /// It has io_uring, whose accept() is a call of its own.
    pub has_io_uring: bool,
    /// Whether a program that runs in process context may be skipped.
    pub preemption: Preemption,
    /// Possible CPUs: per-CPU values in a map.
    pub possible_cpus: usize,
    /// Offsets for the programs.
    pub globals: Globals,
    /// Hooks that this kernel refused, and what it said.
    pub refused: Refused,
}

/// Hooks that are not to be had, and why.
pub type Refused = BTreeMap<(Hook, Backend), String>;

impl KernelFacts {
    /// Reads them, and the kernel's types as the loader wants them. The symbol table and both
    /// readings of the types take their time side by side.
    pub fn read(roots: &Roots) -> Result<(Self, aya::Btf), KernelError> {
        let types = Btf::read(&roots.btf()).map_err(|error| bad_btf(roots, error))?;
        thread::scope(|scope| {
            let for_loader = scope.spawn(|| aya::Btf::parse(&types, aya::Endianness::default()));
            let symbols = scope.spawn(|| Symbols::of(&roots.procfs.join("kallsyms")));
            let btf = Btf::from_bytes(Arc::clone(&types)).map_err(|error| bad_btf(roots, error))?;
            let facts = Self::of(roots, &btf, || joined(symbols.join()))?;
            let for_loader = joined(for_loader.join())
                .map_err(|error| KernelError::Object { source: error.into() })?;
            Ok((facts, for_loader))
        })
    }

    fn of(
        roots: &Roots,
        btf: &Btf,
        symbols: impl FnOnce() -> Result<Symbols, String>,
    ) -> Result<Self, KernelError> {
        let bad_btf = |error| bad_btf(roots, error);
        let mut globals = Globals::ZERO;
        layout::required(btf, &mut globals).map_err(bad_btf)?;
        globals.own_pid_namespace = own_pid_namespace(&roots.procfs);
        if let Err(error) = layout::registers(btf, &mut globals) {
            debug!(%error, "the arguments of system calls cannot be seen");
        }

        let mut refused = BTreeMap::new();
        let kprobes = roots.sysfs.join("bus/event_source/devices/kprobe");
        if !kprobes.exists() {
            refuse_all(&mut refused, Backend::Kprobe, "this kernel has no CONFIG_KPROBE_EVENTS");
        }
        if let Err(error) = layout::files(btf, &mut globals) {
            refused.insert((Hook::IterTaskFile, Backend::Iterator), error.to_string());
        }
        refuse_accept_calls(&mut refused, btf, &mut globals);
        let symbols = symbols();
        let cpu_offsets = match layout::counters(btf, &mut globals) {
            Ok(()) => cpu_offsets(btf, &symbols, &mut globals),
            Err(why) => CpuOffsets::Unknown(why),
        };
        if let Err(error) = layout::handshake(btf, &mut globals) {
            for hook in [Hook::RequestError, Hook::RequestUnlinked, Hook::RequestClone] {
                for backend in [Backend::Fentry, Backend::Kprobe] {
                    refused.insert((hook, backend), error.to_string());
                }
            }
            refused.insert((Hook::SynackAgain, Backend::Tracepoint), error.to_string());
        }
        let established = layout::established(btf, &mut globals);
        let synack_sent = layout::synack_sent(btf, &mut globals);
        let dropping_functions = symbols.as_ref().map_err(Clone::clone).and_then(|symbols| {
            if symbols.range("tcp_v4_rcv").is_none() {
                return Err("the kernel shows no tcp_v4_rcv".to_owned());
            }
            Ok(DROPPING.iter().filter_map(|name| symbols.range(name)).collect::<Vec<_>>())
        });
        let kfree_has_rx_sk = btf.tracepoint_arity("kfree_skb").is_some_and(|arity| arity >= 4);
        let reason = |name| {
            btf.enum_value(Some("skb_drop_reason"), name)
                .and_then(|value| u32::try_from(value).ok())
        };
        let reason_listen_overflow = reason("SKB_DROP_REASON_TCP_LISTEN_OVERFLOW");
        let initial_netns = btf
            .enum_value(None, "NET_NS_INIT_INO")
            .and_then(|inode| u32::try_from(inode).ok())
            .map(NetnsInode);
        let possible_cpus =
            aya::util::nr_cpus().map_err(|(path, source)| KernelError::Unsupported {
                what: "the number of CPUs",
                why: format!("{path}: {source}"),
            })?;

        if let CpuOffsets::Symbol(address) = &cpu_offsets {
            globals.per_cpu_offset = *address;
        }
        let ranges = dropping_functions.iter().flatten();
        for (slot, range) in globals.dropping_functions.iter_mut().zip(ranges) {
            *slot = [range.start, range.end];
        }
        let cookie = COOKIE.iter().filter_map(|name| symbols.as_ref().ok()?.range(name));
        for (slot, range) in globals.cookie_functions.iter_mut().zip(cookie) {
            *slot = [range.start, range.end];
        }
        globals.kfree_has_rx_sk = kfree_has_rx_sk.into();
        globals.reason_listen_overflow = reason_listen_overflow.unwrap_or(0);
        globals.reason_not_specified = reason("SKB_DROP_REASON_NOT_SPECIFIED").unwrap_or(0);
        globals.reason_no_socket = reason("SKB_DROP_REASON_NO_SOCKET").unwrap_or(0);
        globals.cpus = u32::try_from(possible_cpus).unwrap_or(u32::MAX);

        Ok(Self {
            release: release(&roots.procfs),
            functions: functions(btf),
            tracepoints: arities(&Hook::TRACEPOINTS, |name| btf.tracepoint_arity(name)),
            cpu_offsets,
            dropping_functions,
            established,
            synack_sent,
            kfree_has_rx_sk,
            reason_listen_overflow,
            initial_netns,
            // What a task that exits calls, whatever else is static and inlined.
            has_io_uring: btf.has_function("__io_uring_free"),
            preemption: Preemption::read(&roots.procfs, &roots.sysfs),
            possible_cpus,
            globals,
            refused,
        })
    }
}

impl KernelFacts {
    /// No function can be hooked by this backend.
    pub fn refuse_all(&mut self, backend: Backend, why: &str) {
        refuse_all(&mut self.refused, backend, why);
    }
}

fn refuse_all(refused: &mut Refused, backend: Backend, why: &str) {
    for hook in Hook::FUNCTIONS {
        refused.entry((hook, backend)).or_insert_with(|| why.to_owned());
    }
}

/// Without these no call of accept() can be followed to its listener.
fn refuse_accept_calls(refused: &mut Refused, btf: &Btf, globals: &mut Globals) {
    let mut refuse = |hook, backend, why: String| {
        refused.entry((hook, backend)).or_insert(why);
    };
    // Files: read before, for the iterator.
    if globals.socket_sk == 0 {
        let why = "this kernel's files are not known";
        for hook in [Hook::AcceptCall, Hook::UringAccept] {
            for backend in [Backend::Fentry, Backend::Kprobe] {
                refuse(hook, backend, why.to_owned());
            }
        }
    }
    if let Err(error) = layout::descriptors(btf, globals) {
        for backend in [Backend::Fentry, Backend::Kprobe] {
            refuse(Hook::AcceptCall, backend, error.to_string());
        }
    }
    if globals.registers_call == 0 {
        let why = "no type of the saved registers";
        refuse(Hook::AcceptCall, Backend::Kprobe, why.to_owned());
    }
    if let Err(error) = layout::uring(btf, globals) {
        refuse(Hook::UringAccept, Backend::Fentry, error.to_string());
    }
}

fn cpu_offsets(btf: &Btf, symbols: &Result<Symbols, String>, globals: &mut Globals) -> CpuOffsets {
    let hidden = match symbols {
        Ok(symbols) => match symbols.address("__per_cpu_offset") {
            Some(address) => return CpuOffsets::Symbol(address),
            None => "the kernel was built without CONFIG_KALLSYMS_ALL".to_owned(),
        },
        Err(why) => why.clone(),
    };
    let has_helper = btf.enum_value(None, "BPF_FUNC_map_lookup_percpu_elem").is_some();
    if has_helper && layout::per_cpu_arrays(btf, globals).is_ok() {
        return CpuOffsets::Program;
    }
    CpuOffsets::Unknown(hidden)
}

fn arities(hooks: &[Hook], arity: impl Fn(&str) -> Option<usize>) -> BTreeMap<Hook, usize> {
    hooks.iter().filter_map(|hook| Some((*hook, arity(hook.target())?))).collect()
}

fn functions(btf: &Btf) -> BTreeMap<Hook, usize> {
    let mut functions = arities(&Hook::FUNCTIONS, |name| btf.function_arity(name));
    // One function, and a program for each of its prototypes.
    let returns = btf.function_returns(Hook::RequestQueued.target());
    functions.retain(|hook, _| match hook {
        Hook::RequestQueued => returns == Some(true),
        Hook::RequestQueuedVoid => returns == Some(false),
        _ => true,
    });
    functions
}

/// What a thread returned; its panic goes on in the caller.
fn joined<T>(outcome: thread::Result<T>) -> T {
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn bad_btf(roots: &Roots, error: BtfError) -> KernelError {
    match error {
        BtfError::Read { path, source } => KernelError::NoBtf { path, source },
        source => KernelError::BadBtf { path: roots.btf(), source },
    }
}

/// 0, which no namespace has, where procfs does not tell: then processes go unnamed.
fn own_pid_namespace(procfs: &Path) -> u32 {
    std::fs::metadata(procfs.join("self/ns/pid"))
        .ok()
        .and_then(|meta| u32::try_from(meta.ino()).ok())
        .unwrap_or(0)
}

fn release(procfs: &Path) -> String {
    std::fs::read_to_string(procfs.join("sys/kernel/osrelease"))
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

impl Symbols {
    /// The symbols that are wanted, or why there are none.
    fn of(path: &Path) -> Result<Self, String> {
        let mut wanted = vec!["__per_cpu_offset"];
        wanted.extend(DROPPING);
        wanted.extend(COOKIE);
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let symbols = Self::read(BufReader::with_capacity(1 << 20, file), &wanted)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if symbols.hidden() {
            return Err(
                "addresses are hidden (kernel.kptr_restrict, or CAP_SYSLOG is missing)".to_owned()
            );
        }
        Ok(symbols)
    }
}
