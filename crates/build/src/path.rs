//! Paths of images: bytes, `/`-separated, relative to the root of a file system.
//!
//! Two forms are in use. *Written* paths are what a Dockerfile says, possibly absolute, with `.`,
//! `..` and a trailing slash that has a meaning. *Tree* paths are clean: `a/b`, the root is empty.

/// The tree path of a written one: `.` and empty parts vanish, `..` never leaves the root.
pub(crate) fn clean(written: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(written.len());
    for part in written.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => truncate_to_parent(&mut out),
            part => push(&mut out, part),
        }
    }
    out
}

/// Appends a name to a tree path.
pub(crate) fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// `directory/name`.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    push(&mut path, name);
    path
}

/// The tree path of the directory that holds `path`; the root's is the root.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&b| b == b'/').map_or(&[], |slash| &path[..slash])
}

/// The last part of a tree path.
pub(crate) fn base(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&b| b == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// All proper ancestors of a tree path but the root, from the top down.
pub(crate) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(slash, _)| &path[..slash])
}

fn truncate_to_parent(path: &mut Vec<u8>) {
    let length = parent(path).len();
    path.truncate(length);
}

/// A written path made absolute from `working_dir`, cleaned, with its trailing slash (or `/.`) kept
/// as one slash: it says that the path is a directory. As BuildKit's `pathRelativeToWorkingDir`.
pub(crate) fn absolute(working_dir: &str, written: &str) -> String {
    let is_directory =
        written.is_empty() || written == "." || written.ends_with('/') || written.ends_with("/.");
    let joined = match written.starts_with('/') {
        true => written.to_owned(),
        false => format!("{working_dir}/{written}"),
    };
    // Parts of a string that were split at ASCII slashes are still strings.
    let cleaned = String::from_utf8_lossy(&clean(joined.as_bytes())).into_owned();
    match (cleaned.is_empty(), is_directory) {
        (true, _) => "/".to_owned(),
        (false, true) => format!("/{cleaned}/"),
        (false, false) => format!("/{cleaned}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_and_clamps() {
        for (written, expected) in
            [("/a/./b//c/", "a/b/c"), ("a/../../b", "b"), ("/", ""), ("", ""), ("../..", ""), ("./x", "x")]
        {
            assert_eq!(clean(written.as_bytes()), expected.as_bytes(), "{written}");
        }
    }

    #[test]
    fn absolute_keeps_what_says_directory() {
        for (working_dir, written, expected) in [
            ("/w", "x", "/w/x"),
            ("/w", "x/", "/w/x/"),
            ("/w", ".", "/w/"),
            ("/w", "", "/w/"),
            ("/", ".", "/"),
            ("/w", "/x/.", "/x/"),
            ("/w", "../x", "/x"),
            ("", "x", "/x"),
        ] {
            assert_eq!(absolute(working_dir, written), expected, "{working_dir} {written}");
        }
    }

    #[test]
    fn walks_up() {
        assert_eq!((parent(b"a/b/c"), base(b"a/b/c")), (&b"a/b"[..], &b"c"[..]));
        assert_eq!((parent(b"a"), base(b"a")), (&b""[..], &b"a"[..]));
        assert_eq!(ancestors(b"a/b/c").collect::<Vec<_>>(), [&b"a"[..], b"a/b"]);
    }
}
