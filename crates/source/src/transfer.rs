//! The stored bytes of a file on a server, over as many connections as it takes.

mod ahead;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::{Stream, stream};
use ocib_net::{
    Backoff, Failures, Method, Redacted, Response, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE},
};

pub use self::ahead::ReadAhead;
pub(crate) use self::ahead::{Ahead, read};
use crate::Error;

/// A file that a server keeps, and can be asked for parts of.
pub(crate) trait Stored: Send + Sync + fmt::Debug + 'static {
    /// The stored bytes of `part`. The answer may go on after its end.
    fn get(&self, part: Part) -> BoxFuture<'_, Result<Answer, Error>>;

    /// How many bytes are stored, if that is known.
    fn length(&self) -> Option<u64>;

    /// Whether parts of it can be had: a server that gives all for each part makes parts dear.
    fn has_parts(&self) -> bool {
        true
    }

    /// Where they are, as a message names it.
    fn shown(&self) -> Redacted;
}

/// Which bytes are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) from: u64,
    /// The first byte that is not wanted; nothing for all up to the end.
    pub(crate) until: Option<u64>,
}

/// An answer with stored bytes.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// Bytes before those that were asked for, where the server ignored the range.
    pub(crate) skip: u64,
    /// Whether it did.
    pub(crate) is_whole: bool,
}

impl Part {
    /// What asks for it: the bytes as they are stored.
    pub(crate) fn headers(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let range = match (self.from, self.until) {
            (0, None) => return headers,
            (from, None) => format!("bytes={from}-"),
            (from, Some(until)) => format!("bytes={from}-{}", until.saturating_sub(1)),
        };
        headers.insert(RANGE, HeaderValue::from_str(&range).expect("digits are visible ASCII"));
        headers
    }

    fn is_range(self) -> bool {
        self.from > 0 || self.until.is_some()
    }

    /// The answer that `response` is to this part of `stored`, unless its status means failure.
    pub(crate) fn answer(self, stored: &dyn Stored, response: Response) -> Result<Answer, Error> {
        let skip = match response.status() {
            StatusCode::PARTIAL_CONTENT if self.is_range() => 0,
            StatusCode::PARTIAL_CONTENT => return Err(confused(stored)),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(changed(stored, format!("it has no byte {} any more", self.from)));
            }
            _ => self.from,
        };
        if response.status() == StatusCode::PARTIAL_CONTENT && !starts_at(&response, self.from) {
            return Err(confused(stored));
        }
        match (stored.length(), whole_length(&response)) {
            (Some(then), Some(now)) if then != now => {
                Err(changed(stored, format!("it had {then} bytes, now it has {now}")))
            }
            _ => {
                let is_whole = self.is_range() && response.status() != StatusCode::PARTIAL_CONTENT;
                Ok(Answer { response, skip, is_whole })
            }
        }
    }
}

/// How many bytes the whole has whose answer, or a part of it, `response` is.
pub(crate) fn whole_length(response: &Response) -> Option<u64> {
    let number = |text: &str| text.trim().parse().ok();
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = response.header(CONTENT_RANGE.as_str());
            range.and_then(|range| range.rsplit_once('/')).and_then(|(_, total)| number(total))
        }
        _ => response.header(CONTENT_LENGTH.as_str()).and_then(number),
    }
}

fn starts_at(response: &Response, from: u64) -> bool {
    let range = response.header(CONTENT_RANGE.as_str());
    range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

pub(crate) fn changed(stored: &dyn Stored, what: String) -> Error {
    Error::Changed { name: stored.shown().to_string(), what }
}

/// The connection gave another part of the file than was asked for.
fn confused(stored: &dyn Stored) -> Error {
    broken(stored, "it answered with another range than was asked for".to_owned())
}

/// The connection ended where it should not have.
fn broken(stored: &dyn Stored, why: String) -> Error {
    ocib_net::Error::Connection { method: Method::GET, url: stored.shown(), why }.into()
}

/// A transfer. A connection that breaks is made again and goes on where it was.
pub(crate) struct Download {
    stored: Arc<dyn Stored>,
    /// Where the next byte is, and the end.
    part: Part,
    response: Option<Response>,
    /// Bytes to pass over, where the server ignored a range.
    skip: u64,
    /// Since the last byte.
    failures: Failures,
    /// Set where the server gives all instead of a part.
    ignores_ranges: Arc<AtomicBool>,
}

impl Download {
    /// The bytes of `part`.
    pub(crate) fn new(stored: Arc<dyn Stored>, backoff: Backoff, part: Part) -> Self {
        let ignores_ranges = Arc::default();
        Self { stored, part, response: None, skip: 0, failures: Failures::new(backoff), ignores_ranges }
    }

    /// Says by `ignores_ranges` whether the server gives all instead of a part.
    fn telling(self, ignores_ranges: Arc<AtomicBool>) -> Self {
        Self { ignores_ranges, ..self }
    }

    /// Begins with `response`, which must start at the same byte.
    pub(crate) fn with(self, response: Response) -> Self {
        Self { response: Some(response), ..self }
    }

    pub(crate) fn stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        stream::try_unfold(self, async |mut download| {
            let piece = download.next().await?;
            Ok(piece.map(|piece| (piece, download)))
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.piece().await {
                Ok(piece) => {
                    self.failures.forget();
                    return Ok(piece);
                }
                Err(error) => {
                    self.response = None;
                    self.failures.wait(error).await?;
                }
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        if self.part.until == Some(self.part.from) {
            return Ok(None);
        }
        let length = self.stored.length();
        let mut response = match self.response.take() {
            Some(response) => response,
            None if length == Some(self.part.from) => return Ok(None),
            None => self.open().await?,
        };
        loop {
            let Some(mut piece) = response.piece().await? else { return self.end(length) };
            let skipped = piece.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            let mut piece = piece.split_off(skipped);
            if let Some(until) = self.part.until {
                let left = usize::try_from(until - self.part.from).unwrap_or(usize::MAX);
                piece.truncate(left);
            }
            if piece.is_empty() {
                continue;
            }
            let end = self.part.from + piece.len() as u64;
            if let Some(length) = length.filter(|&length| end > length) {
                return Err(changed(&*self.stored, format!("it is longer than the {length} bytes it had")));
            }
            self.part.from = end;
            self.response = Some(response);
            return Ok(Some(piece));
        }
    }

    /// What the end of an answer means.
    fn end(&self, length: Option<u64>) -> Result<Option<Bytes>, Error> {
        let at = self.part.from;
        match self.part.until.or(length) {
            Some(end) if at < end => {
                let length = length.unwrap_or(end);
                Err(broken(&*self.stored, format!("it ended after {at} of {length} bytes")))
            }
            None if self.skip > 0 => Err(changed(&*self.stored, format!("it has no byte {at} any more"))),
            _ => Ok(None),
        }
    }

    async fn open(&mut self) -> Result<Response, Error> {
        let Answer { response, skip, is_whole } = self.stored.get(self.part).await?;
        self.skip = skip;
        if is_whole {
            self.ignores_ranges.store(true, Ordering::Relaxed);
        }
        Ok(response)
    }
}
