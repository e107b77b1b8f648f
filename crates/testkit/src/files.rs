//! A server of files, as nginx or an artifact store is one: `HEAD`, ranges, entity tags, basic authentication.
//! Plain HTTP on loopback.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    http::{HttpServer, Incoming, Reply, locked},
    registry::{Request, Served},
};

/// A server of files, ended when dropped.
#[derive(Debug)]
pub struct FileServer {
    server: HttpServer,
    state: Arc<State>,
}

/// How a file is served.
#[derive(Clone, Debug)]
pub struct Manner {
    /// The entity tag with its quotes, if there is one.
    pub etag: Option<String>,
    /// The time of the last modification, if it is said.
    pub modified: Option<&'static str>,
    /// Whether `HEAD` is answered; of URLs that are signed for `GET` it is not.
    pub has_head: bool,
    /// Whether parts are given; else a range gets all.
    pub has_ranges: bool,
    /// What basic authentication must bring, `USER:PASSWORD` in base64.
    pub login: Option<&'static str>,
    /// The content type.
    pub kind: &'static str,
    /// Connections end after so many bytes of a body, so many times.
    pub cuts: (u64, usize),
    /// Where it is instead.
    pub moved: Option<String>,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            etag: None,
            modified: None,
            has_head: true,
            has_ranges: true,
            login: None,
            kind: "application/octet-stream",
            cuts: (0, 0),
            moved: None,
        }
    }
}

type File = (Arc<[u8]>, Manner);

#[derive(Debug, Default)]
struct State {
    files: Mutex<BTreeMap<String, File>>,
    sent: AtomicU64,
    requests: Mutex<Vec<Request>>,
    /// What came as `Authorization`.
    proofs: Mutex<Vec<String>>,
}

impl FileServer {
    /// A server without files.
    pub fn start() -> Self {
        let state = Arc::new(State::default());
        let answering = Arc::clone(&state);
        let server = HttpServer::start(move |request| {
            let reply = answering.answer(request);
            let _ = io::copy(request, &mut io::sink());
            let (method, path, query) = (request.method.clone(), request.path.clone(), request.query.clone());
            let bytes = if method == "HEAD" { 0 } else { reply.len() };
            answering.sent.fetch_add(bytes, Ordering::Relaxed);
            locked(&answering.requests).push(Request { method, path, query, status: reply.status, bytes });
            Some(reply)
        });
        Self { server, state }
    }

    /// Serves `content` at `path`, which begins with a slash, with a strong entity tag of it.
    pub fn put(&self, path: &str, content: &[u8]) {
        let etag = Some(format!("\"{}\"", &ocib_image::Digest::of(content).hex()[..16]));
        self.put_so(path, content, Manner { etag, ..Manner::default() });
    }

    /// The same in another manner.
    pub fn put_so(&self, path: &str, content: &[u8], manner: Manner) {
        locked(&self.state.files).insert(path.to_owned(), (content.into(), manner));
    }

    /// `http://127.0.0.1:PORT` with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.host())
    }

    /// What was asked, in order.
    pub fn requests(&self) -> Served {
        Served(locked(&self.state.requests).clone())
    }

    /// Each `Authorization` that came.
    pub fn proofs(&self) -> Vec<String> {
        locked(&self.state.proofs).clone()
    }

    /// Bytes of the bodies that were given so far, taken or not.
    pub fn body_bytes(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }
}

impl State {
    fn answer(&self, request: &Incoming<'_>) -> Reply {
        locked(&self.proofs).extend(request.header("authorization").map(str::to_owned));
        let mut files = locked(&self.files);
        let Some((content, manner)) = files.get_mut(&request.path) else {
            return Reply::text(404, "text/html", "<html>Not Found</html>");
        };
        if let Some(login) = manner.login
            && request.header("authorization") != Some(&format!("Basic {login}"))
        {
            return Reply::new(401).with("www-authenticate", "Basic realm=\"files\"");
        }
        if let Some(target) = &manner.moved {
            return Reply::new(302).with("location", target.clone());
        }
        if request.method == "HEAD" && !manner.has_head {
            return Reply::text(403, "application/xml", "<Error><Code>SignatureDoesNotMatch</Code></Error>");
        }
        let size = content.len();
        let range = request.header("range").filter(|_| manner.has_ranges);
        let part =
            range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')).map(|(from, last)| {
                let from: usize = from.parse().expect("a range that begins with a number");
                from..last.parse::<usize>().map_or(size, |last| size.min(last + 1))
            });
        let mut reply =
            Reply::bytes(if part.is_some() { 206 } else { 200 }, manner.kind, Arc::clone(content));
        if let Some(part) = part {
            if part.start >= part.end {
                return Reply::new(416).with("content-range", format!("bytes */{size}"));
            }
            reply = reply
                .with("content-range", format!("bytes {}-{}/{size}", part.start, part.end - 1))
                .only(part);
        }
        if manner.has_ranges {
            reply = reply.with("accept-ranges", "bytes");
        }
        if let Some(etag) = &manner.etag {
            reply = reply.with("etag", etag.clone());
        }
        if let Some(modified) = manner.modified {
            reply = reply.with("last-modified", modified).with("date", "Sun, 06 Nov 2016 08:49:37 GMT");
        }
        if request.method == "GET" && manner.cuts.1 > 0 && reply.len() > manner.cuts.0 {
            manner.cuts.1 -= 1;
            reply = reply.cut(Some(manner.cuts.0));
        }
        reply
    }
}
