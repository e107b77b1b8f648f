//! What commits, tags and trees say.

use ocib_image::Timestamp;

use super::oid::Oid;

/// What a commit says that matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Commit {
    pub(super) tree: Oid,
    pub(super) has_parents: bool,
    /// When it was made; 1970 if it does not say so in a way that can be read.
    pub(super) time: Timestamp,
}

/// One name of a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TreeEntry {
    pub(super) kind: EntryKind,
    pub(super) name: Box<[u8]>,
    pub(super) oid: Oid,
}

/// What a mode of a tree means (git, `canon_mode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EntryKind {
    File { is_executable: bool },
    Symlink,
    Directory,
    Submodule,
}

/// The broken rule, in words.
type Why = &'static str;

pub(super) fn parse_commit(bytes: &[u8]) -> Result<Commit, Why> {
    let mut lines = headers(bytes);
    let tree = lines.next().and_then(|line| line.strip_prefix(b"tree ")).and_then(Oid::parse);
    let tree = tree.ok_or("a commit begins with its tree")?;
    let (mut has_parents, mut time) = (false, None);
    for line in lines {
        has_parents |= line.starts_with(b"parent ");
        time = time.or_else(|| line.strip_prefix(b"committer ").and_then(seconds));
    }
    Ok(Commit { tree, has_parents, time: Timestamp::from_seconds(time.unwrap_or_default()) })
}

/// The object that an annotated tag leads to.
pub(super) fn parse_tag(bytes: &[u8]) -> Result<Oid, Why> {
    let object = headers(bytes).next().and_then(|line| line.strip_prefix(b"object ")).and_then(Oid::parse);
    object.ok_or("a tag begins with its object")
}

/// The lines up to the first empty one.
fn headers(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&b| b == b'\n').take_while(|line| !line.is_empty())
}

/// `NAME <MAIL> SECONDS ZONE`.
fn seconds(committer: &[u8]) -> Option<i64> {
    let end = committer.iter().rposition(|&b| b == b'>')?;
    let mut words = committer[end + 1..].split(|&b| b == b' ').filter(|word| !word.is_empty());
    std::str::from_utf8(words.next()?).ok()?.parse().ok()
}

pub(super) fn parse_tree(mut bytes: &[u8]) -> Result<Vec<TreeEntry>, Why> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|&b| b == b' ').ok_or("a mode has no end")?;
        let kind = kind(&bytes[..space]).ok_or("a mode is no octal number")?;
        bytes = &bytes[space + 1..];
        let zero = bytes.iter().position(|&b| b == 0).ok_or("a name has no end")?;
        let (name, rest) = (&bytes[..zero], &bytes[zero + 1..]);
        let (oid, rest) = rest.split_first_chunk().ok_or("it ends in the middle of an entry")?;
        entries.push(TreeEntry { kind, name: name.into(), oid: Oid::new(*oid) });
        bytes = rest;
    }
    Ok(entries)
}

fn kind(mode: &[u8]) -> Option<EntryKind> {
    let is_octal = (1..=7).contains(&mode.len()) && mode.iter().all(|b| matches!(b, b'0'..=b'7'));
    let mode = mode.iter().fold(0_u32, |mode, b| mode << 3 | u32::from(b - b'0').min(7));
    is_octal.then_some(match mode & 0o170_000 {
        0o100_000 => EntryKind::File { is_executable: mode & 0o100 != 0 },
        0o120_000 => EntryKind::Symlink,
        0o040_000 => EntryKind::Directory,
        _ => EntryKind::Submodule,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn commits() {
        let tree = Oid::parse(A.as_bytes()).unwrap();
        let ok =
            |has_parents, seconds| Ok(Commit { tree, has_parents, time: Timestamp::from_seconds(seconds) });
        for (rest, expected) in [
            (
                "author a <b> 1 +0000\ncommitter c <d> 1700000000 +0100\n\nparent x\n",
                ok(false, 1_700_000_000),
            ),
            (&format!("parent {A}\ncommitter > <> -5 +0000\n\n"), ok(true, -5)),
            ("committer c <d> soon\n\n", ok(false, 0)),
            ("\ncommitter c <d> 5 +0000\n", ok(false, 0)),
        ] {
            assert_eq!(parse_commit(format!("tree {A}\n{rest}").as_bytes()), expected, "{rest}");
        }
        for text in ["", "tree x\n", "\ntree aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", "author a"] {
            assert_eq!(parse_commit(text.as_bytes()), Err("a commit begins with its tree"), "{text}");
        }
    }

    #[test]
    fn tags() {
        let oid = Oid::parse(A.as_bytes()).unwrap();
        assert_eq!(parse_tag(format!("object {A}\ntype commit\n").as_bytes()), Ok(oid));
        assert_eq!(parse_tag(b"type commit\n"), Err("a tag begins with its object"));
    }

    #[test]
    fn trees() {
        let oid = [7; 20];
        let entry = |mode: &str, name: &str| [mode.as_bytes(), b" ", name.as_bytes(), b"\0", &oid].concat();
        for (mode, kind) in [
            ("100644", Some(EntryKind::File { is_executable: false })),
            ("100664", Some(EntryKind::File { is_executable: false })),
            ("100755", Some(EntryKind::File { is_executable: true })),
            ("120000", Some(EntryKind::Symlink)),
            ("40000", Some(EntryKind::Directory)),
            ("040000", Some(EntryKind::Directory)),
            ("160000", Some(EntryKind::Submodule)),
            ("100648", None),
            ("", None),
            ("77777777", None),
        ] {
            let bytes = entry(mode, "n");
            let expected =
                kind.map(|kind| vec![TreeEntry { kind, name: b"n"[..].into(), oid: Oid::new(oid) }]);
            assert_eq!(parse_tree(&bytes), expected.ok_or("a mode is no octal number"), "{mode}");
        }
        let two = [entry("100644", "a"), entry("40000", "b")].concat();
        assert_eq!(parse_tree(&two).unwrap().len(), 2);
        assert_eq!(parse_tree(b""), Ok(vec![]));
        for (length, why) in [
            (two.len() - 1, "it ends in the middle of an entry"),
            (8, "a name has no end"),
            (3, "a mode has no end"),
        ] {
            assert_eq!(parse_tree(&two[..length]), Err(why), "{length}");
        }
    }
}
