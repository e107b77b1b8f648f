//! A job's files as one tar, for backends that are handed them instead of finding them in a registry.

use std::{
    io::{self, Write},
    sync::Arc,
};

use ocib_image::{
    Digest, Entry, EntryKind, LayerError, LayerSource, TarWriter, Timestamp, archive_bytes, encode_header,
};

use crate::files::FilesLayer;

/// The two blocks of zeros that end an archive.
const END_BYTES: u64 = 1024;

/// Something in the context of a job.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// The files, below a directory of their own unless they are an archive.
    pub(crate) files: Arc<FilesLayer>,
    /// What their bytes are.
    pub(crate) identity: Digest,
    /// The name of the archive that they are in, if they are to be unpacked as they are.
    pub(crate) archive: Option<String>,
}

/// The context of a job: its members one behind the other.
#[derive(Debug)]
pub(crate) struct JobContext {
    members: Vec<Member>,
    bytes: u64,
}

impl JobContext {
    pub(crate) fn new(members: Vec<Member>) -> Result<Self, LayerError> {
        let mut bytes = END_BYTES;
        for member in &members {
            let own = member.files.bytes().unwrap_or(0);
            bytes += match member.header(own) {
                Some(header) => archive_bytes(std::iter::once(header))?,
                None => own,
            } - END_BYTES;
        }
        Ok(Self { members, bytes })
    }
}

impl Member {
    /// The entry of the archive that it is, if it is one.
    fn header(&self, size: u64) -> Option<Entry> {
        let name = self.archive.as_ref()?;
        Some(Entry {
            name: name.clone().into_bytes().into(),
            kind: EntryKind::File { size },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: None,
        })
    }
}

impl LayerSource for JobContext {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        for member in &self.members {
            let bytes = member.files.bytes().unwrap_or(0);
            if let Some(header) = member.header(bytes) {
                let mut head = Vec::new();
                encode_header(&mut head, &header)?;
                out.write_all(&head).map_err(LayerError::Output)?;
                // An archive is a whole number of blocks, so nothing pads it.
                member.files.write(out)?;
            } else {
                member.files.write(&mut First { out: &mut *out, left: bytes - END_BYTES })?;
            }
        }
        TarWriter::new(out).finish().map(drop)
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.bytes)
    }

    fn sample(&self, take: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        self.members.iter().try_for_each(|member| member.files.sample(take))
    }
}

/// Passes on only the first bytes.
struct First<'a> {
    out: &'a mut dyn Write,
    left: u64,
}

impl Write for First<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
        self.out.write_all(&piece[..wanted])?;
        self.left -= wanted as u64;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
