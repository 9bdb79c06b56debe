//! Whatever comes and goes: a series never goes back, and nothing is lost.

use proptest::prelude::*;

use super::*;
use crate::model::sample::Moved;
use crate::{
    engine::groups::placement::EphemeralPorts,
    model::{filter::Filters, ids::Place},
};

/// The last one is excluded; the two before it are ephemeral.
const PORTS: [u16; 6] = [80, 81, 82, 40000, 40001, 22];
const EXCLUDED: u16 = 22;
const PROCESSES: [&str; 3] = ["", "node", "unknown"];
/// Two of them have one name.
const NETNS: [u32; 3] = [7, 8, 9];

#[derive(Clone, Copy, Debug)]
enum Step {
    Open {
        netns: usize,
        port: usize,
        process: usize,
    },
    /// Something happens to a socket, open or closing.
    Count(prop::sample::Index, u64),
    Close(prop::sample::Index),
    /// The next reading's rows lack a socket.
    Skip(prop::sample::Index),
    Read {
        after: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (0..NETNS.len(), 0..PORTS.len(), 0..PROCESSES.len())
            .prop_map(|(netns, port, process)| Step::Open { netns, port, process }),
        4 => (index(), 1_u64..100).prop_map(|(which, more)| Step::Count(which, more)),
        2 => index().prop_map(Step::Close),
        1 => index().prop_map(Step::Skip),
        3 => prop_oneof![4 => Just(1_u64), 1 => Just(90)].prop_map(|after| Step::Read { after }),
    ]
}

/// One socket of the kernel that the steps act upon.
#[derive(Clone, Debug)]
struct Sim {
    key: ListenerKey,
    port: u16,
    netns: u32,
    count: u64,
}

impl Sim {
    fn listener(&self) -> Listener {
        Listener {
            netns: self.netns,
            netns_id: u64::from(self.netns),
            ..listener(self.port, self.key.born_ns)
        }
    }
}

struct World {
    bench: Bench,
    live: Vec<Sim>,
    closing: Vec<Sim>,
    skipped: Option<ListenerKey>,
    born: u64,
    now: Instant,
    /// What happened to all sockets there ever were, and to the excluded ones.
    all: u64,
    excluded: u64,
    suppressed: u64,
    /// Counts of the last sample.
    told: HashMap<ListenerKey, u64>,
    series: HashMap<(Arc<str>, Place), u64>,
}

impl World {
    fn new(retention: Duration) -> Self {
        let exclude = format!("port:{EXCLUDED}").parse().unwrap();
        let rules = Rules {
            ephemeral: EphemeralPorts::Fold,
            max_groups: 4,
            filters: Filters { include: Vec::new(), exclude: vec![exclude] },
        };
        let mut bench =
            Bench { groups: Groups::new(SOURCES, rules, retention, 64), books: Books::default() };
        bench.name(7, "web");
        bench.name(8, "web");
        Self {
            bench,
            live: Vec::new(),
            closing: Vec::new(),
            skipped: None,
            born: 0,
            now: Instant::now(),
            all: 0,
            excluded: 0,
            suppressed: 0,
            told: HashMap::default(),
            series: HashMap::default(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open { netns, port, process } => {
                self.born += 1;
                let key = key(self.born % 5, self.born);
                if !PROCESSES[process].is_empty() {
                    self.bench.own(key, PROCESSES[process], 1);
                }
                self.live.push(Sim { key, port: PORTS[port], netns: NETNS[netns], count: 0 });
            }
            Step::Count(which, more) => {
                let sockets = self.live.len() + self.closing.len();
                if sockets > 0 {
                    let which = which.index(sockets);
                    let mut both = self.live.iter_mut().chain(&mut self.closing);
                    let sim = both.nth(which).unwrap();
                    sim.count += more;
                    self.all += more;
                    self.excluded += if sim.port == EXCLUDED { more } else { 0 };
                }
            }
            Step::Close(which) => {
                if !self.live.is_empty() {
                    let closed = self.live.swap_remove(which.index(self.live.len()));
                    self.closing.push(closed);
                }
            }
            Step::Skip(which) => {
                self.skipped =
                    (!self.live.is_empty()).then(|| self.live[which.index(self.live.len())].key);
            }
            Step::Read { after } => self.read(after),
        }
    }

    fn read(&mut self, after: u64) {
        self.now += Duration::from_secs(after);
        let rows = self.live.iter().filter(|sim| Some(sim.key) != self.skipped);
        let rows: Vec<_> = rows
            .map(|sim| ListenerRow {
                listener: sim.listener(),
                ..row(sim.key.sk, sim.key.born_ns, sim.port)
            })
            .collect();
        let all = self.live.iter().chain(&self.closing);
        let observed = all.clone().filter(|sim| sim.count > 0);
        let histograms = observed.map(|sim| (sim.key, histograms::waits(sim.count).into()));
        let totals = |sim: &Sim| Totals {
            accepts: sim.count,
            listen_drops: sim.count,
            records_suppressed: sim.count,
            ..Totals::ZERO
        };
        let retired = |sim: &Sim| {
            let end = End::Seen as u32;
            (sim.key, Retired { listener: sim.listener(), end, ..Retired::ZERO })
        };
        let told = all.clone().map(|sim| (sim.key, sim.count)).collect();
        let is_new = |sim: &&Sim| self.told.get(&sim.key) != Some(&sim.count);
        let moved = Moved::Only(all.clone().filter(is_new).map(|sim| sim.key).collect());
        let sample = Sample {
            rows,
            moved,
            histograms: Arc::new(histograms.collect()),
            totals: Arc::new(all.map(|sim| (sim.key, totals(sim))).collect()),
            retired: self.closing.iter().map(retired).collect(),
            ..Sample::default()
        };
        self.skipped = None;
        self.told = told;
        let chores = self.bench.apply(&sample, self.now);
        self.closing.retain(|sim| !chores.retired.contains(&sim.key));
        self.check_series();
        let suppressed = self.bench.groups.records_suppressed();
        assert!(suppressed >= self.suppressed && suppressed <= self.all);
        self.suppressed = suppressed;
    }

    /// No series twice, and none that goes back.
    fn check_series(&mut self) {
        let views = self.bench.views();
        let mut series = HashMap::default();
        for view in views {
            let name = (Arc::clone(&view.netns), view.key.place.clone());
            let observed =
                view.histograms.as_ref().map_or(0, |observed| observed.accept_wait().count());
            assert_eq!(observed, view.counts.accepts, "{name:?}: observed with each accept");
            let before = self.series.get(&name).copied().unwrap_or(0);
            assert!(view.counts.accepts >= before, "{name:?}: {before} {}", view.counts.accepts);
            let twice = series.insert(name, view.counts.accepts);
            assert_eq!(twice, None);
        }
        self.series = series;
    }
}

proptest! {
    #[test]
    fn series_and_excluded_sockets_are_the_sum_of_all(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new(Duration::from_hours(24));
        for step in steps {
            world.take(step);
        }
        world.skipped = None;
        world.read(1);
        prop_assert_eq!(world.suppressed, world.all);
        let shown: u64 = world.series.values().sum();
        prop_assert_eq!(shown + world.excluded, world.all);
        let drops = world.bench.groups.drops_by_netns();
        prop_assert_eq!(drops.values().map(|sum| sum.drops).sum::<u64>(), world.all);
        // Four groups of their own, and one for the rest.
        prop_assert!(world.series.len() <= 5);
    }

    #[test]
    fn while_a_series_exists_it_does_not_go_back(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(RETENTION);
        for step in steps {
            world.take(step);
        }
        // All ends in time.
        world.closing.append(&mut world.live);
        for _ in 0..4 {
            world.read(90);
        }
        prop_assert!(world.series.is_empty() && world.bench.books.known.is_empty());
    }
}
