//! Hand-made archives: each rule and each limit, with the exact message where one is broken.

use super::*;
use crate::{EntryKind, Timestamp};

/// Bytes of a header and where they go.
type Field<'a> = (usize, &'a [u8]);

/// A header block of type `flag` with the parts of `fields` put over it, its checksum right.
fn block(name: &[u8], flag: u8, size: u64, fields: &[Field<'_>]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let numbers =
        [(100, "0000644\0".to_owned()), (108, "0001750\0".to_owned()), (116, "0001751\0".to_owned())];
    let size = [(124, format!("{size:011o}\0")), (136, "00000000007\0".to_owned())];
    block[..name.len()].copy_from_slice(name);
    for (at, text) in numbers.into_iter().chain(size) {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    for (at, bytes) in fields {
        block[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    seal(&mut block);
    block
}

fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes.resize(content.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// A header and its content.
fn member(name: &[u8], flag: u8, content: &[u8]) -> Vec<u8> {
    [block(name, flag, content.len() as u64, &[]), padded(content)].concat()
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest + 1..).find(|length| rest + length.to_string().len() == *length).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let text: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    member(b"PaxHeaders.0/x", b'x', &text)
}

const END: [u8; 1024] = [0; 1024];
const GNU: Field<'_> = (257, b"ustar  \0");

/// All entries with their contents, and how it ended.
fn read(archive: &[u8]) -> (Vec<(TarEntry, Vec<u8>)>, Option<String>) {
    let mut reader = TarReader::new(archive);
    let mut entries = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => {
                let mut content = Vec::new();
                match reader.content().read_to_end(&mut content) {
                    Ok(_) => entries.push((entry, content)),
                    Err(error) => return (entries, Some(error.to_string())),
                }
            }
            Ok(None) => return (entries, None),
            Err(error) => return (entries, Some(error.to_string())),
        }
    }
}

fn entry(name: &[u8], kind: EntryKind) -> Entry {
    let mtime = Timestamp::from_seconds(7);
    Entry { name: name.into(), kind, mode: 0o644, uid: 0o1750, gid: 0o1751, mtime, xattrs: None }
}

fn file(name: &[u8], offset: u64, content: &[u8]) -> (TarEntry, Vec<u8>) {
    let kind = EntryKind::File { size: content.len() as u64 };
    (TarEntry { entry: entry(name, kind), offset: Some(offset), odd_type: None }, content.to_vec())
}

fn other(name: &[u8], offset: u64, kind: EntryKind) -> (TarEntry, Vec<u8>) {
    (TarEntry { entry: entry(name, kind), offset: Some(offset), odd_type: None }, Vec::new())
}

fn assert_entries(archive: &[&[u8]], expected: Vec<(TarEntry, Vec<u8>)>) {
    assert_eq!(read(&archive.concat()), (expected, None));
}

fn assert_error(archive: &[&[u8]], expected: &str) {
    let (entries, error) = read(&archive.concat());
    assert_eq!(error.as_deref(), Some(expected), "after {entries:?}");
}

#[test]
fn reads_every_type() {
    let link = |target: &[u8]| target.into();
    let table: [(u8, &[Field<'_>], EntryKind); 9] = [
        (b'0', &[], EntryKind::File { size: 0 }),
        (0, &[], EntryKind::File { size: 0 }),
        (b'7', &[], EntryKind::File { size: 0 }),
        (b'1', &[(157, b"../t")], EntryKind::Hardlink(link(b"../t"))),
        (b'2', &[(157, b"/\xff")], EntryKind::Symlink(link(b"/\xff"))),
        (b'3', &[(329, b"0000005\0"), (337, b"0000011\0")], EntryKind::CharDevice { major: 5, minor: 9 }),
        (b'4', &[(329, b"0000377\0")], EntryKind::BlockDevice { major: 255, minor: 0 }),
        (b'5', &[], EntryKind::Directory),
        (b'6', &[], EntryKind::Fifo),
    ];
    for (flag, fields, kind) in table {
        let header = block(b"a", flag, 0, fields);
        let mut expected = other(b"a", 512, kind);
        expected.0.odd_type = (flag == b'7').then_some(flag);
        assert_entries(&[&header, &END], vec![expected]);
    }
    let v7_directory = block(b"a/", 0, 0, &[(257, &[0; 8])]);
    assert_entries(&[&v7_directory, &END], vec![other(b"a/", 512, EntryKind::Directory)]);
    let v7_device = block(b"a", b'3', 0, &[(257, &[0; 8]), (329, b"zzzzzzzz")]);
    assert_entries(&[&v7_device, &END], vec![other(b"a", 512, EntryKind::CharDevice { major: 0, minor: 0 })]);
}

#[test]
fn only_files_have_content() {
    for flag in *b"123456" {
        let (next, name) = (member(b"next", b'0', b"hi"), &b"a"[..]);
        let (entries, error) = read(&[&block(name, flag, 8 << 30, &[])[..], &next, &END].concat());
        assert_eq!((entries.len(), error), (2, None), "{}", char::from(flag));
        assert_eq!(entries[1], file(b"next", 1024, b"hi"));
    }
}

#[test]
fn joins_prefixes() {
    let prefix = |format: &'static [u8], extra: (usize, &'static [u8])| {
        block(b"name", b'0', 0, &[(257, format), (345, b"some/where"), extra])
    };
    let none = (0, &b""[..]);
    let star = (508, &b"tar\0"[..]);
    // 131 bytes of prefix, then times.
    let long_star = block(b"name", b'0', 0, &[(345, &[b'p'; 131]), (476, b"00000000001\0"), star]);
    for (header, expected) in [
        (prefix(b"ustar\x0000", none), b"some/where/name".to_vec()),
        (prefix(b"ustar\x0000", star), b"some/where/name".to_vec()),
        (long_star, [&[b'p'; 131][..], b"/name"].concat()),
        (prefix(&[0; 8], none), b"name".to_vec()),
        // What Go wrote before 1.8: no times, so it is a prefix.
        (prefix(GNU.1, none), b"some/where/name".to_vec()),
        (block(b"name", b'0', 0, &[GNU, (345, b"00000000001\0"), (357, b"00000000002\0")]), b"name".to_vec()),
        (block(b"name", b'0', 0, &[GNU, (345, b"s\xffme")]), b"name".to_vec()),
        (
            block(&[b'n'; 100], b'0', 0, &[(345, &[b'p'; 155])]),
            [&[b'p'; 155][..], b"/", &[b'n'; 100]].concat(),
        ),
    ] {
        assert_entries(&[&header, &END], vec![file(&expected, 512, b"")]);
    }
}

#[test]
fn pax_records_win_over_the_header() {
    let header = pax(&[
        ("path", b"b/\xff"),
        ("size", b"3"),
        ("uid", b"4294967295"),
        ("gid", b"3000000"),
        ("mtime", b"-1.25"),
        ("atime", b"nonsense"),
        ("hdrcharset", b"BINARY"),
        ("SCHILY.xattr.user.b", b"\0\n="),
        ("SCHILY.xattr.user.a", b""),
    ]);
    let mut expected = file(b"b/\xff", 1536, b"abc");
    expected.0.entry.uid = u32::MAX;
    expected.0.entry.gid = 3_000_000;
    expected.0.entry.mtime = Timestamp { seconds: -2, nanoseconds: 750_000_000 };
    let xattr = |name: &[u8], value: &[u8]| (name.into(), value.into());
    expected.0.entry.xattrs = Some(Box::new(vec![xattr(b"user.a", b""), xattr(b"user.b", b"\0\n=")]));
    assert_entries(&[&header, &block(b"a", b'0', 0, &[]), &padded(b"abc"), &END], vec![expected]);
}

#[test]
fn extended_headers_add_up_as_in_go() {
    let x = |path: &[u8]| pax(&[("path", path)]);
    let long = |flag, name: &[u8]| member(b"././@LongLink", flag, &[name, b"\0garbage"].concat());
    let global = member(b"pax_global_header", b'g', &record("path", b"global"));
    let name = |name: &[u8], offset| vec![file(name, offset, b"")];
    let end = [&block(b"a", b'0', 0, &[])[..], &END].concat();
    // The second PAX header replaces the first, whole.
    assert_entries(&[&pax(&[("uid", b"5")]), &x(b"b"), &end], name(b"b", 2560));
    assert_entries(&[&long(b'L', b"long"), &x(b"b"), &end], name(b"long", 2560));
    assert_entries(&[&x(b"b"), &long(b'L', b"long"), &end], name(b"long", 2560));
    assert_entries(&[&long(b'L', b""), &end], name(b"a", 1536));
    assert_entries(&[&global, &end], name(b"a", 1536));
    assert_entries(&[&x(b"b"), &global, &end], name(b"a", 2560));
    assert_entries(&[&global, &x(b"b"), &end], name(b"b", 2560));
    assert_entries(&[&global], vec![]);
    let link = block(b"a", b'2', 0, &[(157, b"short")]);
    let expected = EntryKind::Symlink(b"long/target".as_slice().into());
    assert_entries(&[&long(b'K', b"long/target"), &link, &END], vec![other(b"a", 1536, expected)]);
    // The size of a PAX header is the entry's, not that of a long name between them: readers that
    // took it for that lost their place (CVE-2025-62518).
    let sized =
        [pax(&[("size", b"2")]), long(b'L', b"long"), block(b"a", b'0', 0, &[]), padded(b"ok")].concat();
    assert_entries(&[&sized, &END], vec![file(b"long", 2560, b"ok")]);
}

#[test]
fn ends_where_go_ends() {
    let one = member(b"a", b'0', b"hi");
    let expected = || vec![file(b"a", 512, b"hi")];
    for (tail, error) in [
        (&END[..], None),
        (&END[..512], None),
        (&[][..], None),
        (&[1; 3][..], Some("the archive ends at byte 1027, in the middle of a header")),
        (
            &END[..1023],
            Some("the archive ends at byte 2047, in the middle of the blocks of zeros that end it"),
        ),
        (&[&END[..], b"whatever"].concat(), None),
    ] {
        let archive = [&one[..], tail].concat();
        assert_eq!(read(&archive), (expected(), error.map(str::to_owned)), "{} bytes", tail.len());
    }
    // In the padding, which Go lets pass.
    assert_eq!(read(&one[..700]), (expected(), None));
    assert_eq!(read(&END), (vec![], None));
    assert_eq!(read(&[]), (vec![], None));
    let lone = [&END[..512], &one].concat();
    let why = "a block of zeros is followed by something else than another one";
    assert_error(&[&lone], &format!("the archive is broken at byte 0: {why}"));
}

#[test]
fn says_where_it_was_cut() {
    let archive = [pax(&[("path", b"b")]), member(b"a", b'0', b"content")].concat();
    for (length, what) in [
        (100, "a header"),
        (515, "an extended header"),
        (1024, "the headers of an entry"),
        (1100, "a header"),
        (1536, "the content of an entry"),
        (1540, "the content of an entry"),
    ] {
        let expected = format!("the archive ends at byte {length}, in the middle of {what}");
        assert_error(&[&archive[..length]], &expected);
    }
    let mut reader = TarReader::new(&archive[..1540]);
    assert!(reader.next_entry().unwrap().is_some());
    let skipped = reader.next_entry().unwrap_err().to_string();
    assert_eq!(skipped, "the archive ends at byte 1540, in the middle of the content of an entry");
    let again = reader.next_entry().unwrap_err().to_string();
    assert_eq!(again, "the archive is broken at byte 1540: it failed before and cannot go on");
}

#[test]
fn refuses_what_is_broken() {
    let mut unsealed = block(b"a", b'0', 0, &[]);
    unsealed[0] = b'b';
    let broken = |why: &str| format!("the archive is broken at byte 0: {why}");
    let octal = |what: &str, field: &str| {
        broken(&format!("a header has the {what} \"{field}\", expected an octal number"))
    };
    let negative = [255; 12];
    for (header, expected) in [
        (unsealed, broken("a header has the checksum \"006140\\0 \", expected 6141 (octal)")),
        (
            b"not a tar at all".repeat(32),
            broken("a header has the checksum \"a tar at\", expected 127443 (octal)"),
        ),
        (block(b"a", b'0', 0, &[(100, b"rw-r--r-")]), octal("mode", "rw-r--r-")),
        (block(b"a", b'0', 0, &[(108, b"0000009\0")]), octal("user ID", "0000009\\x00")),
        (
            block(b"a", b'0', 0, &[(116, b"\x80\xff\xff\xff\xff\xff\xff\xff")]),
            broken("an entry has the group ID 72057594037927935, expected 32 bits"),
        ),
        (block(b"a", b'0', 0, &[(124, b"x")]), octal("size", "x0000000000\\x00")),
        (block(b"a", b'0', 0, &[(136, b"x")]), octal("modification time", "x0000000007\\x00")),
        (
            block(b"a", b'3', 0, &[(329, b"x")]),
            octal("device number", "x\\x00\\x00\\x00\\x00\\x00\\x00\\x00"),
        ),
        (
            block(b"a", b'4', 0, &[(337, &negative[..8])]),
            broken("a device has the numbers 0 and -1, expected 32 bits each"),
        ),
        (
            block(b"a", b'0', 0, &[(124, &negative)]),
            broken("an entry has the size -1, expected none below 0"),
        ),
        (
            block(b"a", b'x', 0, &[(124, &negative)]),
            broken("an entry has the size -1, expected none below 0"),
        ),
        (
            block(b"a", b'S', 0, &[]),
            broken("a sparse file (type S) has a header that is not in GNU's format"),
        ),
    ] {
        assert_error(&[&header, &END], &expected);
    }
}

#[test]
fn negative_times_of_star_are_read() {
    let minus_nine = [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 247];
    let (entries, _) = read(&block(b"a", b'0', 0, &[(136, &minus_nine)]));
    assert_eq!(entries[0].0.entry.mtime, Timestamp::from_seconds(-9));
}

#[test]
fn unknown_types_are_named() {
    for flag in *b"VMNDAX8 " {
        let expected = format!(
            "\"a\\u{{1b}}[31m\" in the archive is of type {:?}, \
             expected a file, directory, link, pipe or device (0 to 7, S)",
            char::from(flag)
        );
        assert_error(&[&block(b"a\x1b[31m", flag, 0, &[]), &END], &expected);
    }
}

#[test]
fn nine_gibibytes_are_announced_without_being_there() {
    let size = 9_u64 << 30;
    let base_256 = [&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat();
    let text = size.to_string();
    for headers in [
        block(b"a", b'0', 0, &[(124, &base_256)]),
        [pax(&[("size", text.as_bytes())]), block(b"a", b'0', 0, &[])].concat(),
    ] {
        let mut reader = TarReader::new(&headers[..]);
        let found = reader.next_entry().unwrap().unwrap();
        assert_eq!(found.entry.kind, EntryKind::File { size });
        let expected =
            format!("the archive ends at byte {}, in the middle of the content of an entry", headers.len());
        assert_eq!(reader.next_entry().unwrap_err().to_string(), expected);
    }
}

#[test]
fn every_limit_holds() {
    let limit = |at: u64, what: &str, most: u64| {
        format!("the archive is refused at byte {at}: {what} is past the limit of {most}")
    };
    let end = [&block(b"a", b'0', 0, &[])[..], &END].concat();
    for flag in *b"xgLK" {
        let large = block(b"a", flag, (1 << 20) + 1, &[]);
        assert_error(&[&large], &limit(0, "the size of an extended header in bytes", 1 << 20));
    }
    let long_name = |length| member(b"", b'L', &vec![b'n'; length]);
    assert_entries(&[&long_name(1 << 16), &end], vec![file(&[b'n'; 1 << 16], (1 << 16) + 1024, b"")]);
    let too_long = limit((1 << 16) + 1024, "the length of a name or link target in bytes", 1 << 16);
    assert_error(&[&long_name((1 << 16) + 1), &end], &too_long);
    assert_error(&[&pax(&[("linkpath", &[b'n'; (1 << 16) + 1])]), &end], &{
        limit((1 << 16) + 1024, "the length of a name or link target in bytes", 1 << 16)
    });
    let row = |count| pax(&[("path", b"b")]).repeat(count);
    assert_entries(&[&row(16), &end], vec![file(b"b", 16 * 1024 + 512, b"")]);
    let many = limit(16 * 1024, "the number of extended headers before an entry", 16);
    assert_error(&[&row(17), &end], &many);
    let empty_globals = member(b"", b'g', b"").repeat(17);
    assert_error(&[&empty_globals], &limit(16 * 512, "the number of extended headers before an entry", 16));
    let comment = pax(&[("comment", &[b'c'; (1 << 20) - 100])]);
    assert_error(&[&comment.repeat(5), &end], &limit(0, "the size of an entry's headers in bytes", 4 << 20));
    // Extension blocks of a sparse map that are all empty but say that more follow.
    let start = block(b"a", b'S', 0, &[GNU, (482, &[1])]);
    let mut more = [0; BLOCK];
    more[504] = 1;
    assert_error(
        &[&start, &more.repeat(9000)],
        &limit(0, "the size of an entry's headers in bytes", 4 << 20),
    );
    let mut full = [0; BLOCK];
    full[504] = 1;
    full[..504].copy_from_slice(&b"00000000000\x0000000000000\0".repeat(21));
    let pieces = limit(0, "the number of pieces of a sparse file", 1 << 16);
    assert_error(&[&start, &full.repeat(4000)], &pieces);
}

mod sparse_files {
    use super::*;

    const WHOLE: &[u8] = b"\0\0abcde\0\0\0\0\0\0\0\0\0\0\0fgh\0\0\0\0";

    fn expected(name: &[u8]) -> Vec<(TarEntry, Vec<u8>)> {
        let kind = EntryKind::File { size: 25 };
        vec![(TarEntry { entry: entry(name, kind), offset: None, odd_type: None }, WHOLE.to_vec())]
    }

    fn place(offset: u64, length: u64) -> Vec<u8> {
        format!("{offset:011o}\0{length:011o}\0").into_bytes()
    }

    #[test]
    fn old_gnu() {
        let map = [place(2, 5), place(18, 3)].concat();
        let size = format!("{:011o}\0", 25);
        let fields: &[Field<'_>] = &[GNU, (386, &map), (483, size.as_bytes())];
        let header = block(b"a", b'S', 8, fields);
        let next = member(b"next", b'0', b"hi");
        let mut old = expected(b"a");
        old[0].0.odd_type = Some(b'S');
        let mut all = old.clone();
        all.push(file(b"next", 1536, b"hi"));
        assert_entries(&[&header, &padded(b"abcdefgh"), &next, &END], all);
        // The same with the second piece in an extension.
        let fields: &[Field<'_>] = &[GNU, (386, &map[..24]), (482, &[1]), (483, size.as_bytes())];
        let header = block(b"a", b'S', 8, fields);
        let content = [padded(&map[24..]), padded(b"abcdefgh")].concat();
        assert_entries(&[&header, &content, &END], old);
        let expected = "the archive ends at byte 512, in the middle of the map of a sparse file";
        assert_error(&[&header], expected);
    }

    #[test]
    fn pax_0_0_and_0_1() {
        let old = pax(&[
            ("GNU.sparse.size", b"25"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"2"),
            ("GNU.sparse.numbytes", b"5"),
            ("GNU.sparse.offset", b"18"),
            ("GNU.sparse.numbytes", b"3"),
        ]);
        let content = [block(b"a", b'0', 8, &[]), padded(b"abcdefgh")].concat();
        assert_entries(&[&old, &content, &END], expected(b"a"));
        let newer = pax(&[
            ("GNU.sparse.size", b"25"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.map", b"2,5,18,3"),
            ("GNU.sparse.name", b"real"),
        ]);
        assert_entries(&[&newer, &content, &END], expected(b"real"));
    }

    fn version_1(map: &[u8], stored: &[u8]) -> Vec<u8> {
        let header = pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"real"),
            ("GNU.sparse.realsize", b"25"),
        ]);
        let content = [padded(map), stored.to_vec()].concat();
        [header, member(b"GNUSparseFile.0/a", b'0', &content)].concat()
    }

    #[test]
    fn pax_1_0() {
        assert_entries(&[&version_1(b"2\n2\n5\n18\n3\n", b"abcdefgh"), &END], expected(b"real"));
        // Maps that fill more than a block.
        let zeros = [b"302\n".to_vec(), b"0\n0\n".repeat(300), b"2\n5\n18\n3\n".to_vec()].concat();
        assert_entries(&[&version_1(&zeros, b"abcdefgh"), &END], expected(b"real"));
        let broken = |why: &str| format!("the archive is broken at byte 1024: {why}");
        let no_number = broken("a sparse map has something that is not a number");
        let outside = broken("the pieces of a sparse file overlap or lie outside of it");
        let endless = [&b"9999\n"[..], &b"0\n".repeat(253), b"0"].concat();
        for (map, stored, expected) in [
            (&b"x\n"[..], &b""[..], &no_number),
            (b"-1\n", b"", &no_number),
            (b"1\n-1\n5\n", b"", &no_number),
            (b"1\n1\n\n", b"", &no_number),
            (b"100000000000000000000\n", b"", &no_number),
            (b"1\n24\n2\n", b"ab", &outside),
            (b"2\n5\n5\n2\n3\n", b"abcdefgh", &outside),
            (b"1\n9223372036854775807\n9223372036854775807\n", b"", &outside),
            (b"1\n2\n5\n", b"abc", &broken("a sparse file has 3 bytes stored, expected 5 by its map")),
            (&endless, b"", &broken("the map of a sparse file goes on behind the file")),
        ] {
            assert_error(&[&version_1(map, stored), &END], expected);
        }
        let text = [b"65537\n".to_vec(), b"0\n0\n".repeat(65_537)].concat();
        let limit = "the archive is refused at byte 1024: \
                     the number of pieces of a sparse file is past the limit of 65536";
        assert_error(&[&version_1(&text, b"")], limit);
    }

    #[test]
    fn broken_records_are_refused() {
        let broken = |why: &str| format!("the archive is broken at byte 1024: {why}");
        let content = member(b"a", b'0', b"");
        let count = broken("a sparse map has not as many pieces as it announces");
        for (records, expected) in [
            (&[("GNU.sparse.map", &b"1,2"[..])][..], &count),
            (&[("GNU.sparse.map", b"1,2,3"), ("GNU.sparse.numblocks", b"1")], &count),
            (
                &[("GNU.sparse.map", b"0,0"), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.size", b"-1")],
                &broken("a sparse file has a negative size"),
            ),
        ] {
            assert_error(&[&pax(records), &content], expected);
        }
        let directory = [pax(&[("GNU.sparse.map", b"0,0")]), block(b"a", b'5', 0, &[])].concat();
        assert_error(&[&directory], &broken("something that is no file is sparse"));
        // Formats that are not known are read as they are stored, as Go does.
        let future = pax(&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")]);
        assert_entries(&[&future, &content], vec![file(b"a", 1536, b"")]);
    }
}
