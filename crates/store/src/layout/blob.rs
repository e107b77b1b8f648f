//! Blobs in files, verified while they are read.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    ops::Range,
    path::PathBuf,
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::stream::try_unfold;
use ocib_image::{
    BlobSource, ByteStream, Descriptor, Digest, Digester, LayerError, PlaceError, PlaceErrorKind, Reference,
};

use crate::{Error, blocking::blocking};

/// Pieces in which a file is streamed: as large as those that layers are made in.
const PIECE_BYTES: u64 = 256 << 10;

/// A blob of a layout, or of the archive of one.
#[derive(Clone, Debug)]
pub(crate) struct FileBlob {
    pub(crate) path: PathBuf,
    pub(crate) part: Part,
    pub(crate) descriptor: Descriptor,
}

/// Which part of a file a blob is.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// The whole file.
    Whole,
    /// So many bytes of an archive.
    Member {
        /// Where they begin.
        start: u64,
        /// How many there are.
        bytes: u64,
    },
    /// None: it was made of other parts of the archive.
    Made(Bytes),
    /// The archive does not have it.
    Missing,
}

impl FileBlob {
    /// What the blob is called in messages.
    pub(crate) fn name(&self) -> String {
        match self.part {
            Part::Whole => self.path.display().to_string(),
            _ => format!("{} in {}", self.descriptor.digest, self.path.display()),
        }
    }

    fn open(&self) -> Result<Verified<Box<dyn Read + Send>>, PlaceError> {
        Ok(Verified::new(self.bytes(0)?, &self.descriptor, self.name()))
    }

    /// The bytes from `offset` on, unverified.
    fn bytes(&self, offset: u64) -> Result<Box<dyn Read + Send>, PlaceError> {
        let file = || {
            let file = File::open(&self.path);
            file.map_err(|source| Error::File { verb: "open", path: self.path.clone(), source })
        };
        let at = |position: u64| {
            let mut file = file()?;
            file.seek(SeekFrom::Start(position)).map_err(|error| self.error(error))?;
            Ok::<_, PlaceError>(file)
        };
        Ok(match &self.part {
            Part::Whole => Box::new(at(offset)?),
            Part::Member { start, bytes } => {
                Box::new(at(start.saturating_add(offset))?.take(bytes.saturating_sub(offset)))
            }
            Part::Made(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Box::new(Cursor::new(bytes.slice(start..)))
            }
            Part::Missing => {
                let (path, digest) = (self.path.clone(), self.descriptor.digest);
                return Err(Error::NotInArchive { path, digest }.into());
            }
        })
    }

    /// All of it. For documents: the caller has looked at the size.
    pub(crate) fn read_whole(&self) -> Result<Bytes, PlaceError> {
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes).map_err(|error| self.error(error))?;
        Ok(bytes.into())
    }

    fn error(&self, error: io::Error) -> PlaceError {
        read_error(error, |source| Error::File { verb: "read", path: self.path.clone(), source }.into())
    }
}

impl BlobSource for FileBlob {
    /// What comes before `offset` is read and digested too, so that every stream is verified.
    fn stream(&self, offset: u64) -> BoxFuture<'_, Result<ByteStream, PlaceError>> {
        let blob = self.clone();
        Box::pin(async move {
            let start = blob.clone();
            let reader = blocking(move |wanted| {
                let mut reader = start.open()?;
                for at in (0..offset).step_by(PIECE_BYTES as usize) {
                    wanted.check().map_err(|error| start.error(error))?;
                    let mut skipped = reader.by_ref().take(PIECE_BYTES.min(offset - at));
                    io::copy(&mut skipped, &mut io::sink()).map_err(|error| start.error(error))?;
                }
                Ok(reader)
            });
            Ok(pieces(reader.await?, blob))
        })
    }

    /// Only the bytes that are asked for are read.
    fn range(&self, range: Range<u64>) -> BoxFuture<'_, Result<ByteStream, PlaceError>> {
        let blob = self.clone();
        Box::pin(async move {
            let start = blob.clone();
            let bytes = range.end.saturating_sub(range.start);
            let reader = blocking(move |_| Ok(start.bytes(range.start)?.take(bytes)));
            Ok(pieces(reader.await?, blob))
        })
    }

    fn read(&self) -> Result<Box<dyn Read + Send>, PlaceError> {
        Ok(Box::new(self.open()?))
    }

    fn repository(&self) -> Option<&Reference> {
        None
    }
}

/// What `reader` has of `blob`, piece by piece.
fn pieces(reader: impl Read + Send + 'static, blob: FileBlob) -> ByteStream {
    Box::pin(try_unfold((reader, blob), |(mut reader, blob)| {
        blocking(move |_| {
            let mut piece = Vec::with_capacity(PIECE_BYTES as usize);
            let read = reader.by_ref().take(PIECE_BYTES).read_to_end(&mut piece);
            read.map_err(|error| blob.error(error))?;
            Ok((!piece.is_empty()).then(|| (Bytes::from(piece), (reader, blob))))
        })
    }))
}

/// A reader that fails before it gives the last piece of content that is not what its descriptor
/// says, so that nothing wrong is ever seen whole. Errors carry a [`LayerError::Place`].
#[derive(Debug)]
pub(crate) struct Verified<R> {
    inner: R,
    what: String,
    digester: Digester,
    expected: Digest,
    expected_bytes: u64,
}

impl<R: Read> Verified<R> {
    /// `what` names the content in errors.
    pub(crate) fn new(inner: R, descriptor: &Descriptor, what: String) -> Self {
        let (expected, expected_bytes) = (descriptor.digest, descriptor.size);
        Self { inner, what, digester: Digester::new(), expected, expected_bytes }
    }

    fn check(&self) -> io::Result<()> {
        let (actual, actual_bytes) = (self.digester.clone().finish(), self.digester.bytes());
        let (what, expected, expected_bytes) = (self.what.clone(), self.expected, self.expected_bytes);
        let wrong = if actual_bytes != expected_bytes {
            Error::WrongSize { what, expected: expected_bytes, actual: actual_bytes }
        } else if actual != expected {
            Error::WrongDigest { what, expected, actual }
        } else {
            return Ok(());
        };
        Err(io::Error::other(LayerError::Place(wrong.into())))
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let got = self.inner.read(buffer)?;
        self.digester.update(&buffer[..got]);
        if got == 0 || self.digester.bytes() >= self.expected_bytes {
            self.check()?;
        }
        Ok(got)
    }
}

/// What a blob's reader says, if it knows its own story; else the system's word, told by `plain`.
pub(crate) fn read_error(error: io::Error, plain: impl FnOnce(io::Error) -> PlaceError) -> PlaceError {
    match error.downcast::<LayerError>() {
        Ok(error) => error.into(),
        Err(error) => error.downcast::<PlaceError>().unwrap_or_else(plain),
    }
}

/// The story of a blob that comes from elsewhere and has none of its own.
pub(crate) fn source_error(error: io::Error) -> PlaceError {
    read_error(error, |error| PlaceError::new(PlaceErrorKind::Input, error))
}

#[cfg(test)]
mod tests {
    use ocib_image::MediaType;

    use super::*;

    #[test]
    fn nothing_wrong_is_given_whole() {
        let content = b"0123456789";
        let right = Descriptor::of(MediaType::LayerTar, content);
        let wrong = Descriptor { digest: Digest::of(b"other"), ..right.clone() };
        let longer = Descriptor { size: 11, ..right.clone() };
        let shorter = Descriptor::of(MediaType::LayerTar, &content[..9]);
        for (descriptor, given, is_right) in
            [(&right, 10, true), (&wrong, 8, false), (&longer, 10, false), (&shorter, 8, false)]
        {
            let mut reader = Verified::new(&content[..], descriptor, String::new());
            let (mut all, mut buffer) = (Vec::new(), [0; 4]);
            let end = loop {
                match reader.read(&mut buffer) {
                    Ok(0) => break Ok(()),
                    Ok(got) => all.extend_from_slice(&buffer[..got]),
                    Err(error) => break Err(source_error(error).kind),
                }
            };
            let expected = if is_right { Ok(()) } else { Err(PlaceErrorKind::Corrupt) };
            assert_eq!((all.len(), end), (given, expected), "{descriptor:?}");
        }
    }
}
