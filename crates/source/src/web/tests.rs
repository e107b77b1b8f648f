mod server;

use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use ocib_image::{Digest, Digester, Fetched, LayerError, Node, NodeKind, PlaceErrorKind, Timestamp};
use ocib_net::{Backoff, HttpOptions};
use tokio::task::spawn_blocking;

use self::server::{Server, answer, chunked, ranged, whole};
use super::Web;

const TEXT: &[u8] = b"hello, world\n";
const TAG: &str = "ETag: \"a\"\r\n";
const MODIFIED: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

fn web() -> Web {
    let backoff = Backoff { attempts: 3, first: Duration::from_millis(1), longest: Duration::from_millis(2) };
    Web::new(HttpOptions::default(), backoff)
}

fn digest(bytes: &[u8]) -> Digest {
    let mut digester = Digester::new();
    digester.update(bytes);
    digester.finish()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn read(fetched: &Fetched, offset: u64) -> Result<Vec<u8>, LayerError> {
    let (tree, file) = (Arc::clone(&fetched.tree), fetched.file.clone().unwrap());
    spawn_blocking(move || {
        let mut bytes = Vec::new();
        match tree.open(&file, offset)?.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(error.downcast::<LayerError>().unwrap()),
        }
    })
    .await
    .unwrap()
}

fn file(fetched: &Fetched) -> Node {
    fetched.tree.stat(fetched.file.as_deref().unwrap()).unwrap().unwrap()
}

#[tokio::test]
async fn a_file_is_found_with_one_request_and_read_with_the_same() {
    let server = Server::start(|asked| ranged(asked, MODIFIED, TEXT));
    let fetched = web().fetch(&server.url("/a/hello%20world?x=/y/z"), None).await.unwrap();
    assert_eq!(fetched.file.as_deref(), Some(&b"hello world"[..]));
    assert_eq!(fetched.tree.list(b"").unwrap(), [Box::from(&b"hello world"[..])]);
    let expected = Node {
        kind: NodeKind::File { size: 13 },
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: Timestamp::from_seconds(784_111_777),
        link_group: None,
    };
    assert_eq!(file(&fetched), expected);
    assert_eq!(fetched.tree.stat(b"other").unwrap(), None);
    assert_eq!(fetched.tree.display(b"hello world"), server.url("/a/hello%20world?x=…"));
    assert_eq!(read(&fetched, 0).await.unwrap(), TEXT);
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "GET /a/hello%20world?x=/y/z");
    assert_eq!(asked[0].header("accept-encoding"), "identity");
    assert_eq!(read(&fetched, 0).await.unwrap(), TEXT);
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn reading_from_an_offset_asks_for_a_range_or_skips() {
    let both = format!("{TAG}{MODIFIED}");
    let weak = format!("ETag: W/\"a\"\r\n{MODIFIED}");
    for (headers, has_ranges, if_range) in [
        (both.clone(), true, "\"a\""),
        (both, false, "\"a\""),
        (weak, true, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (String::new(), true, ""),
        (String::new(), false, ""),
    ] {
        let server = Server::start({
            let headers = headers.clone();
            move |asked| if has_ranges { ranged(asked, &headers, TEXT) } else { whole(&headers, TEXT) }
        });
        let fetched = web().fetch(&server.url("/f"), None).await.unwrap();
        for (offset, expected) in [(7, &b"world\n"[..]), (12, b"\n"), (13, b""), (14, b"")] {
            assert_eq!(read(&fetched, offset).await.unwrap(), expected, "{headers} {offset}");
        }
        let range = |range: &str| (range.to_owned(), if_range.to_owned());
        let expected = [(String::new(), String::new()), range("bytes=7-"), range("bytes=12-")];
        assert_eq!(server.ranges(), expected, "{headers}");
    }
}

#[tokio::test]
async fn what_has_no_length_is_measured() {
    let packed = gzip(TEXT);
    let broken = packed[..packed.len() - 4].to_vec();
    type Serve = Box<dyn Fn(&server::Asked) -> Vec<u8> + Send + Sync>;
    let encoded = |headers: &str| format!("Content-Encoding: gzip\r\n{headers}");
    let servers: [(&str, Serve, Result<(), &str>); 4] = [
        ("chunked", Box::new(|_| chunked(TAG, TEXT)), Ok(())),
        (
            "gzip",
            Box::new({
                let packed = packed.clone();
                move |asked| ranged(asked, &encoded(TAG), &packed)
            }),
            Ok(()),
        ),
        ("chunked gzip", Box::new(move |_| chunked(&encoded(""), &packed)), Ok(())),
        (
            "broken gzip",
            Box::new(move |_| whole(&encoded(""), &broken)),
            Err("has the content encoding gzip, which cannot be decoded: unexpected end of file"),
        ),
    ];
    for (what, serve, expected) in servers {
        let server = Server::start(serve);
        let url = server.url("/f");
        let fetched = match (web().fetch(&url, None).await, expected) {
            (Ok(fetched), Ok(())) => fetched,
            (Err(error), Err(expected)) => {
                let actual = (error.kind, error.to_string());
                assert_eq!(actual, (PlaceErrorKind::Corrupt, format!("{url} {expected}")), "{what}");
                continue;
            }
            other => panic!("{what}: {other:?}"),
        };
        assert_eq!(file(&fetched).kind, NodeKind::File { size: 13 }, "{what}");
        for offset in [0, 7, 13] {
            assert_eq!(read(&fetched, offset).await.unwrap(), &TEXT[offset as usize..], "{what} {offset}");
        }
    }
}

#[tokio::test]
async fn digests_are_verified() {
    let (right, wrong) = (digest(TEXT), digest(b"other"));
    let message = format!("digest mismatch {right}: {wrong}");
    for is_chunked in [false, true] {
        let server = Server::start(move |_| if is_chunked { chunked("", TEXT) } else { whole("", TEXT) });
        let fetched = web().fetch(&server.url("/f"), Some(&right)).await.unwrap();
        assert_eq!(read(&fetched, 0).await.unwrap(), TEXT);
        let error = match web().fetch(&server.url("/f"), Some(&wrong)).await {
            Err(error) => error,
            Ok(fetched) => match read(&fetched, 0).await {
                Err(LayerError::Place(error)) => error,
                other => panic!("{other:?}"),
            },
        };
        assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Corrupt, message.clone()));
    }
}

#[tokio::test]
async fn a_file_that_changed_is_an_error() {
    type Serve = fn(&server::Asked) -> Vec<u8>;
    let servers: [(Serve, u64, &str); 7] = [
        (
            |asked| ranged(asked, &format!("ETag: \"{}\"\r\n", asked.before), TEXT),
            0,
            "it has another entity tag now",
        ),
        (
            |asked| ranged(asked, &format!("ETag: \"{}\"\r\n", asked.before), TEXT),
            7,
            "it has another entity tag now",
        ),
        (|asked| whole("", &TEXT[..13 - asked.before]), 0, "it had 13 bytes, now it has 12"),
        (|asked| whole("", &TEXT[..13 - asked.before]), 7, "it had 13 bytes, now it has 12"),
        (
            |asked| {
                if asked.before == 0 { whole("", TEXT) } else { answer("416 Range Not Satisfiable", "", b"") }
            },
            7,
            "it has no byte 7 any more",
        ),
        (
            |asked| if asked.before == 0 { chunked("", TEXT) } else { chunked("", b"hello, w0rld\n") },
            0,
            "it has another content now",
        ),
        (
            |asked| if asked.before == 0 { whole("", TEXT) } else { chunked("", b"hello, world!\n") },
            0,
            "it is longer than the 13 bytes it had",
        ),
    ];
    for (serve, offset, expected) in servers {
        let server = Server::start(serve);
        let fetched = web().fetch(&server.url("/f"), None).await.unwrap();
        // The answer that the file was found with is of before the change.
        drop(fetched.tree.open(b"f", 0).unwrap());
        let error = read(&fetched, offset).await.unwrap_err();
        let (LayerError::Changed { name, what }, url) = (error, server.url("/f")) else {
            panic!("{expected}")
        };
        assert_eq!((name, what.as_str()), (url, expected));
    }
}

#[tokio::test]
async fn connections_that_break_are_made_again_where_they_were() {
    for has_length in [true, false] {
        let server = Server::start(move |asked| {
            let whole = match has_length {
                true => ranged(asked, TAG, TEXT),
                false if asked.start() > 0 => ranged(asked, TAG, TEXT),
                false => chunked(TAG, TEXT),
            };
            // Four bytes at a time, so that it takes some connections.
            let head = whole.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
            let cut = if has_length || asked.start() > 0 { 4 } else { 10 };
            whole[..whole.len().min(head + cut)].to_vec()
        });
        let fetched = web().fetch(&server.url("/f"), None).await.unwrap();
        assert_eq!(read(&fetched, 0).await.unwrap(), TEXT, "{has_length}");
        let ranges: Vec<String> = server.ranges().into_iter().map(|(range, _)| range).collect();
        if has_length {
            assert_eq!(ranges, ["", "bytes=4-", "bytes=8-", "bytes=12-"]);
        }
    }
}

#[tokio::test]
async fn a_connection_that_always_breaks_is_given_up() {
    let server = Server::start(|_| answer("200 OK", "Content-Length: 5\r\n", b""));
    let fetched = web().fetch(&server.url("/f"), None).await.unwrap();
    let error = read(&fetched, 0).await.unwrap_err();
    let LayerError::Place(error) = error else { panic!("{error}") };
    assert_eq!(error.kind, PlaceErrorKind::Unreachable, "{error}");
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn redirects_lead_on_without_credentials_or_names() {
    let last = Server::start(|asked| ranged(asked, "", TEXT));
    let location = format!("Location: {}\r\nContent-Length: 0\r\n", last.url("/other"));
    let first = Server::start(move |_| answer("302 Found", &location, b""));
    let url = first.url("/named").replacen("http://", "http://me:pw@", 1);
    let fetched = web().fetch(&url, None).await.unwrap();
    assert_eq!(fetched.file.as_deref(), Some(&b"named"[..]));
    assert_eq!(fetched.tree.display(b"named"), first.url("/named"));
    assert_eq!(read(&fetched, 7).await.unwrap(), &TEXT[7..]);
    let seen = |server: &Server| {
        let asked = server.asked();
        asked.iter().map(|asked| asked.header("authorization").to_owned()).collect::<Vec<_>>()
    };
    // The second reading goes straight to where the first was led.
    assert_eq!(seen(&first), ["Basic bWU6cHc="]);
    assert_eq!(seen(&last), ["", ""]);
}

#[tokio::test]
async fn redirects_to_link_local_addresses_are_refused() {
    for target in ["http://169.254.169.254/latest/meta-data/", "http://[::ffff:a9fe:a9fe]/"] {
        let location = format!("Location: {target}\r\nContent-Length: 0\r\n");
        let server = Server::start(move |_| answer("307 Temporary Redirect", &location, b""));
        let error = web().fetch(&server.url("/f"), None).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind, PlaceErrorKind::Refused, "{text}");
        assert!(text.starts_with(&format!("{target} is not fetched: its host is the link-local")), "{text}");
    }
}

#[tokio::test]
async fn what_statuses_mean() {
    for (status, kind, requests) in [
        ("404 Not Found", PlaceErrorKind::NotFound, 1),
        ("401 Unauthorized", PlaceErrorKind::Denied, 1),
        ("403 Forbidden", PlaceErrorKind::Denied, 1),
        ("400 Bad Request", PlaceErrorKind::Refused, 1),
        ("304 Not Modified", PlaceErrorKind::Refused, 1),
        ("503 Service Unavailable", PlaceErrorKind::Unreachable, 3),
        ("206 Partial Content", PlaceErrorKind::Unreachable, 3),
    ] {
        let page = "Content-Type: text/html; charset=utf-8\r\nContent-Length: 6\r\n";
        let server = Server::start(move |_| answer(status, page, b"<html>"));
        let error = web().fetch(&server.url("/f"), None).await.unwrap_err();
        assert_eq!((error.kind, server.asked().len()), (kind, requests), "{error}");
        if kind == PlaceErrorKind::NotFound {
            assert_eq!(error.to_string(), format!("GET {} answered 404", server.url("/f")));
        }
    }
}

/// What is told apart without reading: how large it is, and whether it is the same as before.
#[tokio::test]
async fn files_are_found_by_their_heads() {
    let old = "Date: Sun, 06 Nov 2016 08:49:37 GMT\r\n";
    for (what, headers, identity) in [
        ("a strong tag", TAG.to_owned(), true),
        ("an old time", format!("{MODIFIED}{old}"), true),
        ("a time without a clock", MODIFIED.to_owned(), false),
        ("a weak tag", "ETag: W/\"a\"\r\n".to_owned(), false),
        ("nothing", String::new(), false),
    ] {
        let server = Server::start(move |asked| match asked.line.starts_with("HEAD") {
            true => answer("200 OK", &format!("Content-Length: {}\r\n{headers}", TEXT.len()), b""),
            false => ranged(asked, &headers, TEXT),
        });
        let tree = web().open(&[server.url("/a%20b").parse().unwrap()]).await.unwrap();
        assert_eq!(server.asked().len(), 1, "{what}");
        assert_eq!(tree.list(b"").unwrap(), [b"a b".as_slice().into()], "{what}");
        assert_eq!(tree.identity(b"a b").unwrap().is_some(), identity, "{what}");
        let read = spawn_blocking(move || {
            let mut text = Vec::new();
            tree.open(b"a b", 7).unwrap().read_to_end(&mut text).unwrap();
            text
        });
        assert_eq!(read.await.unwrap(), &TEXT[7..], "{what}");
    }
}

/// A server that tells no length is read once to know it, and what comes later must be the same.
#[tokio::test]
async fn files_of_unknown_length_are_measured() {
    let server = Server::start(|asked| match asked.line.starts_with("HEAD") {
        true => answer("405 Method Not Allowed", "Content-Length: 0\r\n", b""),
        false => chunked("", if asked.before < 4 { TEXT } else { b"another text\n" }),
    });
    let location = || server.url("/text").parse().unwrap();
    let tree = web().open(&[location()]).await.unwrap();
    assert_eq!(tree.digest(b"text").unwrap(), Some(digest(TEXT)));
    let read = |tree: std::sync::Arc<dyn ocib_image::Tree>| {
        spawn_blocking(move || tree.open(b"text", 0).unwrap().read_to_end(&mut Vec::new()))
    };
    assert_eq!(read(tree.clone()).await.unwrap().unwrap(), TEXT.len());
    let error = read(tree).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("/text is not what it was said to be: expected sha256:"), "{error}");
    let url = format!("{}#sha256={}", server.url("/text"), "0".repeat(64));
    let error = web().open(&[url.parse().unwrap()]).await.unwrap_err();
    assert_eq!(error.kind, PlaceErrorKind::Corrupt);
}

/// Parts of a file go straight to where its URL leads, until that leads nowhere any more.
#[tokio::test]
async fn parts_are_led_once() {
    let server = Server::start(|asked| match asked.line.as_str() {
        line if line.ends_with("/a") => {
            answer("302 Found", &format!("Location: /b{}\r\nContent-Length: 0\r\n", asked.before), b"")
        }
        line if line.starts_with("HEAD") => {
            answer("200 OK", &format!("Content-Length: {}\r\nAccept-Ranges: bytes\r\n{TAG}", TEXT.len()), b"")
        }
        _ if asked.before == 5 => answer("403 Forbidden", "Content-Length: 0\r\n", b""),
        _ => {
            let range = asked.header("range").strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            let (from, last): (usize, usize) = (range.0.parse().unwrap(), range.1.parse().unwrap());
            let headers = format!(
                "Content-Range: bytes {from}-{last}/{}\r\nContent-Length: {}\r\n{TAG}",
                TEXT.len(),
                last + 1 - from
            );
            answer("206 Partial Content", &headers, &TEXT[from..=last])
        }
    });
    let web = web().with_read_ahead(crate::ReadAhead { parts: 1, part_bytes: 4 });
    let tree = web.open(&[server.url("/a").parse().unwrap()]).await.unwrap();
    let read = spawn_blocking(move || {
        let mut text = Vec::new();
        tree.open(b"a", 0).unwrap().read_to_end(&mut text).map(|_| text)
    });
    assert_eq!(read.await.unwrap().unwrap(), TEXT);
    let lines: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
    let expected =
        ["HEAD /a", "HEAD /b0", "GET /a", "GET /b2", "GET /b2", "GET /b2", "GET /a", "GET /b6", "GET /b6"];
    assert_eq!(lines, expected);
}

/// Programs that make what they send often answer a HEAD so.
#[tokio::test]
async fn a_head_that_says_nothing_is_there_is_not_believed() {
    let server = Server::start(|asked| match asked.line.starts_with("HEAD") {
        true => answer("200 OK", "Content-Length: 0\r\n", b""),
        false => whole("", TEXT),
    });
    let tree = web().open(&[server.url("/text").parse().unwrap()]).await.unwrap();
    let read = spawn_blocking(move || {
        let mut text = Vec::new();
        tree.open(b"text", 0).unwrap().read_to_end(&mut text).map(|_| text)
    });
    assert_eq!(read.await.unwrap().unwrap(), TEXT);
}

/// Stores answer so to a URL that is signed for GET alone.
#[tokio::test]
async fn a_file_of_no_bytes_is_one_whether_or_not_head_may_ask() {
    for head in ["200 OK", "403 Forbidden"] {
        let server =
            Server::start(move |asked| match (asked.line.starts_with("HEAD"), asked.header("range")) {
                (true, _) => answer(head, "Content-Length: 0\r\n", b""),
                (false, "") => whole("", b""),
                _ => answer(
                    "416 Range Not Satisfiable",
                    "Content-Range: bytes */0\r\nContent-Length: 5\r\n",
                    b"empty",
                ),
            });
        let tree = web().open(&[server.url("/empty").parse().unwrap()]).await.unwrap();
        let node = tree.stat(b"empty").unwrap().unwrap();
        assert_eq!(node.kind, ocib_image::NodeKind::File { size: 0 }, "{head}");
        let read = spawn_blocking(move || tree.open(b"empty", 0).unwrap().read_to_end(&mut Vec::new()));
        assert_eq!(read.await.unwrap().unwrap(), 0, "{head}");
    }
}

/// A server that gives all for each part: then a file costs as much again for each of its parts.
#[tokio::test]
async fn a_server_that_ignores_ranges_is_asked_for_the_rest_at_once() {
    let server = Server::start(|asked| match asked.line.starts_with("HEAD") {
        true => answer("200 OK", &format!("Content-Length: {}\r\nAccept-Ranges: bytes\r\n", TEXT.len()), b""),
        false => whole("", TEXT),
    });
    let web = web().with_read_ahead(crate::ReadAhead { parts: 1, part_bytes: 4 });
    let tree = web.open(&[server.url("/text").parse().unwrap()]).await.unwrap();
    let read = spawn_blocking(move || {
        let mut text = Vec::new();
        tree.open(b"text", 0).unwrap().read_to_end(&mut text).map(|_| text)
    });
    assert_eq!(read.await.unwrap().unwrap(), TEXT);
    assert_eq!(server.asked().len(), 3, "one HEAD, one part, and the rest");
}
