//! A repository on a server: protocol version 2 over smart http (gitprotocol-v2, gitprotocol-http).

use std::sync::Arc;

use bytes::Bytes;
use ocib_net::{
    Redacted, Response, Url,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};

use super::{
    oid::Oid,
    pkt::{Packet, Packets, push_delimiter, push_flush, push_line, text},
    problem::{Failure, GitProblem},
    refs::{self, Advertised},
};
use crate::{Error, client::Client, web::failure};

/// What a server says of itself is a few hundred bytes; one that speaks only version 0 lists all of its
/// branches and tags instead, which is noticed in the first lines.
const CAPABILITIES_BYTES_MAX: usize = 64 << 10;
/// A list of branches and tags that begin with one of three names.
const REFS_BYTES_MAX: usize = 16 << 20;

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const REQUEST: &str = "application/x-git-upload-pack-request";
const RESULT: &str = "application/x-git-upload-pack-result";

/// A repository that a server has.
pub(super) struct Service {
    client: Arc<Client>,
    /// Where it is, without user and password, after redirects.
    base: Url,
    authorization: Option<HeaderValue>,
    /// Whether requests must say by which hash they name objects.
    says_format: bool,
}

impl Service {
    /// Asks the server at `url` whether it has a repository there and speaks version 2.
    pub(super) async fn find(
        client: Arc<Client>,
        url: &Url,
        authorization: Option<HeaderValue>,
    ) -> Result<Self, Error> {
        let mut base = url.clone();
        base.set_query(None);
        let mut service = Self { client, base, authorization, says_format: false };
        let ask = service.endpoint("info/refs", Some("service=git-upload-pack"));
        let mut headers = service.headers();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let response = service.client.get(&ask, headers).await?;
        let shown = Redacted::of(&service.base);
        let is_git = response.header(CONTENT_TYPE.as_str()) == Some(ADVERTISEMENT);
        if !response.status().is_success() {
            return Err(failure(response).await.into());
        }
        let kind = response.header(CONTENT_TYPE.as_str()).unwrap_or("no type");
        if !is_git {
            let why = format!("its answer is of type {}", ocib_net::printable(kind.as_bytes(), 100));
            return Err(Failure::from(GitProblem::NotGit { why }).at(&shown));
        }
        service.follow(response.url());
        let start = beginning(response).await?;
        service.says_format = capabilities(&start).map_err(|failure| failure.at(&shown))?;
        Ok(service)
    }

    /// Goes where the first request was redirected to, as git does; credentials stay where they were.
    fn follow(&mut self, answered: &Url) {
        let Some(path) = answered.path().strip_suffix("/info/refs") else { return };
        let mut base = answered.clone();
        base.set_path(path);
        base.set_query(None);
        base.set_fragment(None);
        if base.origin() != self.base.origin() {
            self.authorization = None;
        }
        self.base = base;
    }

    /// The branches and tags that begin with one of `prefixes`, and perhaps others.
    pub(super) async fn refs(&self, prefixes: &[String]) -> Result<Vec<Advertised>, Error> {
        let mut request = self.command("ls-refs");
        push_line(&mut request, "peel");
        push_line(&mut request, "symrefs");
        prefixes.iter().for_each(|prefix| push_line(&mut request, &format!("ref-prefix {prefix}")));
        push_flush(&mut request);
        let answer = self.ask(request).await?.bytes(REFS_BYTES_MAX).await?;
        refs::parse(&answer).map_err(|failure| failure.at(&self.shown()))
    }

    /// The answer with a pack of `oid` and all that it needs, without history.
    pub(super) async fn fetch(&self, oid: Oid) -> Result<Response, Error> {
        let mut request = self.command("fetch");
        for line in ["no-progress", "ofs-delta", "deepen 1", &format!("want {oid}"), "done"] {
            push_line(&mut request, line);
        }
        push_flush(&mut request);
        self.ask(request).await
    }

    /// The beginning of a request.
    fn command(&self, name: &str) -> Vec<u8> {
        let mut request = Vec::new();
        push_line(&mut request, &format!("command={name}"));
        if self.says_format {
            push_line(&mut request, "object-format=sha1");
        }
        push_delimiter(&mut request);
        request
    }

    async fn ask(&self, request: Vec<u8>) -> Result<Response, Error> {
        let mut headers = self.headers();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(REQUEST));
        headers.insert(ACCEPT, HeaderValue::from_static(RESULT));
        let url = self.endpoint("git-upload-pack", None);
        let response = self.client.post(&url, headers, Bytes::from(request)).await?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(failure(response).await.into()),
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("git-protocol"), HeaderValue::from_static("version=2"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers
    }

    fn endpoint(&self, name: &str, query: Option<&str>) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{name}", self.base.path().trim_end_matches('/')));
        url.set_query(query);
        url
    }

    pub(super) fn shown(&self) -> Redacted {
        Redacted::of(&self.base)
    }
}

/// What fits of an answer.
async fn beginning(mut response: Response) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(piece) = response.piece().await? {
        all.extend_from_slice(&piece);
        if all.len() > CAPABILITIES_BYTES_MAX {
            break;
        }
    }
    Ok(all)
}

/// Reads what a server can do. Gives whether it wants to be told the hash.
fn capabilities(answer: &[u8]) -> Result<bool, Failure> {
    let no_git = |why: &str| Failure::from(GitProblem::NotGit { why: why.to_owned() });
    let mut packets = Packets::new(answer);
    let mut is_version_2 = false;
    let (mut says_format, mut has_refs, mut has_shallow) = (false, false, false);
    loop {
        let line = match packets.next()? {
            Some(Packet::Data(line)) => text(line),
            // The service's name may come before the version, in a message of its own.
            Some(Packet::Flush) if !is_version_2 => continue,
            Some(Packet::Flush) => break,
            Some(Packet::Delimiter) | None => return Err(no_git("it does not say what it can do")),
        };
        let (key, value) = match line.iter().position(|&b| b == b'=') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &b""[..]),
        };
        match key {
            b"version 2" => is_version_2 = true,
            b"# service" => {}
            _ if !is_version_2 => return Err(no_git("it speaks no version 2 of git's protocol")),
            b"object-format" if value == b"sha1" => says_format = true,
            b"object-format" => {
                return Err(GitProblem::ObjectFormat { format: ocib_net::printable(value, 40) }.into());
            }
            b"ls-refs" => has_refs = true,
            b"fetch" => has_shallow = value.split(|&b| b == b' ').any(|word| word == b"shallow"),
            _ => {}
        }
    }
    match has_refs && has_shallow {
        true => Ok(says_format),
        false => Err(no_git("it cannot list branches, or not give a commit without its history")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_can_do() {
        let no_git = |why| Err(format!("it does not answer as a git repository: {why}"));
        let rest = "ls-refs=unborn\nfetch=shallow wait-for-done filter\n";
        for (lines, expected) in [
            (format!("version 2\nagent=git/2.47\n{rest}object-format=sha1\n"), Ok(true)),
            (format!("# service=git-upload-pack\n(flush)\nversion 2\n{rest}"), Ok(false)),
            (
                format!("version 2\n{rest}object-format=sha256\n"),
                Err("its objects are named by sha256, expected sha1".to_owned()),
            ),
            (
                "version 2\nls-refs\nfetch\n".to_owned(),
                no_git("it cannot list branches, or not give a commit without its history"),
            ),
            (
                "# service=git-upload-pack\n(flush)\naaaa HEAD\0multi_ack\n".to_owned(),
                no_git("it speaks no version 2 of git's protocol"),
            ),
            ("version 1\n".to_owned(), no_git("it speaks no version 2 of git's protocol")),
        ] {
            let mut answer = Vec::new();
            for line in lines.lines() {
                match line {
                    "(flush)" => push_flush(&mut answer),
                    line => push_line(&mut answer, line),
                }
            }
            push_flush(&mut answer);
            let actual = capabilities(&answer).map_err(|failure| match failure {
                Failure::Problem(problem) => problem.to_string(),
                Failure::Io(error) => error.to_string(),
            });
            assert_eq!(actual, expected, "{lines}");
        }
        assert!(capabilities(b"").is_err());
        assert!(capabilities(b"000eversion 2\n").is_err());
    }
}
