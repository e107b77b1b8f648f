//! A client that sends what it is told and believes nothing.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::ecr::{AccessKey, EcrEmulator, EcrOptions, Policy};

/// An answer; nothing came if its status is 0.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// Code and message of a refusal on the data plane.
    pub(super) fn refusal(&self) -> (u16, String, String) {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        let text = |name: &str| body["errors"][0][name].as_str().unwrap_or_default().to_owned();
        (self.status, text("code"), text("message"))
    }
}

/// An emulator with the repository `team/a`, and somebody who may do everything.
pub(super) struct Bench {
    pub(super) emulator: EcrEmulator,
    pub(super) key: AccessKey,
    token: String,
}

impl Bench {
    pub(super) fn new(options: EcrOptions) -> Self {
        let emulator = EcrEmulator::start(options);
        emulator.create("team/a");
        let key = emulator.user("ci", Policy::all());
        let token = emulator.token(&key);
        Self { emulator, key, token }
    }

    /// The header that shows the token.
    pub(super) fn login(&self) -> String {
        format!("Authorization: Basic {}", STANDARD.encode(format!("AWS:{}", self.token)))
    }

    pub(super) fn renew(&mut self) {
        self.token = self.emulator.token(&self.key);
    }

    /// Sends a request with the token. A path may be a `Location`.
    pub(super) fn send(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let login = self.login();
        let path = path.strip_prefix(&self.emulator.url()).unwrap_or(path);
        exchange(&self.emulator.host(), method, path, &[&[login.as_str()], headers].concat(), body)
    }

    /// Begins an upload and returns where it goes on.
    pub(super) fn start(&self) -> String {
        let answer = self.send("POST", "/v2/team/a/blobs/uploads/", &[], b"");
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.header("location").to_owned()
    }

    /// Uploads a blob the way docker does and returns its digest.
    pub(super) fn push(&self, content: &[u8]) -> String {
        let patched = self.send("PATCH", &self.start(), &[], content);
        assert_eq!(patched.status, 201, "{patched:?}");
        let digest = ocib_image::Digest::of(content).to_string();
        let answer = self.send("PUT", &format!("{}&digest={digest}", patched.header("location")), &[], b"");
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }
}

/// One request on a connection of its own.
pub(super) fn exchange(host: &str, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(host).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    // The emulator may close before it has taken all: then there is no answer, or it is there already.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Answer::default() };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub(super) fn refusal(status: u16, code: &str, message: impl Into<String>) -> (u16, String, String) {
    (status, code.to_owned(), message.into())
}
