//! Where images live: registries, OCI layouts and docker archives.
//!
//! ```text
//!             ImageSource                        Sink
//!  Images ──┬─ Registries ── RegistryBlob        RegistrySink
//!           └─ resolve_in_layout                 LayoutSink
//!                                                ArchiveSink
//! ```
//!
//! [`Registries`] is one client for all hosts: it finds out how each wants to be spoken to, proves
//! who ocib is, tries again what is worth it, and verifies every byte that it pulls.
//! [`RegistrySink`] writes images through it; [`Images`] reads images by any name. What an image
//! is, and what a sink must promise, is said in `ocib-image`; how HTTP is spoken, in `ocib-net`.
//!
//! [`Logins`] is who ocib is to them: files and helpers first, then the clouds' own identities, which
//! come with the features `ecr` and `google`.
//!
//! Start with [`RegistrySink`], the way of a layer's bytes out of the machine.

mod archive;
mod auth;
mod blocking;
mod bridge;
mod cause;
mod denial;
#[cfg(feature = "ecr")]
mod ecr;
mod error;
mod images;
mod layout;
mod registry;

pub use archive::{ArchiveFormat, ArchiveOptions, ArchiveSink, Destination};
#[cfg(feature = "google")]
pub use auth::GoogleAuth;
pub use auth::{Anonymous, Cloud, DockerAuth, Login, Logins, OnLogin};
pub use cause::{Cause, Diagnosis};
pub use denial::IamDenial;
#[cfg(feature = "ecr")]
pub use ecr::{
    EcrAuth, EcrHost, EcrRegistry, EcrRepository, EcrSink, Encryption, Known, LayerUpload, NewRepository,
    Part, PolicyOptions, TagMutability, iam_policy,
};
pub use error::{Error, RegistryCode};
pub use images::Images;
pub use layout::{LayoutSelector, LayoutSink, resolve_in_layout};
pub use registry::{
    Greeting, HashFirst, PushOptions, Registries, RegistriesOptions, RegistryBlob, RegistrySink, Tagged,
    Write,
};
