//! The reader and the writer against others: GNU tar, Python's tarfile and the `tar` crate must see
//! the same entries in the same archives.
//!
//! Where a tool is not installed, its part is skipped; where `CI` is set, that is a failure.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what fails here is the test")]

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
};

use ocib_image::{
    Digest, Entry, EntryKind, TarEntry, TarReader, TarWriter, Timestamp, Xattrs, encode_header,
};
use proptest::prelude::*;

/// Lists an archive as [`line`] does, by Python's own reader.
const LIST: &str = r#"
import decimal, hashlib, os, sys, tarfile
raw = lambda text: text.encode("utf-8", "surrogateescape")
kinds = {b"0": "f", b"\0": "f", b"7": "f", b"S": "f", b"1": "h", b"2": "l", b"3": "c", b"4": "b", b"5": "d", b"6": "p"}
with tarfile.open(sys.argv[1], encoding="utf-8", errors="surrogateescape") as archive:
    for member in archive:
        kind = kinds[member.type]
        time = decimal.Decimal(member.pax_headers.get("mtime", str(int(member.mtime))))
        time = int((time * 10**9).to_integral_value(decimal.ROUND_FLOOR))
        link = raw(member.linkname).hex() if kind in "hl" else ""
        device = (member.devmajor, member.devminor) if kind in "cb" else (0, 0)
        size = member.size if kind == "f" else 0
        content = ""
        if size < 1 << 24:
            content = hashlib.sha256(archive.extractfile(member).read() if kind == "f" else b"").hexdigest()
        xattrs = [(raw(key[13:]).hex(), raw(value).hex()) for key, value in member.pax_headers.items()
                  if key.startswith("SCHILY.xattr.")]
        print(kind, raw(member.name).hex(), oct(member.mode & 0o7777), member.uid, member.gid, time, size, link,
              *device, content, *(f"{key}={value}" for key, value in sorted(xattrs)), sep="|")
"#;

/// Writes an archive of what the formats have in common and what only they can hold.
const MAKE: &str = r#"
import io, sys, tarfile
path, form = sys.argv[1], int(sys.argv[2])
with tarfile.open(path, "w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
    def add(name, type=tarfile.REGTYPE, content=b"", **more):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mode, info.uid, info.gid, info.mtime = type, len(content), 0o4751, 1000, 1001, 1600000000
        for key, value in more.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(content))
    add("a", content=b"content")
    add("empty")
    add("directory", tarfile.DIRTYPE)
    add("deep/" * 25 + "n" * 90, content=b"x" * 1000)
    add("link", tarfile.SYMTYPE, linkname="../a\udcff")
    add("hard", tarfile.LNKTYPE, linkname="a")
    add("c", tarfile.CHRTYPE, devmajor=5, devminor=2)
    add("b", tarfile.BLKTYPE, devmajor=259, devminor=0o7777777)
    add("p", tarfile.FIFOTYPE)
    if form != tarfile.USTAR_FORMAT:
        add("n" * 300, content=b"long")
        add("long link", tarfile.SYMTYPE, linkname="t" * 300)
        add("both" * 50, tarfile.LNKTYPE, linkname="n" * 300)
        add("d" * 200, tarfile.DIRTYPE)
        add("ids", uid=4294967294, gid=3000000)
        add("old", mtime=-86400)
        add("late", mtime=0o100000000000)
        add("\u00fcml\u00e4ut\udcfe", content=b"name")
    if form == tarfile.PAX_FORMAT:
        add("fraction", mtime=1600000000.25)
        add("before", mtime=-1.5)
        add("xattrs", pax_headers={"SCHILY.xattr.user.b": "\u00e9\n=", "SCHILY.xattr.security.capability": "\x01\x00\x02"})
"#;

fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(found || std::env::var_os("CI").is_none(), "{tool} is needed to test against");
    found
}

fn run(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").env("TZ", "UTC").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn python(script: &str, arguments: &[&str]) -> String {
    run(Command::new("python3").args(["-c", script]).args(arguments))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An entry in one line, all of it.
fn line(entry: &Entry, content: Option<&[u8]>) -> String {
    let (kind, link, (major, minor)) = match &entry.kind {
        EntryKind::File { .. } => ("f", &[][..], (0, 0)),
        EntryKind::Hardlink(target) => ("h", &target[..], (0, 0)),
        EntryKind::Symlink(target) => ("l", &target[..], (0, 0)),
        EntryKind::CharDevice { major, minor } => ("c", &[][..], (*major, *minor)),
        EntryKind::BlockDevice { major, minor } => ("b", &[][..], (*major, *minor)),
        EntryKind::Directory => ("d", &[][..], (0, 0)),
        EntryKind::Fifo => ("p", &[][..], (0, 0)),
    };
    // Python strips the slash of directories.
    let name = entry.name.strip_suffix(b"/").unwrap_or(&entry.name);
    let time = i128::from(entry.mtime.seconds) * 1_000_000_000 + i128::from(entry.mtime.nanoseconds);
    let content = content.map(|content| Digest::of(content).to_string()).unwrap_or_default();
    let content = content.trim_start_matches("sha256:");
    let mut line = format!(
        "{kind}|{}|0o{:o}|{}|{}|{time}|{}|{}|{major}|{minor}|{content}",
        hex(name),
        entry.mode,
        entry.uid,
        entry.gid,
        entry.size(),
        hex(link),
    );
    for (key, value) in entry.xattrs.iter().flat_map(|xattrs| xattrs.iter()) {
        write!(line, "|{}={}", hex(key), hex(value)).unwrap();
    }
    line + "\n"
}

/// As our reader sees it.
fn ours(archive: impl Read) -> String {
    let mut reader = TarReader::new(archive);
    let mut lines = String::new();
    while let Some(TarEntry { entry, .. }) = reader.next_entry().unwrap() {
        let content = (entry.size() < 1 << 24).then(|| {
            let mut content = Vec::new();
            reader.content().read_to_end(&mut content).unwrap();
            content
        });
        lines += &line(&entry, content.as_deref());
    }
    lines
}

/// What the `tar` crate gives without further ado.
#[derive(PartialEq, Debug)]
struct Seen {
    name: Vec<u8>,
    mode: u32,
    owner: (u64, u64),
    link: Vec<u8>,
    content: Vec<u8>,
}

/// As the `tar` crate sees it: names, sizes, owners, links, contents; it knows no PAX fractions.
fn crates(archive: impl Read) -> Vec<Seen> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path_bytes().into_owned();
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let header = entry.header().clone();
        let mut content = Vec::new();
        if header.entry_type().is_file() || header.entry_type().is_gnu_sparse() {
            entry.read_to_end(&mut content).unwrap();
        }
        let owner = (header.uid().unwrap(), header.gid().unwrap());
        Seen { name, mode: header.mode().unwrap() & 0o7777, owner, link, content }
    });
    entries.collect()
}

fn ours_for_crates(archive: impl Read) -> Vec<Seen> {
    let mut reader = TarReader::new(archive);
    let mut entries = Vec::new();
    while let Some(TarEntry { entry, .. }) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        reader.content().read_to_end(&mut content).unwrap();
        let link = match entry.kind {
            EntryKind::Symlink(target) | EntryKind::Hardlink(target) => target.into_vec(),
            _ => Vec::new(),
        };
        let owner = (entry.uid.into(), entry.gid.into());
        entries.push(Seen { name: entry.name.into_vec(), mode: entry.mode, owner, link, content });
    }
    entries
}

#[test]
fn python_and_ours_see_the_same_in_its_archives() {
    if !has("python3") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive.tar");
    let name = path.to_str().unwrap();
    for (format, entries) in [("0", 9), ("1", 17), ("2", 20)] {
        python(MAKE, &[name, format]);
        let listed = python(LIST, &[name]);
        assert_eq!(ours(File::open(&path).unwrap()), listed, "format {format}");
        assert_eq!(listed.lines().count(), entries);
        let (ours, theirs) =
            (ours_for_crates(File::open(&path).unwrap()), crates(File::open(&path).unwrap()));
        assert_eq!(ours, theirs, "format {format}");
    }
}

/// Files of every kind, some with names that only the newer formats can hold.
fn make_tree(root: &Path, is_long: bool) {
    let directory = root.join("tree/directory");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("file"), "content").unwrap();
    fs::write(root.join("tree/empty"), "").unwrap();
    fs::hard_link(directory.join("file"), root.join("tree/hard")).unwrap();
    std::os::unix::fs::symlink("directory/file", root.join("tree/soft")).unwrap();
    run(Command::new("mkfifo").arg(root.join("tree/pipe")));
    let mut sparse = File::create(root.join("tree/sparse")).unwrap();
    for at in (1_u64..12).map(|at| at << 20) {
        sparse.seek(SeekFrom::Start(at)).unwrap();
        sparse.write_all(b"in between").unwrap();
    }
    sparse.set_len(13 << 20).unwrap();
    run(Command::new("touch").args(["-d", "@1600000000"]).arg(root.join("tree/empty")));
    if is_long {
        let long = root.join("tree").join("l".repeat(200));
        fs::write(&long, "long").unwrap();
        std::os::unix::fs::symlink("t".repeat(300), root.join("tree/long link")).unwrap();
        let raw = std::os::unix::ffi::OsStrExt::from_bytes(b"tree/\xc3\xbcml\xff".as_slice());
        fs::write(root.join(Path::new::<std::ffi::OsStr>(raw)), "raw").unwrap();
        run(Command::new("touch").args(["-d", "@-5.25"]).arg(&long));
    }
}

#[test]
fn gnu_tar_python_and_ours_see_the_same() {
    if !has("tar") || !has("python3") || !run(Command::new("tar").arg("--version")).contains("GNU") {
        return;
    }
    for (format, is_long) in
        [("v7", false), ("ustar", false), ("oldgnu", true), ("gnu", true), ("posix", true)]
    {
        let directory = tempfile::tempdir().unwrap();
        make_tree(directory.path(), is_long);
        let sparse_versions: &[&str] = match format {
            "v7" | "ustar" => &[],
            "posix" => &["--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"],
            _ => &["--sparse"],
        };
        for sparse in [&[""][..], sparse_versions].concat() {
            let path = directory.path().join("archive.tar");
            let mut command = Command::new("tar");
            command.arg(format!("--format={format}")).arg("--sort=name").arg("-C").arg(directory.path());
            if !sparse.is_empty() {
                command.args(["--sparse", sparse]);
            }
            if format == "v7" {
                command.args(["--exclude=pipe"]);
            }
            run(command.arg("-cf").arg(&path).arg("tree"));
            let listed = python(LIST, &[path.to_str().unwrap()]);
            let bytes = fs::read(&path).unwrap();
            assert_eq!(ours(&bytes[..]), listed, "{format} {sparse}");
            assert_eq!(listed.lines().count(), 8 + 3 * usize::from(is_long) - usize::from(format == "v7"));
            if !sparse.is_empty() {
                assert!(bytes.len() < 2 << 20, "{format} {sparse} is not sparse");
            }
            if format != "posix" || sparse.is_empty() {
                assert_eq!(ours_for_crates(&bytes[..]), crates(&bytes[..]), "{format} {sparse}");
            }
        }
    }
}

fn entry(name: &[u8], kind: EntryKind) -> Entry {
    Entry { name: name.into(), kind, mode: 0o644, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: None }
}

/// What strains a writer: each entry, and its content where it has some and it is not huge.
fn strains() -> Vec<(Entry, &'static [u8])> {
    let at = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
    let xattrs: Xattrs = vec![
        (b"security.capability".as_slice().into(), b"\x01\0\0\x02\0\x04".as_slice().into()),
        (b"user.empty".as_slice().into(), b"".as_slice().into()),
        (b"user.text".as_slice().into(), b"line\n=".as_slice().into()),
    ];
    let file = |name: &[u8], size| entry(name, EntryKind::File { size });
    let long = [b"directory/".repeat(30), b"file".to_vec()].concat();
    let mut entries = vec![
        (file(b"plain", 7), &b"content"[..]),
        (file(&long, 4), b"long"),
        (file(b"raw \xff\xfe", 3), b"raw"),
        (file(&[&b"n".repeat(120)[..], b"\xff"].concat(), 0), b""),
        (file("ümläut".as_bytes(), 3), b"utf"),
        (entry(b"directory", EntryKind::Directory), b""),
        (entry(&b"d".repeat(150), EntryKind::Directory), b""),
        (entry(b"hard", EntryKind::Hardlink(long.into())), b""),
        (entry(b"soft", EntryKind::Symlink(b"../t\xffarget".as_slice().into())), b""),
        (entry(b"far", EntryKind::Symlink(b"t".repeat(150).into())), b""),
        (entry(b"null", EntryKind::CharDevice { major: 1, minor: 3 }), b""),
        (entry(b"disk", EntryKind::BlockDevice { major: 259, minor: 1_048_575 }), b""),
        (entry(b"pipe", EntryKind::Fifo), b""),
        (Entry { mtime: at(1_600_000_000, 250_000_000), ..file(b"fraction", 0) }, b""),
        (Entry { mtime: at(-2, 500_000_000), ..file(b"before", 0) }, b""),
        (Entry { mtime: at(-86_400, 0), ..file(b"day before", 0) }, b""),
        (Entry { mtime: at(0o100_000_000_000, 0), ..file(b"late", 0) }, b""),
        (Entry { mode: 0o7777, uid: 4_294_967_294, gid: 3_000_000, ..file(b"owner", 0) }, b""),
        (Entry { xattrs: Some(Box::new(xattrs)), ..file(b"xattrs", 1) }, b"x"),
    ];
    entries.sort_by_key(|(entry, _)| matches!(entry.kind, EntryKind::Hardlink(_)));
    entries
}

const HUGE: u64 = 9 << 30;

/// The archive of [`strains`] and of a file of 9 GiB of zeros: what is before those, and behind them.
fn written() -> (Vec<u8>, Vec<u8>) {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, mut content) in strains() {
        writer.file(&entry, &mut content, &String::new).unwrap();
    }
    let mut start = writer.finish().unwrap();
    start.truncate(start.len() - 1024);
    encode_header(&mut start, &entry(b"huge", EntryKind::File { size: HUGE })).unwrap();
    let mut end = Vec::new();
    encode_header(&mut end, &entry(b"last", EntryKind::Fifo)).unwrap();
    end.extend([0; 1024]);
    (start, end)
}

/// Puts [`written`] into a file, in which the zeros are a hole.
fn write_to(path: &Path) {
    let (start, end) = written();
    let mut file = File::create(path).unwrap();
    file.write_all(&start).unwrap();
    file.seek(SeekFrom::Current(i64::try_from(HUGE).unwrap())).unwrap();
    file.write_all(&end).unwrap();
}

/// As it was written.
fn expected_lines() -> String {
    let mut lines: String = strains().iter().map(|(entry, content)| line(entry, Some(content))).collect();
    lines += &line(&entry(b"huge", EntryKind::File { size: HUGE }), None);
    lines + &line(&entry(b"last", EntryKind::Fifo), Some(b""))
}

#[test]
fn ours_reads_what_is_written() {
    let (start, end) = written();
    let archive = (&start[..]).chain(io::repeat(0).take(HUGE)).chain(&end[..]);
    assert_eq!(ours(archive), expected_lines());
}

#[test]
fn python_reads_what_is_written() {
    if has("python3") {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("archive.tar");
        write_to(&path);
        assert_eq!(python(LIST, &[path.to_str().unwrap()]), expected_lines());
    }
}

#[test]
fn the_tar_crate_reads_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive.tar");
    write_to(&path);
    let mut archive = tar::Archive::new(File::open(&path).unwrap());
    let mut expected = strains().into_iter().map(|(entry, _)| entry).collect::<Vec<_>>();
    expected.push(entry(b"huge", EntryKind::File { size: HUGE }));
    expected.push(entry(b"last", EntryKind::Fifo));
    let mut found = Vec::new();
    for read in archive.entries_with_seek().unwrap() {
        let read = read.unwrap();
        let header = read.header();
        let name = read.path_bytes();
        let link = read.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
        let name = name.strip_suffix(b"/").unwrap_or(&name).to_vec();
        found.push((name, read.size(), header.mode().unwrap(), uid, gid, link));
    }
    let expected: Vec<_> = expected
        .into_iter()
        .map(|entry| {
            let link = match &entry.kind {
                EntryKind::Symlink(target) | EntryKind::Hardlink(target) => target.to_vec(),
                _ => Vec::new(),
            };
            let size = entry.size();
            (entry.name.into_vec(), size, entry.mode, entry.uid.into(), entry.gid.into(), link)
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn gnu_tar_lists_what_is_written() {
    if !has("tar") || !run(Command::new("tar").arg("--version")).contains("GNU") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive.tar");
    write_to(&path);
    let mut command = Command::new("tar");
    command
        .args([
            "--numeric-owner",
            "--full-time",
            "--quoting-style=escape",
            "--xattrs",
            "--xattrs-include=*",
            "-tvvf",
        ])
        .arg(&path);
    let listed = run(&mut command);
    let expected = format!(
        r"-rw-r--r-- 0/0 7 1970-01-01 00:00:00 plain
-rw-r--r-- 0/0 4 1970-01-01 00:00:00 {long}
-rw-r--r-- 0/0 3 1970-01-01 00:00:00 raw \377\376
-rw-r--r-- 0/0 0 1970-01-01 00:00:00 {n}\377
-rw-r--r-- 0/0 3 1970-01-01 00:00:00 \303\274ml\303\244ut
drw-r--r-- 0/0 0 1970-01-01 00:00:00 directory/
drw-r--r-- 0/0 0 1970-01-01 00:00:00 {d}/
lrw-r--r-- 0/0 0 1970-01-01 00:00:00 soft -> ../t\377arget
lrw-r--r-- 0/0 0 1970-01-01 00:00:00 far -> {t}
crw-r--r-- 0/0 1,3 1970-01-01 00:00:00 null
brw-r--r-- 0/0 259,1048575 1970-01-01 00:00:00 disk
prw-r--r-- 0/0 0 1970-01-01 00:00:00 pipe
-rw-r--r-- 0/0 0 2020-09-13 12:26:40.25 fraction
-rw-r--r-- 0/0 0 1969-12-31 23:59:59.5 before
-rw-r--r-- 0/0 0 1969-12-31 00:00:00 day before
-rw-r--r-- 0/0 0 2242-03-16 12:56:32 late
-rwsrwsrwt 4294967294/3000000 0 1970-01-01 00:00:00 owner
-rw-r--r--* 0/0 1 1970-01-01 00:00:00 xattrs
x: 6 security.capability
x: 0 user.empty
x: 6 user.text
hrw-r--r-- 0/0 0 1970-01-01 00:00:00 hard link to {long}
-rw-r--r-- 0/0 9663676416 1970-01-01 00:00:00 huge
prw-r--r-- 0/0 0 1970-01-01 00:00:00 last",
        long = "directory/".repeat(30) + "file",
        n = "n".repeat(120),
        d = "d".repeat(150),
        t = "t".repeat(150),
    );
    // It shows -1.5 as the second -1 and a half, but means it.
    run(Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(directory.path()).arg("before"));
    let before = fs::metadata(directory.path().join("before")).unwrap();
    assert_eq!((before.mtime(), before.mtime_nsec()), (-2, 500_000_000));
    // Columns are as wide as they need to be.
    let words = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(words(&listed), words(&expected));
}

fn entries() -> impl Strategy<Value = Vec<(Entry, Vec<u8>)>> {
    let bytes = |length: std::ops::Range<usize>| proptest::collection::vec(1_u8.., length);
    let name = bytes(1..400).prop_map(|mut name| {
        // Names in layers are relative and have no slash at the end.
        for at in [0, name.len() - 1] {
            if name[at] == b'/' {
                name[at] = b'_';
            }
        }
        name.into_boxed_slice()
    });
    let content = proptest::collection::vec(any::<u8>(), 0..2000);
    let kind = prop_oneof![
        Just(EntryKind::File { size: 0 }),
        Just(EntryKind::Directory),
        Just(EntryKind::Fifo),
        bytes(0..300).prop_map(|link| EntryKind::Symlink(link.into())),
        bytes(0..300).prop_map(|link| EntryKind::Hardlink(link.into())),
        any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
    ];
    let mtime = (any::<i64>(), 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanoseconds)| Timestamp { seconds: seconds >> 16, nanoseconds });
    let value = proptest::collection::vec(any::<u8>(), 0..100);
    let xattrs = proptest::collection::btree_map("[a-z.]{1,20}", value, 0..4).prop_map(|map| {
        let boxed = |(name, value): (String, Vec<u8>)| (name.into_bytes().into(), value.into());
        let xattrs: Xattrs = map.into_iter().map(boxed).collect();
        (!xattrs.is_empty()).then(|| Box::new(xattrs))
    });
    let fields = (name, kind, 0..0o10000_u32, any::<(u32, u32)>(), mtime, xattrs, content);
    let entry = fields.prop_map(|(name, mut kind, mode, (uid, gid), mtime, xattrs, mut content)| {
        match &mut kind {
            EntryKind::File { size } => *size = content.len() as u64,
            _ => content.clear(),
        }
        (Entry { name, kind, mode, uid, gid, mtime, xattrs }, content)
    });
    proptest::collection::vec(entry, 0..8)
}

/// Hands out a few bytes at a time, so that nothing relies on full reads.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(97);
        self.0.read(&mut buffer[..most])
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn what_is_written_is_read_back(entries in entries()) {
        let mut writer = TarWriter::new(Vec::new());
        for (entry, content) in &entries {
            writer.file(entry, &mut &content[..], &String::new).unwrap();
        }
        let archive = writer.finish().unwrap();
        let mut reader = TarReader::new(Trickle(&archive));
        for (expected, expected_content) in entries {
            let TarEntry { mut entry, offset, .. } = reader.next_entry().unwrap().unwrap();
            if entry.kind == EntryKind::Directory {
                entry.name = entry.name.strip_suffix(b"/").unwrap().into();
            }
            prop_assert_eq!(entry, expected);
            let start = usize::try_from(offset.unwrap()).unwrap();
            prop_assert_eq!(&archive[start..start + expected_content.len()], &expected_content[..]);
            let mut content = Vec::new();
            reader.content().read_to_end(&mut content).unwrap();
            prop_assert_eq!(content, expected_content);
        }
        prop_assert_eq!(reader.next_entry().unwrap(), None);
    }
}
