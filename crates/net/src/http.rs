//! The client: which connection a URL may use, and how far redirects are followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::{Either, select};
use reqwest::{
    Certificate, Client, ClientBuilder, Method, RequestBuilder, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, LOCATION},
};

use crate::{
    Body, Error, HostTrust, Proxies, Proxy, Redacted, Response,
    body::{Patience, Pulse, Watched},
    proxy::address_of,
    trust::unusable,
};

/// How to speak HTTP.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// PEM bundles of certificates that are trusted besides the system's.
    pub extra_certificates: Vec<Vec<u8>>,
    /// Hosts, as `host` or `host:port`, that may be spoken to over plain http or over https whose
    /// certificate is not verified.
    pub insecure_hosts: BTreeSet<String>,
    /// What holds for one host alone, by `host:port`, or `host` for its scheme's own port.
    pub hosts: BTreeMap<String, HostTrust>,
    /// Which hosts are asked through proxies: none by default, since a library does not look into the
    /// environment. Loopback never is.
    pub proxies: Proxies,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a server may neither take nor give a byte of a body.
    pub idle_timeout: Duration,
    /// How long a server may think between the end of a request and the beginning of its answer;
    /// registries move or hash whole layers in that time.
    pub answer_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            extra_certificates: Vec::new(),
            insecure_hosts: BTreeSet::new(),
            hosts: BTreeMap::new(),
            proxies: Proxies::default(),
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(300),
        }
    }
}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Where it goes.
    pub url: Url,
    /// Its headers, but for `Content-Length`, which the body gives.
    pub headers: HeaderMap,
    /// What it carries.
    pub body: Body,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: Body::Empty }
    }

    /// The same request for another attempt, unless its body can be sent only once.
    pub fn again(&self) -> Option<Self> {
        let body = self.body.again()?;
        Some(Self { method: self.method.clone(), url: self.url.clone(), headers: self.headers.clone(), body })
    }
}

/// Sends requests over pooled HTTP/1.1 connections; each large body has one to itself. Clients
/// are made when a URL first needs them, so a machine without certificates can use plain http.
///
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's certificates.
///
/// ```
/// use ocib_net::{Http, HttpOptions};
/// let http = Http::new(HttpOptions::default());
/// assert!(http.may_be_plain(&"http://127.0.0.1:5000/v2/".parse()?));
/// assert!(!http.may_be_plain(&"http://registry.example/v2/".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Http {
    options: HttpOptions,
    clients: Mutex<BTreeMap<Route, Client>>,
}

/// What kind of connection a URL gets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Route {
    trust: Trust,
    /// The entry of [`HttpOptions::hosts`] that holds for it.
    host: Option<String>,
    proxy: Option<Proxy>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Trust {
    Plain,
    Verified,
    Unverified,
}

/// As many as browsers and Go's client follow.
const REDIRECTS_MAX: usize = 10;
/// Load balancers forget connections that are silent for a minute or more.
const KEEPALIVE: Duration = Duration::from_secs(30);

impl Http {
    /// A client that made no connection yet.
    pub fn new(options: HttpOptions) -> Self {
        Self { options, clients: Mutex::default() }
    }

    /// How it speaks, for another that differs in little.
    pub fn options(&self) -> &HttpOptions {
        &self.options
    }

    /// Whether `url`'s host was named insecure.
    pub fn is_insecure(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let named = |name: &str| self.options.insecure_hosts.contains(name);
        named(host) || url.port_or_known_default().is_some_and(|port| named(&format!("{host}:{port}")))
    }

    /// Whether `url`'s host may be spoken to over plain http: loopback, or named insecure.
    pub fn may_be_plain(&self, url: &Url) -> bool {
        is_loopback(url) || self.is_insecure(url)
    }

    /// Sends `request` and returns the answer, whatever its status. Redirects of requests whose
    /// body can be sent again are followed: at most ten, never from https to http, and without
    /// `Authorization` once another origin is reached. Other redirects are returned.
    ///
    /// Dropping the future breaks the request off.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let Request { method, mut url, mut headers, mut body } = request;
        for _ in 0..=REDIRECTS_MAX {
            let again = body.again();
            let response = self.exchange(&method, &url, headers.clone(), body).await?;
            let Some(repeated) = again.filter(|_| is_followed(&method, response.status())) else {
                return Ok(response);
            };
            let Some(location) = response.header(LOCATION.as_str()) else { return Ok(response) };
            let target = redirect_target(&method, &url, location)?;
            if target.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
            }
            (url, body) = (target, repeated);
        }
        let why = "it is one redirect too many";
        Err(Error::Redirect { method, url: Redacted::of(&url), target: "another place".to_owned(), why })
    }

    /// Sends `request` and returns the answer, whatever its status; redirects are not followed.
    ///
    /// Dropping the future breaks the request off.
    pub async fn send_once(&self, request: Request) -> Result<Response, Error> {
        let Request { method, url, headers, body } = request;
        self.exchange(&method, &url, headers, body).await
    }

    async fn exchange(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response, Error> {
        let route = self.route(url)?;
        let client = self.client(&route)?;
        let pulse = Pulse::new();
        let request = client.request(method.clone(), url.clone()).headers(headers);
        let sent = pin!(with_body(request, method, body, &pulse).send());
        let HttpOptions { idle_timeout: idle, answer_timeout: answer, .. } = self.options;
        match select(sent, pin!(pulse.stalled(Patience { idle, answer }))).await {
            Either::Left((Ok(response), _)) => Ok(Response::new(response, method.clone(), idle)),
            Either::Left((Err(error), _)) => {
                Err(Error::of_client(method, url, &error).through(route.proxy.as_ref()))
            }
            Either::Right((limit, _)) => {
                Err(Error::Stalled { method: method.clone(), url: Redacted::of(url), limit })
            }
        }
    }

    fn route(&self, url: &Url) -> Result<Route, Error> {
        let trust = match url.scheme() {
            "https" if self.is_insecure(url) => Trust::Unverified,
            "https" => Trust::Verified,
            "http" if self.may_be_plain(url) => Trust::Plain,
            "http" => {
                let why = "plain http is for loopback and for hosts named insecure, expected https";
                return Err(Error::Forbidden { url: Redacted::of(url), why });
            }
            _ => {
                let why = "its scheme is unknown, expected https";
                return Err(Error::Forbidden { url: Redacted::of(url), why });
            }
        };
        let host = self.own_trust(url).filter(|_| trust != Trust::Plain);
        let proxy = self.options.proxies.of(url).filter(|_| !is_loopback(url));
        // The proxy would be trusted as its target is, and be shown the certificate that is for the target.
        if proxy.is_some_and(Proxy::is_tls) && (trust != Trust::Verified || host.is_some()) {
            let why = "a host with a trust of its own cannot be asked through a proxy that is asked over https, \
                       expected an http proxy, or the host in NO_PROXY";
            return Err(Error::Forbidden { url: Redacted::of(url), why });
        }
        Ok(Route { trust, host: host.cloned(), proxy: proxy.cloned() })
    }

    /// The key of what holds for `url`'s host alone.
    fn own_trust(&self, url: &Url) -> Option<&String> {
        let host = url.host_str()?;
        let named = |name: &str| self.options.hosts.get_key_value(name).map(|(name, _)| name);
        let with_port = url.port_or_known_default().and_then(|port| named(&format!("{host}:{port}")));
        with_port.or_else(|| named(host).filter(|_| url.port().is_none()))
    }

    fn client(&self, route: &Route) -> Result<Client, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(route) {
            return Ok(client.clone());
        }
        let client = self.build(route)?;
        clients.insert(route.clone(), client.clone());
        Ok(client)
    }

    fn build(&self, route: &Route) -> Result<Client, Error> {
        let mut builder = Client::builder()
            .user_agent(concat!("ocib/", env!("CARGO_PKG_VERSION")))
            // Several layers at a time want several connections and their own flow control.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.options.connect_timeout)
            .tcp_keepalive(KEEPALIVE)
            // What the environment says was read by whoever made the options.
            .no_proxy();
        if let Some(proxy) = &route.proxy {
            builder =
                builder.proxy(reqwest::Proxy::all(proxy.url().as_str()).map_err(|error| unusable(&error))?);
        }
        self.secured(builder, route)?.build().map_err(|error| unusable(&error))
    }

    fn secured(&self, builder: ClientBuilder, route: &Route) -> Result<ClientBuilder, Error> {
        let own = route.host.as_ref().map(|host| &self.options.hosts[host]);
        let builder = match own.and_then(|own| own.identity.clone()) {
            Some(identity) => builder.identity(identity),
            None => builder,
        };
        Ok(match route.trust {
            // No certificates at all: this client never sees https, and the system may have none.
            Trust::Plain => builder.tls_certs_only([]),
            Trust::Unverified => builder.tls_certs_only([]).tls_danger_accept_invalid_certs(true),
            Trust::Verified => {
                let mut extra = own.map(|own| own.certificates.clone()).unwrap_or_default();
                for bundle in &self.options.extra_certificates {
                    extra.extend(Certificate::from_pem_bundle(bundle).map_err(|error| unusable(&error))?);
                }
                builder.tls_certs_merge(extra)
            }
        })
    }
}

fn with_body(request: RequestBuilder, method: &Method, body: Body, pulse: &Pulse) -> RequestBuilder {
    match body {
        // Registries behind some proxies answer 411 to a POST or PUT that does not say that it is empty.
        Body::Empty if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            request.header(CONTENT_LENGTH, 0)
        }
        Body::Empty => request,
        Body::Bytes(bytes) => request.body(bytes),
        Body::Stream { stream, length } => {
            let watched = Watched { stream, pulse: pulse.clone() };
            let request = request.body(reqwest::Body::wrap_stream(watched));
            match length {
                Some(length) => request.header(CONTENT_LENGTH, length),
                None => request,
            }
        }
    }
}

/// RFC 9110, section 15.4: a 301, 302 or 303 turns other methods into GET, which is never what a
/// registry's writer wants, so those are followed for reading only.
fn is_followed(method: &Method, status: StatusCode) -> bool {
    match status.as_u16() {
        307 | 308 => true,
        301..=303 => matches!(*method, Method::GET | Method::HEAD),
        _ => false,
    }
}

fn redirect_target(method: &Method, from: &Url, location: &str) -> Result<Url, Error> {
    let refused = |target: String, why| Error::Redirect {
        method: method.clone(),
        url: Redacted::of(from),
        target,
        why,
    };
    let mut target = from
        .join(location)
        .map_err(|_| refused(crate::printable(location.as_bytes(), 100), "it is no URL"))?;
    if from.scheme() == "https" && target.scheme() != "https" {
        return Err(refused(Redacted::of(&target).to_string(), "it leads from https to another scheme"));
    }
    // A server must not choose the credentials that another one gets.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    Ok(target)
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    host == "localhost" || address_of(host).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_for_hosts_named_insecure() {
        let options = HttpOptions {
            insecure_hosts: ["old.example:5000".to_owned(), "lab".to_owned()].into(),
            ..HttpOptions::default()
        };
        let http = Http::new(options);
        for (url, expected) in [
            ("http://localhost:5000/", Ok(Trust::Plain)),
            ("http://127.8.9.1/", Ok(Trust::Plain)),
            ("http://[::1]:5000/", Ok(Trust::Plain)),
            ("https://[::1]:5000/", Ok(Trust::Verified)),
            ("https://a.example/", Ok(Trust::Verified)),
            ("http://lab:81/", Ok(Trust::Plain)),
            ("https://lab/", Ok(Trust::Unverified)),
            ("https://old.example:5000/", Ok(Trust::Unverified)),
            ("https://old.example/", Ok(Trust::Verified)),
            (
                "http://localhost.evil.example/?token=x",
                Err(
                    "http://localhost.evil.example/?token=… is not asked: plain http is for loopback and for hosts \
                     named insecure, expected https",
                ),
            ),
            ("ftp://a/", Err("ftp://a/ is not asked: its scheme is unknown, expected https")),
        ] {
            let actual = http.route(&url.parse().unwrap()).map_err(|error| error.to_string());
            assert_eq!(actual.map(|route| route.trust), expected.map_err(str::to_owned), "{url}");
        }
    }

    /// Two hosts with a trust of their own, one that is insecure besides, and a proxy for all.
    fn trusting(proxy: &str) -> Http {
        let environment = |name: &str| match name {
            "ALL_PROXY" => Some(proxy.to_owned()),
            "NO_PROXY" => Some("direct.example".to_owned()),
            _ => None,
        };
        let hosts = ["a.example", "b.example:5000", "direct.example"];
        Http::new(HttpOptions {
            insecure_hosts: ["b.example:5000".to_owned()].into(),
            hosts: hosts.map(|host| (host.to_owned(), HostTrust::default())).into(),
            proxies: Proxies::from_environment(&environment).unwrap(),
            ..HttpOptions::default()
        })
    }

    #[test]
    fn a_hosts_own_trust_is_for_that_host_and_port() {
        let http = trusting("http://p");
        for (url, host) in [
            ("https://a.example/", Some("a.example")),
            ("https://a.example:443/", Some("a.example")),
            ("https://a.example:5000/", None),
            ("https://x.a.example/", None),
            ("https://b.example:5000/", Some("b.example:5000")),
            ("https://b.example/", None),
            ("http://b.example:5000/", None),
        ] {
            let route = http.route(&url.parse().unwrap()).unwrap();
            assert_eq!(route.host.as_deref(), host, "{url}");
        }
    }

    #[test]
    fn proxies_of_hosts() {
        let refused = "a host with a trust of its own cannot be asked through a proxy that is asked over https, \
                       expected an http proxy, or the host in NO_PROXY";
        for (proxy, url, expected) in [
            ("http://p", "https://c.example/", Ok(Some("http://p/"))),
            ("http://p", "https://a.example/", Ok(Some("http://p/"))),
            ("http://p", "http://b.example:5000/", Ok(Some("http://p/"))),
            ("http://p", "https://direct.example/", Ok(None)),
            ("http://p", "https://127.0.0.1:5000/", Ok(None)),
            ("http://p", "http://localhost/", Ok(None)),
            ("https://p", "https://c.example/", Ok(Some("https://p/"))),
            ("https://p", "https://direct.example/", Ok(None)),
            ("https://p", "https://a.example/", Err(())),
            ("https://p", "http://b.example:5000/", Err(())),
        ] {
            let route = trusting(proxy).route(&url.parse().unwrap()).map_err(|error| error.to_string());
            let actual = route.map(|route| route.proxy.map(|proxy| proxy.to_string()));
            let expected = expected.map(|proxy| proxy.map(str::to_owned));
            assert_eq!(
                actual,
                expected.map_err(|()| format!("{url} is not asked: {refused}")),
                "{proxy} {url}"
            );
        }
    }

    #[test]
    fn targets_of_redirects() {
        for (from, location, expected) in [
            ("https://a/x/y", "/z", Ok("https://a/z")),
            ("https://a/x/y", "https://u:p@b/z", Ok("https://b/z")),
            ("http://a/", "https://b/", Ok("https://b/")),
            (
                "https://a/x",
                "http://a/y?sig=1",
                Err(
                    "GET https://a/x redirects to http://a/y?sig=…, which is not followed: it leads from https to \
                     another scheme",
                ),
            ),
            (
                "https://a/x",
                "https://[/",
                Err("GET https://a/x redirects to https://[/, which is not followed: it is no URL"),
            ),
        ] {
            let actual = redirect_target(&Method::GET, &from.parse().unwrap(), location);
            let actual = actual.map(|url| url.to_string()).map_err(|error| error.to_string());
            assert_eq!(actual, expected.map(str::to_owned).map_err(str::to_owned), "{from} {location}");
        }
    }

    #[test]
    fn followed_statuses() {
        for (method, status, expected) in [
            (Method::GET, 302, true),
            (Method::HEAD, 303, true),
            (Method::PUT, 302, false),
            (Method::POST, 307, true),
            (Method::GET, 304, false),
            (Method::GET, 200, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_followed(&method, status), expected, "{method} {status}");
        }
    }
}
