use std::{
    io::{Cursor, Seek, SeekFrom, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use ocib_image::{
    Entry, EntryKind, Event, Events, NodeKind, PlaceError, PlaceErrorKind, Progress, TarWriter, TaskId,
    Timestamp,
};

use super::*;

/// Names and types.
type Members = [(&'static str, EntryKind)];

const FILE: EntryKind = EntryKind::File { size: 1 };
const DIRECTORY: EntryKind = EntryKind::Directory;

fn link(target: &str) -> EntryKind {
    EntryKind::Symlink(target.as_bytes().into())
}

fn hard(target: &str) -> EntryKind {
    EntryKind::Hardlink(target.as_bytes().into())
}

/// An archive of `members`, in the oldest format, whose names may be anything. The content of a file is
/// the first digit of the member's number, as often as its size says.
fn tar(members: &Members) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, (name, kind)) in members.iter().enumerate() {
        let (flag, link): (u8, &[u8]) = match kind {
            EntryKind::File { .. } => (b'0', b""),
            EntryKind::Hardlink(target) => (b'1', target),
            EntryKind::Symlink(target) => (b'2', target),
            EntryKind::Directory => (b'5', b""),
            _ => (b'6', b""),
        };
        let size = if let EntryKind::File { size } = kind { *size } else { 0 };
        let mut header = [0; 512];
        let mut field = |at: usize, value: &[u8]| header[at..at + value.len()].copy_from_slice(value);
        field(0, name.as_bytes());
        field(100, b"0000640 0000001 0000002 ");
        field(124, format!("{size:011o}\000000000007\0        ").as_bytes());
        field(156, &[flag]);
        field(157, link);
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        out.extend(header);
        out.extend(vec![number.to_string().as_bytes()[0]; size as usize]);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend([0; 1024]);
    out
}

/// An archive of one file that only extended headers can describe.
fn extended(name: &[u8]) -> Vec<u8> {
    let xattr = |name: &[u8], value: &[u8]| (name.into(), value.into());
    let xattrs = vec![xattr(b"security.capability", b"c"), xattr(b"user.key", b"value")];
    let (kind, mtime, xattrs) = (FILE, Timestamp::default(), Some(Box::new(xattrs)));
    let entry = Entry { name: name.into(), kind, mode: 0o640, uid: 1, gid: 2, mtime, xattrs };
    let mut writer = TarWriter::new(Vec::new());
    writer.file(&entry, &mut &b"x"[..], &String::new).unwrap();
    writer.finish().unwrap()
}

fn stored(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn indexed(members: &Members) -> Result<Archive, Error> {
    Archive::index(stored(&tar(members)), "a.tar")
}

fn content(archive: &Archive, path: &str) -> String {
    io::read_to_string(archive.open(path.as_bytes(), 0).unwrap()).unwrap()
}

/// All paths with what is there; what no member describes ends in a question mark.
fn listing(archive: &Archive, path: &str, out: &mut Vec<String>) {
    for name in archive.list(path.as_bytes()).unwrap() {
        let name = String::from_utf8(name.into()).unwrap();
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        let node = archive.stat(path.as_bytes()).unwrap().unwrap();
        let is_made = (node.mode, node.uid, node.gid, node.mtime.seconds) == (0o755, 0, 0, 0);
        let kind = match &node.kind {
            NodeKind::File { .. } => format!("={}", content(archive, &path)),
            NodeKind::Directory => "/".to_owned(),
            NodeKind::Symlink(target) => format!("->{}", String::from_utf8_lossy(target)),
            other => format!(" {other:?}"),
        };
        let group = node.link_group.map_or(String::new(), |(_, group)| format!(" #{group}"));
        out.push(format!("{path}{kind}{group}{}", if is_made { "?" } else { "" }));
        if node.kind == NodeKind::Directory {
            listing(archive, &path, out);
        }
    }
}

#[test]
fn members_are_placed_within_the_tree() {
    let cases: [(&Members, &[&str]); 14] = [
        (&[], &[]),
        (&[("./", DIRECTORY), ("./a", FILE), ("b/c/d", FILE)], &["a=1", "b/?", "b/c/?", "b/c/d=2"]),
        (&[("../../etc/passwd", FILE), ("/abs/../x", FILE)], &["etc/?", "etc/passwd=0", "x=1"]),
        (&[("a", FILE), ("a", FILE)], &["a=1"]),
        (&[("a/b", FILE), ("a", FILE)], &["a=1"]),
        (&[("a", FILE), ("a", DIRECTORY), ("a/b", FILE)], &["a/", "a/b=2"]),
        (&[("a/b", FILE), ("a", DIRECTORY)], &["a/", "a/b=0"]),
        // Siblings around the slash in the order of bytes.
        (
            &[("a/x", FILE), ("a-b/y", FILE), ("a0", FILE), ("a", DIRECTORY)],
            &["a/", "a/x=0", "a-b/?", "a-b/y=1", "a0=2"],
        ),
        // Links lead members only to other places within the tree.
        (
            &[("out", link("/../../etc")), ("out/passwd", FILE), ("in/up", link("../..")), ("in/up/x", FILE)],
            &["etc/?", "etc/passwd=1", "in/?", "in/up->../..", "out->/../../etc", "x=3"],
        ),
        (&[("l", link("t")), ("l", FILE)], &["l=1"]),
        (&[("d", DIRECTORY), ("d/f", FILE), ("d", link("e")), ("d/f", FILE)], &["d->e", "e/?", "e/f=3"]),
        (
            &[("a", FILE), ("b", hard("/a")), ("c", hard("../b")), ("s", link("a")), ("t", hard("s"))],
            &["a=0 #1", "b=0 #1", "c=0 #1", "s->a #2", "t->a #2"],
        ),
        (&[("a", FILE), ("b", hard("a")), ("a", FILE), ("b", hard("b"))], &["a=2", "b=0"]),
        (&[("p", EntryKind::Fifo)], &["p Fifo"]),
    ];
    for (members, expected) in cases {
        let mut actual = Vec::new();
        listing(&indexed(members).unwrap(), "", &mut actual);
        assert_eq!(actual, expected, "{members:?}");
    }
}

#[test]
fn members_without_a_place_are_refused() {
    let cases: [(&Members, &str); 5] = [
        (
            &[("a", FILE), ("a/b", FILE)],
            "a/b in a.tar cannot be placed: it is below something that is no directory",
        ),
        (&[("b", hard("a"))], "b in a.tar cannot be placed: it is a hard link to nothing that came before"),
        (&[("b", hard(".."))], "b in a.tar cannot be placed: it is a hard link to nothing that came before"),
        (
            &[("a", DIRECTORY), ("b", hard("a"))],
            "b in a.tar cannot be placed: it is a hard link to a directory",
        ),
        (
            &[("a", link("b")), ("b", link("a")), ("a/x\u{1b}", FILE)],
            "a/x\\u{1b} in a.tar cannot be placed: too many symbolic links lead there, or they point to each other",
        ),
    ];
    for (members, expected) in cases {
        let error = PlaceError::from(indexed(members).unwrap_err());
        assert_eq!((error.to_string().as_str(), error.kind), (expected, PlaceErrorKind::Input));
    }
    let error = Archive::index(stored(&extended(&[b'x'; 4097])), "a.tar").unwrap_err().to_string();
    let expected = " in a.tar cannot be placed: its name is longer than 4096 bytes or holds a zero byte";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn what_is_no_archive_is_refused() {
    let mut cut = tar(&[("a", EntryKind::File { size: 600 })]);
    cut.truncate(1000);
    for (bytes, expected) in [
        (cut, "the archive ends at byte 1000, in the middle of the content of an entry"),
        (vec![7; 512], "the archive is broken at byte 0: "),
    ] {
        let error = Archive::index(stored(&bytes), "a.tar").unwrap_err().to_string();
        let expected = format!("a.tar is not an archive that can be read: {expected}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn contents_are_read_from_any_offset() {
    let archive =
        indexed(&[("a", EntryKind::File { size: 700 }), ("b", EntryKind::File { size: 3 })]).unwrap();
    for (path, offset, expected) in [("a", 0, 700), ("a", 699, 1), ("a", 700, 0), ("a", 701, 0), ("b", 1, 2)]
    {
        let mut bytes = Vec::new();
        archive.open(path.as_bytes(), offset).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), expected, "{path} {offset}");
    }
    assert!(archive.open(b"", 0).is_err());
    assert_eq!(archive.list(b"a").unwrap_err().to_string(), "cannot read a in a.tar: not a directory");
    assert_eq!(archive.list(b"c").unwrap_err().to_string(), "cannot read c in a.tar: entity not found");
}

#[test]
fn attributes_of_the_user_namespace_are_kept() {
    let archive = Archive::index(stored(&extended(b"a")), "a.tar").unwrap();
    let expected = [(Box::from(&b"user.key"[..]), Box::from(&b"value"[..]))];
    assert_eq!(archive.xattrs(b"a").unwrap(), expected);
}

#[test]
fn sparse_files_have_their_holes() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = File::create(dir.path().join("holes")).unwrap();
    file.set_len(3 << 20).unwrap();
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    file.write_all(b"middle").unwrap();
    std::fs::copy(dir.path().join("holes"), dir.path().join("before")).unwrap();
    std::fs::write(dir.path().join("after"), "after").unwrap();
    let expected = std::fs::read(dir.path().join("holes")).unwrap();
    for format in ["gnu", "posix"] {
        let status = Command::new("tar")
            .args(["--sparse", &format!("--format={format}"), "-cf", "a.tar", "after", "holes", "before"])
            .current_dir(&dir)
            .status();
        assert!(status.unwrap().success());
        let archive = Archive::index(File::open(dir.path().join("a.tar")).unwrap(), "a.tar").unwrap();
        assert_eq!(content(&archive, "after"), "after");
        for (path, offset) in [("holes", 0), ("before", 0), ("holes", 1 << 20), ("before", (1 << 20) + 3)] {
            let mut bytes = Vec::new();
            archive.open(path.as_bytes(), offset).unwrap().read_to_end(&mut bytes).unwrap();
            assert!(bytes == expected[offset as usize..], "{format} {path} {offset}");
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    let bytes = tar(&[("a", FILE)]);
    std::fs::write(&path, &bytes).unwrap();
    let archive = Archive::index(File::open(&path).unwrap(), "a.tar").unwrap();
    assert_eq!(content(&archive, "a"), "0");
    std::fs::write(&path, [&bytes[..], b"more"].concat()).unwrap();
    let mut reader = archive.open(b"a", 0).unwrap();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    let (then, now) = (bytes.len(), bytes.len() + 4);
    let expected = format!("a in a.tar changed while it was read: it had {then} bytes, now it has {now}");
    assert_eq!(error.to_string(), expected);
}

#[derive(Default)]
struct Told(Mutex<(Vec<String>, u64)>);

impl Events for Told {
    fn emit(&self, event: Event<'_>) {
        let mut told = self.0.lock().unwrap();
        match event {
            Event::Started { what, .. } => told.0.push(what.to_owned()),
            Event::Advanced { bytes, .. } => told.1 += bytes,
            other => told.0.push(format!("{other:?}")),
        }
    }
}

/// What `open` makes of `file`, and what was told of it.
fn opened(file: File, directory: &Path) -> (Result<Archive, Error>, Vec<String>, u64) {
    let told = Arc::new(Told::default());
    let events: Arc<dyn Events> = Arc::clone(&told) as _;
    let progress = Progress::new(events, TaskId(0));
    let archive = Archive::open(file, "stdin", &Scratch { directory, progress: &progress });
    let told = told.0.lock().unwrap();
    (archive, told.0.clone(), told.1)
}

#[test]
fn only_what_cannot_be_read_twice_is_spooled() {
    let plain = tar(&[("a", FILE)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let piped = |bytes: &[u8]| {
        let (reader, mut writer) = io::pipe().unwrap();
        // More behind the end of the archive than a pipe holds: whoever writes it must end well too.
        let bytes = [bytes, &[0; 300 << 10]].concat();
        std::thread::spawn(move || writer.write_all(&bytes).unwrap());
        File::from(OwnedFd::from(reader))
    };
    let dir = tempfile::tempdir().unwrap();
    let length = plain.len() as u64;
    for (file, spooled) in
        [(stored(&plain), None), (stored(&gzip), Some(length)), (piped(&plain), Some(65_536))]
    {
        let (archive, told, bytes) = opened(file, dir.path());
        let archive = archive.unwrap();
        assert_eq!(content(&archive, "a"), "0");
        assert_eq!((archive.spooled_bytes(), bytes), (spooled, spooled.unwrap_or_default()));
        let started = format!("spooling stdin to {}", dir.path().display());
        let expected = [&started, "Finished { task: TaskId(0), outcome: Stored }"];
        assert_eq!(told, if spooled.is_some() { &expected[..] } else { &[] });
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }
}

#[test]
fn a_scratch_directory_that_cannot_be_written_is_named() {
    let nowhere = PathBuf::from("/proc/self/nowhere");
    let (reader, _writer) = io::pipe().unwrap();
    let (archive, told, _) = opened(File::from(OwnedFd::from(reader)), &nowhere);
    let error = archive.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("stdin cannot be spooled to /proc/self/nowhere: "), "{text}");
    let remedy = ", expected room in a directory that can be written (--scratch-dir)";
    assert!(text.ends_with(remedy), "{text}");
    assert_eq!((PlaceError::from(error).kind, told), (PlaceErrorKind::Input, vec![]));
}

#[test]
fn a_pipe_that_breaks_is_an_error() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("cut"))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let progress = Progress::unwatched();
    let scratch = Scratch { directory: dir.path(), progress: &progress };
    let start = tar(&[("a", EntryKind::File { size: 700 })])[..600].to_vec();
    let error = Archive::spool(Box::new(Cursor::new(start).chain(Broken)), "stdin", &scratch).unwrap_err();
    assert_eq!(error.to_string(), "cannot read stdin: cut");
}
