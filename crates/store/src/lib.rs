//! Where images live: registries, OCI layouts and docker archives.
//!
//! ```text
//!             Origin                                           Sink
//!  Images ──┬─ a repository ─┐                              ┌─ RegistrySink
//!           ├─ a layout      ├─▶ Documents ── copy_image ──▶├─ LayoutSink
//!           └─ an archive   ─┘      └──────── verify_image  ├─ ArchiveSink
//!                                                           └─ NullSink
//! ```
//!
//! [`Registries`] is one client for all hosts: it finds out how each wants to be spoken to, proves
//! who ocib is, tries again what is worth it, and verifies every byte that it pulls.
//! [`RegistrySink`] writes images through it; [`Images`] opens images by any name, and [`copy_image`]
//! brings them from one place to another. What an image is, and what a sink must promise, is said in
//! `ocib-image`; how HTTP is spoken, in `ocib-net`.
//!
//! [`Logins`] is who ocib is to them: files and helpers first, then the clouds' own identities, which
//! come with the features `ecr` and `google`.
//!
//! [`RegistryConfig`] is where registries really are, in the files of containers' tools: mirrors,
//! insecure hosts, certificates.
//!
//! Start with [`RegistrySink`], the way of a layer's bytes out of the machine.

mod archive;
mod auth;
mod blocking;
mod bridge;
mod cause;
mod config;
mod copy;
mod denial;
mod documents;
#[cfg(feature = "ecr")]
mod ecr;
mod error;
mod images;
mod layout;
mod null;
mod origin;
mod registry;
mod verify;

pub use archive::{ArchiveOptions, ArchiveSink, Destination};
#[cfg(feature = "google")]
pub use auth::GoogleAuth;
pub use auth::{Anonymous, Cloud, DockerAuth, Login, Logins, OnLogin};
pub use cause::{Cause, Diagnosis};
pub use config::{ConfigProblem, RegistryConfig};
pub use copy::copy_image;
pub use denial::IamDenial;
pub use documents::Documents;
#[cfg(feature = "ecr")]
pub use ecr::{
    EcrAuth, EcrHost, EcrPublic, EcrRegistry, EcrRepository, EcrSink, Encryption, Known, LayerApi,
    LayerUpload, NewRepository, Part, PolicyOptions, TagMutability, iam_policy,
};
pub use error::{Error, RegistryCode};
pub use images::Images;
pub use layout::{LayoutSelector, LayoutSink, resolve_in_layout};
pub use null::NullSink;
pub use registry::{
    Fate, Foreseen, Foresight, Greeting, HashFirst, MirrorFailure, OnMirrorFailure, PushOptions, Registries,
    RegistriesOptions, RegistryBlob, RegistryOrigin, RegistrySink, Tagged, Tried, Write,
};
pub use verify::{Checked, CheckedKind, VerifyOptions, verify_image};
