//! A tar archive as a tree, without unpacking it.
//!
//! ```text
//!  a file, plain tar ─────────────────────────┐
//!                                             ├──▶ read once ──▶ Index: path → attributes, offset
//!  a pipe, or compressed ──▶ spooled, decoded ┘                      └──▶ contents, on demand
//! ```
//!
//! Only an archive that cannot be read twice is written to disk, decompressed, to a file that has no
//! name. Members are placed as containerd's `archive.Apply` does in a root of its own: `..` and links
//! never lead out, later members replace earlier ones. Nothing of it is ever a path of this machine.

mod content;
mod index;
mod spool;

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use ocib_image::{ArchiveCodec, LayerError, Node, TarReader, Tree, Xattrs};

pub use self::spool::Scratch;
use self::{
    content::Checked,
    index::{Content, Index, Place},
};
use crate::{Error, span::Span, state::State};

/// Headers are read from buffers of this size.
const READ_BYTES: usize = 64 << 10;

/// A tar archive as a tree. In memory are the names of its members, and some 120 bytes for each.
///
/// ```
/// use ocib_image::Tree;
/// use ocib_source::Archive;
///
/// let file = tempfile::tempfile()?;
/// // An archive without members: two blocks of zeros.
/// file.set_len(1024)?;
/// let archive = Archive::index(file, "context.tar")?;
/// assert!(archive.list(b"")?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Archive {
    file: Arc<File>,
    state: State,
    name: Arc<str>,
    index: Index,
    spooled: Option<u64>,
}

impl Archive {
    /// The archive in `file`: read in place if it is a regular file and not compressed, else spooled
    /// to `scratch`. Reading begins at the start of a regular file, and where a pipe is.
    ///
    /// # Errors
    /// [`Error::Archive`], [`Error::BadMember`], [`Error::Scratch`], [`Error::Layer`].
    pub fn open(file: File, name: &str, scratch: &Scratch<'_>) -> Result<Self, Error> {
        match is_plain(&file).map_err(|source| unreadable(name, source))? {
            None => Self::spool(Box::new(file), name, scratch),
            Some(true) => Self::index(file, name),
            Some(false) => Self::spool(Box::new(Span::new(Arc::new(file), 0, u64::MAX)), name, scratch),
        }
    }

    /// The archive in `file`, a regular file that is not compressed. It is read through once, and then
    /// again where contents are asked for; reading a content fails at its end if the file was changed.
    ///
    /// # Errors
    /// [`Error::Archive`], [`Error::BadMember`], [`Error::Layer`].
    pub fn index(file: File, name: &str) -> Result<Self, Error> {
        let file = Arc::new(file);
        let state = State::of(&file).map_err(|source| unreadable(name, source))?;
        let span = Span::new(Arc::clone(&file), 0, u64::MAX);
        let index = Index::read(&mut TarReader::new(BufReader::with_capacity(READ_BYTES, span)), name)?;
        Ok(Self { file, state, name: name.into(), index, spooled: None })
    }

    /// Bytes that were written to disk for it; `None` if it is read in place.
    pub fn spooled_bytes(&self) -> Option<u64> {
        self.spooled
    }

    fn place(&self, path: &[u8]) -> Result<&Place, LayerError> {
        self.index.find(path).ok_or_else(|| self.failure(path, io::ErrorKind::NotFound.into()))
    }

    fn checked(&self, path: &[u8], content: impl Read + Send + 'static) -> Box<dyn Read + Send> {
        let (file, state) = (Arc::clone(&self.file), self.state.clone());
        Box::new(Checked { content, file, state, name: self.display(path) })
    }

    fn failure(&self, path: &[u8], source: io::Error) -> LayerError {
        LayerError::Read { name: self.display(path), source }
    }
}

/// Whether a regular file is not compressed; `None` for pipes, which can be read only once.
fn is_plain(file: &File) -> io::Result<Option<bool>> {
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut start = [0; 8];
    let got = file.read_at(&mut start, 0)?;
    Ok(Some(ArchiveCodec::sniff(&start[..got]).is_none()))
}

fn unreadable(name: &str, source: io::Error) -> Error {
    Error::Layer(LayerError::Read { name: name.to_owned(), source })
}

impl Tree for Archive {
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, LayerError> {
        Ok(self.index.find(path).map(Place::node))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
        match self.place(path)?.is_directory() {
            true => Ok(self.index.names(path)),
            false => Err(self.failure(path, io::ErrorKind::NotADirectory.into())),
        }
    }

    fn open(&self, path: &[u8], offset: u64) -> Result<Box<dyn Read + Send>, LayerError> {
        let Some(content) = self.place(path)?.content() else {
            return Err(self.failure(path, io::ErrorKind::InvalidInput.into()));
        };
        let (file, start) = (Arc::clone(&self.file), offset.min(content.size()));
        Ok(match content {
            Content::Plain { offset, size } => {
                self.checked(path, Span::new(file, offset + start, offset + size))
            }
            Content::Sparse(sparse) => {
                let content = content::sparse(file, sparse, start);
                self.checked(path, content.map_err(|error| self.failure(path, io::Error::other(error)))?)
            }
        })
    }

    fn xattrs(&self, path: &[u8]) -> Result<Xattrs, LayerError> {
        Ok(self.place(path)?.xattrs())
    }

    fn display(&self, path: &[u8]) -> String {
        match path {
            b"" => self.name.to_string(),
            path => format!("{} in {}", String::from_utf8_lossy(path), self.name),
        }
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
