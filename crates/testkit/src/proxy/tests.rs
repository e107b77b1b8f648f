use std::{
    io::{Read, Write},
    sync::mpsc::{Receiver, channel},
};

use super::*;
use crate::http::{HttpServer, Reply};

const PUT: &[u8] = b"PUT / HTTP/1.1\r\nconnection: close\r\ncontent-length: 10\r\n\r\n0123456789";
const GET: &[u8] = b"GET /v2/a/manifests/1 HTTP/1.1\r\nconnection: close\r\n\r\n";
const ECHO: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10\r\nconnection: close\r\n\r\n\
                    0123456789";

/// A server that answers with the request's body, or with ten digits, and tells what it got of each body.
fn sink() -> (HttpServer, Receiver<String>) {
    let (tell, told) = channel();
    let server = HttpServer::start(move |request| {
        let mut body = Vec::new();
        let end = request.read_to_end(&mut body);
        tell.send(String::from_utf8_lossy(&body).into_owned()).ok()?;
        end.ok()?;
        let body = if body.is_empty() { b"0123456789".to_vec() } else { body };
        Some(Reply::bytes(200, "text/plain", body.into()))
    });
    (server, told)
}

/// What comes back for a request until the connection ends.
fn exchange(proxy: &FaultProxy, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(proxy.host()).unwrap();
    let _ = stream.write_all(request);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// What the proxy says itself.
fn refused(status: &str, fields: &str, code: &str) -> String {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"injected"}}]}}"#);
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{fields}content-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn answer(status: u16, retry_after: Option<u32>, after_bytes: u64) -> Fault {
    Fault::Answer { status, retry_after, after_bytes }
}

#[test]
fn what_befalls_requests() {
    let challenge = "www-authenticate: Basic realm=\"fault\"\r\n";
    let byte = |from: &str, to: &str| ECHO.replace(from, to);
    for (fault, request, told, expected) in [
        (Fault::RequestBody { after_bytes: 3 }, PUT, Some("012"), String::new()),
        (Fault::RequestByte { at: 0 }, PUT, Some("1123456789"), byte("0123", "1123")),
        (Fault::RequestByte { at: 9 }, PUT, Some("0123456788"), byte("6789", "6788")),
        (answer(401, None, 4), PUT, Some("0123"), refused("401 Unauthorized", challenge, "UNAUTHORIZED")),
        (answer(502, None, 0), GET, None, refused("502 Bad Gateway", "", "UNKNOWN")),
        (
            answer(429, Some(7), 0),
            PUT,
            None,
            refused("429 Too Many Requests", "retry-after: 7\r\n", "TOOMANYREQUESTS"),
        ),
    ] {
        let (server, heard) = sink();
        let proxy = FaultProxy::start(&server.host());
        proxy.inject(fault);
        assert_eq!(exchange(&proxy, request), expected, "{fault:?}");
        assert_eq!(proxy.happened(), 1, "{fault:?}");
        told.inspect(|told| assert_eq!(heard.recv().unwrap(), *told, "{fault:?}"));
        // Once.
        assert_eq!(exchange(&proxy, PUT), ECHO);
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["0123456789"], "{fault:?}");
    }
}

#[test]
fn what_befalls_answers() {
    let head = ECHO.len() - 10;
    for (fault, expected) in [
        (Fault::Response { after_bytes: 5 }, ECHO[..5].to_owned()),
        (Fault::ResponseBody { after_bytes: 0 }, ECHO[..head].to_owned()),
        (Fault::ResponseBody { after_bytes: 4 }, ECHO[..head + 4].to_owned()),
        (Fault::ResponseByte { at: 2 }, ECHO.replace("0123", "0133")),
        (Fault::ResponseDrip { bytes_per_second: 1000 }, ECHO.to_owned()),
    ] {
        let (server, _heard) = sink();
        let proxy = FaultProxy::start(&server.host());
        proxy.inject(fault);
        assert_eq!(exchange(&proxy, GET), expected, "{fault:?}");
        assert_eq!(proxy.happened(), 1, "{fault:?}");
        assert_eq!(exchange(&proxy, GET), ECHO);
    }
}

#[test]
fn choosy_faults_and_counters() {
    let (server, _heard) = sink();
    let proxy = FaultProxy::start(&server.host());
    let patch =
        b"PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\nconnection: close\r\ncontent-length: 10\r\n\r\n0123456789";
    proxy.inject_into(RequestKind::UploadPatch, Fault::RequestBody { after_bytes: 4 });
    assert_eq!(exchange(&proxy, PUT), ECHO);
    assert_eq!(exchange(&proxy, GET), ECHO);
    assert_eq!(proxy.happened(), 0);
    assert_eq!(exchange(&proxy, patch), "");
    assert_eq!(exchange(&proxy, patch), ECHO);
    let carried = |kind| (proxy.sent(kind), proxy.received(kind));
    assert_eq!(carried(RequestKind::UploadPatch), (14, 10));
    assert_eq!(carried(RequestKind::ManifestGet), (0, 10));
    assert_eq!(carried(RequestKind::Other), (10, 10));
}

#[test]
fn a_stall_lasts_until_the_proxy_ends() {
    for fault in [
        Fault::RequestStall { after_bytes: 0 },
        Fault::RequestStall { after_bytes: 4 },
        Fault::ResponseStall { after_bytes: 4 },
    ] {
        let (server, _heard) = sink();
        let proxy = FaultProxy::start(&server.host());
        proxy.inject(fault);
        let mut stream = TcpStream::connect(proxy.host()).unwrap();
        stream.write_all(PUT).unwrap();
        while proxy.happened() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(proxy);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let expected =
            if matches!(fault, Fault::ResponseStall { .. }) { &ECHO[..ECHO.len() - 6] } else { "" };
        assert_eq!(answer, expected, "{fault:?}");
    }
}

#[test]
fn a_throttled_body_waits_until_it_is_let_go() {
    let (server, _heard) = sink();
    let proxy = FaultProxy::start(&server.host());
    proxy.throttle(1);
    let request = b"PUT / HTTP/1.1\r\ncontent-length: 10\r\n\r\n0123456789";
    let expected = ECHO.replace("connection: close\r\n", "");
    let mut stream = TcpStream::connect(proxy.host()).unwrap();
    for _ in 0..2 {
        stream.write_all(request).unwrap();
        // The first bytes pass at once, then their seconds begin.
        let mut echo = vec![0; expected.len()];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(echo, expected.as_bytes());
        proxy.throttle(u64::MAX);
    }
    assert_eq!(proxy.sent(RequestKind::Other), 20);
}

#[test]
fn refuses() {
    let (server, _heard) = sink();
    let proxy = FaultProxy::start(&server.host());
    proxy.refuse(true);
    assert_eq!(exchange(&proxy, GET), "");
    proxy.refuse(false);
    assert_eq!(exchange(&proxy, GET), ECHO);
}

#[test]
fn a_pause_holds_bodies_of_its_kinds_until_it_ends() {
    let (server, _heard) = sink();
    let proxy = FaultProxy::start(&server.host());
    proxy.pause_after(&[RequestKind::Other], 4);
    // The other kind passes; this one rests with the first piece beyond.
    assert_eq!(exchange(&proxy, GET), ECHO);
    let mut stream = TcpStream::connect(proxy.host()).unwrap();
    stream.write_all(b"PUT / HTTP/1.1\r\ncontent-length: 10\r\n\r\n01234").unwrap();
    while proxy.sent(RequestKind::Other) < 5 {
        thread::sleep(Duration::from_millis(1));
    }
    stream.write_all(b"56789").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stream.read_exact(&mut [0]).unwrap_err();
    assert_eq!(proxy.sent(RequestKind::Other), 5);
    proxy.resume();
    stream.set_read_timeout(None).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    assert_eq!(proxy.sent(RequestKind::Other), 10);
}
