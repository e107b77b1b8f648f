//! Large models: what the files are, how they lie in layers, which manifests describe them.

mod pull;

pub use pull::{PullError, PullOptions, Pulled, Suitability, Way, check, pull};
