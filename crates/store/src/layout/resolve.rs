//! Finding an image in a layout directory.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ocib_image::{
    Blob, Config, Descriptor, Digest, Document, Image, ImageName, Index, MAX_DOCUMENT_BYTES, Manifest,
    MediaType, PlaceError, Platform,
};

use super::{
    BLOBS, INDEX, MARKER,
    blob::FileBlob,
    name::{IMAGE_NAME, REF_NAME},
};
use crate::{Error, blocking::blocking};

/// Longest config that is read: four times the longest manifest is far more than any image has.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Which image of a layout is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LayoutSelector {
    /// The manifest or index of this digest, wherever an index lists it.
    Digest(Digest),
    /// The entry of `index.json` with this tag or full name.
    Tag(String),
    /// The only one there is.
    Only,
}

/// The layout's image for `platform`, as [`ocib_image::ImageSource::resolve`] promises it. Indexes
/// within indexes are followed.
///
/// Fails with [`ocib_image::PlaceErrorKind::NotFound`] if there is no such image, naming those there
/// are, and with [`ocib_image::PlaceErrorKind::Corrupt`] if the directory is no layout or a document
/// is not what its digest says.
pub async fn resolve_in_layout(
    directory: &Path,
    selector: &LayoutSelector,
    platform: &Platform,
) -> Result<Image, PlaceError> {
    let layout = Layout { directory: directory.to_owned(), selector: selector.clone() };
    let platform = platform.clone();
    blocking(move |_| layout.image(&platform)).await
}

struct Layout {
    directory: PathBuf,
    selector: LayoutSelector,
}

impl Layout {
    fn image(&self, platform: &Platform) -> Result<Image, PlaceError> {
        let root = self.root()?;
        let mut seen = Seen::default();
        let manifest = match self.document(&root)? {
            Document::Manifest(manifest) => Some(manifest),
            Document::Index(index) => self.serving(&index, platform, &mut seen)?,
        };
        let manifest = manifest.ok_or_else(|| Error::NoPlatform {
            name: self.name(None).to_string(),
            wanted: platform.to_string(),
            have: seen.platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        })?;
        let config = self.config(manifest.config())?;
        let layers = manifest.layers().iter().map(|descriptor| self.blob(descriptor)).collect();
        Ok(Image { manifest, config, layers, pinned: self.name(Some(root.digest)).to_string() })
    }

    /// The manifest or index that the selector means.
    fn root(&self) -> Result<Descriptor, PlaceError> {
        let index = self.index_file()?;
        let found = match &self.selector {
            LayoutSelector::Digest(digest) => self.listed(&index, digest, &mut HashSet::new())?,
            LayoutSelector::Tag(tag) => index.manifests().iter().find(|entry| is_called(entry, tag)).cloned(),
            LayoutSelector::Only => match index.manifests() {
                [first, others @ ..] if others.iter().all(|other| other.digest == first.digest) => {
                    Some(first.clone())
                }
                _ => None,
            },
        };
        found.ok_or_else(|| {
            let wanted = match &self.selector {
                LayoutSelector::Digest(digest) => digest.to_string(),
                LayoutSelector::Tag(tag) => format!("{tag:?}"),
                LayoutSelector::Only => "exactly one, or the tag of one".to_owned(),
            };
            let there = index.manifests().iter().map(shown).collect();
            Error::NotInLayout { directory: self.directory.clone(), wanted, there }.into()
        })
    }

    fn index_file(&self) -> Result<Index, Error> {
        let bad = |why: String| Error::BadLayout { directory: self.directory.clone(), why };
        let read = |name: &str| match fs::read(self.directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(bad(format!("it has no {name}"))),
            Err(source) => Err(Error::File { verb: "read", path: self.directory.join(name), source }),
            Ok(bytes) => Ok(bytes),
        };
        read(MARKER.0)?;
        let index = Index::parse(&MediaType::Index, read(INDEX)?.into());
        index.map_err(|source| Error::Document {
            name: self.directory.join(INDEX).display().to_string(),
            source,
        })
    }

    /// The descriptor of that digest, in `index` or one that it leads to.
    fn listed(
        &self,
        index: &Index,
        digest: &Digest,
        seen: &mut HashSet<Digest>,
    ) -> Result<Option<Descriptor>, PlaceError> {
        let entries = index.manifests();
        if let Some(entry) = entries.iter().find(|entry| entry.digest == *digest) {
            return Ok(Some(entry.clone()));
        }
        for entry in entries.iter().filter(|entry| entry.media_type.is_index()) {
            if seen.insert(entry.digest)
                && let Document::Index(inner) = self.document(entry)?
                && let Some(found) = self.listed(&inner, digest, seen)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The manifest that serves `platform` best in `index`, or in an index within it that names no
    /// platform of its own.
    fn serving(
        &self,
        index: &Index,
        platform: &Platform,
        seen: &mut Seen,
    ) -> Result<Option<Manifest>, PlaceError> {
        seen.platforms.extend(index.platforms().cloned());
        let nested =
            index.manifests().iter().filter(|entry| entry.media_type.is_index() && entry.platform.is_none());
        for entry in index.choose(platform).into_iter().chain(nested) {
            if !seen.digests.insert(entry.digest) {
                continue;
            }
            let found = match self.document(entry)? {
                Document::Manifest(manifest) => Some(manifest),
                Document::Index(inner) => self.serving(&inner, platform, seen)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Document, PlaceError> {
        let file = self.file(descriptor);
        let raw = read_at_most(&file, MAX_DOCUMENT_BYTES as u64)?;
        let document = Document::parse(Some(&descriptor.media_type), raw);
        Ok(document.map_err(|source| Error::Document { name: file.path.display().to_string(), source })?)
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Config, PlaceError> {
        let file = self.file(descriptor);
        let raw = read_at_most(&file, MAX_CONFIG_BYTES)?;
        Ok(Config::parse(descriptor, raw)
            .map_err(|source| Error::Document { name: file.path.display().to_string(), source })?)
    }

    fn blob(&self, descriptor: &Descriptor) -> Blob {
        Blob { descriptor: descriptor.clone(), source: Arc::new(self.file(descriptor)) }
    }

    fn file(&self, descriptor: &Descriptor) -> FileBlob {
        let path = self.directory.join(BLOBS).join(descriptor.digest.hex());
        FileBlob { path, descriptor: descriptor.clone() }
    }

    /// The image's name as it was given, or with another digest.
    fn name(&self, resolved: Option<Digest>) -> ImageName {
        let directory = self.directory.clone();
        let (tag, digest) = match &self.selector {
            LayoutSelector::Digest(digest) => (None, Some(*digest)),
            LayoutSelector::Tag(tag) => (Some(tag.clone()), resolved),
            LayoutSelector::Only => (None, resolved),
        };
        ImageName::Layout { directory, tag, digest }
    }
}

/// What a search has come across. A hostile layout can list one index a million times.
#[derive(Default)]
struct Seen {
    digests: HashSet<Digest>,
    platforms: Vec<Platform>,
}

fn read_at_most(file: &FileBlob, most: u64) -> Result<bytes::Bytes, PlaceError> {
    match file.descriptor.size <= most {
        true => file.read_whole(),
        false => {
            let what = file.path.display().to_string();
            Err(Error::TooLarge { what, bytes: file.descriptor.size, limit: most }.into())
        }
    }
}

fn is_called(entry: &Descriptor, name: &str) -> bool {
    [REF_NAME, IMAGE_NAME].iter().any(|key| entry.annotations.get(*key).is_some_and(|have| have == name))
}

fn shown(entry: &Descriptor) -> String {
    let name = [IMAGE_NAME, REF_NAME].iter().find_map(|key| entry.annotations.get(*key));
    name.cloned().unwrap_or_else(|| entry.digest.to_string())
}
