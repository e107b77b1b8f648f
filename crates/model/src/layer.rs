//! Layers of a model's files: tars of some of them, or one file as it is.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    sync::Arc,
};

use ocib_image::{
    Compression, Content, Digest, Digester, Entry, EntryKind, LayerError, LayerSource, Marked, Place,
    Resumable, Segment, TarWriter, Timestamp, Tree, archive_bytes, encode_header, is_lasting, segments,
    segments_identity, write_segments,
};

use crate::File;

/// As olot makes them: root's, writable by its group, which is every user's on OpenShift; readable by all,
/// so that KServe's user 1010 can.
const FILE_MODE: u32 = 0o664;
const DIRECTORY_MODE: u32 = 0o775;
/// image-spec, "Whiteouts".
const WHITEOUT: &[u8] = b".wh.";

/// A tar of files with the directories above them.
#[derive(Debug)]
pub(crate) struct TarFiles {
    tree: Arc<dyn Tree>,
    /// Directories first, each before what is in it. Files have the path of their content.
    entries: Vec<(Entry, Option<Box<[u8]>>)>,
    bytes: u64,
}

impl TarFiles {
    /// A tar of `files`, which are sorted, below the directory `prefix` (empty for none). A name that marks what is
    /// removed has no place in a layer.
    pub(crate) fn new(
        tree: Arc<dyn Tree>,
        files: &[&File],
        prefix: &[u8],
        mtime: Timestamp,
    ) -> Result<Self, LayerError> {
        let entry = |name: &[u8], kind, mode| Entry {
            name: name.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: None,
        };
        let mut entries: Vec<(Entry, Option<Box<[u8]>>)> = Vec::new();
        let mut directories: BTreeSet<Vec<u8>> = BTreeSet::new();
        for file in files {
            let name = below(prefix, &file.path);
            if name.split(|byte| *byte == b'/').any(|part| part.starts_with(WHITEOUT)) {
                let (name, why) =
                    (tree.display(&file.path), "names that begin with .wh. mark what is removed");
                return Err(LayerError::Unstorable { name, why });
            }
            for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
                if !directories.contains(&name[..at]) {
                    directories.insert(name[..at].to_vec());
                    entries.push((entry(&name[..at], EntryKind::Directory, DIRECTORY_MODE), None));
                }
            }
            let kind = EntryKind::File { size: file.bytes };
            entries.push((entry(&name, kind, FILE_MODE), Some(file.content.clone())));
        }
        let bytes = archive_bytes(entries.iter().map(|(entry, _)| entry.clone()))?;
        Ok(Self { tree, entries, bytes })
    }

    /// What the layer says of its paths, and how it is stored: see [`ocib_image::Foreknown::recipe`].
    pub(crate) fn recipe(&self, compression: Compression) -> Result<Digest, LayerError> {
        let mut recipe = Digester::new();
        recipe.update(compression.to_string().as_bytes());
        self.headers(|header, _| recipe.update(header))?;
        Ok(recipe.finish())
    }

    /// Hands out each header, and whether a file's content follows it.
    pub(crate) fn headers(&self, mut take: impl FnMut(&[u8], bool)) -> Result<(), LayerError> {
        let mut header = Vec::new();
        for (entry, content) in &self.entries {
            header.clear();
            encode_header(&mut header, entry)?;
            take(&header, content.is_some());
        }
        Ok(())
    }
}

/// The path of a file in the image.
pub(crate) fn below(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    match prefix.is_empty() {
        true => path.to_vec(),
        false => [prefix, b"/", path].concat(),
    }
}

impl LayerSource for TarFiles {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        let mut tar = TarWriter::new(out);
        for (entry, content) in &self.entries {
            match content {
                None => tar.entry(entry)?,
                Some(path) => {
                    let mut file = self.tree.open(path, 0)?;
                    tar.file(entry, &mut file, &|| self.tree.display(path))?;
                }
            }
        }
        tar.finish().map(drop)
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.bytes)
    }

    fn sample(&self, take: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        let files = self.entries.iter().filter_map(|(entry, path)| Some((path.as_deref()?, entry.size())));
        sample(&*self.tree, files, take)
    }

    fn resumable(&self) -> Option<&dyn Resumable> {
        let mut paths = self.entries.iter().filter_map(|(_, path)| path.as_deref());
        paths.all(|path| is_lasting(&*self.tree, path)).then_some(self)
    }
}

impl TarFiles {
    fn segments(&self) -> impl Iterator<Item = Result<Segment<'_>, LayerError>> {
        segments(self.entries.iter().map(|(entry, path)| {
            let content = match path {
                Some(path) => Content::Tree(&*self.tree, path.to_vec()),
                None => Content::Inline(&[]),
            };
            (entry.clone(), content)
        }))
    }
}

impl Resumable for TarFiles {
    fn identity(&self) -> Result<Digest, LayerError> {
        segments_identity(self.segments())
    }

    fn write_from(&self, place: &Place, out: &mut dyn Marked) -> Result<(), LayerError> {
        write_segments(self.segments(), place, out)
    }
}

/// One file, byte for byte.
#[derive(Debug)]
pub(crate) struct RawFile {
    pub(crate) tree: Arc<dyn Tree>,
    pub(crate) path: Box<[u8]>,
    pub(crate) bytes: u64,
}

/// A file is passed on in pieces of this size, as in tars.
const COPY_BYTES: usize = 256 << 10;

impl LayerSource for RawFile {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        let name = || self.tree.display(&self.path);
        let mut file = self.tree.open(&self.path, 0)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut bytes = 0;
        loop {
            let got = file.read(&mut buffer).map_err(|error| told(error, name))?;
            bytes += got as u64;
            if got == 0 && bytes == self.bytes {
                return Ok(());
            }
            if got == 0 || bytes > self.bytes {
                let what = format!("it had {} bytes, now it has {bytes} or more", self.bytes);
                return Err(LayerError::Changed { name: name(), what });
            }
            out.write_all(&buffer[..got]).map_err(LayerError::Output)?;
        }
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.bytes)
    }

    fn sample(&self, take: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        sample(&*self.tree, [(&*self.path, self.bytes)].into_iter(), take)
    }

    fn resumable(&self) -> Option<&dyn Resumable> {
        is_lasting(&*self.tree, &self.path).then_some(self)
    }
}

impl RawFile {
    fn segment(&self) -> [Result<Segment<'_>, LayerError>; 1] {
        [Ok(Segment::File { tree: &*self.tree, path: self.path.to_vec(), bytes: self.bytes })]
    }
}

impl Resumable for RawFile {
    fn identity(&self) -> Result<Digest, LayerError> {
        segments_identity(self.segment().into_iter())
    }

    fn write_from(&self, place: &Place, out: &mut dyn Marked) -> Result<(), LayerError> {
        write_segments(self.segment().into_iter(), place, out)
    }
}

/// What the reader of a file failed by: its own story, if it has one inside.
pub(crate) fn told(error: io::Error, name: impl FnOnce() -> String) -> LayerError {
    match error.downcast::<LayerError>() {
        Ok(inner) => inner,
        Err(source) => LayerError::Read { name: name(), source },
    }
}

/// Pieces of this size tell how well content compresses; smaller ones would flatter no codec.
const SAMPLE_PIECE: u64 = 16 << 10;
const SAMPLE_PIECES: u64 = 64;

/// Equally spaced pieces of all files, one after another.
fn sample<'a>(
    tree: &dyn Tree,
    files: impl Iterator<Item = (&'a [u8], u64)> + Clone,
    take: &mut dyn FnMut(&[u8]),
) -> Result<(), LayerError> {
    let total: u64 = files.clone().map(|(_, bytes)| bytes).sum();
    let step = (total / SAMPLE_PIECES).max(SAMPLE_PIECE);
    let (mut before, mut next) = (0, 0);
    for (path, bytes) in files {
        while next < before + bytes {
            let mut piece = Vec::new();
            let read = tree.open(path, next - before)?.take(SAMPLE_PIECE).read_to_end(&mut piece);
            read.map_err(|error| told(error, || tree.display(path)))?;
            take(&piece);
            next += step;
        }
        before += bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileKind;

    #[test]
    fn names_that_mark_what_is_removed_have_no_place() {
        let dir = tempfile::tempdir().unwrap();
        let tree: Arc<dyn Tree> = Arc::new(ocib_source::Directory::open(dir.path()).unwrap());
        for (path, is_fine) in
            [("a/b.wh.c", true), (".wh.a", false), ("a/.wh..wh..opq", false), (".wh.d/a", false)]
        {
            let file = File {
                path: path.as_bytes().into(),
                content: path.as_bytes().into(),
                bytes: 1,
                kind: FileKind::Config,
                digest: None,
                identity: None,
            };
            let made = TarFiles::new(Arc::clone(&tree), &[&file], b"models", Timestamp::default());
            assert_eq!(made.is_ok(), is_fine, "{path}");
        }
    }
}
