//! Archives made to do harm, through the built program: what each kind of them comes to, and that nothing
//! outside of the image is touched.
//!
//! | attack | test |
//! |---|---|
//! | absolute names, `..` | [`names_stay_below_the_destination`] |
//! | a symbolic link, then a member behind it | [`links_lead_nowhere_else`] |
//! | a hard link to a file of the machine or of the base | [`hard_links_reach_members_only`] |
//! | a root with a mode, links with another | [`roots_are_passed_over_and_links_share_their_mode`] |
//! | device nodes, with set-user-ID | [`devices_are_entries_and_nothing_more`] |
//! | extended headers that claim or hold too much | [`header_bombs_are_refused`] |
//! | a few bytes that become gigabytes, in each codec | [`decompression_bombs_are_refused`] |
//! | streams that ask for memory | [`decoders_that_want_memory_are_refused`] |
//! | files that are all holes | [`sparse_bombs_are_refused`], [`sparse_files_of_pax_archives_have_their_holes`] |
//! | files of types that others do not know | [`files_of_other_types_are_refused`] |
//! | broken and cut archives | [`broken_archives_are_refused`] |

use std::{
    fs,
    io::Write,
    os::unix::fs::FileExt as _,
    process::{Command, Stdio},
};

use ocib_image::Digest;
use ocib_testkit::{require, rootfs, run_command, skopeo, sparse_file};

use crate::program::{Site, layers, names, set_mode};

const BLOCK: usize = 512;

/// A header block of GNU's or POSIX's kind, without its content.
struct Header<'a> {
    name: &'a str,
    flag: u8,
    size: u64,
    link: &'a str,
    mode: u32,
}

const FILE: Header<'_> = Header { name: "f", flag: b'0', size: 0, link: "", mode: 0o644 };

impl Header<'_> {
    fn block(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, self.name.as_bytes());
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, b"0000000\x000000000");
        // GNU's base 256, as eleven octal digits end at 8 GiB.
        put(124, &[&[0x80, 0, 0, 0][..], &self.size.to_be_bytes()].concat());
        put(136, b"00000000000");
        put(148, b"        ");
        put(156, &[self.flag]);
        put(157, self.link.as_bytes());
        put(257, b"ustar  \0");
        put(329, b"0000001\x000000003");
        sealed(block)
    }

    /// The header and its content, padded.
    fn with(&self, content: &[u8]) -> Vec<u8> {
        let mut all = Self { size: content.len() as u64, ..*self }.block();
        all.extend(content);
        all.resize(all.len().next_multiple_of(BLOCK), 0);
        all
    }
}

/// With its checksum.
fn sealed(mut block: Vec<u8>) -> Vec<u8> {
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// A record of a PAX header, which begins with its own length.
fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let length = (1..).find(|length: &usize| *length == rest.len() + length.to_string().len());
    format!("{}{rest}", length.unwrap())
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [&members.concat()[..], &[0; 2 * BLOCK]].concat()
}

const ADD: &str = "FROM scratch\nADD a.tar /x/\n";

fn site(archive: &[u8]) -> Site {
    let site = Site::new(ADD);
    site.file("context/a.tar", archive).file("outside/secret", "secret\n");
    site
}

/// What the image holds, a path and what is there in a line; the directory outside is as it was.
fn held(site: &Site) -> Vec<String> {
    site.built(&["--quiet", "-o", "type=oci,tar=false,dest=out"]);
    untouched(site);
    let files = rootfs(&site.path("out"), "linux/amd64");
    files.iter().map(|(path, file)| format!("{path} {file}")).collect()
}

fn untouched(site: &Site) {
    assert_eq!(names(&site.path("outside")), ["secret"]);
    assert_eq!(fs::read(site.path("outside/secret")).unwrap(), b"secret\n");
}

/// Expects that the ADD fails with this message at its line, and leaves nothing.
fn refused(archive: &[u8], message: &str) {
    let site = site(archive);
    let said = site.refused(3, &["--quiet", "-o", "type=oci,tar=false,dest=out"]);
    let place = " --> context/Dockerfile:2:5\n  |\n2 | ADD a.tar /x/\n  |     ^^^^^\n";
    let (found, rest) = said.split_once('\n').unwrap();
    assert_eq!(found, format!("error: {message}"));
    assert!(rest.starts_with(place), "{said}");
    untouched(&site);
    assert!(!site.path("out/index.json").exists());
}

#[test]
fn names_stay_below_the_destination() {
    let names = ["../../up", "/abs/olute", "a/../../../b", "./c"];
    let site = site(&archive(&names.map(|name| Header { name, ..FILE }.with(b"e\n"))));
    let expected = [
        "x d 0755 0:0 0",
        "x/abs d 0755 0:0 0",
        "x/abs/olute f 0644 0:0 2",
        "x/b f 0644 0:0 2",
        "x/c f 0644 0:0 2",
        "x/up f 0644 0:0 2",
    ];
    assert_eq!(held(&site), expected);
}

#[test]
fn links_lead_nowhere_else() {
    let empty = site(b"");
    let outside = empty.name("outside");
    let link = |name, target| Header { name, flag: b'2', link: target, ..FILE }.block();
    let behind = |name| Header { name, ..FILE }.with(b"e\n");
    empty.file(
        "context/a.tar",
        archive(&[
            link("absolute", &outside),
            behind("absolute/secret"),
            link("up", "../../.."),
            behind("up/climbed"),
            link("here", "."),
            link("here/there", "/etc"),
            behind("there/passwd"),
        ]),
    );
    let held = held(&empty);
    let inside = format!("x{outside}/secret f 0644 0:0 2");
    assert!(held.contains(&inside), "{held:?}");
    for expected in ["x/climbed f 0644 0:0 2", "x/etc/passwd f 0644 0:0 2"] {
        assert!(held.iter().any(|line| line == expected), "{expected}: {held:?}");
    }
    assert!(held.iter().all(|line| line == "x d 0755 0:0 0" || line.starts_with("x/")), "{held:?}");
}

#[test]
fn hard_links_reach_members_only() {
    let empty = site(b"");
    let outside = empty.name("outside/secret");
    let link = |target| Header { name: "l", flag: b'1', link: target, ..FILE }.block();
    for target in ["../outside/secret", "../../../../../etc/passwd", &outside, "/etc/passwd", "missing"] {
        let shown = target.trim_start_matches('/');
        refused(&archive(&[link(target)]), &format!("the target /{shown} of a hard link: not found"));
    }
    let behind =
        [Header { name: "d", flag: b'2', link: &empty.name("outside"), ..FILE }.block(), link("d/secret")];
    refused(&archive(&behind), "the target /d/secret of a hard link: not found");
}

/// As in BuildKit: what an archive says of its own root does not become true of the destination, and what a hard link
/// says of its mode does of the file that it names.
#[test]
fn roots_are_passed_over_and_links_share_their_mode() {
    let root = |name| Header { name, flag: b'5', mode: 0o711, ..FILE }.block();
    let link = |name, target, mode| Header { name, flag: b'1', link: target, mode, ..FILE }.block();
    let members = [
        root("./"),
        Header { name: "a", ..FILE }.with(b"e\n"),
        link("b", "a", 0o600),
        root("/"),
        link("c", "./b", 0o4750),
        Header { name: "d", flag: b'2', link: "a", mode: 0o777, ..FILE }.block(),
        link("e", "d", 0o600),
        root("d/.."),
        Header { name: "r", ..FILE }.with(b"e\n"),
        link("s", "r", 0o600),
        Header { name: "r", ..FILE }.with(b"new\n"),
        link("t", "s", 0o640),
    ];
    let expected = [
        "x d 0755 0:0 0",
        "x/a f 4750 0:0 2",
        "x/b f 4750 0:0 2 -> x/a",
        "x/c f 4750 0:0 2 -> x/a",
        "x/d l 0777 0:0 0 -> a",
        "x/e l 0777 0:0 0 -> x/d",
        "x/r f 0644 0:0 4",
        "x/s f 0640 0:0 2",
        "x/t f 0640 0:0 2 -> x/s",
    ];
    assert_eq!(held(&site(&archive(&members))), expected);
}

#[test]
fn devices_are_entries_and_nothing_more() {
    let device = |name, flag| Header { name, flag, mode: 0o6666, ..FILE }.block();
    let site = site(&archive(&[device("null", b'3'), device("disk", b'4'), device("pipe", b'6')]));
    let special = ["x d 0755 0:0 0", "x/disk s 6666 0:0 0", "x/null s 6666 0:0 0", "x/pipe s 6666 0:0 0"];
    assert_eq!(held(&site), special);
    let layout = format!("oci:{}", site.name("out"));
    let manifest = serde_json::from_str(&skopeo(&["inspect", "--raw", &layout])).unwrap();
    let layer = site.path("out/blobs/sha256").join(layers(&manifest)[0]);
    let mut list = Command::new(require("tar", "tar"));
    let listed = run_command(list.args(["--numeric-owner", "-tvf"]).arg(layer));
    let types: Vec<&str> = listed.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(types, ["drwxr-xr-x", "brwSrwSrw-", "crwSrwSrw-", "prwSrwSrw-"]);
}

#[test]
fn header_bombs_are_refused() {
    let claims = |flag, size| Header { flag, size, ..FILE }.block();
    let member = FILE.with(b"e\n");
    let limit = |what: &str, limit: u64| {
        format!(
            "cannot read context/a.tar: the archive is refused at byte 0: {what} is past the limit of {limit}"
        )
    };
    let size = limit("the size of an extended header in bytes", 1 << 20);
    for flag in [b'x', b'g', b'L', b'K'] {
        refused(&archive(&[claims(flag, 1 << 40), member.clone()]), &size);
        refused(&archive(&[claims(flag, (1 << 20) + 1), member.clone()]), &size);
    }
    let name = Header { flag: b'L', ..FILE }.with(&vec![b'n'; (1 << 16) + 1]);
    let at = name.len();
    let long = limit("the length of a name or link target in bytes", 1 << 16);
    refused(&archive(&[name, member.clone()]), &long.replace("byte 0", &format!("byte {at}")));
    let row = vec![Header { flag: b'L', ..FILE }.with(b"n"); 17];
    let many = limit("the number of extended headers before an entry", 16);
    refused(&archive(&[row.concat(), member]), &many.replace("byte 0", &format!("byte {}", 16 * 2 * BLOCK)));
}

/// What `program` with its arguments makes of bytes.
fn piped(program: &str, package: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new(require(program, package));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

/// gzip is not among them: it cannot make more of a byte than the 1,100 that are allowed
/// (`gzip_cannot_reach_the_ratio` in `crates/image`).
#[test]
fn decompression_bombs_are_refused() {
    const ZEROS: usize = 16 << 20;
    let start = Header { size: 8 << 30, ..FILE }.block();
    for (program, package) in [("bzip2", "bzip2"), ("xz", "xz-utils"), ("zstd", "zstd")] {
        let packed = |bytes: &[u8]| piped(program, package, &["-c"], bytes);
        // Streams behind each other are one, so a piece of the bomb is enough to make all of it.
        let bomb = [packed(&start), packed(&vec![0; ZEROS]).repeat((8 << 30) / ZEROS)].concat();
        let site = site(&bomb);
        let said = site.refused(3, &["--quiet"]);
        let (message, _) = said.split_once('\n').unwrap();
        let numbers = message.strip_prefix("error: cannot read context/a.tar: ").unwrap();
        let words: Vec<&str> = numbers.split(' ').collect();
        let [read, "compressed", "bytes", "became", "more", "than", limit, "bytes,", ..] = words[..] else {
            panic!("{program}: {said}")
        };
        let (read, limit): (u64, u64) = (read.parse().unwrap(), limit.parse().unwrap());
        assert_eq!(limit, (1 << 30) + 1_100 * read, "{program}: {said}");
        assert!(read < bomb.len() as u64 && limit < 2 << 30, "{program}: {said}");
        untouched(&site);
    }
}

#[test]
fn decoders_that_want_memory_are_refused() {
    let members = archive(&[FILE.with(b"e\n")]);
    let xz = piped("xz", "xz-utils", &["-c", "--lzma2=dict=128MiB"], &members);
    let zstd = piped("zstd", "zstd", &["-c", "--ultra", "-22", "--long=27"], &members);
    for (codec, stored) in [("xz", xz), ("zstd", zstd)] {
        let why = format!("the {codec} stream needs more than 67108864 bytes of memory to be read");
        refused(&stored, &format!("cannot read context/a.tar: {why}"));
    }
}

#[test]
fn sparse_bombs_are_refused() {
    // A map without pieces, and the size of the file.
    let sparse = |name: &str, gib: u64| {
        let size = (gib << 30).to_string();
        let records = [("major", "1"), ("minor", "0"), ("realsize", &size)];
        let records = records.map(|(key, value)| record(&format!("GNU.sparse.{key}"), value)).concat();
        let extended = Header { name, flag: b'x', ..FILE }.with(records.as_bytes());
        [extended, Header { name, ..FILE }.with(&[&b"0\n"[..], &[0; BLOCK - 2]].concat())].concat()
    };
    let message = "cannot read context/a.tar: its sparse files are larger than 68719476736 bytes";
    refused(&archive(&[sparse("one", 65)]), message);
    refused(&archive(&[sparse("one", 40), sparse("two", 25)]), message);
}

/// As by BuildKit and containerd, which know no other type of files than 0.
#[test]
fn files_of_other_types_are_refused() {
    let old = |flag| Header { name: "holes", flag, ..FILE }.block();
    let mut sparse = old(b'S');
    // GNU's old format: the size of the file behind a map without pieces.
    sparse[483..495].copy_from_slice(b"00000000007\0");
    sparse[148..156].fill(b' ');
    for (flag, member) in [('S', sealed(sparse)), ('7', old(b'7'))] {
        let message = format!(
            "cannot read context/a.tar: \"holes\" in the archive is of type '{flag}', which no builder unpacks (GNU \
             tar: --format=posix writes sparse files as others read them)"
        );
        refused(&archive(&[FILE.with(b"e\n"), member]), &message);
    }
}

/// Written as users write them.
#[test]
fn sparse_files_of_pax_archives_have_their_holes() {
    let site = Site::new(ADD);
    let path = site.path("holes");
    sparse_file(&path, 3 << 20);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"middle", 1 << 20).unwrap();
    set_mode(&path, 0o644);
    let mut tar = Command::new(require("tar", "tar"));
    tar.args(["--sparse", "--format=posix", "--owner=0", "--group=0", "-cf", "context/a.tar", "holes"]);
    run_command(tar.current_dir(site.path("")));
    assert!(fs::metadata(site.path("context/a.tar")).unwrap().len() < 1 << 20, "it is packed sparse");
    site.file("outside/secret", "secret\n");
    assert_eq!(held(&site), ["x d 0755 0:0 0", "x/holes f 0644 0:0 3145728"]);
    let files = rootfs(&site.path("out"), "linux/amd64");
    let expected = Digest::of(&fs::read(&path).unwrap()).to_string();
    assert_eq!(files["x/holes"].sha256.as_ref().map(|hex| format!("sha256:{hex}")), Some(expected));
}

#[test]
fn broken_archives_are_refused() {
    let member = FILE.with(b"e\n");
    let cut = &Header { size: 4096, ..FILE }.block()[..];
    refused(
        cut,
        "cannot read context/a.tar: the archive ends at byte 512, in the middle of the content of an entry",
    );
    let mut broken = member.clone();
    broken[3] = b'!';
    refused(
        &archive(&[member.clone(), broken]),
        "cannot read context/a.tar: the archive is broken at byte 1024: a header has the checksum \
         \"006471\\0 \", expected 6532 (octal)",
    );
    let odd = Header { name: "odd", flag: b'V', ..FILE }.block();
    refused(
        &archive(&[member, odd]),
        "cannot read context/a.tar: \"odd\" in the archive is of type 'V', expected a file, directory, link, \
         pipe or device (0 to 7, S)",
    );
}
