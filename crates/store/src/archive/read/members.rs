//! The members of a tar file: names and places. Contents are passed over by seeking.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use ocib_image::{ArchiveCodec, EntryKind, PlaceError, TarReader};

use crate::{Error, blocking::Wanted};

const BLOCK: u64 = 512;
/// Members that are remembered, and how long their names may be: an image of 127 layers, which is
/// about what runtimes mount, has some 500 in the oldest of the formats.
const MEMBERS_MAX: usize = 100_000;
const NAME_BYTES_MAX: usize = 1 << 10;
/// Links in old archives of docker lead to a layer directly.
const LINKS_MAX: usize = 8;

/// What is where in a tar file.
#[derive(Debug)]
pub(super) struct Members {
    path: PathBuf,
    all: BTreeMap<String, Member>,
}

#[derive(Debug)]
enum Member {
    File { start: u64, bytes: u64 },
    Link(String),
}

impl Members {
    /// Reads all headers; blocks.
    pub(super) fn read(path: &Path, wanted: &Wanted) -> Result<Self, PlaceError> {
        let failed = |verb| move |source| Error::File { verb, path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed("open"))?;
        let mut members = Self { path: path.to_owned(), all: BTreeMap::new() };
        members.check_start(&mut file)?;
        let mut next = 0;
        loop {
            wanted.check().map_err(failed("read"))?;
            file.seek(SeekFrom::Start(next)).map_err(failed("read"))?;
            // A reader of its own for each entry, so that its content need not be read to pass it.
            let mut tar = TarReader::new(&mut file);
            let entry = tar.next_entry().map_err(|error| members.bad(error.to_string()))?;
            let Some(found) = entry else { return Ok(members) };
            let end = file.stream_position().map_err(failed("read"))?;
            next = match (found.entry.kind, found.offset) {
                (EntryKind::File { size }, Some(offset)) => {
                    let start = next + offset;
                    members.insert(&found.entry.name, Member::File { start, bytes: size })?;
                    start.saturating_add(size).next_multiple_of(BLOCK)
                }
                (EntryKind::File { .. }, None) => {
                    return Err(members.bad("it has a sparse file, expected none in an image").into());
                }
                (EntryKind::Symlink(target), _) => {
                    let target = beside(&clean(&found.entry.name), &target);
                    members.insert(&found.entry.name, Member::Link(target))?;
                    end
                }
                (EntryKind::Hardlink(target), _) => {
                    members.insert(&found.entry.name, Member::Link(clean(&target)))?;
                    end
                }
                _ => end,
            };
        }
    }

    /// Says what is wrong with what is no tar at all.
    fn check_start(&self, file: &mut File) -> Result<(), PlaceError> {
        let mut start = Vec::new();
        let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(8).read_to_end(&mut start));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::NotSeekable => {
                self.bad("it is a pipe, in which one cannot go back: write it to a file first")
            }
            _ => Error::File { verb: "read", path: self.path.clone(), source: error },
        })?;
        match ArchiveCodec::sniff(&start) {
            Some(codec) => {
                let why = format!(
                    "it is compressed by {codec}, and nothing could be found in it: decompress it first"
                );
                Err(self.bad(why).into())
            }
            None => Ok(()),
        }
    }

    fn insert(&mut self, name: &[u8], member: Member) -> Result<(), Error> {
        if self.all.len() >= MEMBERS_MAX || name.len() > NAME_BYTES_MAX {
            return Err(self.bad("it has more or longer names than any image"));
        }
        self.all.insert(clean(name), member);
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bad(&self, why: impl Into<String>) -> Error {
        Error::BadArchive { path: self.path.clone(), why: why.into() }
    }

    /// Names, starts and sizes of all files.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.all.iter().filter_map(|(name, member)| match member {
            Member::File { start, bytes } => Some((&**name, *start, *bytes)),
            Member::Link(_) => None,
        })
    }

    /// Start and size of a file, links followed.
    pub(super) fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = clean(name.as_bytes());
        for _ in 0..LINKS_MAX {
            match self.all.get(&name)? {
                Member::File { start, bytes } => return Some((*start, *bytes)),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    /// The content of a file of at most `limit` bytes, if it is there.
    pub(super) fn small(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, PlaceError> {
        let Some((start, bytes)) = self.find(name) else { return Ok(None) };
        if bytes > limit as u64 {
            let what = format!("{name} in {}", self.path.display());
            return Err(Error::TooLarge { what, bytes, limit: limit as u64 }.into());
        }
        let mut content = Vec::new();
        self.open(start, bytes)?.read_to_end(&mut content).map_err(|error| self.unreadable(error))?;
        Ok(Some(content))
    }

    /// A reader of `bytes` bytes from `start` on.
    pub(super) fn open(&self, start: u64, bytes: u64) -> Result<impl Read + Send + use<>, Error> {
        let mut file = File::open(&self.path).map_err(|error| self.unreadable(error))?;
        file.seek(SeekFrom::Start(start)).map_err(|error| self.unreadable(error))?;
        Ok(file.take(bytes))
    }

    pub(super) fn unreadable(&self, source: io::Error) -> Error {
        Error::File { verb: "read", path: self.path.clone(), source }
    }
}

/// `./a//b/` and `a/b` are one file.
fn clean(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Where a link called `name` leads.
fn beside(name: &str, target: &[u8]) -> String {
    let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut path = directory.as_bytes().to_vec();
    path.push(b'/');
    path.extend_from_slice(target);
    clean(&path)
}
