//! From kernel identities to names.
//!
//! - [`netns`]: names of network namespaces
//! - [`process`]: what procfs tells of one process
//! - [`cgroup`], [`container`]: what the path of its control group tells
//! - `text`: names that others chose, made fit to show

pub mod cgroup;
pub mod container;
pub mod netns;
pub mod process;
mod text;

#[cfg(test)]
mod fixture;
