//! Every cause by a real program or real packets, all at the same time, and each is told for
//! what it is.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Incident, QUIET, ended, incidents, scenes};
use crate::{
    bench::{Bench, Case, Target},
    daemon::Daemon,
    netns,
    scale::Stopwatch,
};

pub(in crate::cases) const CASES: &[Case] =
    &[Case::everywhere("incident_causes", causes).in_part_on(&[Target::Host])];

/// What has to be told of a scene.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    /// This cause, on every kernel.
    Cause(&'static str),
    /// This one, where the reason is told of what the tracepoint backend cannot know; there it
    /// is unknown.
    NotByTracepoints(&'static str),
    /// One of several that are true, or none of them.
    OneOf(&'static [&'static str]),
    /// There is no incident.
    Nothing,
}

impl Told {
    fn allows(self, cause: &str, target: Target) -> bool {
        match self {
            Self::NotByTracepoints(_) if target == Target::Host => cause == "unknown",
            Self::Cause(right) | Self::NotByTracepoints(right) => cause == right,
            Self::OneOf(right) => cause == "unknown" || right.contains(&cause),
            Self::Nothing => false,
        }
    }
}

/// Something that happens at one listener.
pub(super) trait Scene: Send {
    /// What has to be told of it.
    fn told(&self) -> Told;
    /// Whose.
    fn address(&self) -> std::net::SocketAddr;
    /// Plays it, for some 13 seconds at most.
    fn play(&mut self) -> Result<()>;
}

fn causes(bench: &Bench) -> Result<()> {
    let watch = Stopwatch::start();
    let daemon = bench.launch()?.setting("--incident.quiet", QUIET).start()?;
    let mut scenes = scenes::all(bench)?;
    // The flight recorder has to know what is usual.
    thread::sleep(Duration::from_secs(2));
    thread::scope(|scope| {
        let playing: Vec<_> = scenes
            .iter_mut()
            .map(|(name, scene)| (*name, scope.spawn(move || scene.play())))
            .collect();
        let outcomes: Vec<_> = playing.into_iter().map(|(name, it)| (name, it.join())).collect();
        outcomes.into_iter().try_for_each(|(name, it)| netns::joined(it).context(name))
    })?;
    let mut wrong = Vec::new();
    for (name, scene) in &scenes {
        let told = match judged(bench, &daemon, scene.as_ref()) {
            Ok(told) => told,
            Err(error) => {
                wrong.push(format!("{name}: {error:#}"));
                continue;
            }
        };
        println!("    {name}: {}", told.line);
        if !told.right {
            wrong.push(format!("{name}: {:?} is not\n{}", scene.told(), told.shown));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    watch.tell(&format!("{} scenes", scenes.len()));
    Ok(())
}

struct Judged {
    right: bool,
    line: String,
    shown: String,
}

fn judged(bench: &Bench, daemon: &Daemon, scene: &dyn Scene) -> Result<Judged> {
    let told = scene.told();
    if matches!(told, Told::Nothing) {
        let port = scene.address().port().to_string();
        let all = incidents(bench, daemon)?;
        let found = all.into_iter().find(|it| it.listener.port == port);
        return match found {
            None => {
                Ok(Judged { right: true, line: "no incident".to_owned(), shown: String::new() })
            }
            Some(incident) => shown(bench, daemon, &incident, false),
        };
    }
    let incident = ended(bench, daemon, scene.address())?;
    let right = told.allows(&incident.cause, bench.target());
    shown(bench, daemon, &incident, right)
}

fn shown(bench: &Bench, daemon: &Daemon, incident: &Incident, right: bool) -> Result<Judged> {
    let Incident { id, cause, confidence, overflows, .. } = incident;
    let run_dir = daemon.run_dir().to_str().context("a path that is no text")?;
    let show = |more: &[&str]| {
        let arguments = ["incidents", "show", id, "--run-dir", run_dir];
        Ok::<_, anyhow::Error>(bench.run(&[&arguments, more].concat())?.stdout)
    };
    let confidence = confidence.as_deref().unwrap_or("none");
    Ok(Judged {
        right,
        line: format!("{cause} (confidence {confidence}), {overflows} overflows"),
        shown: if right { String::new() } else { show(&[])? + &show(&["--json"])? },
    })
}
