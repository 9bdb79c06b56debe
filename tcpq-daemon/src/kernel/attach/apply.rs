//! Loads and attaches hooks, many at once.
//!
//! For each program on a function the kernel waits until no CPU can be in the old code
//! any more, which may take a tenth of a second. Those waits need not come one after the
//! other.

use std::{collections::HashMap, os::fd::AsFd as _, thread};

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry, FExit, Iter, KProbe, Program, ProgramError, RawTracePoint},
};
use tcpq_common::iterator::CpuAsked;
use tracing::{debug, warn};

use crate::{
    kernel::{
        attach::refusal::Refusal,
        facts::KernelFacts,
        plan::PlannedHook,
        programs::{self, Attachment, Hook},
        syscall,
    },
    model::hooks::Backend,
};

/// The arguments that every trampoline takes: before Linux 6.6 there is no room for more
/// on x86-64.
const SAFE_ARITY: usize = 6;

/// What is loaded, and what of that is attached.
#[derive(Debug, Default)]
pub(super) struct Applied {
    loaded: Vec<PlannedHook>,
    attached: Vec<PlannedHook>,
}

type Refusals = Vec<(PlannedHook, Refusal)>;

impl Applied {
    /// Makes `wanted` what is in place, or says which of them the kernel refuses; then
    /// another plan is due, and what is in place is a part of this one.
    pub(super) fn apply(
        &mut self,
        ebpf: &mut Ebpf,
        btf: &Btf,
        facts: &KernelFacts,
        wanted: &[PlannedHook],
    ) -> Result<(), Refusals> {
        let is_kept = |hook: &PlannedHook| wanted.contains(hook);
        let (kept, gone): (Vec<_>, Vec<_>) = self.loaded.drain(..).partition(is_kept);
        self.loaded = kept;
        self.attached.retain(is_kept);
        unload(ebpf, gone.iter());

        for hook in wanted {
            if self.loaded.contains(hook) {
                continue;
            }
            if let Err(why) = load(ebpf, btf, facts.possible_cpus, hook) {
                unload(ebpf, std::iter::once(hook));
                return Err(vec![(hook.clone(), why)]);
            }
            self.loaded.push(hook.clone());
        }
        debug!("programs loaded");
        // Those that may be refused come first: a new plan costs least then.
        let is_doubtful = |hook: &PlannedHook| {
            hook.backend == Backend::Fentry
                && facts.functions.get(&hook.hook).is_some_and(|arity| *arity > SAFE_ARITY)
        };
        self.attach(ebpf, is_doubtful)?;
        self.attach(ebpf, |_| true)
    }

    /// Attaches what is loaded and not attached yet; first what sees the end of a call,
    /// then what sees its beginning, so that no call is opened whose end is not seen.
    fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        of_those: impl Fn(&PlannedHook) -> bool,
    ) -> Result<(), Refusals> {
        let due: Vec<_> = self
            .loaded
            .iter()
            .filter(|hook| of_those(hook) && !self.attached.contains(hook))
            .cloned()
            .collect();
        let mut refusals = Refusals::new();
        for is_turn in [is_end, is_beginning] {
            let programs = due.iter().flat_map(|hook| hook.programs).filter(|it| is_turn(it));
            let targets = targets(&due);
            for (name, why) in attach_at_once(ebpf, programs.copied(), &targets) {
                let hook = due.iter().find(|hook| hook.programs.iter().any(|it| it.name == name));
                if let Some(hook) = hook.filter(|hook| !refusals.iter().any(|(it, _)| it == *hook))
                {
                    refusals.push((hook.clone(), why));
                }
            }
            if !refusals.is_empty() {
                break;
            }
        }
        if refusals.is_empty() {
            self.attached.extend(due);
            return Ok(());
        }
        // Nothing of this turn stays half attached.
        unload(ebpf, due.iter());
        self.loaded.retain(|hook| !due.contains(hook));
        Err(refusals)
    }
}

fn is_beginning(program: &programs::Program) -> bool {
    matches!(program.attachment, Attachment::Fentry | Attachment::Kprobe)
}

fn is_end(program: &programs::Program) -> bool {
    !is_beginning(program)
}

/// What each program is attached to.
fn targets(hooks: &[PlannedHook]) -> HashMap<&'static str, &'static str> {
    hooks
        .iter()
        .flat_map(|hook| hook.programs.iter().map(|program| (program.name, hook.hook.target())))
        .collect()
}

fn load(
    ebpf: &mut Ebpf,
    btf: &Btf,
    possible_cpus: usize,
    hook: &PlannedHook,
) -> Result<(), Refusal> {
    for program in hook.programs {
        let loaded = ebpf
            .program_mut(program.name)
            .ok_or_else(|| Refusal::of_hook(format!("the object has no {}", program.name)))?;
        load_program(loaded, btf, program.attachment, hook.hook.target())?;
    }
    if hook.hook == Hook::LocateCpus {
        // The programs that are attached next count by what it finds.
        locate_cpus(ebpf, possible_cpus)
            .map_err(|error| Refusal::of_hook(format!("no CPU's offset: {error}")))?;
    }
    Ok(())
}

/// Runs the program that finds out where each CPU's own memory is.
fn locate_cpus(ebpf: &Ebpf, cpus: usize) -> Result<(), Box<dyn std::error::Error>> {
    let program: &RawTracePoint = ebpf.program("rt_cpu").ok_or("no such program")?.try_into()?;
    for cpu in 0..u64::try_from(cpus)? {
        syscall::test_run(program.fd()?.as_fd(), &CpuAsked { cpu })?;
    }
    Ok(())
}

fn load_program(
    program: &mut Program,
    btf: &Btf,
    attachment: Attachment,
    target: &str,
) -> Result<(), ProgramError> {
    match attachment {
        Attachment::Fentry => <&mut FEntry>::try_from(program)?.load(target, btf),
        Attachment::Fexit => <&mut FExit>::try_from(program)?.load(target, btf),
        Attachment::Kprobe | Attachment::Kretprobe => <&mut KProbe>::try_from(program)?.load(),
        Attachment::Tracepoint => <&mut BtfTracePoint>::try_from(program)?.load(target, btf),
        Attachment::Iterator => <&mut Iter>::try_from(program)?.load(target, btf),
        Attachment::TestRun => <&mut RawTracePoint>::try_from(program)?.load(),
    }
}

/// The refusals, by program.
fn attach_at_once(
    ebpf: &mut Ebpf,
    programs: impl Iterator<Item = programs::Program>,
    targets: &HashMap<&'static str, &'static str>,
) -> Vec<(&'static str, Refusal)> {
    let due: HashMap<_, _> = programs.map(|program| (program.name, program)).collect();
    thread::scope(|scope| {
        let attach = |(name, program)| {
            let due: programs::Program = *due.get(name)?;
            let target = *targets.get(name)?;
            Some(scope.spawn(move || {
                let refused = attach_program(program, due.attachment, target).err()?;
                Some((due.name, Refusal::from(refused)))
            }))
        };
        let at_work: Vec<_> = ebpf.programs_mut().filter_map(attach).collect();
        at_work.into_iter().filter_map(|thread| thread.join().ok()?).collect()
    })
}

fn attach_program(
    program: &mut Program,
    attachment: Attachment,
    target: &str,
) -> Result<(), ProgramError> {
    match attachment {
        Attachment::Fentry => <&mut FEntry>::try_from(program)?.attach().map(drop),
        Attachment::Fexit => <&mut FExit>::try_from(program)?.attach().map(drop),
        Attachment::Kprobe | Attachment::Kretprobe => {
            <&mut KProbe>::try_from(program)?.attach(target, 0).map(drop)
        }
        Attachment::Tracepoint => <&mut BtfTracePoint>::try_from(program)?.attach().map(drop),
        // Opened per use.
        Attachment::Iterator | Attachment::TestRun => Ok(()),
    }
}

/// Unloads hooks' programs, and so detaches them; one that is not loaded is no error.
pub(super) fn unload<'a>(ebpf: &mut Ebpf, hooks: impl Iterator<Item = &'a PlannedHook>) {
    let gone: HashMap<_, _> = hooks
        .flat_map(|hook| hook.programs)
        .map(|program| (program.name, program.attachment))
        .collect();
    thread::scope(|scope| {
        for (name, program) in ebpf.programs_mut() {
            let Some(attachment) = gone.get(name).copied() else { continue };
            let name = name.to_owned();
            scope.spawn(move || match unload_program(program, attachment) {
                Ok(()) | Err(ProgramError::NotLoaded) => {}
                Err(error) => warn!(program = name, %error, "program not unloaded"),
            });
        }
    });
}

fn unload_program(program: &mut Program, attachment: Attachment) -> Result<(), ProgramError> {
    match attachment {
        Attachment::Fentry => <&mut FEntry>::try_from(program)?.unload(),
        Attachment::Fexit => <&mut FExit>::try_from(program)?.unload(),
        Attachment::Kprobe | Attachment::Kretprobe => <&mut KProbe>::try_from(program)?.unload(),
        Attachment::Tracepoint => <&mut BtfTracePoint>::try_from(program)?.unload(),
        Attachment::Iterator => <&mut Iter>::try_from(program)?.unload(),
        Attachment::TestRun => <&mut RawTracePoint>::try_from(program)?.unload(),
    }
}
