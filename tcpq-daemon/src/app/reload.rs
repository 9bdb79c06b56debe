//! Settings that change while the daemon runs.

/// Reads the settings again and applies what can change.
pub trait Reload: Send {
    /// What became of it; an error: the new settings are wrong, and nothing has changed.
    fn reload(&mut self) -> anyhow::Result<Reloaded>;
}

/// What another reading of the settings has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that hold by now.
    pub applied: Vec<String>,
    /// Settings that hold once the daemon is started again.
    pub needs_restart: Vec<String>,
}
