//! Applies a plan: loads and attaches programs, and turns a refusal into a fact.

mod apply;
mod refusal;

use aya::{Btf, Ebpf, EbpfLoader};
use tcpq_common::globals::Globals;
use tracing::debug;

use crate::{
    kernel::{
        attach::{
            apply::Applied,
            refusal::{Extent, Refusal},
        },
        error::KernelError,
        facts::{KernelFacts, Roots},
        plan::{BackendChoice, Plan, PlannedHook, plan},
        privilege,
        programs::Hook,
        slots,
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

/// The kernel side in place. Dropping it removes every hook, all at the same time.
#[derive(Debug)]
pub struct Attached {
    /// Programs and maps.
    pub ebpf: Ebpf,
    /// What was attached, and what it yields.
    pub plan: Plan,
    /// What is known of the kernel, refusals included.
    pub facts: KernelFacts,
}

impl Drop for Attached {
    fn drop(&mut self) {
        apply::unload(&mut self.ebpf, self.plan.hooks.iter());
    }
}

/// The kernel side in place, and still open to another plan.
#[derive(Debug)]
pub struct Trial {
    attached: Attached,
    applied: Applied,
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
    let (mut facts, btf) = KernelFacts::read(roots)?;
    facts.globals.record_burst = limits.record_burst;
    facts.globals.record_interval_ns =
        1_000_000_000_u32.checked_div(limits.records_per_second).unwrap_or(u32::MAX);
    debug!("facts read");
    let mut ebpf = load(&facts.globals, &btf, limits)?;
    slots::free_all(&mut ebpf)?;
    debug!("object loaded");
    let plan = plan(&facts, choice);
    let attached = Attached { ebpf, plan, facts };
    let mut trial = Trial { attached, applied: Applied::default(), btf, choice, scope };
    #[cfg(feature = "bpf-log")]
    crate::kernel::records::start_log(&mut trial.attached.ebpf);
    trial.settle()?;
    debug!("hooks attached");
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
        self.note(hook, backend, Refusal::of_hook(why))?;
        self.settle()
    }

    /// Settles for the plan in place.
    pub fn accept(self) -> Attached {
        self.attached
    }

    fn note(&mut self, hook: Hook, backend: Backend, why: Refusal) -> Result<(), KernelError> {
        let Refusal { text, extent } = why;
        debug!(hook = hook.target(), %backend, why = text, "hook refused");
        if let Some(what) = essential(hook) {
            return Err(KernelError::Unsupported { what, why: text });
        }
        if extent == Extent::Backend {
            // Asking again for each of the others would take as long each time.
            self.attached.facts.refuse_all(backend, &text);
        }
        self.attached.facts.refused.insert((hook, backend), text);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), KernelError> {
        loop {
            self.attached.plan = plan(&self.attached.facts, self.choice);
            let Attached { ebpf, plan, facts } = &mut self.attached;
            let wanted =
                |hook: &&PlannedHook| self.scope == Scope::Watch || hook.hook.is_run_by_us();
            let wanted: Vec<_> = plan.hooks.iter().filter(wanted).cloned().collect();
            let Err(refusals) = self.applied.apply(ebpf, &self.btf, facts, &wanted) else {
                return Ok(());
            };
            for (hook, why) in refusals {
                self.note(hook.hook, hook.backend, why)?;
            }
        }
    }
}

/// Without these nothing can be told at all.
pub fn essential(hook: Hook) -> Option<&'static str> {
    match hook {
        Hook::SetState => Some("the tracepoint inet_sock_set_state"),
        Hook::ReadListeners => Some("programs that are run by BPF_PROG_TEST_RUN"),
        _ => None,
    }
}

fn load(globals: &Globals, btf: &Btf, limits: Limits) -> Result<Ebpf, KernelError> {
    // As many namespaces as there may be listeners, up to a bound that costs a few MiB.
    // All listeners may close between two readings, and as many open.
    let slots = limits.listeners.saturating_mul(2);
    let audited = limits.listeners.min(1024).saturating_mul(globals.cpus);
    EbpfLoader::new()
        .btf(Some(btf))
        .override_global("GLOBALS", globals, true)
        .map_max_entries("LISTENERS", limits.listeners)
        .map_max_entries("RETIRED", limits.listeners)
        .map_max_entries("FREE_SLOTS", slots)
        .map_max_entries("TENANTS", slots)
        .map_max_entries("TOTALS", slots.saturating_mul(globals.cpus))
        // Of the closing ones a quarter may wait; the others go at the next reading.
        .map_max_entries("HISTOGRAMS", limits.listeners.saturating_add(limits.listeners / 4))
        // Each CPU keeps up to 128 free entries to itself, twice.
        .map_max_entries("ACCEPTING", globals.cpus.saturating_mul(256).saturating_add(4096))
        .map_max_entries("LAST_LIVES", limits.listeners.saturating_mul(2))
        .map_max_entries("CPU_STATE", globals.cpus)
        .map_max_entries("RECENT", globals.cpus)
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
