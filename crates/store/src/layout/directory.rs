//! Files of a layout directory, each of which is seen whole or not at all.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use ocib_image::{Descriptor, Digest, Layer, LayerError, PlaceError, Progress, Sealer, Unsealed};
use tempfile::NamedTempFile;

use super::{BLOBS, INDEX, IndexFile, MARKER, Name, Verified, blob::source_error};
use crate::{Error, blocking::Wanted};

/// A layout directory that is written to; made when the first file is.
#[derive(Clone, Debug)]
pub(super) struct Directory(pub(super) PathBuf);

impl Directory {
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.0.join(BLOBS).join(digest.hex())
    }

    /// Whether the blob is there. A file of another size is none: it came from a copy that was cut
    /// off, since ocib itself renames only whole files.
    pub(super) fn has(&self, descriptor: &Descriptor) -> bool {
        let metadata = fs::metadata(self.blob_path(&descriptor.digest));
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == descriptor.size)
    }

    pub(super) fn write_layer(
        &self,
        unsealed: &Unsealed,
        sealer: &Sealer,
        progress: &Progress,
        wanted: &Wanted,
    ) -> Result<Layer, PlaceError> {
        let mut partial = Partial::new(&self.0.join(BLOBS))?;
        let sealed = unsealed.seal(sealer, &mut |piece| {
            wanted.check()?;
            partial.file.write_all(&piece)?;
            progress.advanced(piece.len() as u64);
            Ok(())
        });
        let layer = sealed.map_err(|error| match error {
            LayerError::Output(source) => partial.error(source).into(),
            error => PlaceError::from(error),
        })?;
        if !self.has(&layer.descriptor) {
            partial.keep(&self.blob_path(&layer.descriptor.digest))?;
        }
        Ok(layer)
    }

    pub(super) fn write_blob(
        &self,
        descriptor: &Descriptor,
        source: &mut dyn Read,
        progress: &Progress,
        wanted: &Wanted,
    ) -> Result<(), PlaceError> {
        let mut partial = Partial::new(&self.0.join(BLOBS))?;
        let mut source = Verified::new(source, descriptor, "the blob".to_owned());
        let mut buffer = vec![0; 256 << 10];
        loop {
            wanted.check().map_err(|source| partial.error(source))?;
            let got = match source.read(&mut buffer).map_err(source_error)? {
                0 => return Ok(partial.keep(&self.blob_path(&descriptor.digest))?),
                got => got,
            };
            partial.file.write_all(&buffer[..got]).map_err(|source| partial.error(source))?;
            progress.advanced(got as u64);
        }
    }

    /// Lists `root` under `names`. Others that write to the same layout wait, and those that read it
    /// see the old list or the new one.
    pub(super) fn write_index(&self, root: &Descriptor, names: &[Name]) -> Result<(), Error> {
        let _lock = self.lock()?;
        let path = self.0.join(INDEX);
        let mut index = match fs::read(&path) {
            Ok(bytes) => IndexFile::parse(&bytes)
                .map_err(|error| self.bad(format!("{INDEX} cannot be read: {error}")))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => IndexFile::new(),
            Err(source) => return Err(Error::File { verb: "read", path, source }),
        };
        index.insert(root, names);
        let mut partial = Partial::new(&self.0)?;
        partial.file.write_all(&index.to_bytes()).map_err(|source| partial.error(source))?;
        partial.keep(&path)
    }

    /// Makes the directory a layout if it is none, and keeps other writers out.
    fn lock(&self) -> Result<File, Error> {
        let path = self.0.join(MARKER.0);
        if !path.exists() {
            let mut partial = Partial::new(&self.0)?;
            partial.file.write_all(MARKER.1).map_err(|source| partial.error(source))?;
            partial.keep(&path)?;
        }
        let file =
            File::open(&path).map_err(|source| Error::File { verb: "open", path: path.clone(), source })?;
        match file.lock() {
            // Network file systems without locks: two builds into one layout at a time are rarer
            // than builds into such a directory.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
            Err(source) => Err(Error::File { verb: "lock", path, source }),
            Ok(()) => Ok(file),
        }
    }

    fn bad(&self, why: String) -> Error {
        Error::BadLayout { directory: self.0.clone(), why }
    }
}

/// A file under a temporary name, removed unless it is kept.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) file: NamedTempFile,
}

impl Partial {
    /// An empty file in `directory`, which is made if it is not there. Its mode is 0644 but for
    /// what the umask takes away.
    pub(crate) fn new(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(|source| Error::File {
            verb: "make directory",
            path: directory.to_owned(),
            source,
        })?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".ocib-").suffix(".partial").permissions(Permissions::from_mode(0o644));
        let file = builder.tempfile_in(directory);
        let file =
            file.map_err(|source| Error::File { verb: "write to", path: directory.to_owned(), source })?;
        Ok(Self { file })
    }

    /// Gives the file its name, in place of a file that has it.
    pub(crate) fn keep(self, path: &Path) -> Result<(), Error> {
        let kept = self.file.persist(path);
        kept.map(drop).map_err(|error| Error::File {
            verb: "write",
            path: path.to_owned(),
            source: error.error,
        })
    }

    pub(crate) fn error(&self, source: io::Error) -> Error {
        Error::File { verb: "write", path: self.file.path().to_owned(), source }
    }
}
