//! Proxies: which URLs are asked through one, by the variables that curl, Go and others share.

use std::{fmt, net::IpAddr};

use reqwest::Url;

use crate::{Error, Redacted};

/// Which URLs are asked through which proxy. The default: none through any.
///
/// ```
/// use ocib_net::Proxies;
/// // A program passes `&|name| std::env::var(name).ok()`.
/// let proxies = Proxies::from_environment(&|name| match name {
///     "HTTPS_PROXY" => Some("http://me:secret@proxy.example:3128".to_owned()),
///     "NO_PROXY" => Some(".corp.example, 10.0.0.0/8".to_owned()),
///     _ => None,
/// })?;
/// assert_eq!(format!("{:?}", proxies.of(&"https://ghcr.io/v2/".parse()?)), "Some(http://proxy.example:3128/)");
/// assert!(proxies.of(&"https://registry.corp.example/v2/".parse()?).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Vec<Exception>,
}

/// One proxy. Its user and password are sent to it and shown nowhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proxy(Url);

/// An entry of `NO_PROXY`; a port narrows it to that port.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Exception {
    All,
    Address { address: IpAddr, port: Option<u16> },
    Network { address: IpAddr, bits: u32 },
    Domain { name: String, port: Option<u16> },
}

impl Proxies {
    /// What the variables of `environment` say, each in upper or lower case: `HTTPS_PROXY` and
    /// `HTTP_PROXY` by the scheme of the URL that is asked, `ALL_PROXY` where that one is not set, and
    /// `NO_PROXY` for exceptions: `*`, addresses, networks (`10.0.0.0/8`), and domains, which hold for
    /// what is below them; all but networks may have a `:port`.
    ///
    /// In CGI programs (`REQUEST_METHOD`) `HTTP_PROXY` is what a client sent, so it does not count.
    pub fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let variable = |name: &'static str| {
            let value = environment(name).or_else(|| environment(&name.to_ascii_lowercase()));
            value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let proxy = |name| variable(name).map(|value| Proxy::parse(name, &value)).transpose();
        let all = proxy("ALL_PROXY")?;
        let http = match environment("REQUEST_METHOD") {
            Some(_) => None,
            None => proxy("HTTP_PROXY")?,
        };
        let exceptions = variable("NO_PROXY").unwrap_or_default();
        let exceptions = exceptions.split([',', ' ']).filter_map(Exception::parse).collect();
        Ok(Self { http: http.or_else(|| all.clone()), https: proxy("HTTPS_PROXY")?.or(all), exceptions })
    }

    /// The proxy that `url` is asked through, if any.
    pub fn of(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            _ => self.http.as_ref(),
        };
        proxy.filter(|_| !self.exceptions.iter().any(|exception| exception.holds_for(url)))
    }
}

impl Proxy {
    fn parse(variable: &'static str, value: &str) -> Result<Self, Error> {
        let bad = |why| Error::BadProxy { variable, why };
        let complete = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
        let url = Url::parse(&complete).map_err(|_| bad("it is no URL"))?;
        match url.scheme() {
            "http" | "https" => Ok(Self(url)),
            _ => Err(bad("its scheme is unknown")),
        }
    }

    /// Where it is, with user and password.
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// Whether it is spoken to over TLS itself.
    pub(crate) fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Redacted::of(&self.0), f)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Exception {
    /// Nothing for an entry that names nothing.
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim();
        if entry == "*" {
            return Some(Self::All);
        }
        if let Some((address, bits)) = entry.split_once('/') {
            let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse().ok()?);
            return Some(Self::Network { address, bits });
        }
        if let Ok(address) = entry.parse() {
            return Some(Self::Address { address, port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        if let Some(address) = address_of(host) {
            return Some(Self::Address { address, port });
        }
        let name = host.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(Self::Domain { name, port })
    }

    fn holds_for(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let is_at = |port: Option<u16>| port.is_none() || port == url.port_or_known_default();
        match self {
            Self::All => true,
            Self::Address { address, port } => address_of(host) == Some(*address) && is_at(*port),
            Self::Network { address, bits } => {
                address_of(host).is_some_and(|host| is_within(host, *address, *bits))
            }
            Self::Domain { name, port } => {
                let before = host.trim_end_matches('.').strip_suffix(name.as_str());
                before.is_some_and(|before| before.is_empty() || before.ends_with('.')) && is_at(*port)
            }
        }
    }
}

/// The address that a URL's host is, if it is none to be looked up.
pub(crate) fn address_of(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether the first `bits` of both addresses are the same.
fn is_within(host: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (difference, width) = match (host, network) {
        (IpAddr::V4(host), IpAddr::V4(network)) => (u128::from(host.to_bits() ^ network.to_bits()), 32),
        (IpAddr::V6(host), IpAddr::V6(network)) => (host.to_bits() ^ network.to_bits(), 128),
        _ => return false,
    };
    let rest = width - bits.min(width);
    difference.checked_shr(rest).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, Error> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Proxies::from_environment(&|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_variable_of_the_scheme() {
        let (https, plain) = ("https://a.example/", "http://a.example/");
        for (variables, url, expected) in [
            (&[][..], https, None),
            (&[("HTTPS_PROXY", "http://p:1")], https, Some("http://p:1/")),
            (&[("HTTPS_PROXY", "http://p:1")], plain, None),
            (&[("https_proxy", "p:1")], https, Some("http://p:1/")),
            (&[("HTTPS_PROXY", "http://p:1"), ("https_proxy", "http://q:1")], https, Some("http://p:1/")),
            (&[("HTTP_PROXY", "https://p")], plain, Some("https://p/")),
            (&[("HTTP_PROXY", "p"), ("REQUEST_METHOD", "GET")], plain, None),
            (&[("ALL_PROXY", "p")], plain, Some("http://p/")),
            (&[("ALL_PROXY", "p"), ("HTTPS_PROXY", "q")], https, Some("http://q/")),
            (&[("HTTPS_PROXY", " ")], https, None),
            (&[("HTTPS_PROXY", "http://me:p%40ss@p:1/x?y#z")], https, Some("http://p:1/x?y=…")),
        ] {
            let proxies = proxies(variables).unwrap();
            let actual = proxies.of(&url.parse().unwrap()).map(ToString::to_string);
            assert_eq!(actual.as_deref(), expected, "{variables:?} {url}");
        }
    }

    #[test]
    fn exceptions() {
        for (no_proxy, url, is_direct) in [
            ("*", "https://a.example/", true),
            ("a.example", "https://a.example/", true),
            ("a.example", "https://b.a.example/", true),
            (".a.example", "https://a.example/", true),
            ("*.a.example", "https://b.a.example/", true),
            ("a.example", "https://ba.example/", false),
            ("A.Example.", "https://a.example./", true),
            ("a.example:5000", "https://a.example:5000/", true),
            ("a.example:5000", "https://a.example/", false),
            ("a.example:443", "https://a.example/", true),
            ("x, a.example ,y", "https://a.example/", true),
            ("x a.example", "https://a.example/", true),
            ("10.0.0.0/8", "https://10.1.2.3:5000/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("10.1.2.3/33", "https://10.1.2.3/", true),
            ("0.0.0.0/0", "https://10.1.2.3/", true),
            ("0.0.0.0/0", "https://[fd00::1]/", false),
            ("fd00::/8", "https://[fd12::1]/", true),
            ("fd00::/8", "https://[fe80::1]/", false),
            ("::/0", "https://[fe80::1]/", true),
            ("10.1.2.3", "https://10.1.2.3/", true),
            ("10.1.2.3:5000", "https://10.1.2.3/", false),
            ("fd00::1", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]/", false),
            ("10.0.0.0/8", "https://ten.example/", false),
            (", ,.,a:b,10.0.0.0/x", "https://a.example/", false),
        ] {
            let proxies = proxies(&[("HTTPS_PROXY", "p"), ("NO_PROXY", no_proxy)]).unwrap();
            assert_eq!(proxies.of(&url.parse().unwrap()).is_none(), is_direct, "{no_proxy} {url}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_said_without_its_password() {
        for (variable, value, expected) in [
            ("HTTPS_PROXY", "socks5://me:secret@p", "HTTPS_PROXY names no proxy: its scheme is unknown"),
            ("HTTP_PROXY", "http://me:sec/ret@p", "HTTP_PROXY names no proxy: it is no URL"),
            ("ALL_PROXY", "http://", "ALL_PROXY names no proxy: it is no URL"),
        ] {
            let error = proxies(&[(variable, value)]).unwrap_err().to_string();
            assert_eq!(error, format!("{expected}, expected http://[USER:PASSWORD@]HOST[:PORT]"), "{value}");
        }
        let proxies = proxies(&[("ALL_PROXY", "http://me:secret@p:1")]).unwrap();
        assert_eq!(
            format!("{proxies:?}"),
            "Proxies { http: Some(http://p:1/), https: Some(http://p:1/), exceptions: [] }"
        );
    }
}
