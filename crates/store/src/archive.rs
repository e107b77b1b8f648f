//! Archives: an image in one tar file, for `skopeo`, `docker load` and `podman load`.

mod read;
mod writer;

use std::{
    fmt,
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use futures_core::future::BoxFuture;
use ocib_image::{
    ArchiveFormat, Blob, Document, Manifest, Outcome, PlaceError, Placed, Progress, Reference, Sealer, Sink,
    Unsealed,
};
use serde::Serialize;

use crate::{
    Error,
    blocking::{Wanted, blocking},
    layout::{BLOBS, INDEX, IndexFile, Name},
};
pub(crate) use read::Archived;
use writer::{ArchiveWriter, Watch};

/// Where an archive goes.
pub enum Destination {
    /// A file, which has its name when it is complete. A pipe or device of that name is written to
    /// as a stream.
    File(PathBuf),
    /// A pipe such as stdout. Each layer is made twice, since its header needs its digest and size.
    Stream(Box<dyn Write + Send>),
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({})", self.name())
    }
}

impl Destination {
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stream(_) => "-".to_owned(),
        }
    }
}

/// What an [`ArchiveSink`] is made of.
#[derive(Debug)]
pub struct ArchiveOptions {
    /// For whom it is.
    pub format: ArchiveFormat,
    /// Where it goes.
    pub destination: Destination,
    /// Tags or full references, as for [`crate::LayoutSink`]; a docker archive takes any as a
    /// reference.
    pub names: Vec<String>,
    /// Makes the layers.
    pub sealer: Sealer,
}

/// Writes an image into one tar, front to back, in the order of the calls. The same calls give the
/// same bytes: entries have mode 0644, owner 0:0 and no time.
///
/// A file grows under a temporary name beside its own and is removed when the sink is dropped before
/// [`Sink::finish`]. What fails is taken back from a file; a stream is broken then.
#[derive(Clone, Debug)]
pub struct ArchiveSink {
    name: String,
    format: ArchiveFormat,
    names: Vec<Name>,
    /// Complete references, for `manifest.json`.
    repo_tags: Vec<String>,
    sealer: Sealer,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
enum State {
    New(Destination),
    Open(ArchiveWriter),
    Broken,
}

impl ArchiveSink {
    /// A sink that touches no file yet. Fails if a name cannot stand in a docker archive.
    pub fn new(options: ArchiveOptions) -> Result<Self, Error> {
        let ArchiveOptions { format, destination, names, sealer } = options;
        let repo_tags = match format {
            ArchiveFormat::Oci => Vec::new(),
            ArchiveFormat::Docker => names.iter().map(|name| repo_tag(name)).collect::<Result<_, _>>()?,
        };
        // In a docker archive, a word without a tag names a repository, in either of its indexes.
        let names = match format {
            ArchiveFormat::Oci => names.iter().map(|name| Name::new(name)).collect(),
            ArchiveFormat::Docker => repo_tags.iter().map(|name| Name::new(name)).collect(),
        };
        let name = destination.name();
        Ok(Self {
            name,
            format,
            names,
            repo_tags,
            sealer,
            state: Arc::new(Mutex::new(State::New(destination))),
        })
    }

    /// Does `work` on the archive, alone. If it fails, the archive is as it was before or, where
    /// that cannot be, broken.
    async fn with_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut ArchiveWriter, &Wanted) -> Result<T, PlaceError> + Send + 'static,
    ) -> Result<T, PlaceError> {
        let (state, name) = (self.state.clone(), self.name.clone());
        blocking(move |wanted| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            // Stays so if the work panics.
            let mut writer = match std::mem::replace(&mut *state, State::Broken) {
                State::New(destination) => ArchiveWriter::create(destination)?,
                State::Open(writer) => writer,
                State::Broken => return Err(Error::ArchiveBroken { name }.into()),
            };
            let result = work(&mut writer, wanted);
            if result.is_ok() || writer.roll_back() {
                *state = State::Open(writer);
            }
            result
        })
        .await
    }

    /// `manifest.json` of the Docker Image Specification 1.2, with paths as Docker 25 writes them.
    fn manifest_json(&self, manifest: &Manifest) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Item<'a> {
            config: String,
            repo_tags: Option<&'a [String]>,
            layers: Vec<String>,
        }
        let path = |digest: &ocib_image::Digest| format!("{BLOBS}/{}", digest.hex());
        let item = Item {
            config: path(&manifest.config().digest),
            repo_tags: (!self.repo_tags.is_empty()).then_some(&self.repo_tags),
            layers: manifest.layers().iter().map(|layer| path(&layer.digest)).collect(),
        };
        serde_json::to_vec(&[item]).expect("strings and lists always serialise")
    }

    /// The files that lead to `root`, which are last in the archive.
    fn files(&self, root: &Document) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
        let mut index = IndexFile::new();
        index.insert(&root.descriptor(), &self.names);
        let index = (INDEX, index.to_bytes());
        match (self.format, root) {
            (ArchiveFormat::Oci, _) => Ok(vec![index]),
            (ArchiveFormat::Docker, Document::Manifest(manifest)) => {
                Ok(vec![index, ("manifest.json", self.manifest_json(manifest))])
            }
            (ArchiveFormat::Docker, Document::Index(_)) => Err(Error::ManyPlatforms),
        }
    }

    fn pinned(&self, root: &Document) -> Vec<String> {
        let (scheme, digest) = (self.format.scheme(), root.descriptor().digest);
        let name_of = |name: &Name| match self.format {
            ArchiveFormat::Oci => name.tag().to_owned(),
            ArchiveFormat::Docker => name.image().unwrap_or(name.tag()).to_owned(),
        };
        let names = self.names.iter().map(|name| format!("{scheme}{}:{}@{digest}", self.name, name_of(name)));
        match self.names[..] {
            [] => vec![format!("{scheme}{}@{digest}", self.name)],
            _ => names.collect(),
        }
    }
}

impl Sink for ArchiveSink {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn concurrency(&self) -> usize {
        1
    }

    fn put_layer<'a>(
        &'a self,
        layer: &'a Unsealed,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Placed, PlaceError>> {
        Box::pin(async move {
            let (unsealed, sealer, watched) = (layer.clone(), self.sealer.clone(), progress.clone());
            let put = self.with_writer(move |writer, wanted| {
                let watch = Watch { progress: &watched, wanted };
                writer.put_layer(&mut |take| unsealed.seal(&sealer, take), watch)
            });
            let placed = put.await?;
            progress.finished(placed.outcome);
            Ok(placed)
        })
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Blob,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), PlaceError>> {
        Box::pin(async move {
            let (blob, watched) = (blob.clone(), progress.clone());
            let put = self.with_writer(move |writer, wanted| {
                if writer.has(&blob.descriptor.digest) {
                    return Ok(Outcome::Present);
                }
                let mut source = blob.source.read()?;
                let watch = Watch { progress: &watched, wanted };
                writer.put_blob(&blob.descriptor, &mut source, watch)?;
                Ok(Outcome::Stored)
            });
            progress.finished(put.await?);
            Ok(())
        })
    }

    fn put_manifest<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<(), PlaceError>> {
        Box::pin(async move {
            if let (ArchiveFormat::Docker, Document::Index(_)) = (self.format, document) {
                return Err(Error::ManyPlatforms.into());
            }
            let document = document.clone();
            self.with_writer(move |writer, wanted| writer.put_document(&document, wanted)).await
        })
    }

    /// References are `oci-archive://FILE[:TAG]@DIGEST` or `docker-archive://FILE[:REFERENCE]@DIGEST`.
    /// Writes the archive's end: after it, only what is there already can be put again.
    fn finish<'a>(&'a self, root: &'a Document) -> BoxFuture<'a, Result<Vec<String>, PlaceError>> {
        Box::pin(async move {
            let (files, document) = (self.files(root)?, root.clone());
            self.with_writer(move |writer, wanted| writer.finish(&document, &files, wanted)).await?;
            Ok(self.pinned(root))
        })
    }
}

fn repo_tag(name: &str) -> Result<String, Error> {
    let reference = name.parse::<Reference>().ok().filter(|reference| reference.digest().is_none());
    let reference = reference.ok_or_else(|| Error::BadArchiveName { name: name.to_owned() })?;
    Ok(reference.or_latest().to_string())
}

#[cfg(test)]
mod tests;
