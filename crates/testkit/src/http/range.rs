//! Parts of a body (RFC 9110, section 14).

use std::io::Read;

use super::Reply;

/// The part that a `Range` header asks for of a body of `size` bytes, which `open` gives from one byte to before
/// another.
pub(crate) fn ranged(
    range: Option<&str>,
    size: u64,
    open: impl Fn(u64, u64) -> Box<dyn Read> + Send + Sync + 'static,
) -> Reply {
    let (status, from, until) = match (range, parse_range(range, size)) {
        (None, _) => (200, 0, size),
        (Some(_), Some((from, until))) if from < until => (206, from, until),
        _ => return Reply::new(416).with("content-range", format!("bytes */{size}")),
    };
    let reply = Reply::new(status)
        .with("content-type", "application/octet-stream")
        .with("accept-ranges", "bytes")
        .made(until - from, move || open(from, until));
    match status {
        206 => reply.with("content-range", format!("bytes {from}-{}/{size}", until - 1)),
        _ => reply,
    }
}

/// The first byte that is asked for, and the first one after it that is not.
pub(crate) fn parse_range(range: Option<&str>, size: u64) -> Option<(u64, u64)> {
    let (from, last) = range?.strip_prefix("bytes=")?.split_once('-')?;
    let from = from.parse().ok()?;
    let until = if last.is_empty() { size } else { last.parse::<u64>().ok()? + 1 };
    Some((from, until.min(size)))
}
