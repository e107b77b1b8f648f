//! PAX extended headers: records of `LENGTH key=value\n` (POSIX.1-2017 `pax`, "pax Extended Header").

use super::Flaw;
use crate::{Timestamp, Xattrs};

/// What star, Go and GNU tar call extended attributes by.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the records of one extended header say. A key that comes again replaces what it said before;
/// an empty value leaves the header's own.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<i64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<Timestamp>,
    /// Sorted by name, each name once. Bounded by the size of the extended header.
    pub(super) xattrs: Xattrs,
    pub(super) sparse: SparseRecords,
}

/// The `GNU.sparse` records (GNU tar manual, "Storing Sparse Files").
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct SparseRecords {
    pub(super) major: Option<Vec<u8>>,
    pub(super) minor: Option<Vec<u8>>,
    pub(super) name: Option<Vec<u8>>,
    /// `GNU.sparse.size` of formats 0.0 and 0.1.
    pub(super) size: Option<i64>,
    /// `GNU.sparse.realsize` of format 1.0.
    pub(super) real_size: Option<i64>,
    pub(super) blocks: Option<i64>,
    /// Offsets and lengths, separated by commas.
    pub(super) map: Option<Vec<u8>>,
}

impl SparseRecords {
    /// Which format the records are of: 0 with a map in them, 1 with one in the content. `None` for
    /// files that are not sparse, and as in Go for formats of the future.
    pub(super) fn version(&self) -> Option<u8> {
        match (self.major.as_deref(), self.minor.as_deref()) {
            (Some(b"0"), Some(b"0" | b"1")) => Some(0),
            (Some(b"1"), Some(b"0")) => Some(1),
            (None, None) if self.map.is_some() => Some(0),
            _ => None,
        }
    }
}

impl Records {
    pub(super) fn parse(mut text: &[u8]) -> Result<Self, Flaw> {
        let mut records = Self::default();
        // Format 0.0 breaks POSIX with a pair of records for each piece of data.
        let mut pieces: Vec<u8> = Vec::new();
        let mut count = 0_usize;
        while !text.is_empty() {
            let (key, value, rest) = split_record(text)
                .ok_or_else(|| Flaw::bad("an extended header has a record that is not LENGTH key=value"))?;
            text = rest;
            match key {
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    if key.ends_with(b"offset") != count.is_multiple_of(2) || value.contains(&b',') {
                        return Err(Flaw::bad("the pairs of a sparse map are out of order"));
                    }
                    count += 1;
                    pieces.extend_from_slice(value);
                    pieces.push(b',');
                }
                _ => records.take(key, value)?,
            }
        }
        if pieces.pop().is_some() {
            records.sparse.map = Some(pieces);
        }
        records.sort_xattrs();
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Flaw> {
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        let number = || match value {
            [] => Ok(None),
            value => decimal(value).map(Some).ok_or_else(|| bad_value(key, value)),
        };
        match key {
            b"path" => self.path = name(key, value)?,
            b"linkpath" => self.link = name(key, value)?,
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value).ok_or_else(|| bad_value(key, value))?),
            b"GNU.sparse.major" => self.sparse.major = bytes(),
            b"GNU.sparse.minor" => self.sparse.minor = bytes(),
            b"GNU.sparse.name" => self.sparse.name = name(key, value)?,
            b"GNU.sparse.size" => self.sparse.size = number()?,
            b"GNU.sparse.realsize" => self.sparse.real_size = number()?,
            b"GNU.sparse.numblocks" => self.sparse.blocks = number()?,
            b"GNU.sparse.map" => self.sparse.map = bytes(),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.push((name.into(), value.into()));
                }
            }
        }
        Ok(())
    }

    /// Of attributes that come twice the last one counts. The sort is stable, so that one is the last.
    fn sort_xattrs(&mut self) {
        self.xattrs.reverse();
        self.xattrs.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.xattrs.dedup_by(|(later, _), (first, _)| later == first);
    }
}

/// Key, value and what follows; `None` if there is no well-formed record. Go's rules: keys hold no
/// zero byte and are not empty.
fn split_record(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = text.iter().position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(&text[..space])?).ok()?;
    let record = text.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, &text[length..]))
}

fn name(key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, Flaw> {
    match value {
        [] => Ok(None),
        value if value.contains(&0) => Err(bad_value(key, value)),
        value => Ok(Some(value.to_vec())),
    }
}

fn bad_value(key: &[u8], value: &[u8]) -> Flaw {
    let cut = &value[..value.len().min(64)];
    let (key, cut) = (key.escape_ascii(), cut.escape_ascii());
    Flaw::Bad(format!("an extended header has the {key} \"{cut}\", which cannot be"))
}

pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `SECONDS[.FRACTION]`. The fraction of a negative time counts downwards; digits behind the ninth
/// are dropped.
fn time(value: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    match whole.starts_with('-') && nanoseconds > 0 {
        true => {
            Some(Timestamp { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds })
        }
        false => Some(Timestamp { seconds, nanoseconds }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times() {
        let at = |seconds, nanoseconds| Some(Timestamp { seconds, nanoseconds });
        for (text, expected) in [
            ("0", at(0, 0)),
            ("1350244992.023960108", at(1_350_244_992, 23_960_108)),
            ("1.5", at(1, 500_000_000)),
            ("1.", at(1, 0)),
            ("1.0000000019", at(1, 1)),
            ("-1", at(-1, 0)),
            ("-0.5", at(-1, 500_000_000)),
            ("-1.000000001", at(-2, 999_999_999)),
            ("9223372036854775807.999999999", at(i64::MAX, 999_999_999)),
            ("-9223372036854775808", at(i64::MIN, 0)),
            ("-9223372036854775808.5", None),
            ("9223372036854775808", None),
            ("", None),
            (".5", None),
            ("-.5", None),
            ("1.-5", None),
            ("1e3", None),
            (" 1", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn reads_records() {
        let parse = |text: &[u8]| Records::parse(text).map_err(|flaw| flaw.at(512).to_string());
        let path = |path: &[u8]| Ok(Records { path: Some(path.to_vec()), ..Records::default() });
        let xattr = |name: &str, value: &str| (name.as_bytes().into(), value.as_bytes().into());
        let malformed = "the archive is broken at byte 512: \
                         an extended header has a record that is not LENGTH key=value";
        let unordered = "the archive is broken at byte 512: the pairs of a sparse map are out of order";
        let impossible = |what: &str| {
            Err(format!(
                "the archive is broken at byte 512: an extended header has the {what}, which cannot be"
            ))
        };
        let table: [(&[u8], Result<Records, String>); 19] = [
            (b"", Ok(Records::default())),
            (b"10 path=a\n", path(b"a")),
            (b"010 path=a\n", Err(malformed.to_owned())),
            (b"11 path=\xff\xfe\n", path(b"\xff\xfe")),
            (b"11 path=a\n\n", path(b"a\n")),
            (b"10 path=a\n10 path=b\n", path(b"b")),
            (b"10 path=a\n8 path=\n", Ok(Records::default())),
            (b"11 path=a=b\n", Err(malformed.to_owned())),
            (b"12 path=a=b\n", path(b"a=b")),
            (b"13 comment=x\n", Ok(Records::default())),
            (b"10 path=a", Err(malformed.to_owned())),
            (b"10path=a\n", Err(malformed.to_owned())),
            (b"3 a\n", Err(malformed.to_owned())),
            (b"5 =a\n", Err(malformed.to_owned())),
            (b"99999999999999999999 a=b\n", Err(malformed.to_owned())),
            (b"11 path=a\0\n", impossible("path \"a\\x00\"")),
            (b"10 size=x\n", impossible("size \"x\"")),
            (b"23 GNU.sparse.offset=1\n23 GNU.sparse.offset=2\n", Err(unordered.to_owned())),
            (
                b"22 SCHILY.xattr.b=one\n20 SCHILY.xattr.a=x\n22 SCHILY.xattr.b=two\n",
                Ok(Records { xattrs: vec![xattr("a", "x"), xattr("b", "two")], ..Records::default() }),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn joins_the_pairs_of_format_0_0() {
        let mut text = Vec::new();
        for (key, value) in [("offset", "0"), ("numbytes", "512"), ("offset", "1024"), ("numbytes", "10")] {
            let rest = format!(" GNU.sparse.{key}={value}\n");
            text.extend(format!("{}{rest}", rest.len() + 2).into_bytes());
        }
        let records = Records::parse(&text).map_err(|flaw| flaw.at(0)).unwrap();
        assert_eq!(records.sparse.map.as_deref(), Some(&b"0,512,1024,10"[..]));
    }
}
