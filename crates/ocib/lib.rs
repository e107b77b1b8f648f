//! ocib builds OCI images from Dockerfiles as a stream: no daemon, no root, no scratch disk.
//!
//! This crate is the house for strangers: it holds nothing but its rooms. Each is a crate of its
//! own and can be taken alone.
//!
//! ```text
//!  dockerfile ─▶ build ─▶ image ◀─ store ◀─ net
//!   written      done      is      lives    spoken
//!                           ▲
//!                           └───── source
//!                                  comes from
//! ```
//!
//! - [`image`]: what an image is, how bytes become a layer, and the contracts of every place.
//! - [`dockerfile`]: what was written: text to instructions, word expansion, ignore patterns.
//! - [`build`]: what shall be done, then doing it. Knows no registry and no directory.
//! - [`store`]: where images live: registries, OCI layouts, archives.
//! - [`source`]: where bytes come from: directories.
//! - [`net`]: how HTTP is spoken.
//! - `kaniko`, `local` (features of those names): who carries out RUN.
//! - `model` (feature `model`): images of large models.
//!
//! The command `ocib` is the feature `cli`, which is on by default. Whoever wants the rooms turns
//! it off and gets none of its dependencies: `cargo add ocib --no-default-features`.
//!
//! # A build from end to end
//!
//! A Dockerfile and a directory become an image in an OCI layout. Any other [`image::Sink`], such
//! as [`store::RegistrySink`], would do as well.
//!
//! ```
//! use std::sync::Arc;
//!
//! use ocib::{
//!     build::{Request, Supplies, prepare, publish},
//!     dockerfile,
//!     image::{Budget, Codec, Event, Events, Limits, Sealer},
//!     source::Directory,
//!     store::{Images, LayoutSink, Registries, RegistriesOptions},
//! };
//!
//! /// Somebody who watches the build but does not say a word.
//! struct Quiet;
//! impl Events for Quiet {
//!     fn emit(&self, _: Event<'_>) {}
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! std::fs::write(directory.path().join("greeting"), "hello\n")?;
//! let layout = directory.path().join("out");
//!
//! let mut request = Request::new(dockerfile::parse(b"FROM scratch\nCOPY greeting /etc/\n")?);
//! request.context = Some(Arc::new(Directory::open(directory.path())?));
//!
//! let limits = Limits { memory_bytes: 64 << 20, jobs: 0, cores: 2 };
//! let sealer = Sealer::new(Budget::new(limits, Codec::GZIP)?);
//! let sink = LayoutSink::new(&layout, &["1.0".to_owned()], sealer);
//! let images = Images { registries: Registries::new(RegistriesOptions::default()) };
//! let events: Arc<dyn Events> = Arc::new(Quiet);
//!
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let published = runtime.block_on(async {
//!     let prepared = prepare(Arc::new(request), Supplies { images: &images, fetch: None, runs: None }).await?;
//!     publish(&prepared, &sink, &events).await
//! })?;
//!
//! // The same bytes on every machine, so the digest can be written down.
//! let digest = published.root.descriptor().digest;
//! assert_eq!(published.references, [format!("oci-layout://{}:1.0@{digest}", layout.display())]);
//! assert!(layout.join("blobs/sha256").join(digest.hex()).is_file());
//! # Ok(())
//! # }
//! ```

pub use ocib_build as build;
pub use ocib_dockerfile as dockerfile;
pub use ocib_image as image;
#[cfg(feature = "kaniko")]
pub use ocib_kaniko as kaniko;
#[cfg(feature = "local")]
pub use ocib_local as local;
#[cfg(feature = "model")]
pub use ocib_model as model;
pub use ocib_net as net;
pub use ocib_source as source;
pub use ocib_store as store;
