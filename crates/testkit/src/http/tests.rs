use super::*;

/// Answers `POST /echo` with its body, `/early` without reading it, hangs up on `/cut` after two bytes.
fn server() -> HttpServer {
    HttpServer::start(|request| match request.path.as_str() {
        "/echo" => {
            let body = request.read_all(100).ok()?;
            Some(Reply::bytes(200, "text/plain", body.into()).with("x-query", request.query.as_str()))
        }
        "/early" => Some(Reply::text(401, "text/plain", "no")),
        "/cut" => {
            request.read_exact(&mut [0; 2]).ok()?;
            None
        }
        _ => Some(Reply::new(404).claiming(7)),
    })
}

/// Everything that comes back until the server closes.
fn exchange(server: &HttpServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.host()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn answers_in_turn_and_by_method() {
    let server = server();
    let echoed = |body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-query: a=b\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let plain = "POST /echo?a=b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let chunked =
        "POST /echo?a=b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1;x\r\nf\r\n0\r\n\r\n";
    let waiting = "POST /echo?a=b HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\ng";
    for (requests, answers) in [
        (format!("{plain}{chunked}"), format!("{}{}", echoed("abc"), echoed("def"))),
        (waiting.to_owned(), format!("HTTP/1.1 100 Continue\r\n\r\n{}", echoed("g"))),
        (
            "HEAD /nowhere HTTP/1.1\r\n\r\n".to_owned(),
            "HTTP/1.1 404 Not Found\r\ncontent-length: 7\r\n\r\n".to_owned(),
        ),
        (
            "POST /early HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
            "HTTP/1.1 401 Unauthorized\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
                .to_owned(),
        ),
        // What no correct client sends, and what the handler hangs up on.
        ("nonsense\r\n\r\n".to_owned(), String::new()),
        ("POST /echo HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), String::new()),
        ("POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nab".to_owned(), String::new()),
        ("POST /cut HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".to_owned(), String::new()),
    ] {
        assert_eq!(exchange(&server, &requests), answers, "{requests:?}");
    }
}

#[test]
fn ends_what_stalls() {
    let server = HttpServer::start(|request| {
        request.stall();
        None
    });
    let mut stream = TcpStream::connect(server.host()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    drop(server);
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
}
