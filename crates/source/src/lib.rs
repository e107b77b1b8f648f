//! Where bytes *come from*: places that are read, not written, and that know no image.
//!
//! | | is |
//! |---|---|
//! | [`Directory`] | a directory of this machine, such as a build context |
//! | [`Archive`] | a context that came as a tar archive, from a file or a pipe |
//! | [`Web`] | brings what `ADD` names by a URL |
//! | [`Git`] | a commit of a repository, for `ADD` and as a context |
//! | [`Hub`] | a commit of a model repository of the Hugging Face Hub |
//! | [`HubCache`] | the same, as the Hub's own client keeps it on this machine |
//! | [`Buckets`] | what a bucket of S3 or of Google Cloud Storage has below a prefix |
//! | [`Fetcher`] | all of them, as a build wants them |
//!
//! All of them are seen as an [`ocib_image::Tree`], which can be read again and again.
//!
//! Start with [`Directory`], the simplest, then [`Web`], whose trees are not on this machine.

mod archive;
mod bucket;
mod client;
mod directory;
mod error;
mod fetcher;
mod flat;
mod git;
mod hub;
mod listed;
mod span;
mod state;
mod transfer;
mod userinfo;
mod watched;
mod web;

pub use archive::{Archive, Scratch};
pub use bucket::{
    BucketLocation, BucketOptions, BucketProblem, BucketSnapshot, BucketUpload, BucketUploads, Buckets,
    Provider,
};
pub use directory::Directory;
pub use error::Error;
pub use fetcher::Fetcher;
pub use git::{Git, GitCredentials, GitOptions, GitProblem};
pub use hub::{Hub, HubCache, HubFiles, HubLocation, HubOptions, HubProblem, HubSnapshot};
pub use transfer::ReadAhead;
pub use web::{Web, WebLocation};
