//! A file on a server, and how to tell whether it is still the same.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures_core::future::BoxFuture;
use humantime::parse_rfc3339;
use ocib_image::Timestamp;
use ocib_net::{
    Method, Redacted, Response, StatusCode, Url,
    header::{
        ACCEPT_RANGES, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderValue,
        IF_RANGE, LAST_MODIFIED, RANGE,
    },
};

use super::target::Target;
use crate::{
    Error,
    client::Client,
    transfer::{Answer, Part, Stored, changed, whole_length},
};

/// A file that was found on a server.
pub(super) struct Remote {
    client: Arc<Client>,
    url: Url,
    authorization: Option<HeaderValue>,
    seen: Seen,
    /// Where the URL leads, as long as that answers: parts of a file need not be led there one by one.
    route: Mutex<Option<Url>>,
}

/// What an answer says of the stored bytes (RFC 9110, section 8).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Seen {
    /// When it was given.
    date: Option<Timestamp>,
    /// Whether parts can be asked for, as far as it says.
    has_parts: bool,
    /// Whether it is a page for browsers.
    is_page: bool,
    /// How many there are.
    length: Option<u64>,
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
    /// Whether they are the content compressed by gzip, which Go's client, and so BuildKit, undoes.
    is_gzip: bool,
}

impl Remote {
    /// Asks for `target`; the answer's body is the file from its start.
    pub(super) async fn find(client: Arc<Client>, target: &Target) -> Result<(Self, Response), Error> {
        let Target { url, authorization, .. } = target;
        let (url, authorization, seen) = (url.clone(), authorization.clone(), Seen::default());
        let mut remote = Self { client, url, authorization, seen, route: Mutex::default() };
        let Answer { response, .. } = remote.ask(Part { from: 0, until: None }).await?;
        remote.seen = Seen::of(&response);
        Ok((remote, response))
    }

    /// Looks at `target` without its bytes: by HEAD; where that fails, as of URLs that are signed for one
    /// method, or says no length, by its first byte. A length of nothing counts as none: it is what programs say
    /// to a HEAD that make what they send.
    pub(super) async fn look(client: Arc<Client>, target: &Target) -> Result<Self, Error> {
        let Target { url, authorization, .. } = target;
        let (url, authorization, seen) = (url.clone(), authorization.clone(), Seen::default());
        let mut remote = Self { client, url, authorization, seen, route: Mutex::default() };
        let headers = remote.headers(Part { from: 0, until: None });
        let response = remote.client.follow(Method::HEAD, &remote.url, headers).await?;
        remote.seen =
            match response.status().is_success() && whole_length(&response).is_some_and(|all| all > 0) {
                true => Seen::of(&response),
                false => remote.look_at_first_byte().await?,
            };
        Ok(remote)
    }

    async fn look_at_first_byte(&self) -> Result<Seen, Error> {
        let response = self.answered(Part { from: 0, until: Some(1) }).await?;
        if response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(Seen::of(&response));
        }
        // An empty file has none.
        Ok(Seen::of(&self.ask(Part { from: 0, until: None }).await?.response))
    }

    async fn ask(&self, part: Part) -> Result<Answer, Error> {
        part.answer(self, self.answered(part).await?)
    }

    /// An answer with bytes of the file, or that there are none in the range.
    async fn answered(&self, part: Part) -> Result<Response, Error> {
        let response = self.get(self.headers(part)).await?;
        if !response.status().is_success() && response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
            let is_about_the_file = matches!(response.status().as_u16(), 401 | 403 | 404 | 410);
            let failed = failure(response).await;
            return Err(if is_about_the_file { Error::NoFile(failed) } else { failed.into() });
        }
        if response.status().is_success()
            && let Some(what) = self.seen.difference(&Seen::of(&response))
        {
            return Err(changed(self, what));
        }
        Ok(response)
    }

    async fn get(&self, headers: HeaderMap) -> Result<Response, Error> {
        let route = self.route.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_answer =
            |status: StatusCode| status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE;
        if let Some(url) = route {
            let mut headers = headers.clone();
            if url.origin() != self.url.origin() {
                headers.remove(AUTHORIZATION);
            }
            // What was signed for a while ends, and others may have taken over: then it is asked for again.
            match self.client.once(Method::GET, &url, headers).await {
                Ok(response) if is_answer(response.status()) => return Ok(response),
                _ => self.keep_route(None),
            }
        }
        let response = self.client.get(&self.url, headers).await?;
        if is_answer(response.status()) && *response.url() != self.url {
            self.keep_route(Some(response.url().clone()));
        }
        Ok(response)
    }

    fn keep_route(&self, url: Option<Url>) {
        *self.route.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    fn headers(&self, part: Part) -> HeaderMap {
        let mut headers = part.headers();
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(validator) = self.seen.validator().filter(|_| headers.contains_key(RANGE)) {
            headers.insert(IF_RANGE, validator.clone());
        }
        headers
    }

    /// The size of the content, if the server said so and stores it as it is.
    pub(super) fn plain_length(&self) -> Option<u64> {
        self.seen.length.filter(|_| !self.seen.is_gzip)
    }

    /// What is there if it is no file as it is stored: a page that says so, or a compressed one.
    pub(super) fn is_no_file(&self) -> Option<&'static str> {
        let is_page = self.seen.is_page && !self.url.path().ends_with(".html");
        match (is_page, self.seen.is_gzip) {
            (true, _) => Some(Error::PAGE),
            (_, true) => Some("its server compresses it although it was asked not to, expected it as it is"),
            _ => None,
        }
    }

    /// A name that only this content has: the URL with a validator that is strong (RFC 9110, section 8.8), if
    /// the server gives one.
    pub(super) fn identity(&self) -> Option<Box<[u8]>> {
        let Seen { length, etag, last_modified, date, .. } = &self.seen;
        let strong = etag.as_ref().filter(|tag| !tag.as_bytes().starts_with(b"W/"));
        let modified = || {
            let header = last_modified.as_ref()?;
            let then = http_date(header.to_str().ok()?)?;
            let is_strong = date.is_some_and(|now| now.seconds >= then.seconds + CLOCK_SECONDS);
            is_strong.then_some(header)
        };
        let validator = strong.or_else(modified)?.to_str().ok()?;
        Some(format!("{} {validator} {}", unsigned(&self.url), (*length)?).into_bytes().into())
    }

    /// Whether the stored bytes are gzip around the content.
    pub(super) fn is_gzip(&self) -> bool {
        self.seen.is_gzip
    }

    /// When the content changed last, as far as the server says, else 1970.
    pub(super) fn modified(&self) -> Timestamp {
        let header = self.seen.last_modified.as_ref().and_then(|value| value.to_str().ok());
        header.and_then(http_date).unwrap_or_default()
    }
}

impl Stored for Remote {
    fn get(&self, part: Part) -> BoxFuture<'_, Result<Answer, Error>> {
        Box::pin(self.ask(part))
    }

    fn length(&self) -> Option<u64> {
        self.seen.length
    }

    fn has_parts(&self) -> bool {
        self.seen.has_parts
    }

    fn shown(&self) -> Redacted {
        Redacted::of(&self.url)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({})", self.shown())
    }
}

impl Seen {
    fn of(response: &Response) -> Self {
        let header = |name: &str| response.headers().get(name).cloned();
        let length = whole_length(response);
        let is = |name: &str, what: &str| response.header(name).is_some_and(|value| value.starts_with(what));
        Self {
            date: response.header(DATE.as_str()).and_then(http_date),
            has_parts: response.status() == StatusCode::PARTIAL_CONTENT
                || is(ACCEPT_RANGES.as_str(), "bytes"),
            is_page: is(CONTENT_TYPE.as_str(), "text/html"),
            length,
            etag: header(ETAG.as_str()),
            last_modified: header(LAST_MODIFIED.as_str()),
            is_gzip: response
                .header(CONTENT_ENCODING.as_str())
                .is_some_and(|coding| coding.eq_ignore_ascii_case("gzip")),
        }
    }

    /// What tells the server which version is meant (RFC 9110, section 13.1.5): no weak tag may.
    fn validator(&self) -> Option<&HeaderValue> {
        let strong = self.etag.as_ref().filter(|tag| !tag.as_bytes().starts_with(b"W/"));
        strong.or(self.last_modified.as_ref())
    }

    /// How `now` differs from what was seen first. What either does not say is no difference.
    fn difference(&self, now: &Self) -> Option<String> {
        if let (Some(then), Some(now)) = (self.length, now.length)
            && then != now
        {
            return Some(format!("it had {then} bytes, now it has {now}"));
        }
        // Servers that compress on the way make a strong tag a weak one, which means the same here.
        if let (Some(then), Some(now)) = (&self.etag, &now.etag) {
            let is_same = opaque(then) == opaque(now);
            return (!is_same).then(|| "it has another entity tag now".to_owned());
        }
        match (&self.last_modified, &now.last_modified) {
            (Some(then), Some(now)) if then != now => Some("it was modified".to_owned()),
            _ => None,
        }
    }
}

/// A file that was modified so long before it was seen was not modified again in the same second (RFC 9110,
/// section 8.8.2.2, and room for clocks).
const CLOCK_SECONDS: i64 = 60;

/// Parameters that say who may read until when, by how they begin: they differ each time that a URL is signed.
const SIGNATURES: [&str; 7] =
    ["X-Amz-", "X-Goog-", "Expires", "Signature", "Key-Pair-Id", "AWSAccessKeyId", "GoogleAccessId"];

/// `url` without what it was signed by.
fn unsigned(url: &Url) -> String {
    let is_signature = |name: &str| SIGNATURES.iter().any(|start| name.starts_with(start));
    let mut plain = url.clone();
    plain.set_query(None);
    let left = url.query_pairs().filter(|(name, _)| !is_signature(name));
    let left: Vec<String> = left.map(|(name, value)| format!("{name}={value}")).collect();
    match left.is_empty() {
        true => plain.to_string(),
        false => format!("{plain}?{}", left.join("&")),
    }
}

/// An answer that means failure. What servers say of it is worth showing unless it is a page for browsers.
pub(crate) async fn failure(response: Response) -> ocib_net::Error {
    let is_page = response.header(CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("text/html"));
    let mut error = response.into_error().await;
    if let ocib_net::Error::Status { said, .. } = &mut error
        && is_page
    {
        said.clear();
    }
    error
}

fn opaque(tag: &HeaderValue) -> &[u8] {
    tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes())
}

/// The date that servers send (RFC 9110, section 5.6.7), e.g. `Sun, 06 Nov 1994 08:49:37 GMT`; the
/// forms of before 1997, which nobody may send, are no dates here.
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let mut word = || words.next();
    let (day, month, year, time, zone) = (word()?, word()?, word()?, word()?, word()?);
    let month = MONTHS.iter().position(|&name| name == month)? + 1;
    let date = parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok().filter(|_| zone == "GMT")?;
    let seconds = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(seconds).ok().map(Timestamp::from_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 nov 1994 08:49:37 GMT", None),
            ("Sun, 31 Feb 1994 08:49:37 GMT", None),
            ("0", None),
            ("", None),
        ] {
            assert_eq!(http_date(text), expected.map(Timestamp::from_seconds), "{text}");
        }
    }

    fn seen(length: Option<u64>, etag: &'static str, modified: &'static str) -> Seen {
        let header = |value| Some(HeaderValue::from_static(value)).filter(|value| !value.is_empty());
        Seen { length, etag: header(etag), last_modified: header(modified), ..Seen::default() }
    }

    #[test]
    fn what_tells_a_changed_file() {
        let tag = "it has another entity tag now";
        for (then, now, expected) in [
            (seen(Some(1), "\"a\"", "x"), seen(Some(1), "\"a\"", "x"), None),
            (seen(Some(1), "\"a\"", "x"), seen(Some(1), "W/\"a\"", "y"), None),
            (seen(Some(1), "\"a\"", "x"), seen(None, "", ""), None),
            (seen(Some(1), "\"a\"", "x"), seen(Some(2), "\"a\"", "x"), Some("it had 1 bytes, now it has 2")),
            (seen(Some(1), "\"a\"", "x"), seen(Some(1), "\"b\"", "x"), Some(tag)),
            (seen(Some(1), "\"a\"", "x"), seen(Some(1), "", "y"), Some("it was modified")),
            (seen(None, "", "x"), seen(Some(1), "\"b\"", "y"), Some("it was modified")),
        ] {
            assert_eq!(then.difference(&now).as_deref(), expected, "{then:?} {now:?}");
        }
    }

    #[test]
    fn signatures_are_no_part_of_a_name() {
        for (url, expected) in [
            ("https://h/f", "https://h/f"),
            ("https://h/f?v=2", "https://h/f?v=2"),
            ("https://h/f?X-Amz-Signature=1&v=2&X-Amz-Date=3", "https://h/f?v=2"),
            ("https://h/f?Expires=1&Signature=2&Key-Pair-Id=3", "https://h/f"),
        ] {
            assert_eq!(unsigned(&url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn validators_of_ranges_are_strong() {
        for (etag, modified, expected) in [
            ("\"a\"", "x", Some("\"a\"")),
            ("W/\"a\"", "x", Some("x")),
            ("W/\"a\"", "", None),
            ("", "x", Some("x")),
        ] {
            let seen = seen(None, etag, modified);
            let actual = seen.validator().map(|value| value.to_str().unwrap());
            assert_eq!(actual, expected, "{etag} {modified}");
        }
    }
}
