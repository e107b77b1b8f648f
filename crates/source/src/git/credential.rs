//! Who ocib is to servers of repositories.

use std::collections::BTreeMap;

use ocib_image::Secret;
use ocib_net::{Url, header::HeaderValue};

use crate::{
    Error,
    client::is_loopback,
    userinfo::{basic, basic_header},
};

/// Tokens and headers for repositories, under BuildKit's names for them: `GIT_AUTH_HEADER.HOST` before
/// `GIT_AUTH_TOKEN.HOST`, then `GIT_AUTH_HEADER`, then `GIT_AUTH_TOKEN`.
///
/// They are sent over https and to this machine, never along a redirect to another origin. Those that
/// name no host go to every repository that is asked for, and to submodules of the same origin.
///
/// ```
/// use ocib_source::GitCredentials;
///
/// let variables = [("GIT_AUTH_TOKEN.git.example".to_owned(), "hunter2".to_owned())];
/// let credentials = GitCredentials::from_variables(variables);
/// assert!(!format!("{credentials:?}").contains("hunter2"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct GitCredentials {
    /// By name of host, with its port if the URL names one; the empty name is any host.
    headers: BTreeMap<String, Secret>,
    tokens: BTreeMap<String, Secret>,
}

/// BuildKit's user for tokens, which GitHub, GitLab and others take.
const TOKEN_USER: &[u8] = b"x-access-token";

impl GitCredentials {
    /// Those among `variables`, names and values, that are for repositories. Empty ones count as not
    /// given.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut credentials = Self::default();
        for (name, value) in variables {
            let kinds =
                [("GIT_AUTH_HEADER", &mut credentials.headers), ("GIT_AUTH_TOKEN", &mut credentials.tokens)];
            for (start, secrets) in kinds {
                let host = name.strip_prefix(start).and_then(|rest| match rest {
                    "" => Some(""),
                    rest => rest.strip_prefix('.').filter(|host| !host.is_empty()),
                });
                if let Some(host) = host.filter(|_| !value.trim().is_empty()) {
                    secrets.insert(host.to_ascii_lowercase(), Secret::new(value.trim()));
                }
            }
        }
        credentials
    }

    /// What to send to `url`: what its own user and password become, else what is known for its host, else
    /// `is_trusted` decides whether what is for any host goes there.
    pub(super) fn authorization(&self, url: &Url, is_trusted: bool) -> Result<Option<HeaderValue>, Error> {
        if let Some(own) = basic(url)? {
            return Ok(Some(own));
        }
        if url.scheme() != "https" && !is_loopback(url) {
            return Ok(None);
        }
        let host = url.host_str().unwrap_or_default();
        let with_port = url.port().map(|port| format!("{host}:{port}"));
        let hosts = [with_port.as_deref(), Some(host)].into_iter().flatten();
        Ok(hosts.chain(is_trusted.then_some("")).find_map(|host| self.header(host)))
    }

    fn header(&self, host: &str) -> Option<HeaderValue> {
        let mut header = match (self.headers.get(host), self.tokens.get(host)) {
            // What cannot be in a header is of no use.
            (Some(header), _) => HeaderValue::from_str(header.reveal()).ok()?,
            (None, Some(token)) => basic_header(TOKEN_USER, token.reveal().as_bytes()),
            (None, None) => return None,
        };
        header.set_sensitive(true);
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_credential_goes_where() {
        let variables = [
            ("GIT_AUTH_TOKEN", "any"),
            ("GIT_AUTH_TOKEN.a.example", "a"),
            ("GIT_AUTH_HEADER.a.example:8443", "Bearer port"),
            ("GIT_AUTH_HEADER.B.example", "Bearer b"),
            ("GIT_AUTH_TOKEN.b.example", "less"),
            ("GIT_AUTH_TOKEN.c.example", " "),
            ("GIT_AUTH_TOKENS", "other"),
            ("GIT_AUTH_TOKEN.", "other"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let credentials = GitCredentials::from_variables(variables);
        let any = Some("Basic eC1hY2Nlc3MtdG9rZW46YW55");
        for (url, is_trusted, expected) in [
            ("https://x.example/r.git", true, any),
            ("https://x.example/r.git", false, None),
            ("https://a.example/r.git", false, Some("Basic eC1hY2Nlc3MtdG9rZW46YQ==")),
            ("https://a.example:8443/r.git", false, Some("Bearer port")),
            ("https://b.example/r.git", true, Some("Bearer b")),
            ("https://c.example/r.git", true, any),
            ("https://me:pw@a.example/r.git", true, Some("Basic bWU6cHc=")),
            ("http://a.example/r.git", true, None),
            ("http://127.0.0.1:5000/r.git", true, any),
        ] {
            let header = credentials.authorization(&url.parse().unwrap(), is_trusted).unwrap();
            let header = header.as_ref().map(|header| header.to_str().unwrap());
            assert_eq!(header, expected, "{url}");
        }
    }
}
