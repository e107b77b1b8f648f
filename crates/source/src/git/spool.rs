//! From the answer of a server to objects on disk.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use futures_util::stream;
use ocib_net::{Redacted, Response, read_blocking};
use tokio::runtime::Handle;

use super::{
    pack,
    pkt::{PackBand, Packets},
    problem::Failure,
    resolve,
    store::Store,
};
use crate::{Error, watched::Watch};

/// A pack on its way to disk.
pub(super) struct Spool {
    /// What is spooled.
    pub(super) name: Redacted,
    pub(super) directory: PathBuf,
}

impl Spool {
    /// The objects that `response` brings, and how many bytes were written for them.
    pub(super) fn receive(
        &self,
        response: Response,
        runtime: &Handle,
        watch: Watch,
    ) -> Result<(Store, u64), Error> {
        let failed = |source| Error::Scratch {
            name: self.name.to_string(),
            directory: self.directory.clone(),
            source,
        };
        let file = tempfile::tempfile_in(&self.directory).map_err(failed)?;
        let pieces = stream::try_unfold(response, async |mut response| {
            let piece = response.piece().await?;
            Ok::<_, Error>(piece.map(|piece| (piece, response)))
        });
        let url = self.name.clone();
        let watched = Watched { inner: read_blocking(pieces, runtime), watch, url };
        read_pack(watched, file, &failed).map_err(|failure| failure.at(&self.name))
    }
}

/// The objects of the pack in an answer to `fetch`, which is kept in `file`, and the size of that.
pub(super) fn read_pack(
    answer: impl Read,
    file: File,
    failed: &dyn Fn(io::Error) -> Error,
) -> Result<(Store, u64), Failure> {
    let mut band = PackBand::begin(Packets::new(answer))?;
    let (packed, bytes) = pack::receive(&mut band, &file, failed)?;
    let file = Arc::new(file);
    let objects = resolve::resolve(&file, &packed, bytes, failed)?;
    let written = file.metadata().map(|metadata| metadata.len())?;
    Ok((Store::new(file, objects), written))
}

/// A reader that fails once nobody waits for what it reads.
struct Watched<R> {
    inner: R,
    watch: Watch,
    url: Redacted,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.is_over() {
            return Err(io::Error::other(Error::BrokenOff { url: self.url.clone() }));
        }
        self.inner.read(buffer)
    }
}
