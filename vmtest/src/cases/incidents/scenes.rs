//! What goes wrong, or does not, at one listener each. Each has a namespace of its own.

mod clients;
mod programs;

use anyhow::Result;

use super::causes::Scene;
use crate::bench::Bench;

/// All that can be played here.
pub(super) fn all(bench: &Bench) -> Result<Vec<(&'static str, Box<dyn Scene>)>> {
    let mut scenes = programs::all(bench)?;
    scenes.extend(clients::all(bench)?);
    Ok(scenes)
}
