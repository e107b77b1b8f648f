//! What an OCI image *is*, and how bytes become a layer with a known digest.
//!
//! ```text
//!  LayerSource ── tar ──▶ sha256 (diff ID) ──▶ codec ──▶ sha256 (digest) ──▶ a Sink
//!       └──── Unsealed: no digest yet ────┘                     └──▶ Layer: all three known
//! ```
//!
//! Nothing here speaks HTTP, knows a registry or needs an async runtime: sources and codecs are
//! plain blocking code, and the contracts that others implement ([`ImageSource`], [`Origin`],
//! [`Sink`], [`BlobSource`], [`Tree`], [`LayerSource`], [`RunBackend`], [`Fetch`], [`Credentials`], [`Events`]) return
//! boxed futures where they wait for a network.
//!
//! Start with [`Unsealed::seal`], the path of every byte that ocib makes, then [`Sink`].

mod budget;
mod codec;
mod compression;
mod config;
mod credential;
mod descriptor;
mod digest;
mod entry;
mod error;
mod event;
mod fetch;
mod git;
mod inputs;
mod layer;
mod manifest;
mod media_type;
mod memory;
mod origin;
mod place;
mod platform;
mod pool;
mod reference;
mod resume;
mod run;
mod tar;
mod tree;
mod untar;

pub use budget::{Budget, Limits};
pub use codec::decode;
pub use compression::{Codec, Compression};
pub use config::{Config, ContainerConfig, Healthcheck, History, Runtime};
pub use credential::{Credential, Credentials, Secret};
pub use descriptor::{Annotations, Descriptor};
pub use digest::{DiffId, Digest, Digester};
pub use entry::{Entry, EntryKind, Timestamp, Xattrs};
pub use error::{Error, LayerError, PlaceError, PlaceErrorKind};
pub use event::{Event, Events, HashReason, Outcome, Progress, TaskId};
pub use fetch::{Fetch, Fetched, Remote};
pub use git::{GitReference, GitTransport};
pub use inputs::{Inputs, InputsDigester};
pub use layer::{Foreknown, Layer, LayerSource, RECIPE_ANNOTATION, Sealer, Unsealed};
pub use manifest::{Document, Index, MAX_DOCUMENT_BYTES, Manifest};
pub use media_type::MediaType;
pub use memory::Memory;
pub use origin::Origin;
pub use place::{
    ArchiveFormat, Blob, BlobSource, ByteStream, Expected, ExpectedLayer, Image, ImageName, ImageSource,
    Placed, Sealing, Sink,
};
pub use platform::Platform;
pub use reference::Reference;
pub use resume::{
    Checkpoint, Content, Entered, Marked, Place, Resumable, Segment, is_lasting, segments, segments_identity,
    write_segments,
};
pub use run::{
    RunBackend, RunDialect, RunError, RunErrorKind, RunFeatures, RunFiles, RunJob, RunSecret, RunSecretSource,
};
pub use tar::{TarWriter, archive_bytes, encode_header};
pub use tree::{Identity, LinkGroup, Node, NodeKind, Tree};
pub use untar::{ArchiveCodec, ExpansionLimit, TarEntry, TarReader, decode_archive, is_archive};
