//! Which codec a layer is asked to be stored with.

use std::{fmt, str::FromStr};

use crate::Error;

/// What the user asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// Each layer by itself: content that does not get smaller is stored plain, the rest as gzip.
    #[default]
    Auto,
    /// Always this codec.
    Fixed(Codec),
}

/// How a layer is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Codec {
    /// As it is.
    Plain,
    /// gzip (RFC 1952), one member, at levels 1 to 9.
    Gzip {
        /// DEFLATE level.
        level: u8,
    },
    /// zstd (RFC 8878), a row of frames, at levels 1 to 19.
    Zstd {
        /// zstd's level.
        level: u8,
    },
}

impl Codec {
    /// gzip at 5: with zlib-rs it leaves 1 % more bytes than 6, the level of BuildKit and gzip itself,
    /// for four fifths of the CPU (`docs/performance.md`).
    pub const GZIP: Self = Self::Gzip { level: 5 };
    /// zstd at 3, zstd's own default.
    pub const ZSTD: Self = Self::Zstd { level: 3 };
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("none"),
            Self::Gzip { level } => write!(f, "gzip:{level}"),
            Self::Zstd { level } => write!(f, "zstd:{level}"),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(codec) => codec.fmt(f),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, level) = text.split_once(':').map_or((text, None), |(name, level)| (name, Some(level)));
        let level = |range: std::ops::RangeInclusive<u8>, default| match level {
            None => Some(default),
            Some(text) => text.parse().ok().filter(|level| range.contains(level)),
        };
        let codec = match name {
            "auto" if !text.contains(':') => return Ok(Self::Auto),
            "none" | "uncompressed" if !text.contains(':') => Some(Codec::Plain),
            "gzip" => level(1..=9, 5).map(|level| Codec::Gzip { level }),
            "zstd" => level(1..=19, 3).map(|level| Codec::Zstd { level }),
            _ => None,
        };
        codec.map(Self::Fixed).ok_or_else(|| Error::BadCompression { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_and_levels() {
        for (text, expected) in [
            ("auto", Compression::Auto),
            ("none", Compression::Fixed(Codec::Plain)),
            ("gzip", Compression::Fixed(Codec::GZIP)),
            ("gzip:9", Compression::Fixed(Codec::Gzip { level: 9 })),
            ("zstd", Compression::Fixed(Codec::ZSTD)),
            ("zstd:19", Compression::Fixed(Codec::Zstd { level: 19 })),
        ] {
            assert_eq!(text.parse::<Compression>().unwrap(), expected, "{text}");
        }
        for text in ["", "gzip:0", "gzip:10", "zstd:20", "none:1", "auto:2", "lz4", "gzip:"] {
            assert_eq!(
                text.parse::<Compression>().unwrap_err().to_string(),
                format!("{text:?} is not a compression, expected auto, none, gzip[:1-9] or zstd[:1-19]")
            );
        }
    }
}
