//! Contents of members, read out of the archive's file.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    sync::Arc,
};

use ocib_image::{Error, TarReader};

use super::{READ_BYTES, index::SparseFile};
use crate::{span::Span, state::State};

/// Reads the sparse file of which `file` says where it is, from `offset` on. Fails where the archive
/// is not what it was when it was indexed.
pub(super) fn sparse(
    file: Arc<File>,
    sparse: &SparseFile,
    offset: u64,
) -> Result<impl Read + Send + use<>, Error> {
    let span = Span::new(file, sparse.start, u64::MAX);
    let mut reader = TarReader::new(BufReader::with_capacity(READ_BYTES, span));
    for _ in 0..=sparse.members {
        reader.next_entry()?;
    }
    Ok(Holes { reader, skip: offset })
}

struct Holes {
    reader: TarReader<BufReader<Span>>,
    /// Bytes of the content to pass over.
    skip: u64,
}

impl Read for Holes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut content = self.reader.content();
        let skip = std::mem::take(&mut self.skip);
        io::copy(&mut content.by_ref().take(skip), &mut io::sink())?;
        content.read(buffer)
    }
}

/// A reader that fails at its end if the archive's file was changed.
pub(super) struct Checked<R> {
    pub(super) content: R,
    pub(super) file: Arc<File>,
    pub(super) state: State,
    /// What the content is called in messages.
    pub(super) name: String,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.content.read(buffer)?;
        if got == 0 && !buffer.is_empty() {
            self.state.check(&self.file, || self.name.clone())?;
        }
        Ok(got)
    }
}
