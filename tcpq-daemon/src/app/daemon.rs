//! The daemon: start in an order in which each failure has one clear message, run,
//! and end within two seconds of being asked to.

use std::{
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, Mutex,
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tcpq_common::record::Kind;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::MissedTickBehavior,
};
use tracing::{debug, info, warn};

use crate::{
    app::{
        attribution::Attribution,
        incidents::{self, Board, Running, Teller},
        listen::{ListenAddress, ListenError, bind, inherited},
        reload::{Reload, Reloaded},
        run_dir::RunDir,
        self_test::{Proven, prove},
        source::{KernelSource, comparison, sources},
        supervisor,
    },
    attribution::{
        netns::NetnsNames,
        owners::Owners,
        pods::{self, Pods},
    },
    engine::{
        audit::Audits,
        collect::Collector,
        groups::{Groups, placement::Rules},
        incidents::Settings as IncidentSettings,
    },
    kernel::{
        attach::{Attached, Limits, Scope, attach},
        cgroup_namespace::{self, Entered},
        confine,
        discover::{Discovery, discover},
        facts::Roots,
        memory,
        plan::BackendChoice,
        privilege,
        readout::RunCounting,
        records::Records,
    },
    model::{
        filter::{Filters, Pattern},
        hooks::{Exactness, SignalPlan},
        self_test::Wish,
        snapshot::{EventTally, RefreshRequest, Snapshot},
    },
    serve::{
        incidents::Shared,
        router::{Reach, router},
        server,
        source::{Readiness, SnapshotSource},
        web::Web,
    },
    store,
};

/// Refresh requests that may wait; they share one reading.
const REQUESTS: usize = 64;

/// How often freed memory is given back: within the bounds of what it costs to look for it.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// How long a connection that does not finish may hold up the end.
const GRACE: Duration = Duration::from_millis(500);

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the kernel shows itself.
    pub roots: Roots,
    /// Which backends may be used.
    pub backend: BackendChoice,
    /// Sizes and rates of the kernel side.
    pub limits: Limits,
    /// Whether the hooks are tested before anything is served.
    pub self_test: Wish,
    /// Whether the programs' runs are counted.
    pub run_counting: RunCounting,
    /// For the lock and the unix socket.
    pub run_dir: PathBuf,
    /// Where the endpoint listens.
    pub listen: Listen,
    /// The path of the metrics.
    pub telemetry_path: String,
    /// TLS and users of the endpoint.
    pub web_config: Option<PathBuf>,
    /// Time between readings when nobody asks.
    pub tick: Duration,
    /// How long a group stays after its last socket closed.
    pub retention: Duration,
    /// Where pods are looked up, if they are.
    pub pods: Option<pods::Source>,
    /// How listeners are placed into series.
    pub rules: Rules,
    /// When an incident begins and ends.
    pub incidents: IncidentSettings,
    /// Where incidents are stored.
    pub store: store::Settings,
}

/// Where the endpoint's sockets come from.
#[derive(Clone, Debug)]
pub enum Listen {
    /// Made here.
    On(Vec<ListenAddress>),
    /// Made by systemd.
    Inherited,
}

/// Runs until SIGTERM or SIGINT; SIGHUP reads the settings again.
pub fn run(settings: &Settings, reload: Box<dyn Reload>) -> anyhow::Result<()> {
    memory::keep_little();
    privilege::check(&settings.roots.procfs)?;
    for lacking in privilege::missing(&settings.roots.procfs)? {
        warn!(capability = lacking.name, "missing privilege: {}", lacking.without);
    }
    match cgroup_namespace::enter_first(&settings.roots.procfs) {
        Ok(Entered::Already) => {}
        Ok(Entered::Unknown) => debug!("process 1 may not be looked at"),
        Ok(Entered::Now) => debug!("control groups are seen as the host sees them"),
        Err(error) => warn!(
            %error,
            "control groups are named as seen from tcpq's own, and CPU quotas outside of it are \
             not known"
        ),
    }
    let run_dir = RunDir::claim(&settings.run_dir)?;
    raise_descriptors();
    let listeners = listeners(&settings.listen)?;
    let starter = Starter::new(settings)?;
    // Every thread from here on, this one included, has no more than it goes on with.
    privilege::give_up_the_rest().context("capabilities cannot be given up")?;
    let pods = match &settings.pods {
        Some(source) => Pods::start(source.clone()).context("pods cannot be looked up")?,
        None => Pods::off(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no asynchronous runtime")?;
    let parts = Parts { run_dir, listeners, starter, pods };
    let result = runtime.block_on(serve(settings, reload, parts));
    runtime.shutdown_timeout(GRACE);
    result
}

/// What is there before the runtime.
struct Parts {
    run_dir: RunDir,
    listeners: Vec<(std::net::TcpListener, Reach)>,
    starter: Starter,
    pods: Pods,
}

/// The thread that attaches: it keeps the capabilities for that, and ends with it.
struct Starter {
    go: SyncSender<()>,
    started: oneshot::Receiver<anyhow::Result<(Proven, Discovery)>>,
}

impl Starter {
    fn new(settings: &Settings) -> anyhow::Result<Self> {
        let settings = settings.clone();
        let (go, gone) = sync_channel(1);
        let (tell, started) = oneshot::channel();
        std::thread::Builder::new()
            .name("start".to_owned())
            .spawn(move || {
                if gone.recv().is_ok() {
                    // Nobody listens any more if the daemon was ended meanwhile.
                    drop(tell.send(start(&settings)));
                }
            })
            .context("no thread to start with")?;
        Ok(Self { go, started })
    }

    async fn start(self) -> anyhow::Result<(Proven, Discovery)> {
        self.go.send(()).context("the thread to start with is gone")?;
        self.started.await.context("the start ended early")?
    }
}

fn listeners(listen: &Listen) -> Result<Vec<(std::net::TcpListener, Reach)>, ListenError> {
    match listen {
        Listen::Inherited => inherited(),
        Listen::On(addresses) => addresses.iter().map(bind).collect(),
    }
}

/// Gives back what scrapes and readings have freed, every so often; without end.
async fn keep_little() {
    let mut ticks = tokio::time::interval(GIVE_BACK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        memory::give_back();
    }
}

/// A descriptor is held for each process that owns a listener, and 1024, the usual soft
/// limit, are few. Without more, ends of owners are noticed later.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, "the limit of open files stays as it is");
    }
}

async fn serve(
    settings: &Settings,
    mut reload: Box<dyn Reload>,
    parts: Parts,
) -> anyhow::Result<()> {
    let Parts { run_dir, listeners, starter, pods } = parts;
    // Before anything else: a signal during start-up must not kill half-way.
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    let mut hangup = signal(SignalKind::hangup()).context("no signal handler")?;
    let (ready, readiness) = watch::channel(None);
    let started = Instant::now();
    let (board, writer) = incidents::open(settings.store.clone())?;
    let starting = async {
        let servers = listen(settings, listeners, &run_dir, &Readiness::new(readiness), &board)?;
        let (core, discovery) = starter.start().await?;
        anyhow::Ok((servers, core, discovery))
    };
    let (mut servers, core, discovery) = tokio::select! {
        started = starting => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    say_plan(&core.attached.plan.signals);
    let attribution = attribution(&core.attached, discovery, pods, &settings.roots)?;
    let Connected { records, source, attached, incidents } =
        connect(core, attribution, settings, &board)?;
    servers.push(records);
    // All is attached, and all threads are there.
    if let Err(error) = confine::all_threads() {
        let error = format!("{:#}", anyhow::Error::from(error));
        warn!(error, "the daemon goes on without");
    }
    memory::give_back();
    if let Err(error) = memory::forget_program() {
        debug!(%error, "the program's pages stay");
    }
    servers.push(tokio::spawn(keep_little()));
    ready.send_replace(Some(source.clone()));
    let elapsed = started.elapsed();
    for address in addresses(settings) {
        info!(?elapsed, "serving http://{address}{}", settings.telemetry_path);
    }

    supervisor::ready();
    servers.push(tokio::spawn(supervisor::keep_alive(source.clone())));

    let mut ended = pin!(source.ended());
    let outcome = loop {
        tokio::select! {
            _ = terminate.recv() => {
                info!("ended by SIGTERM");
                break Ok(());
            },
            _ = interrupt.recv() => {
                info!("ended by SIGINT");
                break Ok(());
            },
            _ = hangup.recv() => read_again(&mut *reload),
            () = &mut ended => {
                break Err(anyhow!("the collector ended; this is a defect of tcpq"));
            },
        }
    };
    supervisor::stopping();
    for server in servers {
        server.abort();
    }
    incidents.end(writer);
    drop(attached);
    outcome
}

fn read_again(reload: &mut dyn Reload) {
    supervisor::reloading();
    match reload.reload() {
        Ok(Reloaded { applied, needs_restart }) => {
            info!(applied = applied.join(" "), "the settings were read again");
            if !needs_restart.is_empty() {
                let settings = needs_restart.join(" ");
                warn!(settings, "these have changed and hold once the daemon is started again");
            }
        }
        Err(error) => {
            // An error of a flag has several lines.
            let error = format!("{error:#}").trim().replace('\n', " ");
            warn!(error, "the new settings are wrong; those before go on");
        }
    }
    supervisor::ready();
}

fn addresses(settings: &Settings) -> Vec<String> {
    match &settings.listen {
        Listen::On(addresses) => addresses.iter().map(ToString::to_string).collect(),
        Listen::Inherited => vec!["systemd's sockets".to_owned()],
    }
}

fn listen(
    settings: &Settings,
    listeners: Vec<(std::net::TcpListener, Reach)>,
    run_dir: &RunDir,
    readiness: &Readiness,
    board: &Arc<Board>,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut servers = Vec::new();
    let web = settings.web_config.as_deref().map(Web::open).transpose()?;
    let incidents: Shared = Arc::<Board>::clone(board);
    for (listener, reach) in listeners {
        let listener = TcpListener::from_std(listener).context("an unusable socket")?;
        let gate = (reach, web.clone());
        let app = router(readiness.clone(), Arc::clone(&incidents), &settings.telemetry_path, gate);
        servers.push(tokio::spawn(server::serve(listener, app, web.clone())));
    }
    let socket = run_dir.bind_socket()?;
    // Who may open the socket is known by its mode.
    let gate = (Reach::Local, None);
    let app = router(readiness.clone(), Arc::clone(&incidents), &settings.telemetry_path, gate);
    servers.push(tokio::spawn(server::serve(socket, app, None)));
    Ok(servers)
}

/// Attaches first, proves the hooks, and discovers last: what happens in between is in
/// the maps, but for what the proof took.
fn start(settings: &Settings) -> anyhow::Result<(Proven, Discovery)> {
    let roots = &settings.roots;
    let trial = attach(roots, settings.backend, settings.limits, Scope::Watch)?;
    let mut core = prove(trial, roots, settings.self_test)?;
    if settings.run_counting == RunCounting::On {
        core.readout.count_runs()?;
    }
    let discovery = discover(&mut core.attached, roots);
    let Discovery { namespaces, unreadable, .. } = discovery;
    debug!(namespaces, unreadable_processes = unreadable, "listeners discovered");
    Ok((core, discovery))
}

/// The parts that run.
struct Connected {
    records: JoinHandle<()>,
    source: SnapshotSource,
    attached: Attached,
    incidents: Running,
}

/// Starts the record reader, the collector and what follows its snapshots.
fn connect(
    core: Proven,
    attribution: Attribution,
    settings: &Settings,
    board: &Arc<Board>,
) -> anyhow::Result<Connected> {
    let Proven { attached, readout, ring, events, outcome } = core;
    let events = Arc::new(Mutex::new(events));
    let records = Records::new(ring)?;
    let (sources, bracket) = sources(&attached.plan);
    let mut collector = Collector {
        source: KernelSource { readout, bracket },
        attribution,
        groups: Groups::new(
            sources,
            settings.rules.clone(),
            settings.retention,
            settings.limits.listeners as usize,
        ),
        audits: Audits::new(comparison(&attached.plan)),
        plan: Arc::from(&*attached.plan.signals),
        self_test: Arc::new(outcome),
        events: Arc::clone(&events),
    };
    // The first reading finds the namespaces; only then can a derived audit bracket the
    // next one with theirs.
    collector.read(Instant::now())?;
    let first = Arc::new(collector.read(Instant::now())?);
    say_nothing_shown(&first, &settings.rules.filters);
    let (latest, snapshots) = watch::channel(first);
    let (incidents, teller) = incidents::start(
        settings.incidents,
        &settings.roots,
        Arc::clone(board),
        snapshots.clone(),
    )?;
    let (requests, queue) = sync_channel(REQUESTS);
    let reader = RecordReader {
        records,
        events,
        teller,
        requests: requests.clone(),
        many_closed: u64::from(settings.limits.listeners / 8),
    };
    let records = tokio::spawn(reader.run());
    let tick = settings.tick;
    std::thread::Builder::new()
        .name("collector".to_owned())
        .spawn(move || collector.run(tick, &queue, &latest))
        .context("no thread for the collector")?;
    let source = SnapshotSource::new(snapshots, requests);
    Ok(Connected { records, source, attached, incidents })
}

/// Who owns the listeners, from discovery on.
fn attribution(
    attached: &Attached,
    mut discovery: Discovery,
    pods: Pods,
    roots: &Roots,
) -> anyhow::Result<Attribution> {
    let mut attribution = Attribution::new(
        NetnsNames::new(&roots.procfs, &roots.netns, attached.facts.initial_netns),
        Owners::new(&roots.procfs, pods),
        &discovery,
    );
    if let Some(walk) = discovery.walk.take() {
        attribution.keep_walking(walk).context("no thread to walk through open files")?;
    }
    Ok(attribution)
}

/// Takes the records out of the ring.
struct RecordReader {
    records: Records,
    events: Arc<Mutex<EventTally>>,
    /// Refusals go there.
    teller: Teller,
    requests: SyncSender<RefreshRequest>,
    /// So many closed listeners do not wait for the next tick: the kernel side has room
    /// for only so many.
    many_closed: u64,
}

impl RecordReader {
    async fn run(mut self) {
        let mut closed = 0;
        loop {
            let mut fresh = EventTally::default();
            let mut refusals = Vec::new();
            let refused = |kind, record: &_| refusals.extend(incidents::refusal(kind, record));
            if let Err(error) = self.records.drain_into(&mut fresh, refused).await {
                warn!(%error, "the ring of records cannot be read any more");
                return;
            }
            self.teller.tell(refusals);
            self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&fresh);
            closed += fresh.of(Kind::ListenerClosed);
            if closed >= self.many_closed {
                closed = 0;
                // Nobody waits for the answer; a full queue means that one is due anyway.
                let (reply, _answer) = oneshot::channel();
                drop(self.requests.try_send(reply));
            }
        }
    }
}

/// Filters may be for what is yet to come, or wrong.
fn say_nothing_shown(first: &Snapshot, filters: &Filters) {
    if filters.is_empty() || !first.groups.is_empty() {
        return;
    }
    let list = |patterns: &[Pattern]| {
        patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    warn!(
        include = list(&filters.include),
        exclude = list(&filters.exclude),
        listeners = first.sockets_tracked,
        "the filters let none of the present listeners through: only later ones can have series"
    );
}

fn say_plan(plan: &[SignalPlan]) {
    for signal in plan {
        let reason = signal.reason.as_deref().unwrap_or_default();
        match signal.exactness {
            Exactness::Exact => {
                debug!(signal = signal.signal.name(), hook = signal.hook, "exact");
            }
            Exactness::Derived => {
                debug!(signal = signal.signal.name(), hook = signal.hook, reason, "derived");
            }
            Exactness::Absent => {
                warn!(signal = signal.signal.name(), reason, "this kernel does not tell");
            }
        }
    }
}
