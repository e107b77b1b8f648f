//! Pushing: layers and blobs into one repository, and names at the end.

use std::sync::Arc;
#[cfg(feature = "ecr")]
use std::sync::atomic::{AtomicU64, Ordering};

use futures_core::future::BoxFuture;
use ocib_image::{
    Blob, Codec, Compression, Digest, Document, Expected, Foreknown, HashReason, Layer, MediaType, Outcome,
    PlaceError, Placed, Progress, Reference, Sealer, Sealing, Sink, Unsealed,
};
use tokio::sync::OnceCell;

use super::{
    Registries, Repository, Scopes,
    present::Present,
    profile::{Profile, Upload},
    transfer::{LayerTransfer, Restarts, send_blob},
    upload::Session,
};
use crate::{Error, bridge};

/// Where an image goes, and how.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// The client.
    pub registries: Registries,
    /// The repository; a tag or digest of the reference has no meaning here.
    pub repository: Reference,
    /// The tags that the image gets at the end, if any.
    pub tags: Vec<String>,
    /// What makes the layers.
    pub sealer: Sealer,
    /// When a layer's digest is found out before its bytes are sent.
    pub hash_first: HashFirst,
    /// Images whose layers the new one may share, besides those that the tags name now.
    pub cache_from: Vec<Reference>,
}

/// When a layer's digest is found out before its bytes are sent: one more pass over its source, and
/// nothing to send if the registry has it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum HashFirst {
    /// Where an image that is there, or a push that began before, makes it likely.
    #[default]
    Auto,
    /// Each layer.
    Always,
    /// None.
    Never,
}

/// Writes one image, or several under one index, into a repository of a registry.
///
/// A layer is made while it is sent, and never stored on the way. A transfer that breaks begins
/// again from the layer's source; one whose source fails is given up at once. What the images have
/// that the tags name now is not sent again. Must be used within a runtime of tokio.
///
/// ```
/// use ocib_image::{Budget, Codec, Limits, Sealer, Sink};
/// use ocib_store::{HashFirst, PushOptions, Registries, RegistriesOptions, RegistrySink};
///
/// let limits = Limits { memory_bytes: 64 << 20, jobs: 2, cores: 1 };
/// let sink = RegistrySink::new(PushOptions {
///     registries: Registries::new(RegistriesOptions::default()),
///     repository: "registry.example/team/app".parse()?,
///     tags: vec!["1.0".to_owned()],
///     sealer: Sealer::new(Budget::new(limits, Codec::GZIP)?),
///     hash_first: HashFirst::Auto,
///     cache_from: Vec::new(),
/// });
/// assert_eq!(sink.name(), "registry.example/team/app");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RegistrySink {
    options: PushOptions,
    present: Arc<OnceCell<Present>>,
    /// What is asked for in its repository.
    pub(super) scopes: fn(&Reference) -> Scopes,
    #[cfg(feature = "ecr")]
    layer_api: Option<crate::LayerApi>,
    /// What the largest layer that is known of takes while it is sent in parts.
    #[cfg(feature = "ecr")]
    memory_of_one: Arc<AtomicU64>,
}

impl Sink for RegistrySink {
    fn name(&self) -> String {
        self.options.repository.name()
    }

    fn concurrency(&self) -> usize {
        #[cfg(feature = "ecr")]
        if self.layer_api.is_some() {
            return self.options.sealer.budget().layers_of(self.memory_of_one.load(Ordering::Relaxed));
        }
        self.options.sealer.budget().layers
    }

    fn check<'a>(&'a self, images: &'a [Expected]) -> BoxFuture<'a, Result<(), PlaceError>> {
        Box::pin(async move { Ok(self.check_limits(images)?) })
    }

    fn repository(&self) -> Option<&Reference> {
        Some(&self.options.repository)
    }

    fn current(&self) -> BoxFuture<'_, Result<Vec<Document>, PlaceError>> {
        Box::pin(async move { Ok(self.present().await?.documents().to_vec()) })
    }

    fn put_layer<'a>(
        &'a self,
        layer: &'a Unsealed,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Placed, PlaceError>> {
        Box::pin(async move {
            let placed = self.push_layer(layer, progress).await?;
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
            progress.finished(self.push_blob(blob, progress).await?);
            Ok(())
        })
    }

    fn put_manifest<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<(), PlaceError>> {
        Box::pin(async move { Ok(self.put_document(document).await?) })
    }

    fn finish<'a>(&'a self, root: &'a Document) -> BoxFuture<'a, Result<Vec<String>, PlaceError>> {
        Box::pin(async move {
            self.put_document(root).await?;
            let digest = root.descriptor().digest;
            for tag in &self.options.tags {
                self.name_document(tag, digest, root).await?;
            }
            let pinned = self.options.repository.pinned(digest).to_string();
            Ok(vec![pinned; self.options.tags.len().max(1)])
        })
    }
}

impl RegistrySink {
    /// A sink that has spoken to nobody yet.
    pub fn new(options: PushOptions) -> Self {
        Self {
            options,
            present: Arc::default(),
            scopes: Scopes::push,
            #[cfg(feature = "ecr")]
            layer_api: None,
            #[cfg(feature = "ecr")]
            memory_of_one: Arc::new(crate::LayerApi::memory_bytes(0).into()),
        }
    }

    /// The same sink, which sends layers through ECR's own API: slower, but what one process has sent
    /// the next one need not send again.
    #[cfg(feature = "ecr")]
    #[must_use]
    pub fn with_layer_api(mut self, api: crate::LayerApi) -> Self {
        self.layer_api = Some(api);
        self
    }

    pub(super) fn open(&self) -> Repository {
        let name = &self.options.repository;
        self.options.registries.repository(name, (self.scopes)(name))
    }

    fn profile(&self) -> Profile {
        let profile = self.options.registries.profile(self.options.repository.registry());
        #[cfg(feature = "ecr")]
        if self.layer_api.is_some() {
            return profile.with_blobs_up_to(crate::LayerApi::LAYER_BYTES_MAX);
        }
        profile
    }

    /// The size of the largest layer that the registry takes, if it has a limit that is known.
    pub fn layer_bytes_max(&self) -> Option<u64> {
        Some(self.profile().blob_bytes_max).filter(|most| *most < u64::MAX)
    }

    /// What is known to be there, asked for once.
    pub(super) async fn present(&self) -> Result<&Present, Error> {
        self.present.get_or_try_init(|| Present::read(&self.options, self.scopes)).await
    }

    /// Whether the repository has the blob.
    pub(super) async fn has(&self, repository: &Repository, digest: Digest) -> Result<bool, Error> {
        Ok(self.present().await?.has(digest) || repository.has_blob(digest).await?)
    }

    async fn put_document(&self, document: &Document) -> Result<(), Error> {
        let digest = document.descriptor().digest;
        let present = self.present().await?;
        if !present.has(digest) {
            self.name_document(&digest.to_string(), digest, document).await?;
            present.add(digest);
        }
        Ok(())
    }

    /// Makes `target` name the document. Where it does already nothing is sent: a registry with
    /// immutable tags refuses even the same document.
    async fn name_document(&self, target: &str, digest: Digest, document: &Document) -> Result<(), Error> {
        let repository = self.open();
        if repository.document_digest(target).await? == Some(digest) {
            return Ok(());
        }
        let Err(error) = repository.put_document(target, document).await else { return Ok(()) };
        // The answer to a first attempt can get lost, and then a tag that must not move refuses the second one.
        match error.status().is_some_and(|status| status.is_client_error())
            && repository.document_digest(target).await.ok().flatten() == Some(digest)
        {
            true => Ok(()),
            false => Err(error),
        }
    }

    async fn push_layer(&self, layer: &Unsealed, progress: &Progress) -> Result<Placed, Error> {
        self.check_layer(layer, progress)?;
        let repository = self.open();
        if let Some(known) = &layer.foreknown.layer {
            let digest = known.descriptor.digest;
            if let Some(outcome) = self.find(&repository, digest, &layer.foreknown.repositories).await? {
                return Ok(Placed { layer: known.clone(), outcome, sealing: Sealing::Foreknown });
            }
        }
        let mut sealing = Sealing::Streamed;
        let mut sealed = None;
        let reason = match self.goes_on(layer).await? {
            true => None,
            false => self.reason_to_hash(&repository, &layer.foreknown, layer.source.bytes()).await?,
        };
        if reason.is_none() {
            self.leave_mark(layer).await;
        }
        if let Some(reason) = reason {
            progress.hashing(reason);
            sealing = Sealing::HashedFirst(reason);
            let hashed = bridge::hash(layer.clone(), self.options.sealer.clone(), progress.clone()).await?;
            if let Some(outcome) = self.find(&repository, hashed.descriptor.digest, &[]).await? {
                return Ok(Placed { layer: hashed, outcome, sealing });
            }
            self.check_size(hashed.descriptor.size)?;
            progress.sending();
            sealed = Some(hashed);
        }
        let (layer, outcome) = self.send_layer(&repository, layer, progress, sealed).await?;
        self.present().await?.add(layer.descriptor.digest);
        Ok(Placed { layer, outcome, sealing })
    }

    /// How the repository has the blob, or comes to have it without its bytes being sent: out of
    /// `others`, or a repository of the images that are known.
    async fn find(
        &self,
        repository: &Repository,
        digest: Digest,
        others: &[Reference],
    ) -> Result<Option<Outcome>, Error> {
        if self.has(repository, digest).await? {
            return Ok(Some(Outcome::Present));
        }
        let known = self.present().await?.elsewhere(digest);
        for from in others.iter().chain(&known) {
            if self.is_mountable(from)
                && let Ok(session) = repository.mount(digest, from).await
            {
                match session {
                    None => return Ok(Some(Outcome::Mounted)),
                    Some(session) => session.abandon().await,
                }
            }
        }
        Ok(None)
    }

    /// Why the digest of a layer, of which that is known and whose tar has so many bytes, should be
    /// known before it is sent, if it should.
    pub(super) async fn reason_to_hash(
        &self,
        repository: &Repository,
        known: &Foreknown,
        bytes: Option<u64>,
    ) -> Result<Option<HashReason>, Error> {
        if self.profile().upload == Upload::Whole {
            return Ok(Some(HashReason::Needed));
        }
        match self.options.hash_first {
            HashFirst::Never => return Ok(None),
            HashFirst::Always => return Ok(Some(HashReason::Asked)),
            HashFirst::Auto => {}
        }
        if let Some(recipe) = known.recipe
            && self.present().await?.has_recipe(recipe)
        {
            return Ok(Some(HashReason::Recipe));
        }
        let Some(marker) = marker(known, bytes) else { return Ok(None) };
        let has_begun = repository.has_blob(marker.descriptor.digest).await?;
        Ok(has_begun.then_some(HashReason::Begun))
    }

    /// Whether the layer is just the one whose upload was cut off, and goes on without its beginning: to hash it first
    /// would read that, for a digest that the repository does not have.
    async fn goes_on(&self, layer: &Unsealed) -> Result<bool, Error> {
        #[cfg(feature = "ecr")]
        if let Some(api) = self.layer_api.as_ref().filter(|_| self.options.hash_first == HashFirst::Auto) {
            return api.has_begun(self.options.repository.repository(), layer).await;
        }
        let _ = layer;
        Ok(false)
    }

    /// Notes in the repository that a push of the layer begins. Without a mark the next run may send it
    /// again, and that is all.
    async fn leave_mark(&self, layer: &Unsealed) {
        if self.options.hash_first == HashFirst::Auto
            && let Some(marker) = marker(&layer.foreknown, layer.source.bytes())
        {
            let _ = self.push_blob(&marker, &Progress::unwatched()).await;
        }
    }

    async fn send_layer(
        &self,
        repository: &Repository,
        layer: &Unsealed,
        progress: &Progress,
        mut sealed: Option<Layer>,
    ) -> Result<(Layer, Outcome), Error> {
        #[cfg(feature = "ecr")]
        if let Some(api) = &self.layer_api {
            let sealer = &self.options.sealer;
            let sent = api.send(self.options.repository.repository(), layer, sealer, progress).await?;
            let too_large = || self.too_large(crate::LayerApi::LAYER_BYTES_MAX + 1);
            return Ok((sent.ok_or_else(too_large)?, Outcome::Stored));
        }
        let mut restarts = Restarts::default();
        loop {
            // A transfer can fail after its last byte, and then the layer may be there all the same.
            if let Some(layer) = sealed.as_ref().filter(|_| restarts.failures > 0)
                && repository.has_blob(layer.descriptor.digest).await?
            {
                return Ok((layer.clone(), Outcome::Stored));
            }
            let session = repository.start_upload().await?;
            let transfer = LayerTransfer {
                layer,
                sealer: &self.options.sealer,
                limit: self.profile().blob_bytes_max,
                progress,
            };
            match transfer.send(session, &mut sealed).await {
                Ok(Some(layer)) => return Ok((layer, Outcome::Stored)),
                Ok(None) => return Err(self.too_large(self.profile().blob_bytes_max + 1)),
                Err(error) => restarts.pause(error, repository, progress).await?,
            }
        }
    }

    async fn push_blob(&self, blob: &Blob, progress: &Progress) -> Result<Outcome, Error> {
        let repository = self.open();
        let mut restarts = Restarts::default();
        loop {
            if self.has(&repository, blob.descriptor.digest).await? {
                return Ok(if restarts.failures == 0 { Outcome::Present } else { Outcome::Stored });
            }
            self.check_size(blob.descriptor.size)?;
            let Some(session) = self.mount(&repository, blob).await? else { return Ok(Outcome::Mounted) };
            match send_blob(session, blob, progress).await {
                Ok(()) => return Ok(Outcome::Stored),
                Err(error) => restarts.pause(error, &repository, progress).await?,
            }
        }
    }

    /// Gets the blob from its own repository, where that is in the same registry (`None`), or begins
    /// an upload. A registry that refuses to mount says so in many ways, and an upload is the answer
    /// to all of them.
    async fn mount(&self, repository: &Repository, blob: &Blob) -> Result<Option<Session>, Error> {
        if let Some(from) = blob.source.repository().filter(|from| self.is_mountable(from))
            && let Ok(session) = repository.mount(blob.descriptor.digest, from).await
        {
            return Ok(session);
        }
        Ok(Some(repository.start_upload().await?))
    }

    /// Whether blobs can be taken from the repository `from`.
    pub(super) fn is_mountable(&self, from: &Reference) -> bool {
        let own = &self.options.repository;
        self.profile().mounts && from.registry() == own.registry() && from.repository() != own.repository()
    }

    /// Compares with the registry's profile.
    fn check_limits(&self, images: &[Expected]) -> Result<(), Error> {
        let Profile { blob_bytes_max, layers_max, tag_chars_max, .. } = self.profile();
        let registry = || self.options.repository.registry().to_owned();
        for tag in &self.options.tags {
            let count = tag.chars().count();
            if count > tag_chars_max {
                let (tag, limit) = (tag.clone(), tag_chars_max);
                return Err(Error::TagTooLong { tag, count, registry: registry(), limit });
            }
        }
        for Expected { platform, layers, .. } in images {
            if layers.len() > layers_max {
                let (platform, count) = (Box::new(platform.clone()), layers.len());
                return Err(Error::TooManyLayers {
                    platform,
                    count,
                    registry: registry(),
                    limit: layers_max,
                });
            }
            let sizes = layers.iter().filter_map(|layer| Some((&layer.what, layer.stored_bytes?)));
            for (what, bytes) in sizes {
                if bytes > blob_bytes_max {
                    let what = format!("{what}, a layer for {}", registry());
                    return Err(Error::TooLarge { what, bytes, limit: blob_bytes_max });
                }
            }
            #[cfg(feature = "ecr")]
            self.check_memory(layers)?;
        }
        Ok(())
    }

    /// Whether parts of the layers fit into the memory budget.
    #[cfg(feature = "ecr")]
    fn check_memory(&self, layers: &[ocib_image::ExpectedLayer]) -> Result<(), Error> {
        if self.layer_api.is_none() {
            return Ok(());
        }
        let budget = self.options.sealer.budget();
        for layer in layers {
            // The parts of a layer that is compressed on its way are as large as if that gained nothing.
            let most = layer.stored_bytes.or_else(|| layer.bytes_max());
            let needed = crate::LayerApi::memory_bytes(most.unwrap_or_default());
            self.memory_of_one.fetch_max(needed, Ordering::Relaxed);
            // With the smallest parts one layer always goes; see `Budget::layers_of`.
            if needed > budget.of_one_layer() && needed > crate::LayerApi::memory_bytes(0) {
                let (what, bytes) = (layer.what.clone(), budget.memory_bytes);
                let least = bytes - budget.of_one_layer() + needed;
                return Err(Error::PartsNeedMemory { what, bytes, least });
            }
        }
        Ok(())
    }

    /// What is certainly too large is refused before its first byte; of what may be, it is said.
    fn check_layer(&self, layer: &Unsealed, progress: &Progress) -> Result<(), Error> {
        let Some(bytes) = layer.source.bytes() else { return Ok(()) };
        if layer.compression == Compression::Fixed(Codec::Plain) {
            return self.check_size(bytes);
        }
        let limit = self.profile().blob_bytes_max;
        if ocib_image::ExpectedLayer::compressed_bytes_max(bytes) > limit {
            progress.warned(&format!(
                "a layer of {bytes} bytes is compressed on its way to {}, which takes at most {limit} of a layer: \
                 if that does not make it small enough, the push ends there; splitting its COPY is safe",
                self.options.repository.name()
            ));
        }
        Ok(())
    }

    fn check_size(&self, bytes: u64) -> Result<(), Error> {
        match bytes <= self.profile().blob_bytes_max {
            true => Ok(()),
            false => Err(self.too_large(bytes)),
        }
    }

    fn too_large(&self, bytes: u64) -> Error {
        let what = format!("a layer for {}", self.options.repository.name());
        Error::TooLarge { what, bytes, limit: self.profile().blob_bytes_max }
    }
}

/// A layer of fewer bytes is sent before it would be hashed, so no mark is left of it.
const MARKED_BYTES_MIN: u64 = 16 << 20;

/// A small blob that says that a push of a layer of that recipe began. If the push is cut off, its
/// successor, which may be on a fresh machine, sees that and hashes the layer before sending it: the
/// digest of what was sent is not known to it, but the mark's is. No manifest refers to a mark, so the
/// registry's garbage collection takes it away. Small layers have none.
fn marker(known: &Foreknown, bytes: Option<u64>) -> Option<Blob> {
    let recipe = known.recipe.filter(|_| bytes.is_some_and(|bytes| bytes >= MARKED_BYTES_MIN))?;
    let text = format!("ocib began to push a layer of the recipe {recipe} into this repository\n");
    Some(Blob::in_memory(MediaType::from("text/plain"), text.into()))
}
