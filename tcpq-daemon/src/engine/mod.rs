//! Raw samples in, snapshots out.

pub mod advice;
pub mod attribute;
pub mod audit;
pub mod collect;
pub mod derive;
pub mod groups;
pub mod incidents;
