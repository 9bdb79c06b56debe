//! Applies a plan: loads and attaches programs, and turns a refusal into a fact.

use std::{collections::HashMap, io::Read as _, os::fd::AsFd as _};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::Map,
    programs::{BtfTracePoint, FEntry, FExit, Iter, KProbe, Program, ProgramError},
};
use tcpq_common::globals::Globals;
use tracing::{debug, warn};

use crate::kernel::{
    error::KernelError,
    facts::{KernelFacts, Roots},
    plan::{BackendChoice, Plan, PlannedHook, plan},
    privilege,
    programs::{Attachment, Hook},
    syscall::MapIterator,
};

/// The compiled object, built from source by `build/main.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tcpq-probes"));

/// Sizes and rates of the kernel side.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Listening sockets tracked at most.
    pub listeners: u32,
    /// Bytes of the record ring; a power of two and whole pages.
    pub ring_bytes: u32,
    /// Records a listener may send at once, per CPU.
    pub record_burst: u32,
    /// Records a listener may send per second, per CPU.
    pub records_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { listeners: 4096, ring_bytes: 1 << 20, record_burst: 100, records_per_second: 100 }
    }
}

/// Which part of the plan is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Watch,
    /// Only iterators: who listens now.
    Look,
}

/// The kernel side in place. Dropping it removes every program and link.
#[derive(Debug)]
pub struct Attached {
    /// Programs and maps.
    pub ebpf: Ebpf,
    /// What was attached, and what it yields.
    pub plan: Plan,
    /// What is known of the kernel, refusals included.
    pub facts: KernelFacts,
}

impl Attached {
    /// Removes every hook, all at the same time: the kernel waits for each until no
    /// CPU can be in it any more, and those waits need not come one after the other.
    pub fn detach(mut self) {
        let attachments: HashMap<_, _> = self
            .plan
            .hooks
            .iter()
            .flat_map(|hook| hook.programs)
            .map(|program| (program.name, program.attachment))
            .collect();
        std::thread::scope(|scope| {
            for (name, program) in self.ebpf.programs_mut() {
                if let Some(attachment) = attachments.get(name) {
                    // What cannot be unloaded here is when the object is dropped.
                    scope.spawn(move || drop(unload(program, *attachment)));
                }
            }
        });
    }
}

/// Reads the facts, and plans and attaches until a plan holds.
pub fn attach(
    roots: &Roots,
    choice: BackendChoice,
    limits: Limits,
    scope: Scope,
) -> Result<Attached, KernelError> {
    privilege::check(&roots.procfs)?;
    let mut facts = KernelFacts::read(roots)?;
    facts.globals.record_burst = limits.record_burst;
    facts.globals.record_interval_ns =
        1_000_000_000_u32.checked_div(limits.records_per_second).unwrap_or(u32::MAX);
    let btf = Btf::parse_file(roots.btf(), aya::Endianness::default())
        .map_err(|error| KernelError::Object { source: error.into() })?;
    let mut ebpf = load(&facts.globals, &btf, limits)?;
    #[cfg(feature = "bpf-log")]
    crate::kernel::records::start_log(&mut ebpf);

    let mut attached: Vec<PlannedHook> = Vec::new();
    let plan = loop {
        let plan = plan(&facts, choice);
        detach_all_but(&mut ebpf, &mut attached, &plan);
        let wanted = plan.hooks.iter().filter(|hook| scope == Scope::Watch || is_look(hook.hook));
        let missing: Vec<_> = wanted.filter(|hook| !attached.contains(hook)).cloned().collect();
        let Some(refusal) =
            missing.into_iter().find_map(|hook| match attach_hook(&mut ebpf, &btf, &hook) {
                Ok(()) => {
                    attached.push(hook);
                    None
                }
                Err(why) => {
                    detach(&mut ebpf, &hook);
                    Some(((hook.hook, hook.backend), why))
                }
            })
        else {
            break plan;
        };
        let (hook, backend) = refusal.0;
        debug!(hook = hook.target(), %backend, why = refusal.1.text, "hook refused");
        let ((hook, backend), why) = refusal;
        essential(hook, &why.text)?;
        if why.extent == Extent::Backend {
            // Asking again for each of the others would take as long each time.
            facts.refuse_all(backend, &why.text);
        }
        facts.refused.insert((hook, backend), why.text);
    };
    Ok(Attached { ebpf, plan, facts })
}

fn is_look(hook: Hook) -> bool {
    hook.is_iterator()
}

/// Without these nothing can be told at all.
fn essential(hook: Hook, why: &str) -> Result<(), KernelError> {
    let what = match hook {
        Hook::SetState => "the tracepoint inet_sock_set_state",
        Hook::IterListeners | Hook::IterTotals => "iterators over maps",
        _ => return Ok(()),
    };
    Err(KernelError::Unsupported { what, why: why.to_owned() })
}

fn load(globals: &Globals, btf: &Btf, limits: Limits) -> Result<Ebpf, KernelError> {
    // As many namespaces as there may be listeners, up to a bound that costs a few MiB.
    let audited = limits.listeners.min(1024).saturating_mul(globals.cpus);
    EbpfLoader::new()
        .btf(Some(btf))
        .override_global("GLOBALS", globals, true)
        .map_max_entries("LISTENERS", limits.listeners)
        // All of them may close between two readings, and as many open.
        .map_max_entries("RETIRED", limits.listeners)
        .map_max_entries("TOTALS", limits.listeners.saturating_mul(2))
        .map_max_entries("LAST_LIVES", limits.listeners.saturating_mul(2))
        .map_max_entries("CPU_STATE", globals.cpus)
        .map_max_entries("CPU_CELLS", globals.cpus)
        .map_max_entries("AUDIT", audited)
        .map_max_entries("RECORDS", limits.ring_bytes)
        .load(OBJECT)
        .map_err(|source| {
            if is_denied(&source) {
                KernelError::Denied { source }
            } else {
                KernelError::Object { source }
            }
        })
}

/// EPERM in the chain: a security policy, or a user namespace's idea of root.
fn is_denied(error: &aya::EbpfError) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn attach_hook(ebpf: &mut Ebpf, btf: &Btf, hook: &PlannedHook) -> Result<(), Refusal> {
    for program in hook.programs {
        let loaded = ebpf
            .program_mut(program.name)
            .ok_or_else(|| format!("the object has no program {}", program.name))
            .map_err(Refusal::of_hook)?;
        attach_program(loaded, btf, program.attachment, hook.hook.target())
            .map_err(|error| refusal(&error))?;
    }
    if hook.hook == Hook::IterCpus {
        // The programs that are attached next count by what it finds.
        learn_cpus(ebpf).map_err(|error| Refusal::of_hook(format!("no CPU's offset: {error}")))?;
    }
    Ok(())
}

/// Why a hook was not attached.
struct Refusal {
    text: String,
    extent: Extent,
}

/// What a refusal is true of.
#[derive(PartialEq)]
enum Extent {
    /// This hook.
    Hook,
    /// Every program of this kind: the caller, or the whole kernel, may not load one.
    Backend,
}

impl Refusal {
    fn of_hook(text: String) -> Self {
        Self { text, extent: Extent::Hook }
    }
}

/// Runs the iterator that finds out where each CPU's own memory is.
fn learn_cpus(ebpf: &Ebpf) -> Result<(), Box<dyn std::error::Error>> {
    let program: &Iter = ebpf.program("it_cpus").ok_or("no such program")?.try_into()?;
    let cells = ebpf.map("CPU_CELLS").ok_or("no such map")?;
    let Map::PerCpuArray(cells) = cells else { return Err("not a per-CPU array".into()) };
    let rows = MapIterator::new(program.fd()?.as_fd(), cells.fd().as_fd())?;
    rows.open()?.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn attach_program(
    program: &mut Program,
    btf: &Btf,
    attachment: Attachment,
    target: &str,
) -> Result<(), ProgramError> {
    match attachment {
        Attachment::Fentry => {
            let program: &mut FEntry = program.try_into()?;
            program.load(target, btf)?;
            program.attach().map(drop)
        }
        Attachment::Fexit => {
            let program: &mut FExit = program.try_into()?;
            program.load(target, btf)?;
            program.attach().map(drop)
        }
        Attachment::Kprobe | Attachment::Kretprobe => {
            let program: &mut KProbe = program.try_into()?;
            program.load()?;
            program.attach(target, 0).map(drop)
        }
        Attachment::Tracepoint => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(target, btf)?;
            program.attach().map(drop)
        }
        Attachment::Iterator => {
            let program: &mut Iter = program.try_into()?;
            program.load(target, btf)
        }
    }
}

/// Kernel-internal, include/linux/errno.h; bpf(2) lets it out, and libc has no text
/// for it.
const ENOTSUPP: i32 = 524;

/// The kernel's answer in one line: its error, and of the verifier's log the line
/// that says why.
fn refusal(error: &ProgramError) -> Refusal {
    let is_forbidden = matches!(error, ProgramError::LoadError { io_error, verifier_log }
        if io_error.kind() == std::io::ErrorKind::PermissionDenied
            && verifier_log.to_string().is_empty());
    let extent = if is_forbidden { Extent::Backend } else { Extent::Hook };
    Refusal { text: refusal_text(error), extent }
}

fn refusal_text(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        return match verdict(&verifier_log.to_string()) {
            Some(line) => format!("load refused: {io_error}: {line}"),
            None => format!("load refused: {io_error}"),
        };
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let io = cause.downcast_ref::<std::io::Error>();
    if io.and_then(std::io::Error::raw_os_error) == Some(ENOTSUPP) {
        return "attach refused: not supported for this function (ENOTSUPP)".to_owned();
    }
    format!("attach refused: {}", cause.to_string().lines().next().unwrap_or_default())
}

/// The verifier gives its reason last, but for its statistics.
fn verdict(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))
}

/// Detaches what is attached and no longer planned.
fn detach_all_but(ebpf: &mut Ebpf, attached: &mut Vec<PlannedHook>, plan: &Plan) {
    let (keep, gone) = attached.drain(..).partition(|hook| plan.hooks.contains(hook));
    *attached = keep;
    for hook in gone {
        detach(ebpf, &hook);
    }
}

/// Unloads a hook's programs; one that is not loaded is no error.
fn detach(ebpf: &mut Ebpf, hook: &PlannedHook) {
    for program in hook.programs {
        let Some(loaded) = ebpf.program_mut(program.name) else {
            continue;
        };
        match unload(loaded, program.attachment) {
            Ok(()) | Err(ProgramError::NotLoaded) => {}
            Err(error) => warn!(program = program.name, %error, "program not unloaded"),
        }
    }
}

fn unload(program: &mut Program, attachment: Attachment) -> Result<(), ProgramError> {
    match attachment {
        Attachment::Fentry => <&mut FEntry>::try_from(program)?.unload(),
        Attachment::Fexit => <&mut FExit>::try_from(program)?.unload(),
        Attachment::Kprobe | Attachment::Kretprobe => <&mut KProbe>::try_from(program)?.unload(),
        Attachment::Tracepoint => <&mut BtfTracePoint>::try_from(program)?.unload(),
        Attachment::Iterator => <&mut Iter>::try_from(program)?.unload(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_before_the_statistics() {
        let log = "0: (79) r6 = *(u64 *)(r1 +16)\n\
                   R1 invalid mem access 'inv'\n\
                   processed 3913 insns (limit 1000000) max_states_per_insn 7\n\n";
        assert_eq!(verdict(log), Some("R1 invalid mem access 'inv'"));
        assert_eq!(verdict(""), None);
    }
}
