//! What the kernel's maps do not say: names of namespaces, and whose a listener is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tcpq_common::listener::{Listener, ListenerKey};

use crate::model::{group::Holder, ids::NetnsInode, owner::SharedOwner};

/// Knows names and owners. Everything is asked on the collector's thread, some of it for
/// every listener at every reading: answers come from memory. Only what is asked at a
/// listener's first sight may read a few small files.
pub trait Attribute: Send {
    /// A reading begins. What was learned elsewhere is taken in; nothing is waited for.
    fn refresh(&mut self, now: Instant);
    /// Differs from what it was before whenever another owner or holder may be told of any
    /// listener that was asked for.
    fn version(&mut self) -> u64;
    /// The CPU time that attribution has taken so far.
    fn spent(&self) -> Duration;
    /// A namespace's name for people: `host`, a name, or the inode number. Asked once for
    /// each namespace and reading, and when a listener is first seen.
    fn netns(&mut self, netns: NetnsInode) -> String;
    /// A listener is seen for the first time: who owns it decides on its series, for its
    /// life. It may have closed by now.
    fn sighted(&mut self, key: ListenerKey, listener: &Listener) -> SharedOwner;
    /// Who owns it now; asked at every reading between `sighted` and `forgotten`. The same
    /// owner should be the same allocation.
    fn owner(&mut self, key: ListenerKey) -> SharedOwner;
    /// Who has it open.
    fn holders(&mut self, key: ListenerKey) -> Arc<[Holder]>;
    /// It is gone, and will not be asked for again.
    fn forgotten(&mut self, key: ListenerKey);
}

/// Knows nothing: namespaces are numbers and owners are unknown.
#[derive(Clone, Debug, Default)]
pub struct Unknown {
    nobody: SharedOwner,
}

impl Attribute for Unknown {
    fn refresh(&mut self, _: Instant) {}

    fn version(&mut self) -> u64 {
        0
    }

    fn spent(&self) -> Duration {
        Duration::ZERO
    }

    fn netns(&mut self, netns: NetnsInode) -> String {
        netns.to_string()
    }

    fn sighted(&mut self, _: ListenerKey, _: &Listener) -> SharedOwner {
        Arc::clone(&self.nobody)
    }

    fn owner(&mut self, _: ListenerKey) -> SharedOwner {
        Arc::clone(&self.nobody)
    }

    fn holders(&mut self, _: ListenerKey) -> Arc<[Holder]> {
        Arc::default()
    }

    fn forgotten(&mut self, _: ListenerKey) {}
}
