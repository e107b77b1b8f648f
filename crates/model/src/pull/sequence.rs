//! A layer that can only be read from its start: compressed ones, and tars of an unusual kind.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use ocib_image::{Blob, MediaType, Progress, TarReader, decode};

use super::{MemberKind, Prefix, fetch::Fetched, index::member, unpack_error, write_error};
use crate::Error;

/// Unpacks the files that belong to the model into `state`, verifying the layer. Blocks.
pub(super) fn unpack(
    blob: &Blob,
    media_type: &MediaType,
    state: &Path,
    prefix: &Prefix,
    progress: &Progress,
) -> Result<Fetched, Error> {
    fs::create_dir_all(state).map_err(write_error(state))?;
    let stored = Counted { inner: blob.source.read()?, progress: progress.clone() };
    let stream =
        decode(media_type, Box::new(stored)).map_err(|error| unpack_error(blob, error.to_string()))?;
    let mut archive = TarReader::new(io::BufReader::with_capacity(256 << 10, stream));
    let (mut members, mut places) = (Vec::new(), Vec::new());
    while let Some(found) = archive.next_entry().map_err(|error| unpack_error(blob, error.to_string()))? {
        let Some(member) = member(&found, 0)? else { continue };
        if prefix.strip(&member.path).is_none() {
            continue;
        }
        let place = state.join(members.len().to_string());
        if matches!(member.kind, MemberKind::File { .. }) {
            write(&place, &mut archive.content())?;
        }
        members.push(member);
        places.push(place);
    }
    // Size and digest are compared at the end of the stored bytes, which may lie behind the archive's.
    io::copy(&mut archive.into_inner(), &mut io::sink())
        .map_err(|error| unpack_error(blob, error.to_string()))?;
    Ok(Fetched { members, places, is_in_place: false, bytes: blob.descriptor.size })
}

fn write(place: &PathBuf, content: &mut dyn Read) -> Result<(), Error> {
    let mut file = fs::File::create(place).map_err(write_error(place))?;
    io::copy(content, &mut file).map(drop).map_err(write_error(place))
}

/// A reader whose bytes are told.
struct Counted<R> {
    inner: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.progress.advanced(got as u64);
        Ok(got)
    }
}
