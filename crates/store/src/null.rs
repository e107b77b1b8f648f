//! A sink that keeps nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use futures_core::future::BoxFuture;
use futures_util::TryStreamExt;
use ocib_image::{
    Blob, Digest, Document, Manifest, MediaType, Outcome, PlaceError, Placed, Progress, Sealer, Sealing,
    Sink, Unsealed,
};

use crate::blocking::blocking;

/// Makes layers for their digests alone and forgets their bytes: what tells whether an image is what a
/// build makes, without storing or sending either. Blobs whose digest is known are not read.
#[derive(Debug)]
pub struct NullSink {
    sealer: Sealer,
    manifests: Mutex<Vec<Manifest>>,
    configs: Mutex<HashMap<Digest, Bytes>>,
}

impl NullSink {
    /// A sink whose layers `sealer` makes.
    pub fn new(sealer: Sealer) -> Self {
        Self { sealer, manifests: Mutex::default(), configs: Mutex::default() }
    }

    /// The manifests that were put, in their order.
    pub fn manifests(&self) -> Vec<Manifest> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bytes of the config `digest`, if it was put.
    pub fn config(&self, digest: Digest) -> Option<Bytes> {
        self.configs.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned()
    }
}

impl Sink for NullSink {
    fn name(&self) -> String {
        "nowhere".to_owned()
    }

    fn concurrency(&self) -> usize {
        self.sealer.budget().layers
    }

    fn put_layer<'a>(
        &'a self,
        layer: &'a Unsealed,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Placed, PlaceError>> {
        let (unsealed, sealer, watched) = (layer.clone(), self.sealer.clone(), progress.clone());
        Box::pin(async move {
            let layer = blocking(move |wanted| {
                let mut take = |piece: Bytes| {
                    watched.advanced(piece.len() as u64);
                    wanted.check()
                };
                Ok(unsealed.seal(&sealer, &mut take)?)
            })
            .await?;
            progress.finished(Outcome::Stored);
            Ok(Placed { layer, outcome: Outcome::Stored, sealing: Sealing::Streamed })
        })
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Blob,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), PlaceError>> {
        Box::pin(async move {
            if blob.descriptor.media_type == MediaType::Config {
                let pieces = blob.source.stream(0).await?;
                let bytes: BytesMut = pieces
                    .try_fold(BytesMut::new(), async |mut all, piece| {
                        all.extend_from_slice(&piece);
                        Ok(all)
                    })
                    .await?;
                let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
                configs.insert(blob.descriptor.digest, bytes.freeze());
            }
            progress.finished(Outcome::Present);
            Ok(())
        })
    }

    fn put_manifest<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<(), PlaceError>> {
        if let Document::Manifest(manifest) = document {
            self.manifests.lock().unwrap_or_else(PoisonError::into_inner).push(manifest.clone());
        }
        Box::pin(std::future::ready(Ok(())))
    }

    /// The one reference is the root's digest.
    fn finish<'a>(&'a self, root: &'a Document) -> BoxFuture<'a, Result<Vec<String>, PlaceError>> {
        Box::pin(std::future::ready(Ok(vec![root.descriptor().digest.to_string()])))
    }
}
