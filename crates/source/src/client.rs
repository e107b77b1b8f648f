//! Asks for build inputs: which hosts may be asked, and where redirects may lead.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use ocib_net::{
    Body, Http, HttpOptions, Method, Redacted, Request, Response, Url,
    header::{AUTHORIZATION, HeaderMap, LOCATION},
};

use crate::Error;

/// As many as browsers and Go's client follow.
const REDIRECTS_MAX: usize = 10;
/// Behind a proxy this machine may have no working resolver; the proxy then is who resolves.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends requests for build inputs.
pub(crate) struct Client {
    options: HttpOptions,
    trusted: Http,
    plain_http: PlainHttp,
    /// Clients that may speak plain http to one host each. Registries and credentials never see them.
    plain: Mutex<BTreeMap<String, Arc<Http>>>,
}

/// Where plain http may be spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PlainHttp {
    /// Wherever a URL says so.
    AsWritten,
    /// With this machine and with hosts named insecure.
    Trusted,
}

impl Client {
    pub(crate) fn new(options: HttpOptions, plain_http: PlainHttp) -> Self {
        Self { trusted: Http::new(options.clone()), options, plain_http, plain: Mutex::default() }
    }

    /// The answer of `url` or of where it redirects to, whatever its status. `Authorization` goes to
    /// the origin of `url` only.
    pub(crate) async fn get(&self, url: &Url, headers: HeaderMap) -> Result<Response, Error> {
        self.follow(Method::GET, url, headers).await
    }

    /// The same for any method without a body.
    pub(crate) async fn follow(
        &self,
        method: Method,
        url: &Url,
        mut headers: HeaderMap,
    ) -> Result<Response, Error> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.once(method.clone(), &url, headers.clone()).await?;
            let Some(target) = redirect(&url, &response)? else { return Ok(response) };
            if target.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
            }
            url = target;
        }
        Err(refused(&url, "another place".to_owned(), "it is one redirect too many"))
    }

    /// The answer of `url`, whatever its status. Redirects are answers too.
    pub(crate) async fn once(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<Response, Error> {
        self.send(method, url, headers, Bytes::new()).await
    }

    /// The answer of `url` to a POST, whatever its status. Redirects are answers too.
    pub(crate) async fn post(&self, url: &Url, headers: HeaderMap, body: Bytes) -> Result<Response, Error> {
        self.send(Method::POST, url, headers, body).await
    }

    /// The answer of `url` to a request with this body, whatever its status. Redirects are answers too.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, Error> {
        refuse_link_local(url).await?;
        // A body that cannot be sent twice, if only an empty one: redirects then come back here,
        // so that each of their hosts is looked at before it is asked.
        let length = Some(body.len() as u64);
        let body = Body::Stream { stream: Box::pin(stream::iter([Ok(body)])), length };
        let request = Request { method, url: url.clone(), headers, body };
        Ok(match (url.scheme(), self.plain_http) {
            ("http", PlainHttp::AsWritten) => self.plain(url).send(request).await?,
            _ => self.trusted.send(request).await?,
        })
    }

    fn plain(&self, url: &Url) -> Arc<Http> {
        let host = url.host_str().unwrap_or_default();
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        let client = plain.entry(host.to_owned()).or_insert_with(|| {
            let insecure_hosts = [host.to_owned()].into();
            Arc::new(Http::new(HttpOptions { insecure_hosts, ..self.options.clone() }))
        });
        Arc::clone(client)
    }
}

/// Where the answer of `from` leads, if it leads anywhere.
pub(crate) fn redirect(from: &Url, response: &Response) -> Result<Option<Url>, Error> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.header(LOCATION.as_str()).filter(|_| is_redirect);
    location.map(|location| redirect_target(from, location)).transpose()
}

fn redirect_target(from: &Url, location: &str) -> Result<Url, Error> {
    let Ok(mut target) = from.join(location) else {
        return Err(refused(from, ocib_net::printable(location.as_bytes(), 100), "it is no URL"));
    };
    let why = match (from.scheme(), target.scheme()) {
        (_, "https") | ("http", "http") => None,
        ("https", _) => Some("it leads from https to another scheme"),
        _ => Some("its scheme is neither http nor https"),
    };
    if let Some(why) = why {
        return Err(refused(from, Redacted::of(&target).to_string(), why));
    }
    // A server must not choose the credentials that another one gets.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    target.set_fragment(None);
    Ok(target)
}

fn refused(from: &Url, target: String, why: &'static str) -> Error {
    ocib_net::Error::Redirect { method: Method::GET, url: Redacted::of(from), target, why }.into()
}

/// Fails if `url`'s host is a link-local address, or a name of one.
async fn refuse_link_local(url: &Url) -> Result<(), Error> {
    let addresses = match literal_address(url) {
        Some(address) => vec![address],
        None => resolve(url).await,
    };
    match addresses.into_iter().find(|address| is_link_local(*address)) {
        Some(address) => Err(Error::LinkLocal { url: Redacted::of(url), address }),
        None => Ok(()),
    }
}

/// The addresses of `url`'s host; none if they cannot be had, which whoever connects will tell.
async fn resolve(url: &Url) -> Vec<IpAddr> {
    let Some(host) = url.host_str() else { return Vec::new() };
    let port = url.port_or_known_default().unwrap_or_default();
    let lookup = tokio::net::lookup_host((host, port));
    match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
        Ok(Ok(found)) => found.map(|socket| socket.ip()).collect(),
        _ => Vec::new(),
    }
}

fn literal_address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || literal_address(url).is_some_and(|address| address.is_loopback())
}

/// RFC 3927 and RFC 4291, section 2.5.6, and the former within the latter's mapped (section 2.5.5.2)
/// and translated (RFC 6052, section 2.1) addresses.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            let translated = || match address.segments() {
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                    Some(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low).to_ipv4_mapped())?
                }
                _ => None,
            };
            let inner = address.to_ipv4_mapped().or_else(translated);
            // AWS's own services for machines, which answer by IPv6 too (EC2, "Instance metadata"): fd00:ec2::254.
            let is_of_ec2 = address.segments()[..2] == [0xfd00, 0xec2];
            address.is_unicast_link_local() || is_of_ec2 || inner.is_some_and(|inner| inner.is_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn link_local_addresses_are_refused_however_they_are_written() {
        for (url, expected) in [
            ("http://169.254.169.254/latest/meta-data", Some("169.254.169.254")),
            ("https://169.254.0.1/", Some("169.254.0.1")),
            ("http://2852039166/", Some("169.254.169.254")),
            ("http://0xa9.0xfe.0xa9.0xfe/", Some("169.254.169.254")),
            ("http://[fe80::1]/", Some("fe80::1")),
            ("http://[febf::1]:8080/", Some("febf::1")),
            ("http://[::ffff:169.254.169.254]/", Some("::ffff:169.254.169.254")),
            ("http://[64:ff9b::a9fe:a9fe]/", Some("64:ff9b::a9fe:a9fe")),
            ("http://[fd00:ec2::254]/latest/meta-data", Some("fd00:ec2::254")),
            ("http://169.253.1.1/", None),
            ("http://127.0.0.1/", None),
            ("http://[fec0::1]/", None),
            ("http://localhost/", None),
        ] {
            let url: Url = url.parse().unwrap();
            let refused = refuse_link_local(&url).await.map_err(|error| error.to_string());
            let expected = match expected {
                Some(address) => {
                    Err(format!("{url} is not fetched: its host is the link-local address {address}"))
                }
                None => Ok(()),
            };
            assert_eq!(refused, expected, "{url}");
        }
    }

    #[test]
    fn redirects_never_leave_https() {
        for (from, location, expected) in [
            ("https://a/x", "/y", Ok("https://a/y")),
            ("http://a/x", "y?q", Ok("http://a/y?q")),
            ("http://a/x", "https://me:pw@b/y#z", Ok("https://b/y")),
            ("https://a/x", "http://a/y", Err(("http://a/y", "it leads from https to another scheme"))),
            (
                "http://a/x",
                "file:///etc/passwd",
                Err(("file:///etc/passwd", "its scheme is neither http nor https")),
            ),
            ("https://a/x", "https://[", Err(("https://[", "it is no URL"))),
        ] {
            let target = redirect_target(&from.parse().unwrap(), location);
            let expected = expected.map(str::to_owned).map_err(|(target, why)| {
                format!("GET {from} redirects to {target}, which is not followed: {why}")
            });
            assert_eq!(target.map(String::from).map_err(|error| error.to_string()), expected, "{location}");
        }
    }
}
