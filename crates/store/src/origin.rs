//! What every origin is asked: the image for a platform, and small blobs whole.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use ocib_image::{
    Config, Descriptor, Digest, Document, Image, Index, Manifest, Origin, PlaceError, Platform,
};

use crate::Error;

/// Largest config that is held: real ones have some 10 KiB, and artifacts may put more there.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// Documents that are looked at on the way to a platform. A hostile index can lead to any number.
const DOCUMENTS_MAX: usize = 1000;

/// The origin's image for `platform`, as [`ocib_image::ImageSource::resolve`] promises it.
pub(crate) async fn image(origin: &dyn Origin, platform: &Platform) -> Result<Image, PlaceError> {
    let root = origin.root().await?;
    let pinned = origin.pinned(root.descriptor().digest);
    let manifest = match root {
        Document::Manifest(manifest) => manifest,
        Document::Index(index) => chosen(origin, &index, platform).await?,
    };
    let config = config(origin, &manifest).await?;
    let layers = manifest.layers().iter().map(|layer| origin.blob(layer)).collect();
    Ok(Image { manifest, config, layers, pinned })
}

/// The manifest that serves `platform` best in `index`, or in an index within it that names no
/// platform of its own.
pub(crate) async fn chosen(
    origin: &dyn Origin,
    index: &Index,
    platform: &Platform,
) -> Result<Manifest, PlaceError> {
    let mut have: Vec<Platform> = index.platforms().cloned().collect();
    let (mut todo, mut seen) = (candidates(index, platform), HashSet::new());
    while let Some(entry) = todo.pop().filter(|_| seen.len() < DOCUMENTS_MAX) {
        if !seen.insert(entry.digest) {
            continue;
        }
        match origin.document(&entry).await? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(inner) => {
                have.extend(inner.platforms().cloned());
                todo.extend(candidates(&inner, platform));
            }
        }
    }
    Err(no_platform(origin, platform, &have))
}

/// That there is nothing for `wanted`.
pub(crate) fn no_platform(origin: &dyn Origin, wanted: &Platform, have: &[Platform]) -> PlaceError {
    let mut have: Vec<String> = have.iter().map(ToString::to_string).collect();
    have.dedup();
    Error::NoPlatform { name: origin.name(), wanted: wanted.to_string(), have: have.join(", ") }.into()
}

/// What may lead to `platform`, the best one last.
fn candidates(index: &Index, platform: &Platform) -> Vec<Descriptor> {
    let is_nested = |entry: &&Descriptor| entry.media_type.is_index() && entry.platform.is_none();
    let nested = index.manifests().iter().filter(is_nested);
    nested.rev().chain(index.choose(platform)).cloned().collect()
}

/// The config of a manifest, verified.
pub(crate) async fn config(origin: &dyn Origin, manifest: &Manifest) -> Result<Config, PlaceError> {
    let raw = config_bytes(origin, manifest.config()).await?;
    let name = || format!("the config of {}", origin.name());
    let config = Config::parse(manifest.config(), raw);
    Ok(config.map_err(|source| Error::Document { name: name(), source })?)
}

/// The bytes of a config, verified.
pub(crate) async fn config_bytes(origin: &dyn Origin, descriptor: &Descriptor) -> Result<Bytes, PlaceError> {
    let name = || format!("the config of {}", origin.name());
    if descriptor.size > CONFIG_BYTES_MAX {
        let (bytes, limit) = (descriptor.size, CONFIG_BYTES_MAX);
        return Err(Error::TooLarge { what: name(), bytes, limit }.into());
    }
    let blob = origin.blob(descriptor);
    let mut stream = blob.source.stream(0).await?;
    let mut raw = BytesMut::new();
    while let Some(piece) = stream.try_next().await? {
        raw.extend_from_slice(&piece);
        if raw.len() as u64 > descriptor.size {
            break;
        }
    }
    let (expected, actual) = (descriptor.size, raw.len() as u64);
    if expected != actual {
        return Err(Error::WrongSize { what: name(), expected, actual }.into());
    }
    let (expected, actual) = (descriptor.digest, Digest::of(&raw));
    match expected == actual {
        true => Ok(raw.freeze()),
        false => Err(Error::WrongDigest { what: name(), expected, actual }.into()),
    }
}
