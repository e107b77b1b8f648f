//! Finding an image in a layout: a directory, or an archive that holds the same files.

use std::{collections::HashSet, fs, io, path::Path, path::PathBuf, sync::Arc};

use futures_core::future::BoxFuture;
use ocib_image::{
    Blob, Descriptor, Digest, Document, Image, ImageName, Index, MAX_DOCUMENT_BYTES, MediaType, Origin,
    PlaceError, Platform, Reference,
};

use super::{
    BLOBS, INDEX, MARKER,
    blob::{FileBlob, Part},
    name::{IMAGE_NAME, REF_NAME},
};
use crate::{Error, archive::Archived, blocking::blocking, origin};

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

impl LayoutSelector {
    /// What a name's tag and digest mean.
    pub(crate) fn new(tag: Option<&str>, digest: Option<Digest>) -> Self {
        match (digest, tag) {
            (Some(digest), _) => Self::Digest(digest),
            (None, Some(tag)) => Self::Tag(tag.to_owned()),
            (None, None) => Self::Only,
        }
    }
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
    let (tag, digest) = match selector {
        LayoutSelector::Digest(digest) => (None, Some(*digest)),
        LayoutSelector::Tag(tag) => (Some(tag.clone()), None),
        LayoutSelector::Only => (None, None),
    };
    let name = ImageName::Layout { directory: directory.to_owned(), tag, digest };
    let files = Files::Directory(directory.to_owned());
    origin::image(&LayoutOrigin::new(name, selector.clone(), files), platform).await
}

/// A layout that is opened for reading.
#[derive(Clone, Debug)]
pub(crate) struct LayoutOrigin {
    name: ImageName,
    selector: LayoutSelector,
    files: Files,
}

/// Where a layout's files are.
#[derive(Clone, Debug)]
pub(crate) enum Files {
    Directory(PathBuf),
    Archive(Arc<Archived>),
}

impl LayoutOrigin {
    pub(crate) fn new(name: ImageName, selector: LayoutSelector, files: Files) -> Self {
        Self { name, selector, files }
    }

    /// The manifest or index that the selector means.
    fn find_root(&self) -> Result<Document, PlaceError> {
        let index = self.files.index()?;
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
        let found = found.ok_or_else(|| {
            let wanted = match &self.selector {
                LayoutSelector::Digest(digest) => digest.to_string(),
                LayoutSelector::Tag(tag) => format!("{tag:?}"),
                LayoutSelector::Only => "exactly one, or the tag of one".to_owned(),
            };
            let there = index.manifests().iter().map(shown).collect();
            Error::NotInLayout { directory: self.files.path().to_owned(), wanted, there }
        })?;
        self.read_document(&found)
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
                && let Document::Index(inner) = self.read_document(entry)?
                && let Some(found) = self.listed(&inner, digest, seen)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn read_document(&self, descriptor: &Descriptor) -> Result<Document, PlaceError> {
        let blob = self.files.blob(descriptor);
        if descriptor.size > MAX_DOCUMENT_BYTES as u64 {
            let limit = MAX_DOCUMENT_BYTES as u64;
            return Err(Error::TooLarge { what: blob.name(), bytes: descriptor.size, limit }.into());
        }
        let document = Document::parse(Some(&descriptor.media_type), blob.read_whole()?);
        Ok(document.map_err(|source| Error::Document { name: blob.name(), source })?)
    }
}

impl Origin for LayoutOrigin {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn pinned(&self, digest: Digest) -> String {
        let mut name = self.name.clone();
        if let ImageName::Layout { digest: own, .. } | ImageName::Archive { digest: own, .. } = &mut name {
            *own = Some(digest);
        }
        name.to_string()
    }

    fn root(&self) -> BoxFuture<'_, Result<Document, PlaceError>> {
        let origin = self.clone();
        Box::pin(blocking(move |_| origin.find_root()))
    }

    fn document<'a>(&'a self, descriptor: &'a Descriptor) -> BoxFuture<'a, Result<Document, PlaceError>> {
        let (origin, descriptor) = (self.clone(), descriptor.clone());
        Box::pin(blocking(move |_| origin.read_document(&descriptor)))
    }

    fn blob(&self, descriptor: &Descriptor) -> Blob {
        Blob { descriptor: descriptor.clone(), source: Arc::new(self.files.blob(descriptor)) }
    }
}

impl Files {
    fn path(&self) -> &Path {
        match self {
            Self::Directory(directory) => directory,
            Self::Archive(archived) => archived.path(),
        }
    }

    fn blob(&self, descriptor: &Descriptor) -> FileBlob {
        match self {
            Self::Directory(directory) => {
                let path = directory.join(BLOBS).join(descriptor.digest.hex());
                FileBlob { path, part: Part::Whole, descriptor: descriptor.clone() }
            }
            Self::Archive(archived) => archived.blob(descriptor),
        }
    }

    fn index(&self) -> Result<Index, Error> {
        match self {
            Self::Directory(directory) => index_in(directory),
            Self::Archive(archived) => Ok(archived.index().clone()),
        }
    }
}

fn index_in(directory: &Path) -> Result<Index, Error> {
    let bad = |why: String| Error::BadLayout { directory: directory.to_owned(), why };
    let read = |name: &str| match fs::read(directory.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(bad(format!("it has no {name}"))),
        Err(source) => Err(Error::File { verb: "read", path: directory.join(name), source }),
        Ok(bytes) => Ok(bytes),
    };
    read(MARKER.0)?;
    let index = Index::parse(&MediaType::Index, read(INDEX)?.into());
    index.map_err(|source| Error::Document { name: directory.join(INDEX).display().to_string(), source })
}

/// Docker's archives have full names, which users shorten.
fn is_called(entry: &Descriptor, name: &str) -> bool {
    let full = || name.parse::<Reference>().map(|reference| reference.or_latest().to_string()).ok();
    let image = entry.annotations.get(IMAGE_NAME);
    image.is_some_and(|image| image == name || Some(image) == full().as_ref())
        || entry.annotations.get(REF_NAME).is_some_and(|tag| tag == name)
}

fn shown(entry: &Descriptor) -> String {
    let name = [IMAGE_NAME, REF_NAME].iter().find_map(|key| entry.annotations.get(*key));
    name.cloned().unwrap_or_else(|| entry.digest.to_string())
}
