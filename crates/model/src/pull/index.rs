//! What is in an image, without its contents: headers of plain layers; compressed layers are read through.

use std::{collections::HashMap, io::BufReader};

use ocib_image::{Blob, Manifest, MediaType, Origin, Progress, TarEntry, TarReader, decode};
use tokio::task::spawn_blocking;

use super::{
    PullError,
    entry::{self, Entry, Kind, Names},
    nothing_there,
    source::{self, Source},
    stream::{self, Stored},
    survey::Headers,
    tree::{self, Content, Node, Tree},
};

/// A file of a model in an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileInImage {
    /// Its path below the prefix.
    pub path: Vec<u8>,
    /// Size in bytes.
    pub bytes: u64,
}

/// The files below `prefix` in an image, as its layers lie upon each other, or those of an artifact; sorted by path.
/// Of plain layers only headers are read; compressed ones are read through, and nothing of them is kept.
/// Must be called within a runtime of tokio.
///
/// # Errors
/// See [`PullError`].
pub async fn pull_index(
    origin: &dyn Origin,
    manifest: &Manifest,
    prefix: &str,
) -> Result<Vec<FileInImage>, PullError> {
    let wanted = entry::clean(prefix.as_bytes()).map_err(|_| nothing_there(prefix, &[]))?;
    let layers: Vec<Blob> = manifest.layers().iter().map(|layer| origin.blob(layer)).collect();
    let (mut tree, mut sizes, names) = (Tree::new(), HashMap::new(), Names::default());
    for source in source::of(manifest, &layers, &wanted)? {
        let (layer, scope) = (source.scope.layer, source.scope.clone());
        let entries = match &source.kind {
            source::Kind::Raw(path) => vec![Entry::raw(path, source.blob.descriptor.size, layer)],
            source::Kind::Tar(_) => members(&source, &names, move |tar| scope.entry(tar)).await?,
        };
        tree::apply(&mut tree, &source.scope, &entries)?;
        for (entry, found) in entries.into_iter().enumerate() {
            if let Kind::File { bytes, .. } = found.kind {
                sizes.insert(Content { layer, entry }, bytes);
            }
        }
    }
    let file = |(path, node): (String, Node)| match node {
        Node::File(content) => Some(FileInImage { bytes: *sizes.get(&content)?, path: path.into() }),
        Node::Directory { .. } | Node::Symlink(_) => None,
    };
    Ok(tree.into_iter().filter_map(file).collect())
}

/// What `keep` makes of the entries of a layer, of which it takes no more than their texts. `names` are those of all layers.
pub(super) async fn members<T: Send + 'static>(
    source: &Source,
    names: &Names,
    keep: impl Fn(&TarEntry) -> Result<Option<T>, PullError> + Send + 'static,
) -> Result<Vec<T>, PullError> {
    let source::Kind::Tar(media_type) = &source.kind else { return Ok(Vec::new()) };
    let layer = source.scope.layer;
    let (names, scope) = (names.clone(), source.scope.clone());
    let take = move |members: &mut Vec<T>, tar: &TarEntry| {
        if let Some(kept) = keep(tar)? {
            names.count(&scope, tar)?;
            members.push(kept);
        }
        Ok::<_, PullError>(())
    };
    if *media_type == MediaType::LayerTar {
        let mut headers = Headers::new(&source.blob);
        let mut members = Vec::new();
        while headers.is_cheap() {
            match headers.next(&source.scope).await? {
                Some(found) => take(&mut members, &found.tar)?,
                None if headers.is_cheap() => return Ok(members),
                None => {}
            }
        }
    }
    let (_feeding, pieces) = stream::feed_while(&source.blob, 0..source.blob.descriptor.size);
    let stored = Stored::new(pieces, Progress::unwatched());
    let media_type = media_type.clone();
    let read = spawn_blocking(move || {
        let reader = decode(&media_type, Box::new(stored.clone()));
        let reader = reader.map_err(|source| PullError::Archive { layer, source })?;
        let mut tar = TarReader::new(BufReader::with_capacity(64 << 10, reader));
        let mut members = Vec::new();
        while let Some(found) = tar.next_entry().map_err(|error| stream::archive_error(layer, error))? {
            take(&mut members, &found)?;
        }
        stored.verify(layer)?;
        Ok(members)
    });
    read.await.map_err(|_| PullError::GivenUp)?
}
