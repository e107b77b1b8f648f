//! What is in a plain layer, found out from its headers alone.
//!
//! Everything between the contents of files is kept as it came, and the layer's digest is computed over
//! exactly these bytes later. So whatever was decided from them is vouched for by the digest, too.

use std::ops::Range;

use futures_util::TryStreamExt;
use ocib_image::{Blob, Error, MediaType, TarEntry, TarReader};
use serde::{Deserialize, Serialize};

use super::{
    PullError, Scope,
    entry::{Entry, Kind},
    source::{self, Source},
};

/// Bytes that are asked for where a header is expected: it, and what small files may follow.
const WINDOW_BYTES: u64 = 16 << 10;
/// Headers of one entry are no longer, as [`TarReader`] has it, and not much comes before them.
const WINDOW_BYTES_MAX: u64 = 8 << 20;
/// Bytes between files that are kept. A layer of many small files has more, and gains nothing by parts.
const GAP_BYTES_MAX: u64 = 2 << 20;
/// A request for each so many bytes of the layer is cheaper than reading it.
const BYTES_PER_REQUEST: u64 = 8 << 20;

/// Gaps of a layer that can only be read as one.
const WHOLE: u64 = u64::MAX / 2;

/// A part of a layer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Segment {
    /// Headers, padding, files that nobody wants: the bytes in hexadecimal.
    Gap(#[serde(with = "hex")] Vec<u8>),
    /// The content of the entry of that number.
    File { entry: usize, bytes: u64 },
}

/// All of a layer but what is in its files.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Layout {
    pub(super) entries: Vec<Entry>,
    /// Names at the top of the layer.
    pub(super) tops: Vec<String>,
    /// In their order, without a hole.
    pub(super) segments: Vec<Segment>,
}

/// The layout of a layer whose files can be had in parts; `None` if it is compressed, or holds so much
/// between large files that it is better read as one.
pub(super) async fn layout(source: &Source) -> Result<Option<Layout>, PullError> {
    let bytes = source.blob.descriptor.size;
    match &source.kind {
        source::Kind::Raw(path) => {
            let entry = Entry::raw(path, bytes, source.scope.layer);
            let segments = vec![Segment::File { entry: 0, bytes }];
            Ok(Some(Layout { entries: vec![entry], tops: Vec::new(), segments }))
        }
        source::Kind::Tar(MediaType::LayerTar) => {
            let mut headers = Headers::new(&source.blob);
            let mut layout = Layout::default();
            while let Some(found) = headers.next(&source.scope).await? {
                if !headers.is_cheap() || !layout.take(&mut headers, &found, &source.scope).await? {
                    return Ok(None);
                }
            }
            let rest = headers.at..bytes;
            let gap = headers.gap_bytes + (rest.end - rest.start);
            if gap > GAP_BYTES_MAX {
                return Ok(None);
            }
            let tail = headers.bytes(rest).await?;
            layout.gap(&tail);
            Ok(Some(layout))
        }
        source::Kind::Tar(_) => Ok(None),
    }
}

impl Layout {
    /// Adds an entry and what was before it; `false` if the layer is better read as one.
    async fn take(
        &mut self,
        headers: &mut Headers<'_>,
        found: &Found,
        scope: &Scope,
    ) -> Result<bool, PullError> {
        self.gap(&found.before);
        Scope::note_top(&found.tar, &mut self.tops);
        let bytes = found.tar.entry.size();
        match scope.entry(&found.tar)? {
            Some(entry) => {
                let is_file = matches!(entry.kind, Kind::File { .. });
                if is_file {
                    self.segments.push(Segment::File { entry: self.entries.len(), bytes });
                }
                self.entries.push(entry);
            }
            None if bytes > GAP_BYTES_MAX => return Ok(false),
            None => {
                let content = headers.bytes(headers.at - bytes..headers.at).await?;
                headers.gap_bytes += bytes;
                self.gap(&content);
            }
        }
        Ok(headers.gap_bytes <= GAP_BYTES_MAX)
    }

    fn gap(&mut self, bytes: &[u8]) {
        match self.segments.last_mut() {
            _ if bytes.is_empty() => {}
            Some(Segment::Gap(gap)) => gap.extend_from_slice(bytes),
            _ => self.segments.push(Segment::Gap(bytes.to_vec())),
        }
    }
}

/// The headers of a plain layer, one after another, without the contents between them.
#[derive(Debug)]
pub(super) struct Headers<'a> {
    blob: &'a Blob,
    /// Behind the content of the last entry; its padding is still to come.
    at: u64,
    window: Vec<u8>,
    window_start: u64,
    requests: u64,
    gap_bytes: u64,
}

/// An entry, and the bytes from the last content to its own.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tar: TarEntry,
    before: Vec<u8>,
}

impl<'a> Headers<'a> {
    pub(super) fn new(blob: &'a Blob) -> Self {
        Self { blob, at: 0, window: Vec::new(), window_start: 0, requests: 0, gap_bytes: 0 }
    }

    /// Whether reading on by requests is better than reading the layer as one.
    pub(super) fn is_cheap(&self) -> bool {
        self.gap_bytes < WHOLE && self.requests <= 16 + self.blob.descriptor.size / BYTES_PER_REQUEST
    }

    /// The next entry; `None` behind the last one, and before one whose content is in several pieces,
    /// after which there is nothing more.
    pub(super) async fn next(&mut self, scope: &Scope) -> Result<Option<Found>, PullError> {
        let size = self.blob.descriptor.size;
        let header = self.at.div_ceil(512).saturating_mul(512);
        let mut wanted = WINDOW_BYTES;
        loop {
            if header >= size {
                return Ok(None);
            }
            let end = size.min(header.saturating_add(wanted));
            let bytes = self.bytes(self.at..end).await?;
            let skip = usize::try_from(header - self.at).expect("less than a block");
            let mut reader = TarReader::new(&bytes[skip..]);
            match reader.next_entry() {
                Ok(Some(TarEntry { offset: None, .. })) => {
                    // Sparse: more than the headers is needed to find the next one.
                    self.at = header;
                    self.gap_bytes = WHOLE;
                    return Ok(None);
                }
                Ok(Some(tar)) => {
                    let before =
                        skip + usize::try_from(tar.offset.unwrap_or_default()).expect("it is in the window");
                    let content = tar.entry.size();
                    let start = self.at + before as u64;
                    if content > size.saturating_sub(start) {
                        let source =
                            Error::TruncatedArchive { offset: size, what: "the content of an entry" };
                        return Err(PullError::Archive { layer: scope.layer, source });
                    }
                    self.at = start + content;
                    self.gap_bytes += before as u64;
                    return Ok(Some(Found { tar, before: bytes[..before].to_vec() }));
                }
                Ok(None) => return Ok(None),
                Err(Error::TruncatedArchive { .. }) if end < size && wanted < WINDOW_BYTES_MAX => wanted *= 8,
                Err(source) => {
                    let source = moved(source, header);
                    return Err(PullError::Archive { layer: scope.layer, source });
                }
            }
        }
    }

    /// Bytes of the layer, which are asked for together with what may be wanted next.
    async fn bytes(&mut self, range: Range<u64>) -> Result<Vec<u8>, PullError> {
        let window_end = self.window_start + self.window.len() as u64;
        if range.start < self.window_start || range.end > window_end {
            let end = range.end.max(range.start + WINDOW_BYTES).min(self.blob.descriptor.size);
            self.window = read(self.blob, range.start..end).await?;
            self.window_start = range.start;
            self.requests += 1;
        }
        let start = usize::try_from(range.start - self.window_start).expect("it is in the window");
        let length = usize::try_from(range.end - range.start).expect("it is in the window");
        Ok(self.window[start..start + length].to_vec())
    }
}

/// A few bytes of a blob, all or none of them.
async fn read(blob: &Blob, range: Range<u64>) -> Result<Vec<u8>, PullError> {
    let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let mut stream = blob.source.range(range.clone()).await?;
    let mut bytes = Vec::new();
    while bytes.len() < wanted
        && let Some(piece) = stream.try_next().await?
    {
        bytes.extend_from_slice(&piece[..piece.len().min(wanted - bytes.len())]);
    }
    match bytes.len() == wanted {
        true => Ok(bytes),
        false => {
            let source =
                Error::TruncatedArchive { offset: range.start + bytes.len() as u64, what: "the layer" };
            Err(PullError::Archive { layer: blob.descriptor.digest, source })
        }
    }
}

/// The error of a part, at its place in the whole.
fn moved(error: Error, by: u64) -> Error {
    match error {
        Error::BadArchive { offset, why } => Error::BadArchive { offset: offset + by, why },
        Error::TruncatedArchive { offset, what } => Error::TruncatedArchive { offset: offset + by, what },
        Error::ArchiveLimit { offset, what, limit } => {
            Error::ArchiveLimit { offset: offset + by, what, limit }
        }
        Error::UnknownEntryType { offset, name, flag } => {
            Error::UnknownEntryType { offset: offset + by, name, flag }
        }
        other => other,
    }
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write;
        let mut text = String::with_capacity(bytes.len() * 2);
        bytes.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string takes all"));
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = text.as_bytes().chunks(2).map(|pair| {
            let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2);
            digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())
        });
        bytes.collect::<Option<_>>().ok_or_else(|| D::Error::custom("expected hexadecimal digits"))
    }
}
