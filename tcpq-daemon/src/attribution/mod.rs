//! From kernel identities to names.
//!
//! - [`owners`]: who owns each listening socket
//! - [`process`]: what procfs tells of one process; `exits`: when it ends
//! - [`cgroup`], [`container`]: what the path of its control group tells
//! - [`pods`]: which Kubernetes pod a container is of
//! - [`netns`]: names of network namespaces
//! - `text`: names that others chose, made fit to show

pub mod cgroup;
pub mod container;
mod exits;
pub mod netns;
pub mod owners;
pub mod pods;
pub mod process;
mod text;

#[cfg(test)]
mod fixture;
