//! Packs and directories that git would never make.

use ocib_testkit::{PackBuilder, git_answer, git_oid, seal_pack};

use std::io::{self, Read};

use super::{spool::read_pack, *};

/// What comes of an answer with `pack`.
fn read(pack: &[u8]) -> Result<Store, String> {
    let failed = |error: io::Error| panic!("{error}");
    let answer = git_answer(pack);
    read_pack(&answer[..], tempfile::tempfile().unwrap(), &failed).map(|(store, _)| store).map_err(shown)
}

fn shown(failure: Failure) -> String {
    match failure {
        Failure::Problem(problem) => problem.to_string(),
        Failure::Io(error) => error.to_string(),
    }
}

fn oid(text: &str) -> Oid {
    Oid::parse(text.as_bytes()).unwrap()
}

fn content(store: &Store, name: &str) -> Vec<u8> {
    let mut content = Vec::new();
    store.open(store.find(oid(name)).unwrap(), 0).read_to_end(&mut content).unwrap();
    content
}

/// The error of a pack, or what it was expected to be.
fn refused(pack: &[u8]) -> String {
    read(pack).map(|_| "a pack that can be read".to_owned()).unwrap_or_else(|error| error)
}

fn built<T>(make: impl FnOnce(&mut PackBuilder) -> T) -> Vec<u8> {
    let mut pack = PackBuilder::default();
    make(&mut pack);
    pack.finish()
}

/// A delta for `abc` that repeats it.
const TWICE: &[u8] = &[3, 6, 0x90, 3, 0x90, 3];

#[test]
fn deltas_of_all_kinds_are_undone() {
    let four = [&[6, 12, 0x90, 6, 0x90, 6][..]].concat();
    let pack = built(|pack| {
        // Its base comes later, and is itself a delta.
        pack.named_delta(&git_oid("blob", b"abcabc"), &four);
        let base = pack.whole("blob", b"abc");
        pack.offset_delta(base, TWICE);
        // The same again is no harm.
        pack.named_delta(&git_oid("blob", b"abc"), TWICE);
        pack.whole("tree", b"");
    });
    let store = read(&pack).unwrap();
    for expected in [&b"abc"[..], b"abcabc", b"abcabcabcabc"] {
        assert_eq!(content(&store, &git_oid("blob", expected)), expected);
    }
    assert_eq!(store.find(oid(&git_oid("tree", b""))).unwrap().kind, Kind::Tree);
}

#[test]
fn packs_that_are_none() {
    let whole = built(|pack| pack.whole("blob", b"abc"));
    let body = &whole[..whole.len() - 20];
    let sealed = |body: &[u8]| {
        let mut pack = body.to_vec();
        seal_pack(&mut pack);
        pack
    };
    let changed = |at: usize, byte: u8| {
        let mut body = body.to_vec();
        body[at] = byte;
        sealed(&body)
    };
    let at = |offset: u64, why: &str| format!("the pack that it sent is broken at byte {offset}: {why}");
    let end = whole.len() as u64;
    let mut more = body.to_vec();
    more[11] = 2;
    more.push(0);
    for (pack, expected) in [
        (vec![], at(0, "it ends early")),
        (b"PACK\0\0\0\x02".to_vec(), at(8, "it ends early")),
        (changed(0, b'p'), at(12, "it is no pack of version 2 or 3")),
        (changed(7, 4), at(12, "it is no pack of version 2 or 3")),
        (changed(8, 1), "it is refused: a pack with objects past the limit of 8000000".to_owned()),
        (sealed(&more), at(more.len() as u64, "an object is of no known type")),
        (changed(11, 0), at(32, "its checksum is another")),
        (changed(12, 0x03), at(13, "an object is of no known type")),
        (changed(12, 0x53), at(13, "an object is of no known type")),
        (changed(12, 0x32), at(end - 20, "an object is longer than it says")),
        (changed(12, 0x34), at(end - 20, "an object is shorter than it says")),
        (changed(13, 0), at(13, "the data of an object is not deflated")),
        (sealed(&[&body[..12], &[0xff; 12]].concat()), at(22, "an object has a size that no object has")),
        ([body, &[0; 20]].concat(), at(end, "its checksum is another")),
        ([&whole[..], b"x"].concat(), at(end, "something follows it")),
        (whole[..whole.len() - 1].to_vec(), at(end - 1, "it ends early")),
    ] {
        assert_eq!(refused(&pack), expected);
    }
}

#[test]
fn deltas_that_lead_nowhere() {
    let other = "1234567890123456789012345678901234567890";
    let no_base = "a delta has no base in the pack";
    for (pack, offset, why) in [
        (built(|pack| pack.named_delta(other, TWICE)), 12, no_base),
        (built(|pack| pack.object(6, &[1], TWICE)), 12, "a delta has a base where no object is"),
        (built(|pack| pack.object(6, &[0], TWICE)), 14, "the base of a delta is not before it"),
        (built(|pack| pack.object(6, &[13], TWICE)), 14, "the base of a delta is not before it"),
        (built(|pack| pack.object(6, &[0xff; 12], TWICE)), 22, "the base of a delta is not before it"),
        (
            built(|pack| {
                let base = pack.whole("blob", b"abcd");
                pack.offset_delta(base, TWICE);
            }),
            25,
            "a delta is for a base of another size",
        ),
        (
            built(|pack| {
                let base = pack.whole("blob", b"abc");
                pack.offset_delta(base, &[3, 6, 0x90]);
            }),
            24,
            "a delta ends in the middle of an instruction",
        ),
    ] {
        let expected = format!("the pack that it sent is broken at byte {offset}: {why}");
        assert_eq!(refused(&pack), expected);
    }
}

#[test]
fn little_does_not_become_much() {
    // 300 times 4 MiB, out of five kilobytes.
    let pack = built(|pack| {
        let base = pack.whole("blob", &vec![0; 4 << 20]);
        let sizes = [&[0x80, 0x80, 0x80, 0x02][..], &[0x80, 0x80, 0x80, 0xd8, 0x04]].concat();
        pack.offset_delta(base, &[sizes, [0xc0, 0x40].repeat(300)].concat());
    });
    assert_eq!(
        refused(&pack),
        "it is refused: a pack of whose deltas come, for each of its bytes, more bytes past the limit of 1100"
    );
}

/// A tree of these entries: mode, name, and name of the object.
fn tree(entries: &[(&str, &[u8], &str)]) -> Vec<u8> {
    let entry = |(mode, name, object): &(&str, &[u8], &str)| {
        [mode.as_bytes(), b" ", name, b"\0", &oid(object).as_bytes()[..]].concat()
    };
    entries.iter().flat_map(entry).collect()
}

fn directory(pack: &PackBuilder, root: &str) -> Result<Arc<Directory>, String> {
    let store = read(&pack.finish())?;
    Directory::read(&store, oid(root)).map_err(shown)
}

#[test]
fn names_that_must_not_be_checked_out() {
    let mut pack = PackBuilder::default();
    let (blob, link) = (git_oid("blob", b"x"), git_oid("blob", &[b'l'; 4096]));
    pack.whole("blob", b"x");
    pack.whole("blob", &[b'l'; 4096]);
    let long = [b'n'; 256];
    let path = |path: &str, why: &str| format!("{path} cannot be checked out: {why}");
    for (mode, name, object, expected) in [
        ("100644", &b".."[..], &blob, path("..", "it is no name of a file")),
        ("100644", b"", &blob, path("", "it is no name of a file")),
        ("100644", b"a/b", &blob, path("a/b", "a name of it has a slash")),
        ("40000", b".git", &blob, path(".git", "only git itself may have that name")),
        ("100644", b".GIT", &blob, path(".GIT", "only git itself may have that name")),
        (
            "100644",
            &long,
            &blob,
            path(&format!("{}…", "n".repeat(200)), "a name of it is longer than 255 bytes"),
        ),
        ("120000", b"l", &link, path("l", "it is a symbolic link to more than 4095 bytes")),
        ("40000", b"d", &blob, format!("object {blob} is broken: it is no tree, as it must be")),
        ("100644", b"f", &git_oid("blob", b"y"), {
            format!("object {} is broken: the server did not send it", git_oid("blob", b"y"))
        }),
    ] {
        let tree = tree(&[(mode, name, object)]);
        let mut pack = pack.clone();
        pack.whole("tree", &tree);
        let error = directory(&pack, &git_oid("tree", &tree)).map(drop).unwrap_err();
        assert_eq!(error, expected);
    }
    let twice = tree(&[("100644", b"a", &blob), ("100755", b"a", &blob)]);
    pack.whole("tree", &twice);
    let root = git_oid("tree", &twice);
    let error = directory(&pack, &root).map(drop).unwrap_err();
    assert_eq!(error, format!("object {root} is broken: two of its names are the same"));
}

#[test]
fn small_repositories_cannot_claim_endless_paths() {
    let mut pack = PackBuilder::default();
    let mut below = git_oid("blob", b"x");
    pack.whole("blob", b"x");
    for level in 0..10 {
        let mode = if level == 0 { "100644" } else { "40000" };
        let names: Vec<[u8; 1]> = (b'a'..b'k').map(|name| [name]).collect();
        let entries: Vec<(&str, &[u8], &str)> = names.iter().map(|name| (mode, &name[..], &*below)).collect();
        let tree = tree(&entries);
        pack.whole("tree", &tree);
        below = git_oid("tree", &tree);
    }
    assert_eq!(
        directory(&pack, &below).map(drop).unwrap_err(),
        "it is refused: paths past the limit of 8000000"
    );
}

#[test]
fn directories_within_each_other_have_an_end() {
    let mut pack = PackBuilder::default();
    let mut roots = vec![git_oid("tree", b"")];
    pack.whole("tree", b"");
    for _ in 0..=513 {
        let tree = tree(&[("40000", b"d", roots.last().unwrap())]);
        pack.whole("tree", &tree);
        roots.push(git_oid("tree", &tree));
    }
    directory(&pack, &roots[512]).unwrap();
    assert_eq!(
        directory(&pack, &roots[513]).map(drop).unwrap_err(),
        "it is refused: directories within each other past the limit of 512"
    );
}
