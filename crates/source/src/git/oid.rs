//! Names of objects.

use std::{fmt, io};

use sha1::{
    Digest as _, Sha1,
    digest::common::hazmat::{SerializableState, SerializedState},
};

/// The SHA-1 of an object's kind, size and content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Oid([u8; 20]);

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Commit,
    Tree,
    Blob,
    Tag,
}

impl Oid {
    pub(crate) const BYTES: usize = 20;

    pub(crate) const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads forty lower-case hex digits, as git's protocols and objects have them.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut oid = [0; Self::BYTES];
        if text.len() != 2 * Self::BYTES {
            return None;
        }
        for (byte, pair) in oid.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(oid))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }

    /// What comes before an object's content where it is hashed, and where git keeps it by itself.
    pub(crate) fn header(self, size: u64) -> String {
        format!("{} {size}\0", self.name())
    }
}

/// Finds out an object's name while its content passes.
pub(crate) struct Namer(Sha1);

impl Namer {
    pub(crate) fn new(kind: Kind, size: u64) -> Self {
        Self(Sha1::new_with_prefix(kind.header(size)))
    }

    pub(crate) fn update(&mut self, content: &[u8]) {
        self.0.update(content);
    }

    /// All that it is, for another process: [`Namer::restore`] goes on from there.
    pub(crate) fn state(&self) -> Vec<u8> {
        self.0.serialize().to_vec()
    }

    /// A namer in the state that [`Namer::state`] gave; `None` if that is none.
    pub(crate) fn restore(state: &[u8]) -> Option<Self> {
        let state: &SerializedState<Sha1> = state.try_into().ok()?;
        Some(Self(Sha1::deserialize(state).ok()?))
    }

    pub(crate) fn finish(self) -> Oid {
        Oid(self.0.finalize().into())
    }
}

impl io::Write for Namer {
    fn write(&mut self, content: &[u8]) -> io::Result<usize> {
        self.update(content);
        Ok(content.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_gits() {
        // git hash-object -t TYPE --stdin
        for (kind, content, expected) in [
            (Kind::Blob, &b""[..], "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
            (Kind::Blob, b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
            (Kind::Tree, b"", "4b825dc642cb6eb9a060e54bf8d69288fbee4904"),
        ] {
            let mut namer = Namer::new(kind, content.len() as u64);
            namer.update(content);
            let oid = namer.finish();
            assert_eq!(oid.to_string(), expected);
            assert_eq!(Oid::parse(expected.as_bytes()), Some(oid));
        }
    }

    #[test]
    fn what_is_no_name() {
        for text in ["", "abc", "E69DE29BB2D1D6434B8B29AE775AD8C2E48C5391", &"0".repeat(41), &"0".repeat(64)]
        {
            assert_eq!(Oid::parse(text.as_bytes()), None, "{text}");
        }
    }
}
