//! From all headers of an entry to what they say of it.

use std::io::Read;

use super::{
    Body, Extensions, Flaw, NAME_BYTES_MAX, TarEntry, TarReader,
    header::{BLOCK, Header},
    padding,
    pax::Records,
    sparse::{MapReader, Pieces, SparseMap},
    unsigned_size,
};
use crate::{Entry, EntryKind, Error, Timestamp};

impl<R: Read> TarReader<R> {
    /// Puts together what all headers of an entry say; `at` is where its own begins, `start` where
    /// its first extended one does.
    pub(super) fn begin_entry(
        &mut self,
        start: u64,
        at: u64,
        header: &Header,
        extensions: Extensions,
    ) -> Result<TarEntry, Error> {
        let Extensions { mut records, long_name, long_link, .. } = extensions;
        let mut name = long_name.or(records.path.take()).unwrap_or_else(|| header.name());
        let link = long_link.or(records.link.take()).unwrap_or_else(|| header.link().to_vec());
        let flag = match header.type_flag() {
            // The first format had no type for directories.
            0 if name.ends_with(b"/") => b'5',
            0 | b'7' => b'0',
            flag => flag,
        };
        let size = records.size.map_or_else(|| header.size(), Ok).map_err(|flaw| flaw.at(at))?;
        let is_file = matches!(flag, b'0' | b'S');
        let stored = if is_file { unsigned_size(size).map_err(|flaw| flaw.at(at))? } else { 0 };
        self.body = Body { stored, padding: padding(stored), sparse: None };
        if flag == b'S' {
            self.begin_old_sparse(start, at, header)?;
        } else if records.sparse.version().is_some() {
            self.begin_pax_sparse(at, &mut records, is_file, size)?;
            name = records.sparse.name.take().unwrap_or(name);
        }
        check_names(&name, &link).map_err(|flaw| flaw.at(at))?;
        let size = self.body.sparse.as_ref().map_or(stored, SparseMap::size);
        let kind = match flag {
            b'0' | b'S' => EntryKind::File { size },
            flag => other_kind(flag, header, &name, link, at)?,
        };
        let offset = self.body.sparse.is_none().then_some(self.position);
        let entry = entry(header, records, name, kind).map_err(|flaw| flaw.at(at))?;
        let odd_type = Some(header.type_flag()).filter(|flag| matches!(flag, b'7' | b'S'));
        Ok(TarEntry { entry, offset, odd_type })
    }

    fn begin_old_sparse(&mut self, start: u64, at: u64, header: &Header) -> Result<(), Error> {
        let (mut block, size) = header.old_sparse().map_err(|flaw| flaw.at(at))?;
        let mut pieces = Pieces::default();
        let mut next;
        while pieces.add_block(block).map_err(|flaw| flaw.at(at))? {
            let what = "the map of a sparse file";
            next = self.read_block(what)?;
            let more = next.as_ref().ok_or(Error::TruncatedArchive { offset: self.position, what })?;
            // The last 7 bytes of such a block are unused.
            block = &more[..21 * 24 + 1];
            self.check_header_bytes(start)?;
        }
        let map = SparseMap::new(pieces, size, self.body.stored);
        self.body.sparse = Some(map.map_err(|flaw| flaw.at(at))?);
        Ok(())
    }

    fn begin_pax_sparse(
        &mut self,
        at: u64,
        records: &mut Records,
        is_file: bool,
        stored: i64,
    ) -> Result<(), Error> {
        if !is_file {
            return Err(Flaw::bad("something that is no file is sparse").at(at));
        }
        let sparse = &records.sparse;
        let pieces = match sparse.version() {
            Some(1) => self.read_sparse_map(at)?,
            _ => Pieces::from_records(sparse).map_err(|flaw| flaw.at(at))?,
        };
        let size = sparse.size.or(sparse.real_size).unwrap_or(stored);
        let map = SparseMap::new(pieces, size, self.body.stored);
        self.body.sparse = Some(map.map_err(|flaw| flaw.at(at))?);
        Ok(())
    }

    fn read_sparse_map(&mut self, at: u64) -> Result<Pieces, Error> {
        let what = "the map of a sparse file";
        let mut map = MapReader::default();
        loop {
            if self.body.stored < BLOCK as u64 {
                return Err(Flaw::bad("the map of a sparse file goes on behind the file").at(at));
            }
            let block = self.read_block(what)?;
            let block = block.ok_or(Error::TruncatedArchive { offset: self.position, what })?;
            self.body.stored -= BLOCK as u64;
            if map.take(&block).map_err(|flaw| flaw.at(at))? {
                return Ok(map.finish());
            }
        }
    }
}

/// What all types of entries have.
fn entry(header: &Header, records: Records, name: Vec<u8>, kind: EntryKind) -> Result<Entry, Flaw> {
    let id = |what, record: Option<i64>, field: Result<i64, Flaw>| {
        let id = record.map_or(field, Ok)?;
        u32::try_from(id).map_err(|_| Flaw::Bad(format!("an entry has the {what} {id}, expected 32 bits")))
    };
    let mtime = header.mtime();
    Ok(Entry {
        name: name.into(),
        kind,
        mode: u32::try_from(header.mode()? & 0o7777).expect("12 bits fit into 32"),
        uid: id("user ID", records.uid, header.uid())?,
        gid: id("group ID", records.gid, header.gid())?,
        mtime: records.mtime.map_or_else(|| mtime.map(Timestamp::from_seconds), Ok)?,
        xattrs: (!records.xattrs.is_empty()).then(|| Box::new(records.xattrs)),
    })
}

fn other_kind(flag: u8, header: &Header, name: &[u8], link: Vec<u8>, at: u64) -> Result<EntryKind, Error> {
    let device = || {
        let (major, minor) = header.device().map_err(|flaw| flaw.at(at))?;
        match (u32::try_from(major), u32::try_from(minor)) {
            (Ok(major), Ok(minor)) => Ok((major, minor)),
            _ => {
                let why = format!("a device has the numbers {major} and {minor}, expected 32 bits each");
                Err(Flaw::Bad(why).at(at))
            }
        }
    };
    Ok(match flag {
        b'1' => EntryKind::Hardlink(link.into()),
        b'2' => EntryKind::Symlink(link.into()),
        b'3' => device().map(|(major, minor)| EntryKind::CharDevice { major, minor })?,
        b'4' => device().map(|(major, minor)| EntryKind::BlockDevice { major, minor })?,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        flag => {
            let shown = &name[..name.len().min(256)];
            let name = String::from_utf8_lossy(shown).into_owned();
            return Err(Error::UnknownEntryType { offset: at, name, flag: char::from(flag) });
        }
    })
}

fn check_names(name: &[u8], link: &[u8]) -> Result<(), Flaw> {
    let limit = NAME_BYTES_MAX as u64;
    match name.len().max(link.len()) {
        0..=NAME_BYTES_MAX => Ok(()),
        _ => Err(Flaw::Limit { what: "the length of a name or link target in bytes", limit }),
    }
}
