//! Incidents beside the rest of the daemon: on threads of their own, from snapshots that are
//! there anyway. Nothing waits for them.

mod board;

use std::{
    net::IpAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use tcpq_common::record::{Kind, Record};
use tokio::sync::watch;

pub(super) use board::Board;

use crate::{
    engine::incidents::{Incidents, Order, Refusal, Refused, Settings},
    kernel::facts,
    model::{
        ids,
        incident::{
            id::IncidentId,
            moment::Moment,
            probe::{Report, Wish},
        },
        snapshot::Snapshot,
    },
    probe,
    store::{self, Store, Writer},
};

/// Batches of refusals that may wait to be taken in.
const QUEUE: usize = 256;

/// Looks that may wait for the one that is made.
const LOOKS: usize = 8;

/// Between two looks at the last snapshot.
const TICK: Duration = Duration::from_secs(1);

/// How long the end of the daemon waits for what is to be written.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the thread of incidents is told.
enum Message {
    Refused(Vec<Refusal>),
    Looked(IncidentId, Report),
    End,
}

/// The running parts.
pub(super) struct Running {
    messages: SyncSender<Message>,
    thread: JoinHandle<()>,
}

/// Tells of refusals; clones are of the same thread.
#[derive(Clone)]
pub(super) struct Teller {
    messages: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// Opens the store: before anything else asks for incidents.
pub(super) fn open(settings: store::Settings) -> anyhow::Result<(Arc<Board>, Writer)> {
    let (store, writer) = Store::start(settings).context("no store for incidents")?;
    Ok((Arc::new(Board::new(store)), writer))
}

/// Follows snapshots from now on.
pub(super) fn start(
    settings: Settings,
    roots: &facts::Roots,
    board: Arc<Board>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) -> anyhow::Result<(Running, Teller)> {
    let (messages, inbox) = sync_channel(QUEUE);
    let looker = looker(roots, messages.clone())?;
    let lost = Arc::new(AtomicU64::new(0));
    let teller = Teller { messages: messages.clone(), lost: Arc::clone(&lost) };
    let mut desk = Desk { incidents: Incidents::new(settings), board, snapshots, looker, lost };
    let thread = thread::Builder::new()
        .name("incidents".to_owned())
        .spawn(move || desk.run(&inbox))
        .context("no thread for incidents")?;
    Ok((Running { messages, thread }, teller))
}

impl Running {
    /// What is open is written as interrupted.
    pub(super) fn end(self, writer: Writer) {
        let Self { messages, thread } = self;
        if messages.send(Message::End).is_ok() {
            let until = Instant::now() + PATIENCE;
            while !thread.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(2));
            }
        }
        writer.finish(PATIENCE);
    }
}

impl Teller {
    /// What came out of the ring. Waits for nothing: what is too much is counted.
    pub(super) fn tell(&self, refusals: Vec<Refusal>) {
        if refusals.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(Message::Refused(refusals))) =
            self.messages.try_send(Message::Refused(refusals))
        {
            self.lost.fetch_add(refusals.len() as u64, Ordering::Relaxed);
        }
    }
}

/// What a record tells of a refusal; `None`: it is of something else.
pub(super) fn refusal(kind: Kind, record: &Record) -> Option<Refusal> {
    let what = match kind {
        Kind::OverflowSyn | Kind::OverflowAck | Kind::OverflowCookie => Refused::ByOverflow,
        Kind::DropSyn | Kind::DropAck | Kind::DropIcmp => Refused::Otherwise,
        Kind::ListenerOpened | Kind::ListenerClosed => return None,
    };
    let client: Option<(IpAddr, u16)> = (record.client_family != 0)
        .then(|| (ids::address(record.client_family, record.client_address), record.client_port));
    Some(Refusal {
        netns: record.netns,
        address: ids::address(record.family, record.address),
        port: record.port,
        client,
        what,
    })
}

/// The thread's own.
struct Desk {
    incidents: Incidents,
    board: Arc<Board>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    looker: SyncSender<Wish>,
    lost: Arc<AtomicU64>,
}

impl Desk {
    fn run(&mut self, inbox: &Receiver<Message>) {
        let mut next = Instant::now();
        let mut taken = None;
        loop {
            let orders = match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Message::Refused(refusals)) => {
                    let refused = |refusal| self.incidents.refused(now(), refusal);
                    refusals.iter().flat_map(refused).collect()
                }
                Ok(Message::Looked(incident, report)) => {
                    self.incidents.looked(incident, report);
                    Vec::new()
                }
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
            };
            self.carry_out(orders);
            if Instant::now() < next {
                continue;
            }
            next = Instant::now() + TICK;
            let snapshot = Arc::clone(&self.snapshots.borrow());
            if taken != Some(snapshot.taken) {
                taken = Some(snapshot.taken);
                let orders = self.incidents.tick(now(), &snapshot);
                self.carry_out(orders);
            }
            let lost = self.lost.load(Ordering::Relaxed);
            self.board.stand(self.incidents.standing(), lost);
        }
        for record in self.incidents.interrupted(now()) {
            self.board.publish(record);
        }
        self.board.end();
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Write(record) => self.board.publish(*record),
                Order::Look(wish) => {
                    let incident = wish.incident;
                    if self.looker.try_send(wish).is_err() {
                        let failures = vec!["a look was left out: others took too long".to_owned()];
                        let report = Report { at: now(), failures, ..Report::default() };
                        self.incidents.looked(incident, report);
                    }
                }
            }
        }
    }
}

/// The thread that looks at owners. A file that does not answer holds up nobody but it.
fn looker(roots: &facts::Roots, messages: SyncSender<Message>) -> anyhow::Result<SyncSender<Wish>> {
    let (wishes, orders) = sync_channel::<Wish>(LOOKS);
    let roots = probe::Roots {
        procfs: roots.procfs.clone(),
        cgroup: roots.sysfs.join(Path::new("fs/cgroup")),
    };
    let work = move || {
        for wish in orders {
            let report = probe::look(&roots, &wish, now());
            // A queue that is full will not miss one look; at the end nobody wants it.
            drop(messages.try_send(Message::Looked(wish.incident, report)));
        }
    };
    thread::Builder::new()
        .name("looker".to_owned())
        .spawn(work)
        .context("no thread to look at owners")?;
    Ok(wishes)
}

fn now() -> Moment {
    SystemTime::now().into()
}
