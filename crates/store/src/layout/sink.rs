//! Writing images into a layout directory.

use std::path::PathBuf;

use futures_core::future::BoxFuture;
use ocib_image::{
    Blob, Descriptor, Document, ImageName, Outcome, PlaceError, Placed, Progress, Sealer, Sealing, Sink,
    Unsealed,
};

use super::{Name, directory::Directory};
use crate::blocking::blocking;

/// Writes images into an OCI layout directory, which is made if it is not there and keeps the images
/// that it has under other names.
///
/// Blobs appear under their digest when they are complete, and `index.json` is replaced in one step.
/// A process that is killed leaves at most files named `.ocib-*.partial`.
#[derive(Clone, Debug)]
pub struct LayoutSink {
    directory: Directory,
    names: Vec<Name>,
    sealer: Sealer,
}

impl LayoutSink {
    /// A sink for `directory`. Each of `names` is a tag, which becomes the annotation
    /// `org.opencontainers.image.ref.name`, or a full reference, which is kept as
    /// `io.containerd.image.name` beside its tag, as BuildKit does. Touches no file yet.
    pub fn new(directory: impl Into<PathBuf>, names: &[String], sealer: Sealer) -> Self {
        let names = names.iter().map(|name| Name::new(name)).collect();
        Self { directory: Directory(directory.into()), names, sealer }
    }

    async fn write_document(&self, document: &Document) -> Result<(), PlaceError> {
        let descriptor = document.descriptor();
        let blob = Blob::in_memory(descriptor.media_type, document.raw().clone());
        self.write_blob(&blob, &Progress::unwatched()).await.map(drop)
    }

    async fn write_blob(&self, blob: &Blob, progress: &Progress) -> Result<Outcome, PlaceError> {
        let (directory, blob, progress) = (self.directory.clone(), blob.clone(), progress.clone());
        blocking(move |wanted| {
            if directory.has(&blob.descriptor) {
                return Ok(Outcome::Present);
            }
            let mut source = blob.source.read()?;
            directory.write_blob(&blob.descriptor, &mut source, &progress, wanted)?;
            Ok(Outcome::Stored)
        })
        .await
    }

    fn pinned(&self, tag: Option<&str>, root: &Document) -> String {
        let directory = self.directory.0.clone();
        let digest = Some(root.descriptor().digest);
        ImageName::Layout { directory, tag: tag.map(str::to_owned), digest }.to_string()
    }
}

impl LayoutSink {
    /// Whether the directory has such a blob, by its size.
    pub fn has(&self, blob: &Descriptor) -> bool {
        self.directory.has(blob)
    }
}

impl Sink for LayoutSink {
    fn name(&self) -> String {
        self.directory.0.display().to_string()
    }

    fn concurrency(&self) -> usize {
        self.sealer.budget().layers
    }

    fn put_layer<'a>(
        &'a self,
        layer: &'a Unsealed,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Placed, PlaceError>> {
        Box::pin(async move {
            let (directory, sealer) = (self.directory.clone(), self.sealer.clone());
            let (unsealed, watched) = (layer.clone(), progress.clone());
            let work = blocking(move |wanted| {
                let known = unsealed.foreknown.layer.clone().filter(|known| directory.has(&known.descriptor));
                if let Some(layer) = known {
                    return Ok(Placed { layer, outcome: Outcome::Present, sealing: Sealing::Foreknown });
                }
                let layer = directory.write_layer(&unsealed, &sealer, &watched, wanted)?;
                Ok(Placed { layer, outcome: Outcome::Stored, sealing: Sealing::Streamed })
            });
            let placed = work.await?;
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
            progress.finished(self.write_blob(blob, progress).await?);
            Ok(())
        })
    }

    fn put_manifest<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<(), PlaceError>> {
        Box::pin(self.write_document(document))
    }

    /// References are `oci-layout://DIRECTORY[:TAG]@DIGEST`.
    fn finish<'a>(&'a self, root: &'a Document) -> BoxFuture<'a, Result<Vec<String>, PlaceError>> {
        Box::pin(async move {
            self.write_document(root).await?;
            let (directory, names, descriptor) =
                (self.directory.clone(), self.names.clone(), root.descriptor());
            blocking(move |_| Ok(directory.write_index(&descriptor, &names)?)).await?;
            Ok(match &self.names[..] {
                [] => vec![self.pinned(None, root)],
                names => names.iter().map(|name| self.pinned(Some(name.tag()), root)).collect(),
            })
        })
    }
}
