//! Incidents: episodes of trouble, from the snapshots that scrapes read, too.
//!
//! Events and ticks in, records and wishes out: nothing is read here, the time neither, so
//! that a recording that is played again gives the same records.

mod changes;
mod clients;
pub mod episode;
mod gather;
mod looks;
mod members;
pub mod recorder;
mod shape;
pub mod verdict;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tcpq_common::totals::Loss;

pub use crate::engine::incidents::changes::seconds_of_cell;
use crate::{
    engine::incidents::{
        clients::Crowd,
        episode::{Change, Episode, Input},
        gather::Sources,
        looks::Looks,
        members::{has_full, overflows_of_stuck},
        recorder::Recorder,
        verdict::{Matter, judge},
    },
    model::{
        group::{GroupView, NetnsSettings},
        ids::Place,
        incident::{
            evidence::Losses,
            id::IncidentId,
            moment::Moment,
            probe::{Report, Wish},
            record::{IncidentRecord, ListenerName, State, Trigger, VERSION},
            timeline::Timeline,
            verdict::Cause,
        },
        snapshot::Snapshot,
    },
};

/// What of the flight recorder is in a record: from so long before the first trouble.
const BEFORE: Duration = Duration::from_mins(1);

/// Incidents that are open at the same time; more are counted and not recorded.
const MOST_OPEN: usize = 128;

/// Processes that are looked at.
const HOLDERS: usize = 8;

/// When the owner is looked at after the first trouble, as long as there is some; then at
/// every last of these. Unit: milliseconds.
const LOOKS: [u64; 5] = [0, 1000, 2000, 4000, 8000];

/// How often an open incident is written of which no cause is known yet.
const UNKNOWN: Duration = Duration::from_secs(10);

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When an episode begins and ends.
    pub rules: episode::Rules,
    /// How often an open incident is written.
    pub checkpoint: Duration,
    /// Bytes that the flight recorder may take.
    pub recorder: usize,
}

/// A refusal, as a record of the kernel side tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Network namespace of the listener, its inode number.
    pub netns: u32,
    /// The listener's address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Who was refused, if it is known.
    pub client: Option<(IpAddr, u16)>,
    /// Why.
    pub what: Refused,
}

/// Why a connection attempt was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The accept queue was full: that is trouble at once.
    ByOverflow,
    /// For another reason, which the next tick tells: a SYN to a broadcast address, say, is no
    /// trouble.
    Otherwise,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Write a record: a new one, or one that has changed.
    Write(Box<IncidentRecord>),
    /// Look at the owner.
    Look(Wish),
}

/// What there is, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Listeners with an open incident.
    pub active: Vec<ListenerName>,
    /// Incidents that were not recorded: too many were open.
    pub refused: u64,
    /// Bytes of the flight recorder.
    pub recorder_bytes: u64,
    /// Readings that it had no room for.
    pub recorder_refused: u64,
}

/// A group's name: what its series go by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Name {
    netns: Arc<str>,
    place: Place,
}

/// One open incident.
#[derive(Debug)]
struct Open {
    id: IncidentId,
    opened: Moment,
    began: Moment,
    trigger: Trigger,
    before: GroupView,
    /// As it was at the last reading with trouble.
    last: GroupView,
    /// As it was at the last reading at which one of its sockets was full.
    full: Option<GroupView>,
    /// As it was at the last reading at which some of its sockets were full and had no accept()
    /// while others had: what has come loose since cannot be told from those any more.
    parted: Option<GroupView>,
    last_at: Moment,
    bouts: u64,
    losses_before: Losses,
    crowd: Crowd,
    looks: Looks,
    /// Looks that were wished for.
    looked: usize,
    written: Moment,
    /// Whether a cause is known by now.
    is_known: bool,
}

/// All episodes and the flight recorder.
#[derive(Debug)]
pub struct Incidents {
    settings: Settings,
    recorder: Recorder<Name>,
    episodes: BTreeMap<Name, Episode>,
    open: BTreeMap<Name, Open>,
    previous: Option<(Moment, Arc<Snapshot>)>,
    /// Every group was idle at the last one.
    was_quiet: bool,
    /// The first snapshot.
    since: Option<Moment>,
    /// Where each address and port of the last snapshot is.
    places: HashMap<(u32, IpAddr, u16), usize>,
    refused: u64,
}

impl Incidents {
    /// Nothing is known yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            recorder: Recorder::new(settings.recorder),
            episodes: BTreeMap::new(),
            open: BTreeMap::new(),
            previous: None,
            was_quiet: false,
            since: None,
            places: HashMap::new(),
            refused: 0,
        }
    }

    /// A refusal, as soon as it is known: it may be over by the next tick.
    pub fn refused(&mut self, now: Moment, refusal: &Refusal) -> Vec<Order> {
        let Some((_, snapshot)) = &self.previous else { return Vec::new() };
        let snapshot = Arc::clone(snapshot);
        let key = (refusal.netns, refusal.address, refusal.port);
        // Of a listener that was not there a second ago the next tick tells.
        let group = self.places.get(&key).and_then(|place| snapshot.groups.get(*place));
        let Some(group) = group else { return Vec::new() };
        let name = Name::of(group);
        let mut orders = Vec::new();
        if refusal.what == Refused::ByOverflow {
            let episode = self.episodes.entry(name.clone()).or_default();
            let change = episode.step(now, Input::Refusal, &self.settings.rules);
            if let Some(Change::Opened { from, by }) = change {
                orders.extend(self.begin(&name, (group, group), (from, by), &snapshot, now));
            }
            self.note(&name);
        }
        if let Some((address, port)) = refusal.client
            && let Some(open) = self.open.get_mut(&name)
        {
            open.crowd.refused(address, port);
        }
        orders
    }

    /// A snapshot: what was counted since the last one.
    pub fn tick(&mut self, now: Moment, snapshot: &Arc<Snapshot>) -> Vec<Order> {
        self.since.get_or_insert(now);
        let Some((at, previous)) = self.previous.replace((now, Arc::clone(snapshot))) else {
            self.index(snapshot);
            return Vec::new();
        };
        if self.was_quiet
            && Arc::ptr_eq(&previous.groups, &snapshot.groups)
            && self.episodes.is_empty()
        {
            self.recorder.expire(now);
            return Vec::new();
        }
        let span = snapshot.taken.saturating_duration_since(previous.taken);
        let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut orders = Vec::new();
        let mut before = previous.groups.iter().peekable();
        let mut in_place = 0;
        self.was_quiet = true;
        for group in &*snapshot.groups {
            // Both are in the order of names.
            while before.next_if(|it| is_less(it, group)).is_some() {}
            let base = before.next_if(|it| is_same(it, group));
            in_place += usize::from(base.is_some_and(|base| base.key == group.key));
            if !self.is_idle(base, group) {
                self.was_quiet = false;
                let base = base.map(|base| &**base);
                orders.extend(self.follow(base, group, now, span_ms, (&previous, snapshot)));
            }
        }
        orders.extend(self.end_of_the_gone(now, at, snapshot));
        self.episodes.retain(|_, episode| !episode.is_calm());
        self.recorder.expire(now);
        // Where all groups are those of the last time, each is where it was.
        if in_place < snapshot.groups.len() || in_place < previous.groups.len() {
            self.index(snapshot);
        }
        orders
    }

    /// What a look has found.
    pub fn looked(&mut self, incident: IncidentId, report: Report) {
        let open = self.open.values_mut().find(|open| open.id == incident);
        if let Some(open) = open {
            open.looks.add(report);
        }
    }

    /// What there is, in numbers.
    pub fn standing(&self) -> Standing {
        Standing {
            active: self.open.keys().map(Name::listener).collect(),
            refused: self.refused,
            recorder_bytes: self.recorder.bytes() as u64,
            recorder_refused: self.recorder.refused(),
        }
    }

    /// All that is open, as it is now: for the end of the daemon.
    pub fn interrupted(&self, now: Moment) -> Vec<IncidentRecord> {
        let Some((_, snapshot)) = &self.previous else { return Vec::new() };
        self.open
            .iter()
            .map(|(name, open)| self.record(name, open, State::Interrupted, now, snapshot))
            .collect()
    }

    fn index(&mut self, snapshot: &Snapshot) {
        self.places.clear();
        for (place, group) in snapshot.groups.iter().enumerate() {
            if let Place::Address { address, port } = group.key.place {
                self.places.insert((group.key.netns.0, address, port), place);
            }
        }
    }

    /// Whether nothing happened to a group, nothing waits and nothing is remembered: of ten
    /// thousand groups, nearly all.
    fn is_idle(&self, before: Option<&Arc<GroupView>>, group: &Arc<GroupView>) -> bool {
        let is_untouched = before.is_some_and(|before| Arc::ptr_eq(before, group));
        let waiting = group.accept_queue.length + group.syn_queue.length;
        is_untouched
            && waiting == 0
            && (self.episodes.is_empty() || !self.episodes.contains_key(&Name::of(group)))
    }

    /// One group's second.
    fn follow(
        &mut self,
        before: Option<&GroupView>,
        group: &GroupView,
        now: Moment,
        span_ms: u64,
        (previous, snapshot): (&Arc<Snapshot>, &Arc<Snapshot>),
    ) -> Vec<Order> {
        let second = changes::second(before, group, now, span_ms);
        let name = Name::of(group);
        self.recorder.record(&name, &second);
        let pressed = second.cookies_sent > 0 && cookies_are_of_need(snapshot, group);
        let fill = if pressed { 1000 } else { changes::fill(group) };
        let input = Input::Tick { refused: second.refused(), fill };
        let is_quiet = second.refused() == 0 && fill < self.settings.rules.fill;
        if is_quiet && !self.episodes.contains_key(&name) {
            return Vec::new();
        }
        let episode = self.episodes.entry(name.clone()).or_default();
        match episode.step(now, input, &self.settings.rules) {
            Some(Change::Opened { from, by }) => {
                // What a reading has found happened since the one before.
                let from = match by {
                    Trigger::Refusal => from.less(Duration::from_millis(span_ms)),
                    Trigger::Fill => from,
                };
                let base = before.unwrap_or(group);
                self.begin(&name, (base, group), (from, by), previous, now)
            }
            Some(Change::Trouble) => {
                self.went_on(&name, group);
                self.look_again(&name, now).into_iter().chain(self.checkpoint(&name, now)).collect()
            }
            Some(Change::Closed) => self.close(&name, now).into_iter().collect(),
            None => self.checkpoint(&name, now).into_iter().collect(),
        }
    }

    /// An episode begins.
    fn begin(
        &mut self,
        name: &Name,
        (base, group): (&GroupView, &GroupView),
        (opened, trigger): (Moment, Trigger),
        before: &Arc<Snapshot>,
        now: Moment,
    ) -> Vec<Order> {
        if self.open.len() >= MOST_OPEN {
            self.refused += 1;
            return Vec::new();
        }
        let listener = name.listener();
        let text = format!("{} {} {}", listener.netns, listener.address, listener.port);
        let mut id = IncidentId::new(opened, &text);
        while self.open.values().any(|open| open.id == id) {
            id = id.next();
        }
        let open = Open {
            id,
            opened,
            began: now,
            trigger,
            before: base.clone(),
            last: group.clone(),
            full: has_full(group).then(|| group.clone()),
            parted: overflows_of_stuck(base, group).map(|_| group.clone()),
            last_at: now,
            bouts: 1,
            losses_before: losses(before),
            crowd: Crowd::default(),
            looks: Looks::default(),
            looked: 0,
            written: now,
            is_known: false,
        };
        self.open.insert(name.clone(), open);
        let look = self.look_again(name, now);
        look.into_iter().chain(self.write(name, State::Open, now)).collect()
    }

    fn went_on(&mut self, name: &Name, group: &GroupView) {
        if let Some(open) = self.open.get_mut(name) {
            open.last = group.clone();
            if has_full(group) {
                open.full = Some(group.clone());
            }
            if overflows_of_stuck(&open.before, group).is_some() {
                open.parted = Some(group.clone());
            }
        }
        self.note(name);
    }

    /// Notes what the episode knows, as long as it is open.
    fn note(&mut self, name: &Name) {
        let episode = self.episodes.get(name);
        let known = episode.and_then(|episode| Some((episode.last()?, episode.bouts())));
        if let Some(((last_at, bouts), open)) = known.zip(self.open.get_mut(name)) {
            (open.last_at, open.bouts) = (last_at, bouts);
        }
    }

    /// Looks at the owner when it is time.
    fn look_again(&mut self, name: &Name, now: Moment) -> Option<Order> {
        let open = self.open.get_mut(name)?;
        let since = u64::try_from(now.since(open.opened).as_millis()).ok()?;
        let [.., each] = LOOKS;
        let later = (open.looked + 2).saturating_sub(LOOKS.len()) as u64 * each;
        let due = LOOKS.get(open.looked).copied().unwrap_or(later);
        if since < due {
            return None;
        }
        open.looked += 1;
        let holders = holders(&open.last);
        (!holders.is_empty()).then_some(Order::Look(Wish { incident: open.id, holders }))
    }

    fn checkpoint(&mut self, name: &Name, now: Moment) -> Option<Order> {
        let open = self.open.get(name)?;
        // The first one comes early: by then the owner has been looked at twice.
        let early = open.written == open.began;
        let wait = match (early, open.is_known) {
            (true, _) => Duration::from_secs(3),
            (false, false) => UNKNOWN,
            (false, true) => self.settings.checkpoint,
        };
        (now.since(open.written) >= wait).then(|| self.write(name, State::Open, now))?
    }

    fn close(&mut self, name: &Name, now: Moment) -> Option<Order> {
        let order = self.write(name, State::Closed, now);
        self.open.remove(name);
        order
    }

    /// Groups that are not there any more.
    fn end_of_the_gone(&mut self, now: Moment, last: Moment, snapshot: &Snapshot) -> Vec<Order> {
        let is_there = |name: &Name| {
            let by_name = |group: &Arc<GroupView>| {
                (&*group.netns, &group.key.place).cmp(&(&*name.netns, &name.place))
            };
            snapshot.groups.binary_search_by(by_name).is_ok()
        };
        let gone: Vec<_> = self.episodes.keys().filter(|name| !is_there(name)).cloned().collect();
        let mut orders = Vec::new();
        for name in gone {
            orders.extend(self.close(&name, now.max(last)));
            self.episodes.remove(&name);
        }
        orders
    }

    fn write(&mut self, name: &Name, state: State, now: Moment) -> Option<Order> {
        let snapshot = Arc::clone(&self.previous.as_ref()?.1);
        let open = self.open.get(name)?;
        let record = self.record(name, open, state, now, &snapshot);
        let open = self.open.get_mut(name)?;
        open.written = now;
        open.is_known = record.verdict.cause != Cause::Unknown;
        Some(Order::Write(Box::new(record)))
    }

    fn record(
        &self,
        name: &Name,
        open: &Open,
        state: State,
        now: Moment,
        snapshot: &Snapshot,
    ) -> IncidentRecord {
        let seconds = self.recorder.since(name, open.opened.less(BEFORE));
        let settings = settings(snapshot, &name.netns);
        let lost = losses(snapshot);
        let Losses { records, suppressed } = open.losses_before;
        let sources = Sources {
            plan: &snapshot.plan,
            before: &open.before,
            last: &open.last,
            full: open.telling(),
            settings,
            crowd: &open.crowd,
            looks: &open.looks,
            seconds: &seconds,
            losses: Losses {
                records: lost.records.saturating_sub(records),
                suppressed: lost.suppressed.saturating_sub(suppressed),
            },
        };
        let evidence = gather::evidence(&sources);
        let worst = gather::worst(open.telling());
        let owner = worst.map(|member| &*member.owner);
        let owner = owner.or_else(|| open.last.owners.first().map(|owner| &**owner));
        let port = match name.place {
            Place::Address { port, .. } => Some(port),
            Place::Ephemeral { .. } | Place::Other => None,
        };
        let verdict = judge(&Matter {
            evidence: &evidence,
            seconds: &seconds,
            known: self.since.unwrap_or_default().max(evidence.newest_listen.unwrap_or_default()),
            opened: open.opened,
            calm: now.since(open.last_at),
            netns: &name.netns,
            port,
            owner,
            holders: worst.map_or(&[], |member| &member.holders),
        });
        IncidentRecord {
            version: VERSION,
            id: open.id,
            state,
            listener: name.listener(),
            owner: owner.cloned(),
            opened: open.opened,
            began: open.began,
            last: open.last_at,
            updated: now,
            trigger: open.trigger,
            bouts: open.bouts,
            verdict,
            evidence,
            timeline: Timeline { seconds },
        }
    }
}

impl Open {
    /// The reading that sockets are told by: the one at which some were stuck and others not,
    /// if a good part of all that was refused was refused by those; else the last with a full
    /// one, else the last.
    fn telling(&self) -> &GroupView {
        let refused = self.last.counts.since(*self.before.counts).overflows.total();
        let at_stuck = |view| overflows_of_stuck(&self.before, view).unwrap_or(0);
        let parted = self.parted.as_ref().filter(|view| at_stuck(view) * 3 >= refused);
        parted.or(self.full.as_ref()).unwrap_or(&self.last)
    }
}

impl Name {
    fn of(group: &GroupView) -> Self {
        Self { netns: Arc::clone(&group.netns), place: group.key.place.clone() }
    }

    fn listener(&self) -> ListenerName {
        ListenerName {
            netns: self.netns.to_string(),
            address: self.place.address(),
            port: self.place.port(),
        }
    }
}

fn is_less(group: &GroupView, other: &GroupView) -> bool {
    (&*group.netns, &group.key.place) < (&*other.netns, &other.key.place)
}

fn is_same(group: &GroupView, other: &GroupView) -> bool {
    (&*group.netns, &group.key.place) == (&*other.netns, &other.key.place)
}

/// With `tcp_syncookies` = 1 a cookie is sent because the SYN queue is full.
fn cookies_are_of_need(snapshot: &Snapshot, group: &GroupView) -> bool {
    settings(snapshot, &group.netns).is_some_and(|it| it.tcp_syncookies == 1)
}

fn settings<'a>(snapshot: &'a Snapshot, netns: &str) -> Option<&'a NetnsSettings> {
    snapshot.namespaces.iter().find(|it| it.netns == netns)
}

/// Records that are missing, since the start.
fn losses(snapshot: &Snapshot) -> Losses {
    Losses {
        records: snapshot.losses.get(Loss::RingFull as usize).copied().unwrap_or(0),
        suppressed: snapshot.records_suppressed,
    }
}

/// Who may call accept(), those of the fullest sockets first. Whose holders are not known yet has
/// the process that called listen(), at least.
fn holders(view: &GroupView) -> Vec<u32> {
    let mut members: Vec<_> = view.members.iter().collect();
    members.sort_by_key(|member| std::cmp::Reverse(member.accept_queue.length));
    let held = members.iter().flat_map(|member| {
        let known = member.holders.iter().map(|holder| holder.pid);
        known.chain(member.owner.pid.filter(|_| member.holders.is_empty()))
    });
    let mut holders: Vec<u32> = Vec::new();
    for pid in held {
        if holders.len() < HOLDERS && !holders.contains(&pid) {
            holders.push(pid);
        }
    }
    holders
}

#[cfg(test)]
mod tests;
