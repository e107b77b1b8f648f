//! The second origin: layers in object storage, behind URLs that are signed for one `GET`.

use super::{AwsAction, refusal::REQUEST_ID, world::World};
use crate::http::{Incoming, Reply, locked};

/// Answers a request to the second origin.
pub(super) fn answer(world: &World, request: &mut Incoming<'_>) -> Option<Reply> {
    if let Err(refusal) = world.misbehave(AwsAction::GetObject, request) {
        return refusal.data_plane();
    }
    if request.header("authorization").is_some() {
        let text = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature \
                    query string parameter or the Authorization header should be specified";
        return Some(refused(400, "InvalidArgument", text));
    }
    let signature = request.parameter("X-Amz-Signature").unwrap_or_default();
    let signed = locked(&world.downloads).get(&signature).cloned();
    // The method is part of what was signed.
    let Some((name, digest)) = signed.filter(|_| request.method == "GET") else {
        return Some(refused(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match",
        ));
    };
    let content = world.with_repository(&name, |repository| Ok(repository.blobs.get(&digest).cloned()));
    let Some(blob) = content.ok().flatten().filter(|_| request.path[1..] == digest.hex()) else {
        return Some(refused(404, "NoSuchKey", "The specified key does not exist."));
    };
    let Some(content) = blob.content else { return super::refusal::Refusal::not_kept(digest).data_plane() };
    let length = content.len();
    let whole = Reply::bytes(200, "application/octet-stream", content.clone()).with("accept-ranges", "bytes");
    let Some(range) = request.header("range") else { return Some(whole) };
    Some(match part(range, length) {
        Some((first, last)) => Reply::bytes(206, "application/octet-stream", content)
            .only(first..last + 1)
            .with("content-range", format!("bytes {first}-{last}/{length}")),
        None => refused(416, "InvalidRange", "The requested range is not satisfiable"),
    })
}

/// First and last byte of `bytes=FIRST-[LAST]`, within what there is (RFC 9110, 14.1.2).
fn part(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let last = if last.is_empty() { usize::MAX } else { last.parse().ok()? };
    (first < length && first <= last).then(|| (first, last.min(length - 1)))
}

/// S3's errors (S3 API Reference, "Error responses").
fn refused(status: u16, code: &str, message: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <RequestId>{REQUEST_ID}</RequestId></Error>"
    );
    Reply::text(status, "application/xml", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-", Some((0, 9))),
            ("bytes=3-5", Some((3, 5))),
            ("bytes=3-50", Some((3, 9))),
            ("bytes=10-", None),
            ("bytes=5-3", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
    }
}
