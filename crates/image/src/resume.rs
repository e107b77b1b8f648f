//! Entering a layer's tar in its middle, so that what a push that was cut off has read need not be read again.
//!
//! A tar is a row of [`Segment`]s: headers and padding, which are known, and files of servers that can be read from
//! any byte on and that say by a name that only this content has that they are the same as before. Whoever writes it
//! marks places, and a [`Checkpoint`] is such a place with the digest of all that is before it. Another process that
//! finds a layer of the same [`Resumable::identity`] goes on there.
//!
//! What is before a checkpoint is not read again, so nothing of it is taken on trust: a file that ended before it was
//! compared with its server's promise, and of the file that it is in the check goes on, too ([`Entered::check`]).

use std::io::{self, Read, Write};

use crate::{
    Digest, Digester, Entry, EntryKind, Identity, LayerError, PlaceError, PlaceErrorKind, Tree,
    tar::{BLOCK, COPY_BYTES, copy, encode_header, padding},
};

/// A source whose tar can be entered in its middle, also by another process.
pub trait Resumable {
    /// Equal for tars of equal bytes that this version of ocib writes, however it finds that out without reading.
    fn identity(&self) -> Result<Digest, LayerError>;

    /// Writes the tar from `place` on, a place that such a call marked for a source of the same identity, or the
    /// default, which is the start. The bytes that follow are the same as then, or it fails.
    fn write_from(&self, place: &Place, out: &mut dyn Marked) -> Result<(), LayerError>;
}

/// A place of a tar.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Place {
    /// The segment that it is in, counted from 0.
    segment: u64,
    /// The byte of the segment that comes next.
    offset: u64,
    /// What checks the segment's file, as [`Tree::enter`] wants it.
    check: Vec<u8>,
}

/// What takes a tar and is told where that can be entered.
pub trait Marked: Write {
    /// What was written so far ends at the place that `place` gives.
    fn mark(&mut self, place: &dyn Fn() -> Place);
}

/// A reader that can be left at any byte for another one to go on.
pub trait Entered: Read {
    /// What [`Tree::enter`] needs to go on where this reader is.
    fn check(&self) -> Vec<u8>;
}

/// A piece of a tar.
#[derive(Debug)]
pub enum Segment<'a> {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The content of a file.
    File {
        /// Where it is.
        tree: &'a dyn Tree,
        /// Its path there.
        path: Vec<u8>,
        /// Its size in bytes.
        bytes: u64,
    },
}

/// Where the content of a tar's entry is.
#[derive(Debug)]
pub enum Content<'a> {
    /// Here; nothing of all but files.
    Inline(&'a [u8]),
    /// At a path of a tree.
    Tree(&'a dyn Tree, Vec<u8>),
}

/// The segments of the tar that [`crate::TarWriter`] makes of these entries.
pub fn segments<'a>(
    entries: impl Iterator<Item = (Entry, Content<'a>)> + 'a,
) -> impl Iterator<Item = Result<Segment<'a>, LayerError>> + 'a {
    let end = Segment::Bytes(vec![0; 2 * BLOCK]);
    let of_entry = |(entry, content): (Entry, Content<'a>)| {
        let mut header = Vec::new();
        if let Err(error) = encode_header(&mut header, &entry) {
            return vec![Err(error)];
        }
        let (size, mut all) = (entry.size(), vec![Ok(Segment::Bytes(header))]);
        all.extend(match content {
            Content::Tree(tree, path) if matches!(entry.kind, EntryKind::File { .. }) => {
                Some(Ok(Segment::File { tree, path, bytes: size }))
            }
            Content::Inline(bytes) => Some(Ok(Segment::Bytes(bytes.to_vec()))),
            Content::Tree(..) => None,
        });
        all.push(Ok(Segment::Bytes(vec![0; padding(size)])));
        all
    };
    entries.flat_map(of_entry).chain([Ok(end)])
}

/// What tells such a tar from others: the version of ocib, and of each segment its bytes or what says that they are
/// the same. Fails at a file of which nothing says that: whoever has one is not [`Resumable`].
pub fn segments_identity<'a>(
    segments: impl Iterator<Item = Result<Segment<'a>, LayerError>>,
) -> Result<Digest, LayerError> {
    let mut digester = Digester::new();
    let mut part = |kind: u8, bytes: &[u8]| {
        digester.update(&[kind]);
        digester.update(&(bytes.len() as u64).to_le_bytes());
        digester.update(bytes);
    };
    part(b'v', env!("CARGO_PKG_VERSION").as_bytes());
    for segment in segments {
        match segment? {
            Segment::Bytes(bytes) => part(b'b', &bytes),
            Segment::File { tree, path, bytes } => match tree.identity(&path)? {
                Some(Identity::Content(name)) => {
                    part(b'f', &bytes.to_le_bytes());
                    part(b'c', &name);
                }
                _ => return Err(no_way_in(&tree.display(&path))),
            },
        }
    }
    Ok(digester.finish())
}

/// Whether a file of `tree` need not be read again from its start: a server has it, and says by a name that only this
/// content has that it is the same. Files of this machine are read again: that is fast, and finds those that changed.
pub fn is_lasting(tree: &dyn Tree, path: &[u8]) -> bool {
    tree.is_distant() && matches!(tree.identity(path), Ok(Some(Identity::Content(_))))
}

/// Writes such a tar from `place` on.
pub fn write_segments<'a>(
    segments: impl Iterator<Item = Result<Segment<'a>, LayerError>>,
    place: &Place,
    out: &mut dyn Marked,
) -> Result<(), LayerError> {
    let mut buffer = vec![0; COPY_BYTES];
    for (number, segment) in (0..).zip(segments).skip_while(|(number, _)| *number < place.segment) {
        let start = match number == place.segment {
            true => place.clone(),
            false => Place { segment: number, ..Place::default() },
        };
        match segment? {
            Segment::Bytes(bytes) => {
                out.mark(&|| start.clone());
                let from = usize::try_from(start.offset).unwrap_or(usize::MAX);
                let rest = bytes.get(from..).ok_or_else(|| no_way_in("a header"))?;
                out.write_all(rest).map_err(LayerError::Output)?;
            }
            Segment::File { tree, path, bytes } => {
                write_file((tree, &path, bytes), &start, &mut buffer, out)?;
            }
        }
    }
    Ok(())
}

fn write_file(
    (tree, path, size): (&dyn Tree, &[u8], u64),
    start: &Place,
    buffer: &mut [u8],
    out: &mut dyn Marked,
) -> Result<(), LayerError> {
    let display = || tree.display(path);
    let Some(left) = size.checked_sub(start.offset) else { return Err(no_way_in(&display())) };
    let mut pass_on = |piece: &[u8]| out.write_all(piece).map_err(LayerError::Output);
    let Some(mut file) = tree.enter(path, start.offset, &start.check)? else {
        return match start.offset {
            0 => copy(&mut *tree.open(path, 0)?, (size, size), buffer, &display, |piece, _| pass_on(piece)),
            _ => Err(no_way_in(&display())),
        };
    };
    let Place { segment, mut offset, .. } = *start;
    copy(&mut *file, (left, size), buffer, &display, |piece, file| {
        out.write_all(piece).map_err(LayerError::Output)?;
        offset += piece.len() as u64;
        out.mark(&|| Place { segment, offset, check: file.check() });
        Ok(())
    })
}

/// What was noted of a tar does not fit it.
pub(crate) fn no_way_in(name: &str) -> LayerError {
    let why = format!("{name} cannot be entered where an earlier push was");
    LayerError::Place(PlaceError::new(PlaceErrorKind::Corrupt, why))
}

/// A place of a tar with the digest of what is before it. The default is the start.
#[derive(Clone, Default, Debug)]
pub struct Checkpoint {
    place: Place,
    digester: Digester,
}

impl Checkpoint {
    /// How many bytes of the tar are before it.
    pub fn bytes(&self) -> u64 {
        self.digester.bytes()
    }

    /// As a line of text.
    pub fn to_text(&self) -> String {
        let Place { segment, offset, check } = &self.place;
        format!("{segment} {offset} {} {}", hex(&self.digester.state()), hex(check))
    }

    /// Reads such a line; `None` if it is none. One that was altered may look like one: then the layer comes out with
    /// a digest that its bytes do not have.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let [segment, offset, state, check] = words[..] else { return None };
        let place =
            Place { segment: segment.parse().ok()?, offset: offset.parse().ok()?, check: from_hex(check)? };
        Some(Self { place, digester: Digester::restore(&from_hex(state)?)? })
    }
}

/// Between two checkpoints are so many bytes at least: what is read again is not much more.
const CHECKPOINT_BYTES: u64 = 1 << 20;

/// A tar on its way, digested, with checkpoints.
pub(crate) struct Noting<'a> {
    digester: Digester,
    next: u64,
    take: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    note: &'a mut dyn FnMut(Checkpoint),
}

impl<'a> Noting<'a> {
    /// Writes `source` from `checkpoint` on; gives the digest and size of the whole tar.
    pub(crate) fn write(
        source: &dyn Resumable,
        checkpoint: Checkpoint,
        take: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
        note: &'a mut dyn FnMut(Checkpoint),
    ) -> Result<(Digest, u64), LayerError> {
        let Checkpoint { place, digester } = checkpoint;
        let mut out = Self { next: digester.bytes() + CHECKPOINT_BYTES, digester, take, note };
        source.write_from(&place, &mut out)?;
        let bytes = out.digester.bytes();
        Ok((out.digester.finish(), bytes))
    }
}

impl Write for Noting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.digester.update(bytes);
        (self.take)(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Marked for Noting<'_> {
    fn mark(&mut self, place: &dyn Fn() -> Place) {
        if self.digester.bytes() >= self.next {
            self.next = self.digester.bytes() + CHECKPOINT_BYTES;
            (self.note)(Checkpoint { place: place(), digester: self.digester.clone() });
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Cursor};

    use super::*;
    use crate::{Node, TarWriter, Timestamp, Xattrs};

    /// Files in memory; those whose names begin with `-` cannot be entered.
    #[derive(Debug)]
    struct Kept(BTreeMap<Vec<u8>, Vec<u8>>);

    struct Checked {
        rest: Cursor<Vec<u8>>,
        digester: Digester,
        expected: Digest,
    }

    impl Read for Checked {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let got = self.rest.read(buffer)?;
            self.digester.update(&buffer[..got]);
            match got == 0 && self.digester.clone().finish() != self.expected {
                true => Err(io::Error::other("other content")),
                false => Ok(got),
            }
        }
    }

    impl Entered for Checked {
        fn check(&self) -> Vec<u8> {
            self.digester.state()
        }
    }

    impl Tree for Kept {
        fn stat(&self, _: &[u8]) -> Result<Option<Node>, LayerError> {
            Ok(None)
        }
        fn list(&self, _: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
            Ok(Vec::new())
        }
        fn open(&self, path: &[u8], offset: u64) -> Result<Box<dyn Read + Send>, LayerError> {
            Ok(Box::new(Cursor::new(self.0[path][usize::try_from(offset).unwrap()..].to_vec())))
        }
        fn enter(
            &self,
            path: &[u8],
            offset: u64,
            check: &[u8],
        ) -> Result<Option<Box<dyn Entered + Send>>, LayerError> {
            if path.starts_with(b"-") {
                return Ok(None);
            }
            let content = &self.0[path];
            let digester = match offset {
                0 => Digester::new(),
                _ => Digester::restore(check).ok_or_else(|| no_way_in("x"))?,
            };
            let rest = Cursor::new(content[usize::try_from(offset).unwrap()..].to_vec());
            Ok(Some(Box::new(Checked { rest, digester, expected: Digest::of(content) })))
        }
        fn xattrs(&self, _: &[u8]) -> Result<Xattrs, LayerError> {
            Ok(Xattrs::new())
        }
        fn identity(&self, path: &[u8]) -> Result<Option<Identity>, LayerError> {
            Ok(Some(Identity::Content(path.into())))
        }
        fn display(&self, path: &[u8]) -> String {
            String::from_utf8_lossy(path).into_owned()
        }
    }

    type Entries<'a> = Vec<(Entry, Content<'a>)>;

    #[derive(Debug)]
    struct Source(Kept);

    impl Source {
        fn new() -> Self {
            let content = |bytes: usize| (0..bytes).map(|at| (at / 251) as u8).collect();
            let files = [("-closed", 3 << 20), ("empty", 0), ("large", 5 << 20), ("small", 513)];
            Self(Kept(files.map(|(name, bytes)| (name.as_bytes().to_vec(), content(bytes))).into()))
        }

        fn entries(&self) -> Entries<'_> {
            let entry = |name: &[u8], kind| Entry {
                name: name.into(),
                kind,
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: Timestamp::default(),
                xattrs: None,
            };
            let file = |(path, content): (&Vec<u8>, &Vec<u8>)| {
                let kind = EntryKind::File { size: content.len() as u64 };
                (entry(path, kind), Content::Tree(&self.0, path.clone()))
            };
            let mut entries: Vec<_> = self.0.0.iter().map(file).collect();
            entries.insert(0, (entry(b"d", EntryKind::Directory), Content::Inline(&[])));
            let heredoc = entry(&[b'h'; 300], EntryKind::File { size: 3 });
            entries.push((heredoc, Content::Inline(b"abc")));
            entries
        }
    }

    impl Resumable for Source {
        fn identity(&self) -> Result<Digest, LayerError> {
            segments_identity(segments(self.entries().into_iter()))
        }
        fn write_from(&self, place: &Place, out: &mut dyn Marked) -> Result<(), LayerError> {
            write_segments(segments(self.entries().into_iter()), place, out)
        }
    }

    fn written(source: &Source, from: Checkpoint) -> (Vec<u8>, Digest, u64, Vec<Checkpoint>) {
        let (mut bytes, mut notes) = (Vec::new(), Vec::new());
        let mut take = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        let made = Noting::write(source, from, &mut take, &mut |note| notes.push(note)).unwrap();
        (bytes, made.0, made.1, notes)
    }

    #[test]
    fn a_tar_goes_on_at_each_checkpoint() {
        let source = Source::new();
        let (whole, digest, size, notes) = written(&source, Checkpoint::default());
        assert_eq!((digest, size), (Digest::of(&whole), whole.len() as u64));
        // One within the file that can be entered for each MiB, and one behind the other file.
        assert!((6..=8).contains(&notes.len()), "{notes:?}");
        for note in notes {
            let at = usize::try_from(note.bytes()).unwrap();
            let (rest, again, bytes, _) = written(&source, Checkpoint::parse(&note.to_text()).unwrap());
            assert!(rest == whole[at..], "the rest from byte {at} on is another");
            assert_eq!((again, bytes), (digest, size));
        }
    }

    #[test]
    fn it_is_what_a_tar_writer_writes() {
        let source = Source::new();
        let mut tar = TarWriter::new(Vec::new());
        for (entry, content) in source.entries() {
            match content {
                Content::Tree(tree, path) => {
                    tar.file(&entry, &mut tree.open(&path, 0).unwrap(), &|| String::new()).unwrap();
                }
                Content::Inline(bytes) if entry.size() > 0 => {
                    tar.file(&entry, &mut &bytes[..], &|| String::new()).unwrap();
                }
                Content::Inline(_) => tar.entry(&entry).unwrap(),
            }
        }
        assert!(tar.finish().unwrap() == written(&source, Checkpoint::default()).0);
    }

    #[test]
    fn identities_tell_headers_names_and_contents_apart() {
        let source = Source::new();
        let identity = |change: &dyn Fn(&mut Entries<'_>)| {
            let mut entries = source.entries();
            change(&mut entries);
            segments_identity(segments(entries.into_iter())).unwrap()
        };
        let same = identity(&|_| {});
        assert_eq!(same, source.identity().unwrap());
        let others = [
            identity(&|entries| entries[1].0.mode = 0o600),
            identity(&|entries| entries.swap(1, 2)),
            identity(&|entries| entries.last_mut().unwrap().1 = Content::Inline(b"abd")),
            identity(&|entries| {
                if let Content::Tree(_, path) = &mut entries[1].1 {
                    *path = b"small".to_vec();
                }
            }),
        ];
        assert!(!others.contains(&same));
    }

    #[test]
    fn what_is_no_checkpoint_is_none() {
        let good = Checkpoint::default().to_text();
        assert!(Checkpoint::parse(&good).is_some(), "{good:?}");
        for bad in ["", "0 0", &good[1..], &format!("{good} "), &format!("{good}0"), &format!("{good}0g")] {
            assert!(Checkpoint::parse(bad).is_none(), "{bad:?}");
        }
    }
}
