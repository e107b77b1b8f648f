//! Registries: a real one, and scripted ones for what real ones do only on bad days.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, which clippy cannot see here")]

mod copy;
mod mirrors;
mod profiles;
mod pull;
mod push;
mod recorded;
mod scripted;
mod tokens;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use ocib_image::{
    Annotations, Blob, ContainerConfig, Credential, Credentials, Descriptor, Document, Event, Events,
    Manifest, MediaType, PlaceError, Platform, Progress, Reference, Secret, Sink,
};
use ocib_net::{Backoff, Http, HttpOptions};
use ocib_store::{HashFirst, PushOptions, Registries, RegistriesOptions, RegistrySink};
use ocib_testkit::sealer;

/// A client that tries again without waiting.
fn options() -> RegistriesOptions {
    let backoff = Backoff { first: Duration::from_millis(1), ..Backoff::default() };
    RegistriesOptions { backoff, ..RegistriesOptions::default() }
}

fn sink_to(registries: Registries, repository: &str, tags: &[&str]) -> RegistrySink {
    RegistrySink::new(PushOptions {
        registries,
        repository: repository.parse().unwrap(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        sealer: sealer(),
        hash_first: HashFirst::Auto,
        cache_from: Vec::new(),
    })
}

/// The same name and password for every registry.
struct Login(Credential);

impl Login {
    fn basic(user: &str, password: &str) -> Arc<Self> {
        Arc::new(Self(Credential::Basic { user: user.into(), password: Secret::new(password) }))
    }
}

impl Credentials for Login {
    fn find<'a>(
        &'a self,
        _: &'a Reference,
    ) -> futures_core::future::BoxFuture<'a, Result<Option<Credential>, PlaceError>> {
        let found = self.0.clone();
        Box::pin(async { Ok(Some(found)) })
    }
}

/// Keeps the warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Events for Warnings {
    fn emit(&self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

/// An image of one plain layer that is not compressed.
struct SmallImage {
    config: Blob,
    layer: Blob,
    manifest: Document,
}

fn small_image(content: Vec<u8>) -> SmallImage {
    let layer = Blob::in_memory(MediaType::LayerTar, content.into());
    let mut config = ContainerConfig::scratch(&Platform::linux_amd64());
    config.diff_ids = vec![ocib_image::DiffId(layer.descriptor.digest)];
    let config = Blob::in_memory(MediaType::Config, config.to_bytes());
    let manifest =
        Manifest::new(config.descriptor.clone(), vec![layer.descriptor.clone()], Annotations::new());
    SmallImage { config, layer, manifest: Document::Manifest(manifest) }
}

impl SmallImage {
    async fn put(&self, sink: &RegistrySink) -> Vec<String> {
        for blob in [&self.config, &self.layer] {
            sink.put_blob(blob, &Progress::unwatched()).await.unwrap();
        }
        sink.put_manifest(&self.manifest).await.unwrap();
        sink.finish(&self.manifest).await.unwrap()
    }

    fn descriptor(&self) -> Descriptor {
        self.manifest.descriptor()
    }

    fn raw(&self) -> Bytes {
        self.manifest.raw().clone()
    }
}

fn trusting(ca: Vec<u8>) -> Arc<Http> {
    Arc::new(Http::new(HttpOptions { extra_certificates: vec![ca], ..HttpOptions::default() }))
}
