//! Lists of objects (Amazon S3 API, "ListObjectsV2"; Google's XML API, "List Objects").

use ocib_net::printable;

use crate::{listed::said_size, userinfo::percent_decoded};

/// An object of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Listing {
    pub(super) key: String,
    pub(super) size: u64,
    /// With its quotes, as `If-Match` takes it.
    pub(super) etag: String,
    pub(super) modified: String,
    /// Whether the store keeps a SHA-256 of the whole.
    pub(super) has_sha256: bool,
}

/// A page of a list, and what asks for the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Page {
    pub(super) objects: Vec<Listing>,
    pub(super) next: Option<String>,
}

impl Page {
    /// Reads a list whose keys are encoded (`encoding-type=url`), so no key can look like XML.
    pub(super) fn parse(xml: &str) -> Result<Self, String> {
        let list = element(xml, "ListBucketResult").ok_or("it is no ListBucketResult")?;
        let mut objects = Vec::new();
        let mut rest = list;
        while let Some((object, after)) = next(rest, "Contents") {
            objects.push(Listing::parse(object)?);
            rest = after;
        }
        let is_truncated = element(list, "IsTruncated") == Some("true");
        let next = element(list, "NextContinuationToken").filter(|_| is_truncated).map(decoded);
        match is_truncated && next.is_none() {
            true => Err("a list that goes on does not say how".to_owned()),
            false => Ok(Self { objects, next }),
        }
    }
}

impl Listing {
    fn parse(object: &str) -> Result<Self, String> {
        let part = |name| element(object, name).ok_or(format!("an object has no {name}"));
        let key = percent_decoded(&part("Key")?.replace('+', " "));
        let key = String::from_utf8(key)
            .map_err(|error| format!("a key is no UTF-8: {}", printable(error.as_bytes(), 100)))?;
        let size = part("Size")?.parse().map_err(|_| format!("the size of {key} is no number"))?;
        let size = said_size(size)?;
        let etag = decoded(part("ETag")?);
        let etag = format!("\"{}\"", etag.trim_matches('"'));
        let modified = part("LastModified")?.to_owned();
        let is_whole = element(object, "ChecksumType").is_none_or(|kind| kind == "FULL_OBJECT");
        let has_sha256 = is_whole && element(object, "ChecksumAlgorithm") == Some("SHA256");
        Ok(Self { key, size, etag, modified, has_sha256 })
    }
}

/// The content of the first element called `name`, and what follows it.
fn next<'a>(xml: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let mut from = 0;
    loop {
        let at = from + xml[from..].find(&format!("<{name}"))? + name.len() + 1;
        match xml[at..].chars().next()? {
            '>' | ' ' | '\n' => {
                let start = at + xml[at..].find('>')? + 1;
                let length = xml[start..].find(&format!("</{name}>"))?;
                let end = start + length;
                return Some((&xml[start..end], &xml[end + name.len() + 3..]));
            }
            // Another element, whose name goes on.
            _ => from = at,
        }
    }
}

/// The content of the first element called `name`.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    next(xml, name).map(|(content, _)| content)
}

/// XML's five entities, and the quotation mark by its number.
pub(super) fn decoded(text: &str) -> String {
    let entities =
        [("&quot;", "\""), ("&#34;", "\""), ("&apos;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, plain)| text.replace(entity, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let xml = "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Name>b</Name><KeyCount>2</KeyCount><IsTruncated>true</IsTruncated>\
            <NextContinuationToken>a&amp;b</NextContinuationToken>\
            <Contents><Key>a%2Bb+c%3C.bin</Key><LastModified>2026-01-01T00:00:00Z</LastModified>\
            <ETag>&quot;e1&quot;</ETag><ChecksumAlgorithm>SHA256</ChecksumAlgorithm><Size>7</Size></Contents>\
            <Contents><Key>d/e</Key><LastModified>x</LastModified><ETag>\"e2-3\"</ETag>\
            <ChecksumAlgorithm>SHA256</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType>\
            <Size>9663676416</Size></Contents></ListBucketResult>";
        let listing = |key: &str, size, etag: &str, modified: &str, has_sha256| Listing {
            key: key.to_owned(),
            size,
            etag: etag.to_owned(),
            modified: modified.to_owned(),
            has_sha256,
        };
        let expected = Page {
            objects: vec![
                listing("a+b c<.bin", 7, "\"e1\"", "2026-01-01T00:00:00Z", true),
                listing("d/e", 9 << 30, "\"e2-3\"", "x", false),
            ],
            next: Some("a&b".to_owned()),
        };
        assert_eq!(Page::parse(xml), Ok(expected));
    }

    #[test]
    fn what_is_no_list() {
        let contents =
            |inner: &str| format!("<ListBucketResult><Contents>{inner}</Contents></ListBucketResult>");
        for (xml, expected) in [
            ("<html></html>".to_owned(), "it is no ListBucketResult"),
            (contents(""), "an object has no Key"),
            (contents("<Key>a</Key><Size>x</Size>"), "the size of a is no number"),
            (
                contents("<Key>a</Key><Size>18446744073709551615</Size>"),
                "a file has more bytes than any store keeps",
            ),
            (contents("<Key>%ff</Key>"), "a key is no UTF-8: \u{fffd}"),
            (
                "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>".to_owned(),
                "a list that goes on does not say how",
            ),
        ] {
            assert_eq!(Page::parse(&xml), Err(expected.to_owned()), "{xml}");
        }
    }
}
