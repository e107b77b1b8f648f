//! Unpacking: an image or artifact of a model back into files.
//!
//! Layers come as ranges, several at a time, into files under temporary names in [`STATE`], a directory within
//! the target. When all of a layer is there its digest is computed over what lies on the disk. Only when
//! every layer is right do files get their names. What an interrupted run has left is taken up again.

mod check;
mod fetch;
mod index;
mod place;
mod sequence;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use ocib_image::{Blob, Document, Events, Manifest, MediaType, Origin, Platform, Progress, TaskId};
use tokio::sync::Semaphore;

use crate::{Error, blocking};

pub use check::{FileInImage, Ways, check, pull_index};
use place::Placing;

/// The directory of what is not complete yet.
const STATE: &str = ".ocib-pull";

/// How a model is unpacked.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// The directory of the image that the model is in, without slashes around it. Artifacts need not have it.
    pub prefix: String,
    /// Whose image out of an index.
    pub platform: Platform,
    /// Transfers at a time.
    pub streams: usize,
}

/// What was unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pulled {
    /// Files.
    pub files: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Bytes of layers that were there already, and are what they should be.
    pub present_bytes: u64,
}

/// Where one regular file, directory or link of an image is, and what it is called there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Member {
    /// As the archive has it, cleaned of dots and slashes at its ends.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: MemberKind,
    pub(crate) mode: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum MemberKind {
    /// So many bytes, which begin at that byte of the layer if that can be asked for.
    File {
        bytes: u64,
        offset: u64,
    },
    Directory,
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
}

/// How a layer's bytes hold files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Packing {
    /// They are one.
    Raw(String),
    /// A tar.
    Plain,
    /// A tar that must be read from its start; with the type that says how it is compressed.
    Compressed(MediaType),
}

/// Writes the files of the model that `origin` names into `directory`, which is made: an ordinary image's files
/// below the prefix, a ModelPack's (tars or raw files), or Docker Model Runner's.
///
/// Dropping the future ends the transfers; run again it goes on where it was.
pub async fn pull(
    origin: &dyn Origin,
    directory: &Path,
    options: &PullOptions,
    events: &Arc<dyn Events>,
) -> Result<Pulled, Error> {
    let manifest = manifest(origin, &options.platform).await?;
    let state = directory.join(STATE);
    make_directory(&state).await?;
    let streams = Arc::new(Semaphore::new(options.streams.max(1)));
    let fetches = manifest.layers().iter().enumerate().map(|(number, descriptor)| {
        let fetch = fetch::Fetch {
            blob: origin.blob(descriptor),
            packing: packing(&manifest, number),
            state: state.join(descriptor.digest.hex()),
            target: directory.to_owned(),
            prefix: prefix(&manifest, &options.prefix),
            streams: Arc::clone(&streams),
            progress: Progress::new(Arc::clone(events), TaskId(number)),
        };
        async move { Ok::<_, Error>((number, fetch.run().await?)) }
    });
    // As many layers as there are transfers: a small one that waits for its turn costs nothing.
    let done = stream::iter(fetches).buffer_unordered(options.streams.max(1));
    let mut layers: Vec<(usize, fetch::Fetched)> = done.try_collect().await?;
    layers.sort_by_key(|(number, _)| *number);
    let placing = Placing { directory: directory.to_owned(), prefix: prefix(&manifest, &options.prefix) };
    let name = origin.name();
    let layers = layers.into_iter().map(|(_, fetched)| fetched).collect();
    let pulled = blocking(move || placing.place(layers, &name)).await?;
    blocking(move || fs::remove_dir_all(&state).map_err(write_error(&state))).await?;
    Ok(pulled)
}

/// The manifest that the name means for `platform`.
pub(crate) async fn manifest(origin: &dyn Origin, platform: &Platform) -> Result<Manifest, Error> {
    let index = match origin.root().await? {
        Document::Manifest(manifest) => return Ok(manifest),
        Document::Index(index) => index,
    };
    let chosen = index.choose(platform).ok_or_else(|| Error::Unpack {
        name: origin.name(),
        why: format!("it has no image for {platform}"),
    })?;
    match origin.document(chosen).await? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => {
            Err(Error::Unpack { name: origin.name(), why: "it is an index within an index".to_owned() })
        }
    }
}

/// How layer `number` holds files: by its type, and by the annotations that name a raw file.
pub(crate) fn packing(manifest: &Manifest, number: usize) -> Packing {
    let layer = &manifest.layers()[number];
    let text = layer.media_type.as_str();
    let is_tar = text.contains(".tar");
    if !is_tar {
        let names = ["org.cncf.model.filepath", "org.opencontainers.image.title"];
        let name = names.iter().find_map(|key| layer.annotations.get(*key)).cloned();
        let of_docker = match text {
            "application/vnd.docker.ai.gguf.v3" => Some(format!("model-{number}.gguf")),
            "application/vnd.docker.ai.license" => Some("LICENSE".to_owned()),
            "application/vnd.docker.ai.chat.template.jinja" => Some("chat_template.jinja".to_owned()),
            _ => None,
        };
        return Packing::Raw(name.or(of_docker).unwrap_or_else(|| layer.digest.hex()));
    }
    match text.rsplit_once(['+', '.']) {
        Some((_, "gzip")) => Packing::Compressed(MediaType::LayerGzip),
        Some((_, "zstd")) => Packing::Compressed(MediaType::LayerZstd),
        Some((_, "tar")) => Packing::Plain,
        _ => Packing::Compressed(layer.media_type.clone()),
    }
}

/// What is taken off paths, and whether what lies elsewhere belongs to the model, too.
fn prefix(manifest: &Manifest, prefix: &str) -> Prefix {
    let is_image = matches!(manifest.config().media_type.to_oci(), MediaType::Config);
    Prefix { path: prefix.as_bytes().to_vec(), is_required: is_image && !prefix.is_empty() }
}

/// The directory of an image that a model is in.
#[derive(Clone, Debug)]
pub(crate) struct Prefix {
    path: Vec<u8>,
    is_required: bool,
}

impl Prefix {
    /// The path below the target; `None` for what is no part of the model.
    pub(crate) fn strip<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let inside = path.strip_prefix(&*self.path).and_then(|rest| rest.strip_prefix(b"/"));
        match inside {
            Some(inside) if !self.path.is_empty() => Some(inside),
            _ if self.is_required || path == self.path => None,
            _ => Some(path),
        }
    }
}

/// A path of an archive without `.` and slashes at its ends; an error if it climbs out.
pub(crate) fn clean(path: &[u8]) -> Result<Vec<u8>, Error> {
    let names = path.split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let names: Vec<&[u8]> = names.collect();
    match names.iter().any(|name| *name == b".." || name.contains(&0)) {
        true => Err(Error::Unpack {
            name: String::from_utf8_lossy(path).into_owned(),
            why: "its path leads out of the directory".to_owned(),
        }),
        false => Ok(names.join(&b'/')),
    }
}

pub(crate) fn unpack_error(blob: &Blob, why: impl Into<String>) -> Error {
    Error::Unpack { name: format!("layer {}", blob.descriptor.digest), why: why.into() }
}

fn write_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let name = path.display().to_string();
    move |source| Error::Write { name, source }
}

async fn make_directory(path: &Path) -> Result<(), Error> {
    let path: PathBuf = path.to_owned();
    blocking(move || fs::create_dir_all(&path).map_err(write_error(&path))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_climb_out_are_refused() {
        for (path, expected) in [
            ("./models//a", Some("models/a")),
            ("/models/a/", Some("models/a")),
            ("a/../b", None),
            ("..", None),
        ] {
            let cleaned = clean(path.as_bytes()).ok();
            assert_eq!(cleaned.as_deref(), expected.map(str::as_bytes), "{path}");
        }
        let error = clean(b"models/../../etc/passwd").unwrap_err();
        assert_eq!(
            error.to_string(),
            "models/../../etc/passwd cannot be unpacked: its path leads out of the directory"
        );
    }

    #[test]
    fn the_prefix_is_taken_off() {
        let image = Prefix { path: b"models".to_vec(), is_required: true };
        let artifact = Prefix { path: b"models".to_vec(), is_required: false };
        for (path, of_image, of_artifact) in [
            ("models/a", Some("a"), Some("a")),
            ("models", None, None),
            ("bin/sh", None, Some("bin/sh")),
            ("modelsx/a", None, Some("modelsx/a")),
        ] {
            assert_eq!(image.strip(path.as_bytes()), of_image.map(str::as_bytes), "{path}");
            assert_eq!(artifact.strip(path.as_bytes()), of_artifact.map(str::as_bytes), "{path}");
        }
    }
}
