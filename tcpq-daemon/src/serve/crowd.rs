//! The connections of one listener: a bounded number, of which those that want nothing make
//! room for those that do.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::task::{AbortHandle, JoinSet};

/// An answer that its client has not read by then is not read any more: a scrape is given up
/// after 10 s by default.
const PATIENCE: Duration = Duration::from_secs(15);

/// So long a connection may take until its request is read, before it is idle: who comes in the
/// midst of a thousand others has its turn, too.
const GRACE: Duration = Duration::from_millis(20);

/// When a connection's request began. Unit: milliseconds since the crowd's start, plus 1; 0: it
/// has none.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<AtomicU64>);

/// A request under way, until its answer has been written or given up.
pub(super) struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.store(0, Ordering::Relaxed);
    }
}

impl Busy {
    /// Stays busy until the body is at its end, or dropped.
    pub(super) fn until_the_end_of(self, body: Body) -> Body {
        Body::new(Followed { body, _busy: self })
    }
}

/// A body, and what ends with it.
struct Followed {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Member {
    opened: Instant,
    activity: Activity,
    task: AbortHandle,
}

/// All of them.
pub(super) struct Crowd {
    most: usize,
    started: Instant,
    members: Vec<Member>,
    tasks: JoinSet<()>,
}

/// The clock by which a connection says when it got busy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).map_or(u64::MAX, |ms| ms.saturating_add(1))
    }

    /// A request begins.
    pub(super) fn busy(self, activity: &Activity) -> Busy {
        activity.0.store(self.now(), Ordering::Relaxed);
        Busy(activity.clone())
    }
}

impl Crowd {
    pub(super) fn new(most: usize) -> Self {
        Self { most, started: Instant::now(), members: Vec::new(), tasks: JoinSet::new() }
    }

    /// Waits until one more fits in: at once where one is idle, which then has to go.
    pub(super) async fn make_room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.members.retain(|member| !member.task.is_finished());
            if self.members.len() < self.most {
                return;
            }
            match self.dispensable() {
                Some(place) => self.members.swap_remove(place).task.abort(),
                // All are being answered, or have just come.
                None => drop(tokio::time::timeout(GRACE / 2, self.tasks.join_next()).await),
            }
        }
    }

    /// One more connection.
    pub(super) fn join<F>(&mut self, connection: impl FnOnce(Clock, Activity) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let activity = Activity::default();
        let task = self.tasks.spawn(connection(Clock(self.started), activity.clone()));
        self.members.push(Member { opened: Instant::now(), activity, task });
    }

    /// The oldest that has no request, else the one whose answer has taken longest, if that
    /// is too long.
    fn dispensable(&self) -> Option<usize> {
        let clock = Clock(self.started);
        let since = |member: &Member| member.activity.0.load(Ordering::Relaxed);
        let all = || self.members.iter().enumerate();
        let idle = all().filter(|(_, it)| since(it) == 0 && it.opened.elapsed() >= GRACE);
        let oldest = idle.min_by_key(|(_, member)| member.opened);
        let stuck = || {
            let longest = all().min_by_key(|(_, member)| since(member))?;
            let ms = clock.now().saturating_sub(since(longest.1));
            (Duration::from_millis(ms) >= PATIENCE).then_some(longest)
        };
        oldest.or_else(stuck).map(|(place, _)| place)
    }
}
