//! `manifest.json` of `docker save` before version 25 and of `skopeo copy … docker-archive:`
//! (Docker Image Specification 1.2, "Combined Image JSON + Filesystem Changeset Format").

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use ocib_image::{
    Annotations, ArchiveCodec, ContainerConfig, Descriptor, DiffId, Digest, Digester, Index, Manifest,
    MediaType, PlaceError,
};
use serde::Deserialize;

use super::members::Members;
use crate::{
    Error,
    blocking::Wanted,
    layout::{Name, Part},
};

const MANIFEST: &str = "manifest.json";
const MANIFEST_BYTES_MAX: usize = 4 << 20;
const CONFIG_BYTES_MAX: usize = 16 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images of such an archive. What they are made of is added to `blobs`.
pub(super) fn index(
    members: &Members,
    blobs: &mut BTreeMap<Digest, Part>,
    wanted: &Wanted,
) -> Result<Index, PlaceError> {
    let missing = || members.bad("it has neither index.json nor manifest.json");
    let raw = members.small(MANIFEST, MANIFEST_BYTES_MAX)?.ok_or_else(missing)?;
    let items: Vec<Item> = serde_json::from_slice(&raw)
        .map_err(|error| members.bad(format!("{MANIFEST} cannot be read: {error}")))?;
    let mut entries = Vec::new();
    for item in items {
        let manifest = manifest(&item, members, blobs, wanted)?;
        let descriptor = manifest.descriptor();
        blobs.insert(descriptor.digest, Part::Made(manifest.raw().clone()));
        let tags = item.repo_tags.unwrap_or_default();
        let named = tags.iter().map(|tag| Name::new(tag).annotations());
        let named: Vec<Annotations> =
            if tags.is_empty() { vec![Annotations::new()] } else { named.collect() };
        let entry = |annotations| Descriptor { annotations, ..descriptor.clone() };
        entries.extend(named.into_iter().map(entry));
    }
    Ok(Index::new(entries, Annotations::new()))
}

fn manifest(
    item: &Item,
    members: &Members,
    blobs: &mut BTreeMap<Digest, Part>,
    wanted: &Wanted,
) -> Result<Manifest, PlaceError> {
    let missing = |name: &str| members.bad(format!("{MANIFEST} names {name}, which is not there"));
    let raw = members.small(&item.config, CONFIG_BYTES_MAX)?.ok_or_else(|| missing(&item.config))?;
    let config = ContainerConfig::parse(&raw).map_err(|source| Error::Document {
        name: format!("{} in {}", item.config, members.path().display()),
        source,
    })?;
    let layers = item.layers.as_deref().unwrap_or_default();
    if layers.len() != config.diff_ids.len() {
        let (layers, diff_ids) = (layers.len(), config.diff_ids.len());
        let why = format!("{MANIFEST} lists {layers} layers, but {} has {diff_ids} diff IDs", item.config);
        return Err(members.bad(why).into());
    }
    let mut descriptors = Vec::new();
    for (name, diff_id) in layers.iter().zip(&config.diff_ids) {
        let (start, bytes) = members.find(name).ok_or_else(|| missing(name))?;
        let descriptor = layer(members, (start, bytes), *diff_id, wanted)?;
        blobs.insert(descriptor.digest, Part::Member { start, bytes });
        descriptors.push(descriptor);
    }
    let config = Descriptor::of(MediaType::Config, &raw);
    blobs.insert(config.digest, Part::Made(raw.into()));
    Ok(Manifest::new(config, descriptors, Annotations::new()))
}

/// A plain tar's digest is its diff ID, which is verified when it is read. What somebody compressed
/// has another one, and only its bytes tell.
fn layer(
    members: &Members,
    (start, bytes): (u64, u64),
    diff_id: DiffId,
    wanted: &Wanted,
) -> Result<Descriptor, PlaceError> {
    let mut head = Vec::new();
    let unreadable = |error| members.unreadable(error);
    members.open(start, bytes)?.take(8).read_to_end(&mut head).map_err(unreadable)?;
    let media_type = match ArchiveCodec::sniff(&head) {
        None => return Ok(Descriptor::new(MediaType::LayerTar, diff_id.0, bytes)),
        Some(ArchiveCodec::Gzip) => MediaType::LayerGzip,
        Some(ArchiveCodec::Zstd) => MediaType::LayerZstd,
        Some(codec) => {
            let why = format!("a layer is compressed by {codec}, expected none, gzip or zstd");
            return Err(members.bad(why).into());
        }
    };
    let digest = digest(members.open(start, bytes)?, wanted).map_err(unreadable)?;
    Ok(Descriptor::new(media_type, digest, bytes))
}

fn digest(mut reader: impl Read, wanted: &Wanted) -> io::Result<Digest> {
    let (mut digester, mut buffer) = (Digester::new(), vec![0; 256 << 10]);
    loop {
        wanted.check()?;
        match reader.read(&mut buffer)? {
            0 => return Ok(digester.finish()),
            got => digester.update(&buffer[..got]),
        }
    }
}
