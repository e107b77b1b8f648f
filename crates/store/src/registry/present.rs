//! What a repository is known to have, so that it need not be asked for each blob.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use futures_util::future::try_join_all;
use ocib_image::{Descriptor, Digest, Document, RECIPE_ANNOTATION, Reference};
use ocib_net::StatusCode;

use super::{PushOptions, Repository, Scopes};
use crate::Error;

/// More manifests of an index than these are not looked at: they would cost more than they save.
const MANIFESTS_MAX: usize = 32;
/// More bytes of them are not kept, as a registry decides how many there are.
const MANIFESTS_BYTES_MAX: u64 = 4 << 20;

/// What the images refer to that the tags name now (a registry keeps that), and what was put since.
#[derive(Debug, Default)]
pub(super) struct Present {
    here: Mutex<HashSet<Digest>>,
    /// In other repositories of the same registry.
    elsewhere: HashMap<Digest, Reference>,
    recipes: HashSet<Digest>,
    documents: Vec<Document>,
}

impl Present {
    /// Looks at the images that the tags of `options` name, and at those of `cache_from`. Images
    /// that are not there, that nobody may read or that make no sense are no reason to fail.
    /// `scopes` is what may be done with the own repository.
    pub(super) async fn read(options: &PushOptions, scopes: fn(&Reference) -> Scopes) -> Result<Self, Error> {
        let own = &options.repository;
        let tagged = options.tags.iter().map(|tag| (own.clone(), tag.clone()));
        let others = options.cache_from.iter().map(|from| (from.clone(), from.target()));
        let images = tagged.chain(others).map(|(name, target)| async move {
            let is_own = name.name() == own.name();
            let scopes = if is_own { scopes(&name) } else { Scopes::pull(&name) };
            let repository = options.registries.repository(&name, scopes);
            let documents = match repository.all_documents(&target).await {
                // What is not there is said so by some registries to who is nobody there.
                Err(error) if !is_own && error.status() == Some(StatusCode::UNAUTHORIZED) => Vec::new(),
                documents => documents?,
            };
            Ok::<_, Error>((name, documents))
        });
        let mut present = Self::default();
        for (name, documents) in try_join_all(images).await? {
            documents.iter().for_each(|document| present.learn(&name, own, document));
            present.documents.extend(documents);
        }
        Ok(present)
    }

    fn learn(&mut self, name: &Reference, own: &Reference, document: &Document) {
        let own_digest = document.descriptor().digest;
        let layers = match document {
            Document::Manifest(manifest) => manifest.layers(),
            Document::Index(_) => &[],
        };
        self.recipes.extend(layers.iter().filter_map(recipe));
        let config = match document {
            Document::Manifest(manifest) => Some(manifest.config().digest),
            Document::Index(_) => None,
        };
        let all = layers.iter().map(|layer| layer.digest).chain(config).chain([own_digest]);
        if name.name() == own.name() {
            self.here.get_mut().unwrap_or_else(PoisonError::into_inner).extend(all);
        } else if name.registry() == own.registry() {
            self.elsewhere.extend(all.map(|digest| (digest, name.clone())));
        }
    }

    pub(super) fn has(&self, digest: Digest) -> bool {
        self.here.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest)
    }

    /// Something was put into the repository.
    pub(super) fn add(&self, digest: Digest) {
        self.here.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }

    /// Another repository that has the blob.
    pub(super) fn elsewhere(&self, digest: Digest) -> Option<Reference> {
        self.elsewhere.get(&digest).cloned()
    }

    /// The manifests and indexes that were looked at.
    pub(super) fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// Whether any of the images has a layer of this recipe.
    pub(super) fn has_recipe(&self, recipe: Digest) -> bool {
        self.recipes.contains(&recipe)
    }
}

fn recipe(layer: &Descriptor) -> Option<Digest> {
    layer.annotations.get(RECIPE_ANNOTATION)?.parse().ok()
}

impl Repository {
    /// The document that `target` names and, if it is an index, its manifests.
    async fn all_documents(&self, target: &str) -> Result<Vec<Document>, Error> {
        let Some(root) = known(self.document(target, None).await)? else { return Ok(Vec::new()) };
        let children = match &root {
            Document::Index(index) => index.manifests(),
            Document::Manifest(_) => &[],
        };
        let mut bytes = 0_u64;
        let children = children.iter().take(MANIFESTS_MAX).take_while(|child| {
            bytes = bytes.saturating_add(child.size);
            bytes <= MANIFESTS_BYTES_MAX
        });
        let children = children.map(|child| async move { known(self.described_document(child).await) });
        let children = try_join_all(children).await?;
        Ok(children.into_iter().flatten().chain([root]).collect())
    }
}

/// The document, if it can be had and understood.
fn known(found: Result<Document, Error>) -> Result<Option<Document>, Error> {
    match found {
        Ok(document) => Ok(Some(document)),
        Err(
            Error::Document { .. } | Error::WrongDigest { .. } | Error::Http(ocib_net::Error::TooLong { .. }),
        ) => Ok(None),
        Err(error) if matches!(error.status(), Some(StatusCode::NOT_FOUND | StatusCode::FORBIDDEN)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
