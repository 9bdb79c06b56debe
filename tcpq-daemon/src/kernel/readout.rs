//! Reads the maps in bulk: a few system calls for all listeners.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use aya::{
    maps::{HashMap, MapData, MapError, PerCpuArray},
    sys::{Stats, enable_stats},
};
use tcpq_common::{
    iterator::{LISTENER_ROWS, ListenerRow, ListenersAsked},
    listener::{Listener, ListenerKey, Retired},
    totals::Loss,
};
use zerocopy::{FromBytes, KnownLayout};

use crate::{
    kernel::{
        attach::Attached,
        auditing::Auditing,
        clock,
        error::KernelError,
        in_flight::InFlight,
        plan::DropSource,
        programs::{Hook, Program},
        reader::Reader,
        slots::Slots,
        syscall::{self, Runs},
    },
    model::sample::{Moved, ProgramRuns, Sample, TotalsByListener},
};

/// How the sample will be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bracket {
    /// Totals are read once, while no program was skipped.
    Single,
    /// Totals are read before and after the queue lengths, for derived signals.
    Both,
}

/// Whether the kernel counts the programs' runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunCounting {
    /// For as long as the daemon runs.
    On,
    /// Unless somebody else asks for it.
    Off,
}

/// The maps, for reading and for removing what is done with.
pub struct Readout {
    listeners: HashMap<MapData, u64, Listener>,
    retired: HashMap<MapData, ListenerKey, Retired>,
    slots: Slots,
    losses: PerCpuArray<MapData, u64>,
    rows: Reader<ListenerRow>,
    /// `None`: the plan has no audit.
    auditing: Option<Auditing>,
    /// Whether what is compared with the kernel's counters is derived.
    drops: DropSource,
    /// Every program that runs on events; those that stand in for each other together.
    programs: Vec<Vec<EventProgram>>,
    /// Held: the kernel counts runs and their time.
    statistics: Option<OwnedFd>,
    in_flight: InFlight,
    /// Nothing had counted at the last reading.
    was_idle: bool,
    /// Losses that are not told: what a hook that does not work has raised.
    disregarded: [u64; Loss::ALL.len()],
}

impl Readout {
    /// Takes the maps out of the loaded object.
    pub fn new(attached: &mut Attached) -> Result<Self, KernelError> {
        let listeners: HashMap<_, u64, Listener> = take(attached, "LISTENERS")?;
        let rows = Reader::new(attached, "rt_listeners", "LISTENER_ROWS_READ", "listeners")?;
        let is_planned = |hook| attached.plan.hooks.iter().any(|planned| planned.hook == hook);
        let auditing =
            if is_planned(Hook::ReadAudit) { Some(Auditing::new(attached)?) } else { None };
        Ok(Self {
            auditing,
            drops: attached.plan.drops,
            programs: event_programs(attached),
            statistics: None,
            listeners,
            retired: take(attached, "RETIRED")?,
            slots: Slots::new(attached)?,
            losses: take(attached, "LOSSES")?,
            rows,
            in_flight: InFlight::new()
                .map_err(|source| KernelError::Read { what: "grace periods", source })?,
            was_idle: false,
            disregarded: [0; Loss::ALL.len()],
        })
    }

    /// Another plan is in place.
    pub fn follow(&mut self, attached: &Attached) {
        self.drops = attached.plan.drops;
        self.programs = event_programs(attached);
    }

    /// Reads everything, in the order that [`Sample`] explains.
    pub fn sample(&mut self, bracket: Bracket) -> Result<Sample, KernelError> {
        let before = match &mut self.auditing {
            Some(auditing) if self.drops != DropSource::Calls => auditing.sums()?,
            _ => std::collections::HashMap::new(),
        };
        let retired = self.read_retired()?;
        let in_flight = self.in_flight.among(retired.iter().map(|(key, _)| key));
        let (skipped, programs) = self.read_runs()?;
        let Queues { totals_before, rows, totals } = match bracket {
            // What was not counted is won from what was.
            Bracket::Single if skipped == 0 => {
                let rows = self.read_rows()?;
                Queues { totals_before: None, rows, totals: self.slots.totals_of_used()? }
            }
            Bracket::Single | Bracket::Both => self.read_between_totals()?,
        };
        let histograms = self.slots.histograms()?;
        let audit = match &mut self.auditing {
            Some(auditing) => auditing.readings(&rows, &before)?,
            None => Vec::new(),
        };
        let losses = self.read_losses()?;
        // Nothing fails from here on: what has moved is told once.
        let moved = self.slots.moved();
        self.was_idle = moved.is_empty();
        Ok(Sample {
            retired,
            in_flight,
            totals_before,
            rows,
            totals,
            histograms,
            moved: Moved::Only(moved),
            losses,
            skipped,
            programs,
            monotonic_zero: clock::monotonic_zero(),
            audit,
        })
    }

    /// Forgets a network namespace that is gone.
    pub fn forget_netns(&mut self, id: u64) -> Result<(), KernelError> {
        self.auditing.as_mut().map_or(Ok(()), |auditing| auditing.forget(id))
    }

    /// Has the kernel count each program's runs, which costs each of them two readings of the
    /// clock, for as long as this lives.
    pub fn count_runs(&mut self) -> Result<(), KernelError> {
        let enabled = enable_stats(Stats::RunTime).map_err(|error| KernelError::Unsupported {
            what: "run-time statistics of BPF programs",
            why: error.to_string(),
        })?;
        self.statistics = Some(enabled);
        Ok(())
    }

    /// Skipped runs, and what each program has run if that is counted. A run that another
    /// program has stood in for was not skipped: of two that stand in for each other, no more
    /// were missed than the one that was skipped less often has missed.
    fn read_runs(&self) -> Result<(u64, Vec<ProgramRuns>), KernelError> {
        let mut skipped = 0;
        let mut programs = Vec::new();
        for group in &self.programs {
            let mut least = None;
            for EventProgram { name, fd } in group {
                let runs = syscall::runs(fd.as_fd())
                    .map_err(|source| KernelError::Read { what: "programs' runs", source })?;
                least = Some(least.map_or(runs.skipped, |least: u64| least.min(runs.skipped)));
                if self.statistics.is_some() {
                    let Runs { count, time_ns, .. } = runs;
                    let time = Duration::from_nanos(time_ns);
                    programs.push(ProgramRuns { program: name, count, time });
                }
            }
            skipped += least.unwrap_or(0);
        }
        Ok((skipped, programs))
    }

    /// Forgets a closed listener whose last totals were taken.
    pub fn forget_retired(&mut self, key: ListenerKey) -> Result<(), KernelError> {
        self.slots.release(key)?;
        gone(self.retired.remove(&key))
    }

    /// Forgets an entry whose socket is no listener any more though no close was seen.
    pub fn forget_stale(&mut self, key: ListenerKey) -> Result<(), KernelError> {
        if self.is_listed(key)? {
            gone(self.listeners.remove(&key.sk))?;
        }
        self.slots.release(key)
    }

    /// Whether this life of a listener is still in the map.
    pub fn is_listed(&self, key: ListenerKey) -> Result<bool, KernelError> {
        match self.listeners.get(&key.sk, 0) {
            Ok(listener) => Ok(listener.born_ns == key.born_ns),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(read_error("a listener", error)),
        }
    }

    /// Counts losses anew from here on.
    pub fn disregard_losses(&mut self) -> Result<(), KernelError> {
        self.disregarded = [0; Loss::ALL.len()];
        self.disregarded = self.read_losses()?;
        Ok(())
    }

    /// Queue lengths, and totals before and after. Where nothing has counted since the last
    /// reading, those after are those before, too: of an idle host they are read once.
    fn read_between_totals(&mut self) -> Result<Queues, KernelError> {
        let before = if self.was_idle {
            let rows = self.read_rows()?;
            let totals = self.slots.totals_of_used()?;
            if self.slots.stood_still() {
                return Ok(Queues { totals_before: Some(Arc::clone(&totals)), rows, totals });
            }
            totals
        } else {
            self.slots.totals()?
        };
        let rows = self.read_rows()?;
        Ok(Queues { totals_before: Some(before), rows, totals: self.slots.totals_of_used()? })
    }

    fn read_rows(&mut self) -> Result<Vec<ListenerRow>, KernelError> {
        let Self { rows: reader, slots, .. } = self;
        let mut rows = Vec::new();
        let mut next = 0;
        for slot in slots.used()? {
            if slot < next {
                continue;
            }
            let at_once = LISTENER_ROWS as usize;
            for row in reader.read(&ListenersAsked { first_slot: slot as u64 }, at_once)? {
                rows.extend(Some(row?).filter(|row| row.sk != 0));
            }
            next = slot + at_once;
        }
        Ok(rows)
    }

    fn read_retired(&self) -> Result<Vec<(ListenerKey, Retired)>, KernelError> {
        self.retired.iter().collect::<Result<_, _>>().map_err(|error| read_error("retired", error))
    }

    fn read_losses(&self) -> Result<[u64; Loss::ALL.len()], KernelError> {
        let mut losses = [0; Loss::ALL.len()];
        let told = losses.iter_mut().zip(self.disregarded);
        for (loss, (count, disregarded)) in Loss::ALL.into_iter().zip(told) {
            let values =
                self.losses.get(&(loss as u32), 0).map_err(|error| read_error("losses", error))?;
            *count = values.iter().sum::<u64>().saturating_sub(disregarded);
        }
        Ok(losses)
    }
}

/// Queue lengths, and what was counted before and after they were read.
struct Queues {
    totals_before: Option<Arc<TotalsByListener>>,
    rows: Vec<ListenerRow>,
    totals: Arc<TotalsByListener>,
}

/// A program that events run.
#[derive(Debug)]
struct EventProgram {
    name: &'static str,
    fd: OwnedFd,
}

/// All of them; what runs for the daemon is not skipped.
fn event_programs(attached: &Attached) -> Vec<Vec<EventProgram>> {
    let open = |program: &Program| {
        let fd = attached.ebpf.program(program.name)?.fd().ok()?;
        Some(EventProgram { name: program.name, fd: fd.as_fd().try_clone_to_owned().ok()? })
    };
    let hooks = attached.plan.hooks.iter().filter(|hook| !hook.hook.is_run_by_us());
    let groups = hooks.flat_map(|hook| match hook.hook {
        Hook::AcceptByEither => vec![hook.programs],
        _ => hook.programs.iter().map(std::slice::from_ref).collect(),
    });
    groups.map(|programs| programs.iter().filter_map(open).collect()).collect()
}

pub(super) fn take<T: TryFrom<aya::maps::Map>>(
    attached: &mut Attached,
    name: &'static str,
) -> Result<T, KernelError> {
    let map = attached.ebpf.take_map(name).ok_or(KernelError::Map { name })?;
    T::try_from(map).ok().ok_or(KernelError::Map { name })
}

pub(super) fn decode<T: FromBytes + KnownLayout>(
    bytes: &[u8],
    what: &'static str,
) -> Result<T, KernelError> {
    T::read_from_bytes(bytes).map_err(|error| read_error(what, format!("{error}")))
}

pub(super) fn read_error(
    what: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> KernelError {
    KernelError::Read { what, source: std::io::Error::other(source) }
}

/// What is not there any more needs no removal.
pub(super) fn gone(result: Result<(), MapError>) -> Result<(), KernelError> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(error) => Err(read_error("an entry to remove", error)),
    }
}
