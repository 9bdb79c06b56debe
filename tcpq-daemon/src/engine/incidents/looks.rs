//! What all looks at the owner together say.

use std::collections::BTreeMap;

use crate::model::incident::{
    evidence::ProcessFigures,
    moment::Moment,
    probe::{CgroupReading, Pressure, ProcessReading, Report},
};

/// Processes that are remembered.
const MOST: usize = 8;

/// Functions and failures that are remembered.
const WORDS: usize = 12;

/// All looks of one episode.
#[derive(Debug, Default)]
pub(super) struct Looks {
    first: Option<Moment>,
    last: Option<Moment>,
    processes: Vec<Seen>,
    cgroups: BTreeMap<String, (CgroupReading, CgroupReading)>,
    host: Option<(Pressure, Pressure)>,
    failures: Vec<String>,
}

#[derive(Debug)]
struct Seen {
    start: u64,
    first_cpu_ms: u64,
    last_cpu_ms: u64,
    first: Moment,
    last: Moment,
    figures: ProcessFigures,
}

impl Looks {
    /// One more.
    pub(super) fn add(&mut self, report: Report) {
        let Report { at, processes, host, failures } = report;
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        for reading in processes {
            self.process(at, reading);
        }
        if let Some(host) = host {
            let (first, _) = self.host.unwrap_or((host, host));
            self.host = Some((first, host));
        }
        for failure in failures {
            if self.failures.len() < WORDS && !self.failures.contains(&failure) {
                self.failures.push(failure);
            }
        }
    }

    fn process(&mut self, at: Moment, reading: ProcessReading) {
        if let Some(cgroup) = &reading.cgroup {
            let entry = self.cgroups.entry(cgroup.path.clone());
            entry
                // Counters that could not be read this time are no zeros.
                .and_modify(|(_, last)| {
                    if cgroup.periods >= last.periods {
                        *last = cgroup.clone();
                    }
                })
                .or_insert_with(|| (cgroup.clone(), cgroup.clone()));
        }
        let known = self
            .processes
            .iter()
            .position(|seen| seen.figures.pid == reading.pid && seen.start == reading.start);
        let seen = match known {
            Some(known) => self.processes.get_mut(known),
            None if self.processes.len() < MOST => {
                self.processes.push(Seen::new(at, &reading));
                self.processes.last_mut()
            }
            None => None,
        };
        if let Some(seen) = seen {
            seen.add(at, reading);
        }
    }

    /// All processes, as they were seen.
    pub(super) fn processes(&self) -> Vec<ProcessFigures> {
        self.processes.iter().map(Seen::told).collect()
    }

    /// What the control group counted between the first look and the last: of several, of
    /// the one that was throttled most. `None`: there was one look only, or none.
    pub(super) fn cgroup(&self) -> Option<CgroupReading> {
        (self.ms() > 0).then_some(())?;
        let changes = self.cgroups.values().map(|(first, last)| CgroupReading {
            path: last.path.clone(),
            quota: last.quota,
            file: last.file.clone(),
            periods: last.periods.saturating_sub(first.periods),
            throttled: last.throttled.saturating_sub(first.throttled),
            throttled_us: last.throttled_us.saturating_sub(first.throttled_us),
            pressure: last.pressure.zip(first.pressure).map(|(last, first)| last.since(first)),
        });
        changes.max_by_key(|change| change.throttled_us)
    }

    /// The host's pressure between the first look and the last.
    pub(super) fn host(&self) -> Option<Pressure> {
        (self.ms() > 0).then_some(())?;
        self.host.map(|(first, last)| last.since(first))
    }

    /// Between the first look and the last. Unit: milliseconds.
    pub(super) fn ms(&self) -> u64 {
        let both = self.first.zip(self.last);
        both.map_or(0, |(first, last)| last.0.saturating_sub(first.0))
    }

    /// What could not be looked at.
    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// How many there were.
    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl Seen {
    fn new(at: Moment, reading: &ProcessReading) -> Self {
        Self {
            start: reading.start,
            first_cpu_ms: reading.cpu_ms,
            last_cpu_ms: reading.cpu_ms,
            first: at,
            last: at,
            figures: ProcessFigures {
                pid: reading.pid,
                name: reading.name.clone(),
                ..ProcessFigures::default()
            },
        }
    }

    fn add(&mut self, at: Moment, reading: ProcessReading) {
        self.last = at;
        self.last_cpu_ms = reading.cpu_ms;
        let figures = &mut self.figures;
        figures.looks += 1;
        let stopped = |state: &char| matches!(state, 'T' | 't');
        let all_stopped = !reading.states.is_empty() && reading.states.keys().all(stopped);
        figures.stopped += u64::from(all_stopped);
        figures.threads = reading.threads;
        for (state, count) in reading.states {
            *figures.states.entry(state).or_default() += count;
        }
        for (function, count) in reading.waits {
            let room = figures.waits.len() < WORDS;
            match figures.waits.get_mut(&function) {
                Some(known) => *known += count,
                None if room => {
                    figures.waits.insert(function, count);
                }
                None => {}
            }
        }
        figures.files = figures.files.max(reading.files);
        figures.files_limit = reading.files_limit;
    }

    fn told(&self) -> ProcessFigures {
        let ms = self.last.0.saturating_sub(self.first.0);
        let cpu_ms = self.last_cpu_ms.saturating_sub(self.first_cpu_ms);
        let cpu_permille = (cpu_ms * 1000).checked_div(ms);
        ProcessFigures { cpu_permille, ..self.figures.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(cpu_ms: u64, state: char, files: u64) -> ProcessReading {
        ProcessReading {
            pid: 7,
            name: "web".to_owned(),
            states: BTreeMap::from([(state, 2)]),
            waits: BTreeMap::from([("do_signal_stop".to_owned(), 2)]),
            threads: 2,
            cpu_ms,
            files: Some(files),
            files_limit: Some(1024),
            ..ProcessReading::default()
        }
    }

    fn report(at: u64, processes: Vec<ProcessReading>) -> Report {
        Report { at: Moment(at), processes, ..Report::default() }
    }

    #[test]
    fn looks_add_up_and_cpu_is_told_of_the_time_between() {
        let mut looks = Looks::default();
        looks.add(report(1000, vec![reading(500, 'T', 9)]));
        assert_eq!(looks.processes()[0].cpu_permille, None);
        looks.add(report(3000, vec![reading(1500, 'S', 7)]));
        let [process] = looks.processes().try_into().unwrap();
        assert_eq!((process.looks, process.stopped, process.threads), (2, 1, 2));
        assert_eq!((process.cpu_permille, process.files), (Some(500), Some(9)));
        assert_eq!(process.waits["do_signal_stop"], 4);
    }

    #[test]
    fn a_number_that_was_given_to_another_process_is_another_process() {
        let mut looks = Looks::default();
        looks.add(report(0, vec![reading(9000, 'S', 1)]));
        looks.add(report(1000, vec![ProcessReading { start: 1, ..reading(10, 'S', 1) }]));
        let told = looks.processes();
        assert_eq!(told.iter().map(|it| it.cpu_permille).collect::<Vec<_>>(), [None, None]);
    }

    #[test]
    fn throttling_is_told_of_the_time_between() {
        let cgroup = |throttled, throttled_us| CgroupReading {
            path: "/a".to_owned(),
            quota: Some(100),
            file: None,
            periods: throttled * 2,
            throttled,
            throttled_us,
            pressure: Some(Pressure { cpu: Some(throttled_us), ..Pressure::default() }),
        };
        let process = |cgroup| ProcessReading { cgroup: Some(cgroup), ..reading(0, 'R', 1) };
        let mut looks = Looks::default();
        looks.add(report(0, vec![process(cgroup(100, 5_000_000))]));
        assert_eq!(looks.cgroup(), None);
        looks.add(report(2000, vec![process(cgroup(118, 6_500_000))]));
        let change = looks.cgroup().unwrap();
        assert_eq!((change.periods, change.throttled, change.throttled_us), (36, 18, 1_500_000));
        assert_eq!(change.pressure.unwrap().cpu, Some(1_500_000));
        let unread = CgroupReading { path: "/a".to_owned(), ..CgroupReading::default() };
        looks.add(report(3000, vec![process(unread)]));
        assert_eq!(looks.cgroup().unwrap().throttled, 18);
    }
}
