//! Archives that cannot be read twice, kept on disk while they are needed.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::Path,
    sync::Arc,
};

use ocib_image::{ExpansionLimit, Outcome, Progress, TarReader, decode_archive};

use super::{Archive, READ_BYTES, index::Index, unreadable};
use crate::{Error, state::State};

/// Where archives are spooled that cannot be read twice, and who is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Scratch<'a> {
    /// A directory that can be written.
    pub directory: &'a Path,
    /// Told before the first byte is written, and of each byte.
    pub progress: &'a Progress,
}

impl Archive {
    /// The archive that `input` brings, plain or compressed by gzip, bzip2, xz or zstd: decompressed
    /// into a file of mode 0600 in `scratch` that has no name, so that its space is free again when the
    /// archive is dropped or the process ends, however it ends. Reads `input` to its end, so that whoever
    /// writes it ends well. Blocks.
    ///
    /// # Errors
    /// [`Error::Scratch`] if the directory cannot be written or is full; [`Error::Archive`] for what is
    /// no archive or more than an honest one ([`ExpansionLimit::ARCHIVE`]); [`Error::BadMember`];
    /// [`Error::Layer`] if `input` fails.
    pub fn spool(input: Box<dyn Read + Send>, name: &str, scratch: &Scratch<'_>) -> Result<Self, Error> {
        let Scratch { directory, progress } = *scratch;
        let failed =
            |source| Error::Scratch { name: name.to_owned(), directory: directory.to_owned(), source };
        let mut file = tempfile::tempfile_in(directory).map_err(failed)?;
        progress.started(&format!("spooling {name} to {}", directory.display()), None);

        let bytes =
            decode_archive(input, ExpansionLimit::ARCHIVE).map_err(|error| Error::of_archive(name, error))?;
        let tee = Tee { bytes, spool: &mut file, written: 0, progress, failed: &failed };
        let mut archive = TarReader::new(BufReader::with_capacity(READ_BYTES, tee));
        let index = Index::read(&mut archive, name)?;
        let Tee { mut bytes, written, .. } = archive.into_inner().into_inner();
        io::copy(&mut bytes, &mut io::sink()).map_err(|source| unreadable(name, source))?;
        progress.finished(Outcome::Stored);

        let state = State::of(&file).map_err(|source| unreadable(name, source))?;
        Ok(Self { file: Arc::new(file), state, name: name.into(), index, spooled: Some(written) })
    }
}

/// Writes down whatever is read.
struct Tee<'a, F> {
    bytes: Box<dyn Read + Send>,
    spool: &'a mut File,
    written: u64,
    progress: &'a Progress,
    failed: &'a F,
}

impl<F: Fn(io::Error) -> Error> Read for Tee<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.bytes.read(buffer)?;
        self.spool.write_all(&buffer[..got]).map_err(|error| io::Error::other((self.failed)(error)))?;
        self.written += got as u64;
        self.progress.advanced(got as u64);
        Ok(got)
    }
}
