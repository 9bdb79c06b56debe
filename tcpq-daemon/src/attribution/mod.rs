//! From kernel identities to names.

pub mod netns;
