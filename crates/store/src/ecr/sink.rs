//! Pushing to ECR: what its own API knows beforehand, so that no layer is sent in vain.

use std::{fmt, path::PathBuf, sync::Arc};

use futures_core::future::BoxFuture;
use ocib_image::{Blob, Digest, Document, Expected, PlaceError, Placed, Progress, Reference, Sink, Unsealed};

#[cfg(doc)]
use super::LayerApi;
use super::{EcrAuth, EcrPublic, Known, NewRepository, api::ALREADY_EXISTS};
use crate::{Error, PushOptions, Registries, RegistrySink, Tagged, Write};

/// A [`RegistrySink`] for a registry of ECR. Before anything is sent it makes sure that
/// the repository is there, creates it if that was asked for, that what is there may be read, and that
/// no tag that stays where it is would have to move. What the identity may not ask is left to the
/// push itself.
#[derive(Clone)]
pub struct EcrSink {
    inner: RegistrySink,
    registries: Registries,
    auth: Arc<EcrAuth>,
    names: Vec<Reference>,
    create: Option<NewRepository>,
}

impl EcrSink {
    /// A sink that has spoken to nobody yet. `create` is how a missing repository is made, if it is.
    pub fn new(options: PushOptions, auth: Arc<EcrAuth>, create: Option<NewRepository>) -> Self {
        let names = options.tags.iter().filter_map(|tag| named(&options.repository, tag));
        let names = names.collect();
        Self {
            registries: options.registries.clone(),
            inner: RegistrySink::new(options),
            auth,
            names,
            create,
        }
    }

    /// The same sink, which sends layers through ECR's own API; see [`LayerApi`].
    #[must_use]
    pub fn with_layer_api(mut self, journal: Option<PathBuf>) -> Self {
        let api = self.inner.repository().and_then(|name| self.auth.layer_api(name.registry(), journal));
        if let Some(api) = api {
            self.inner = self.inner.with_layer_api(api);
        }
        self
    }

    async fn prepare(&self, images: &[Expected]) -> Result<(), Error> {
        let Some(repository) = self.inner.repository() else { return Ok(()) };
        if let Some(public) = self.auth.public(repository.registry()) {
            return self.prepare_public(&public, repository).await;
        }
        let mut tagged = Vec::new();
        for name in &self.names {
            tagged.push((name, self.registries.look_up(name).await?));
        }
        if tagged.iter().any(|(_, found)| *found == Tagged::NoRepository) {
            return self.make_repository(repository).await;
        }
        let Some(api) = self.auth.api(repository.registry()).await else { return Ok(()) };
        // Without this permission each layer would be sent each time.
        api.missing(repository.repository(), &[Digest::of(&[])]).await?;
        let Some(wanted) = images.first().and_then(|image| image.root) else { return Ok(()) };
        let moved = tagged.into_iter().filter_map(|(name, found)| match found {
            Tagged::Names(there) if there != wanted => Some((name, there)),
            _ => None,
        });
        let moved: Vec<_> = moved.collect();
        if moved.is_empty() {
            return Ok(());
        }
        let Known::Known(Some(settings)) = api.repository(repository.repository()).await? else {
            return Ok(());
        };
        for (name, there) in moved {
            let tag = name.tag().unwrap_or_default().to_owned();
            if settings.tags.is_fixed(&tag) == Some(true) {
                return Err(Error::TagTaken { repository: name.name(), tag, there, wanted });
            }
        }
        Ok(())
    }

    /// ECR Public can be read by everybody, so why there is no token is said here. Its tags can all be moved.
    async fn prepare_public(&self, public: &EcrPublic, repository: &Reference) -> Result<(), Error> {
        if !self.registries.has_login(repository).await? {
            self.auth.demand(repository.registry()).await?;
        }
        let mut is_missing = false;
        for name in &self.names {
            is_missing |= self.registries.look_up(name).await? == Tagged::NoRepository;
        }
        match (is_missing, &self.create) {
            (false, _) => Ok(()),
            (true, Some(_)) => made(public.create(repository.repository()).await),
            (true, None) => self.begin_in_missing(repository).await,
        }
    }

    async fn make_repository(&self, repository: &Reference) -> Result<(), Error> {
        let Some(new) = &self.create else { return self.begin_in_missing(repository).await };
        match self.auth.api(repository.registry()).await {
            Some(api) => made(api.create(repository.repository(), new).await),
            // A token in a file is no identity that could create anything.
            None => self.auth.demand(repository.registry()).await,
        }
    }

    async fn begin_in_missing(&self, repository: &Reference) -> Result<(), Error> {
        // A template may create it on push; otherwise ECR says so, or just hangs up.
        match self.registries.try_write(repository, Write::Begin).await {
            Err(error) if error.has_code("NAME_UNKNOWN") || matches!(error, Error::Http(_)) => {
                Err(self.auth.missing(repository))
            }
            tried => tried.map(drop),
        }
    }
}

/// A repository that somebody else was faster to make is made.
fn made(created: Result<(), Error>) -> Result<(), Error> {
    match created {
        Err(Error::Aws { code, .. }) if code == ALREADY_EXISTS => Ok(()),
        created => created,
    }
}

/// The tag `tag` of `repository`, if it is one.
fn named(repository: &Reference, tag: &str) -> Option<Reference> {
    format!("{}:{tag}", repository.name()).parse().ok()
}

impl Sink for EcrSink {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn check<'a>(&'a self, images: &'a [Expected]) -> BoxFuture<'a, Result<(), PlaceError>> {
        Box::pin(async move {
            self.inner.check(images).await?;
            Ok(self.prepare(images).await?)
        })
    }

    fn repository(&self) -> Option<&Reference> {
        self.inner.repository()
    }

    fn current(&self) -> BoxFuture<'_, Result<Vec<Document>, PlaceError>> {
        self.inner.current()
    }

    fn put_layer<'a>(
        &'a self,
        layer: &'a Unsealed,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<Placed, PlaceError>> {
        self.inner.put_layer(layer, progress)
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Blob,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<(), PlaceError>> {
        self.inner.put_blob(blob, progress)
    }

    fn put_manifest<'a>(&'a self, document: &'a Document) -> BoxFuture<'a, Result<(), PlaceError>> {
        self.inner.put_manifest(document)
    }

    fn finish<'a>(&'a self, root: &'a Document) -> BoxFuture<'a, Result<Vec<String>, PlaceError>> {
        self.inner.finish(root)
    }
}

impl fmt::Debug for EcrSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EcrSink")
            .field("inner", &self.inner)
            .field("create", &self.create)
            .finish_non_exhaustive()
    }
}
