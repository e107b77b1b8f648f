//! A tar of blobs, written front to back.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use ocib_image::{
    Descriptor, Digest, Document, Entry, EntryKind, HashReason, Layer, LayerError, Outcome, PlaceError,
    Placed, Progress, Sealing, Timestamp, encode_header,
};

use super::Destination;
use crate::{
    Error,
    blocking::Wanted,
    layout::{BLOBS, MARKER, Partial, Verified, source_error},
};

const BLOCK: u64 = 512;

/// Takes the pieces of a layer that is being made.
type Take<'a> = &'a mut dyn FnMut(Bytes) -> io::Result<()>;
/// Makes a layer's bytes, the same on every call.
type Seal<'a> = &'a mut dyn FnMut(Take<'_>) -> Result<Layer, LayerError>;

/// Whom to tell of bytes that were written, and who says whether more are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch<'a> {
    pub(super) progress: &'a Progress,
    pub(super) wanted: &'a Wanted,
}

/// An archive that is being written.
#[derive(Debug)]
pub(super) struct ArchiveWriter {
    path: PathBuf,
    out: Out,
    /// Where the last complete blob ends.
    end: u64,
    /// Where the next byte goes.
    position: u64,
    there: HashSet<Digest>,
    /// What the names refer to, when they do.
    root: Option<Digest>,
}

enum Out {
    File(Partial),
    Stream(Box<dyn Write + Send>),
    /// Finished.
    Closed,
}

impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File(_) => "File",
            Self::Stream(_) => "Stream",
            Self::Closed => "Closed",
        })
    }
}

impl ArchiveWriter {
    /// A new archive with what every layout has at its start.
    pub(super) fn create(destination: Destination) -> Result<Self, Error> {
        let path = PathBuf::from(destination.name());
        let out = match destination {
            Destination::File(path) => open(&path)?,
            Destination::Stream(stream) => Out::Stream(stream),
        };
        let mut writer = Self { path, out, end: 0, position: 0, there: HashSet::new(), root: None };
        writer.put_file(MARKER.0, MARKER.1)?;
        for directory in ["blobs", BLOBS] {
            writer.write(&header(directory, EntryKind::Directory))?;
        }
        writer.end = writer.position;
        Ok(writer)
    }

    /// Whether the blob is in the archive.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.there.contains(digest)
    }

    /// Stores the layer that `seal` makes.
    pub(super) fn put_layer(&mut self, seal: Seal<'_>, watch: Watch<'_>) -> Result<Placed, PlaceError> {
        match self.out {
            Out::File(_) => self.put_layer_once(seal, watch),
            Out::Stream(_) | Out::Closed => self.put_layer_twice(seal, watch),
        }
    }

    /// Leaves room for the header, which is written when digest and size are known.
    fn put_layer_once(&mut self, seal: Seal<'_>, watch: Watch<'_>) -> Result<Placed, PlaceError> {
        let start = self.position;
        self.write(&[0; BLOCK as usize])?;
        let layer = self.seal_into(seal, watch)?;
        let sealing = Sealing::Streamed;
        if self.has(&layer.descriptor.digest) {
            self.rewind(start)?;
            return Ok(Placed { layer, outcome: Outcome::Present, sealing });
        }
        let after = self.position;
        self.seek(start)?;
        self.write(&blob_header(&layer.descriptor))?;
        self.seek(after)?;
        self.end_blob(layer.descriptor.digest)?;
        Ok(Placed { layer, outcome: Outcome::Stored, sealing })
    }

    /// Makes the layer once for its digest and size, and once for its bytes.
    fn put_layer_twice(&mut self, seal: Seal<'_>, watch: Watch<'_>) -> Result<Placed, PlaceError> {
        let sealing = Sealing::HashedFirst(HashReason::Needed);
        let layer = seal(&mut |_| watch.wanted.check()).map_err(|error| self.layer_error(error))?;
        if self.has(&layer.descriptor.digest) {
            return Ok(Placed { layer, outcome: Outcome::Present, sealing });
        }
        self.write(&blob_header(&layer.descriptor))?;
        let again = self.seal_into(seal, watch)?;
        if again != layer {
            let (first, second) = (layer.descriptor.digest, again.descriptor.digest);
            let what = format!("it had digest {first}, then {second}");
            return Err(LayerError::Changed { name: "a layer".to_owned(), what }.into());
        }
        self.end_blob(layer.descriptor.digest)?;
        Ok(Placed { layer, outcome: Outcome::Stored, sealing })
    }

    fn seal_into(&mut self, seal: Seal<'_>, watch: Watch<'_>) -> Result<Layer, PlaceError> {
        let sealed = seal(&mut |piece| {
            watch.wanted.check()?;
            self.write_bytes(&piece)?;
            watch.progress.advanced(piece.len() as u64);
            Ok(())
        });
        sealed.map_err(|error| self.layer_error(error))
    }

    /// Stores a blob of known digest, verified while it passes.
    pub(super) fn put_blob(
        &mut self,
        descriptor: &Descriptor,
        source: &mut dyn Read,
        watch: Watch<'_>,
    ) -> Result<(), PlaceError> {
        if self.has(&descriptor.digest) {
            return Ok(());
        }
        self.write(&blob_header(descriptor))?;
        let mut source = Verified::new(source, descriptor, "the blob".to_owned());
        let mut buffer = vec![0; 256 << 10];
        loop {
            let got = match source.read(&mut buffer).map_err(source_error)? {
                0 => return Ok(self.end_blob(descriptor.digest)?),
                got => got,
            };
            watch.wanted.check().map_err(|source| self.error(source))?;
            self.write(&buffer[..got])?;
            watch.progress.advanced(got as u64);
        }
    }

    /// Stores a manifest or index.
    pub(super) fn put_document(&mut self, document: &Document, wanted: &Wanted) -> Result<(), PlaceError> {
        let watch = Watch { progress: &Progress::unwatched(), wanted };
        self.put_blob(&document.descriptor(), &mut &document.raw()[..], watch)
    }

    /// Stores `root` and the `files` that lead to it, ends the archive and gives the file its name.
    /// Does nothing if that is done already.
    pub(super) fn finish(
        &mut self,
        root: &Document,
        files: &[(&str, Vec<u8>)],
        wanted: &Wanted,
    ) -> Result<(), PlaceError> {
        let digest = root.descriptor().digest;
        if self.root == Some(digest) {
            return Ok(());
        }
        self.put_document(root, wanted)?;
        files.iter().try_for_each(|(name, content)| self.put_file(name, content))?;
        self.write(&[0; 2 * BLOCK as usize])?;
        self.close()?;
        (self.end, self.root) = (self.position, Some(digest));
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.out, Out::Closed) {
            Out::File(partial) => partial.keep(&self.path),
            Out::Stream(mut stream) => stream.flush().map_err(|source| self.error(source)),
            Out::Closed => Ok(()),
        }
    }

    /// Forgets what was written since the last complete blob. Whether that can be done: what went
    /// down a pipe is gone.
    pub(super) fn roll_back(&mut self) -> bool {
        self.position == self.end || self.rewind(self.end).is_ok()
    }

    fn rewind(&mut self, to: u64) -> Result<(), Error> {
        self.seek(to)?;
        let Out::File(partial) = &self.out else { return Err(self.finished()) };
        partial.file.as_file().set_len(to).map_err(|source| self.error(source))
    }

    fn seek(&mut self, to: u64) -> Result<(), Error> {
        let Out::File(partial) = &mut self.out else { return Err(self.finished()) };
        let sought = partial.file.as_file_mut().seek(SeekFrom::Start(to));
        sought.map_err(|source| self.error(source))?;
        self.position = to;
        Ok(())
    }

    fn put_file(&mut self, name: &str, content: &[u8]) -> Result<(), Error> {
        self.write(&header(name, EntryKind::File { size: content.len() as u64 }))?;
        self.write(content)?;
        self.pad()
    }

    fn end_blob(&mut self, digest: Digest) -> Result<(), Error> {
        self.pad()?;
        self.end = self.position;
        self.there.insert(digest);
        Ok(())
    }

    fn pad(&mut self) -> Result<(), Error> {
        let padding = self.position.next_multiple_of(BLOCK) - self.position;
        self.write(&[0; BLOCK as usize][..padding as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Out::Closed = self.out {
            return Err(self.finished());
        }
        self.write_bytes(bytes).map_err(|source| self.error(source))
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        match &mut self.out {
            Out::File(partial) => partial.file.write_all(bytes),
            Out::Stream(stream) => stream.write_all(bytes),
            Out::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn layer_error(&self, error: LayerError) -> PlaceError {
        match error {
            LayerError::Output(source) => self.error(source).into(),
            error => error.into(),
        }
    }

    fn error(&self, source: io::Error) -> Error {
        Error::File { verb: "write", path: self.path.clone(), source }
    }

    fn finished(&self) -> Error {
        Error::ArchiveFinished { name: self.path.display().to_string() }
    }
}

/// A pipe or device is written to as it is: to rename a file into its place would be to remove it.
fn open(path: &Path) -> Result<Out, Error> {
    let is_special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    if is_special {
        let file: io::Result<File> = OpenOptions::new().write(true).open(path);
        let file = file.map_err(|source| Error::File { verb: "write", path: path.to_owned(), source })?;
        return Ok(Out::Stream(Box::new(file)));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Partial::new(parent).map(Out::File)
}

fn blob_header(descriptor: &Descriptor) -> Vec<u8> {
    header(&format!("{BLOBS}/{}", descriptor.digest.hex()), EntryKind::File { size: descriptor.size })
}

/// One block, whatever the size: room for it is left before the size is known. The PAX records that
/// would come before it say the size of a file above 8 GiB once more; the block's own base-256
/// number is what GNU tar writes, and all that read images read it.
pub(super) fn header(name: &str, kind: EntryKind) -> Vec<u8> {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    let name = name.as_bytes().into();
    let entry = Entry { name, kind, mode, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: None };
    let mut bytes = Vec::new();
    encode_header(&mut bytes, &entry).expect("the names of a layout fit into a header");
    bytes.split_off(bytes.len() - BLOCK as usize)
}
