//! stub
use crate::model::owner::{Container, Pod};
/// x
#[derive(Clone, Debug, Default)]
pub struct Pods;
impl Pods {
    /// x
    pub fn off() -> Self {
        Self
    }
    /// x
    pub fn lookup(&self, _c: &Container) -> Option<Pod> {
        None
    }
    /// x
    pub fn version(&self) -> u64 {
        0
    }
}
