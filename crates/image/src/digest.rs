//! Digests: what content is called (OCI image-spec, "Digests").

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{
    Digest as _, Sha256,
    digest::common::hazmat::{SerializableState, SerializedState},
};

use crate::Error;

/// The SHA-256 of some bytes, written `sha256:<64 lower-case hex digits>`.
///
/// Only SHA-256 is accepted: no registry that ocib knows stores anything else, and a second
/// algorithm would make "the same content" ambiguous.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hex digits without the algorithm: a blob's file name in an OCI layout.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadDigest { text: text.chars().take(100).collect() };
        let hex = text.strip_prefix("sha256:").ok_or_else(bad)?;
        if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit = |c: u8| if c.is_ascii_digit() { c - b'0' } else { c - b'a' + 10 };
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The digest of a layer's *uncompressed* tar (image-spec, "Layer DiffID").
///
/// A type of its own, so that nobody hands it to a registry, which only knows compressed digests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Computes a [`Digest`] from bytes that arrive in pieces, and counts them.
#[derive(Clone, Default, Debug)]
pub struct Digester {
    state: Sha256,
    bytes: u64,
}

impl Digester {
    /// A digester that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.state.update(piece);
        self.bytes += piece.len() as u64;
    }

    /// How many bytes were seen so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All that it is, for another process: [`Digester::restore`] goes on from there.
    pub fn state(&self) -> Vec<u8> {
        [&self.bytes.to_le_bytes()[..], &self.state.serialize()].concat()
    }

    /// A digester in the state that [`Digester::state`] gave; `None` if that is none.
    pub fn restore(state: &[u8]) -> Option<Self> {
        let (bytes, state) = state.split_first_chunk()?;
        let state: &SerializedState<Sha256> = state.try_into().ok()?;
        Some(Self { state: Sha256::deserialize(state).ok()?, bytes: u64::from_le_bytes(*bytes) })
    }

    /// The digest of all that was seen.
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answer_and_round_trip() {
        let digest = Digest::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
        let mut pieces = Digester::new();
        pieces.update(b"a");
        pieces.update(b"bc");
        assert_eq!((pieces.bytes(), pieces.finish()), (3, digest));
    }

    #[test]
    fn a_digester_is_restored_at_any_byte() {
        let content: Vec<u8> = (0..=255).collect();
        for at in 0..content.len() {
            let (before, after) = content.split_at(at);
            let mut first = Digester::new();
            first.update(before);
            let state = first.state();
            let mut second = Digester::restore(&state).unwrap();
            assert_eq!(second.bytes(), at as u64);
            second.update(after);
            assert_eq!(second.finish(), Digest::of(&content), "byte {at}");
            for length in 0..state.len() {
                assert!(Digester::restore(&state[..length]).is_none(), "{length} bytes of a state");
            }
            assert!(Digester::restore(&[&state[..], &[0]].concat()).is_none());
        }
    }

    #[test]
    fn refuses_what_is_no_sha256_digest() {
        for text in ["", "sha256:", "sha512:00", "ba7816bf", &format!("sha256:{}", "A".repeat(64))] {
            assert_eq!(
                text.parse::<Digest>().unwrap_err().to_string(),
                format!("{text:?} is not a digest, expected sha256: and 64 lower-case hex digits")
            );
        }
    }
}
