//! Applies a plan: loads and attaches programs, and turns a refusal into a fact.

use std::collections::HashMap;

use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{BtfTracePoint, FEntry, FExit, Iter, KProbe, Program, ProgramError},
};
use tcpq_common::globals::Globals;
use tracing::{debug, warn};

use crate::{
    kernel::{
        error::KernelError,
        facts::{KernelFacts, Roots},
        plan::{BackendChoice, Plan, PlannedHook, plan},
        privilege,
        programs::{Attachment, Hook},
    },
    model::hooks::Backend,
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

/// The kernel side in place, and still open to another plan.
#[derive(Debug)]
pub struct Trial {
    attached: Attached,
    in_place: Vec<PlannedHook>,
    // Megabytes: a daemon that has settled for a plan does not keep it.
    btf: Btf,
    choice: BackendChoice,
    scope: Scope,
}

/// Reads the facts, and plans and attaches until a plan holds.
pub fn attach(
    roots: &Roots,
    choice: BackendChoice,
    limits: Limits,
    scope: Scope,
) -> Result<Trial, KernelError> {
    privilege::check(&roots.procfs)?;
    let mut facts = KernelFacts::read(roots)?;
    facts.globals.record_burst = limits.record_burst;
    facts.globals.record_interval_ns =
        1_000_000_000_u32.checked_div(limits.records_per_second).unwrap_or(u32::MAX);
    let btf = Btf::parse_file(roots.btf(), aya::Endianness::default())
        .map_err(|error| KernelError::Object { source: error.into() })?;
    let ebpf = load(&facts.globals, &btf, limits)?;
    let plan = plan(&facts, choice);
    let attached = Attached { ebpf, plan, facts };
    let mut trial = Trial { attached, in_place: Vec::new(), btf, choice, scope };
    #[cfg(feature = "bpf-log")]
    crate::kernel::records::start_log(&mut trial.attached.ebpf);
    trial.settle()?;
    Ok(trial)
}

impl Trial {
    /// What is in place now.
    pub fn attached(&mut self) -> &mut Attached {
        &mut self.attached
    }

    /// The plan in place now.
    pub fn plan(&self) -> &Plan {
        &self.attached.plan
    }

    /// Notes that a hook is not to be had, and plans and attaches without it. An error
    /// if nothing can be told without it.
    pub fn refuse(&mut self, hook: Hook, backend: Backend, why: String) -> Result<(), KernelError> {
        if let Some(what) = essential(hook) {
            return Err(KernelError::Unsupported { what, why });
        }
        debug!(hook = hook.target(), %backend, why, "hook refused");
        self.attached.facts.refused.insert((hook, backend), why);
        self.settle()
    }

    /// Settles for the plan in place.
    pub fn accept(self) -> Attached {
        self.attached
    }

    fn settle(&mut self) -> Result<(), KernelError> {
        let Attached { ebpf, plan: in_force, facts } = &mut self.attached;
        *in_force = plan(facts, self.choice);
        detach_all_but(ebpf, &mut self.in_place, in_force);
        let wanted =
            in_force.hooks.iter().filter(|hook| self.scope == Scope::Watch || is_look(hook.hook));
        let missing: Vec<_> =
            wanted.filter(|hook| !self.in_place.contains(hook)).cloned().collect();
        for hook in missing {
            match attach_hook(ebpf, &self.btf, &hook) {
                Ok(()) => self.in_place.push(hook),
                Err(why) => {
                    detach(ebpf, &hook);
                    return self.refuse(hook.hook, hook.backend, why);
                }
            }
        }
        Ok(())
    }
}

fn is_look(hook: Hook) -> bool {
    matches!(hook, Hook::IterTcp | Hook::IterTaskFile | Hook::IterListeners | Hook::IterTotals)
}

/// Without these nothing can be told at all.
pub fn essential(hook: Hook) -> Option<&'static str> {
    match hook {
        Hook::SetState => Some("the tracepoint inet_sock_set_state"),
        Hook::IterListeners | Hook::IterTotals => Some("iterators over maps"),
        _ => None,
    }
}

fn load(globals: &Globals, btf: &Btf, limits: Limits) -> Result<Ebpf, KernelError> {
    EbpfLoader::new()
        .btf(Some(btf))
        .override_global("GLOBALS", globals, true)
        .map_max_entries("LISTENERS", limits.listeners)
        // All of them may close between two readings, and as many open.
        .map_max_entries("RETIRED", limits.listeners)
        .map_max_entries("TOTALS", limits.listeners.saturating_mul(2))
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

fn attach_hook(ebpf: &mut Ebpf, btf: &Btf, hook: &PlannedHook) -> Result<(), String> {
    for program in hook.programs {
        let loaded = ebpf
            .program_mut(program.name)
            .ok_or_else(|| format!("the object has no program {}", program.name))?;
        attach_program(loaded, btf, program.attachment, hook.hook.target())
            .map_err(|error| refusal(&error))?;
    }
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
        Attachment::Kprobe => {
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
fn refusal(error: &ProgramError) -> String {
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
        Attachment::Kprobe => <&mut KProbe>::try_from(program)?.unload(),
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
