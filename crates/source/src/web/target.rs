//! What a URL says before anybody is asked.

use ocib_net::{Redacted, Url, header::HeaderValue};

use crate::{
    Error,
    userinfo::{basic, percent_decoded},
};

/// A URL as written, taken apart.
#[derive(Clone)]
pub(super) struct Target {
    /// Where to ask, without user, password and fragment.
    pub(super) url: Url,
    /// What the user and password become.
    pub(super) authorization: Option<HeaderValue>,
    /// The name of the file.
    pub(super) name: Vec<u8>,
}

/// BuildKit's name for a file whose URL has none (`dispatchCopy`).
const UNNAMED: &[u8] = b"__unnamed__";

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut url: Url = text.parse().map_err(|_| Error::BadUrl {
            url: ocib_net::printable(without_secrets(text).as_bytes(), 100),
            why: "it is no URL, expected one",
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            let why = "its scheme is unknown, expected http or https";
            return Err(Error::BadUrl { url: Redacted::of(&url).to_string(), why });
        }
        let authorization = basic(&url)?;
        url.set_fragment(None);
        // Both fail only for URLs that cannot have a user.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let name = file_name(url.path());
        Ok(Self { url, authorization, name })
    }
}

/// What is no URL may hold a password all the same: only what is neither before an `@` nor in a query.
fn without_secrets(text: &str) -> &str {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    text.rsplit('@').next().unwrap_or_default()
}

/// Go decodes the path before it looks for the last part (`path.Base(u.Path)`), so `a%2fb` is `b`.
fn file_name(path: &str) -> Vec<u8> {
    let decoded = percent_decoded(path);
    let last = decoded.rsplit(|&b| b == b'/').find(|part| !part.is_empty()).unwrap_or_default();
    match last {
        b"" | b"." | b".." => UNNAMED.to_vec(),
        name if name.contains(&0) => UNNAMED.to_vec(),
        name => name.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (url, expected) in [
            ("http://h/a/hello.txt", "hello.txt"),
            ("http://h/hello.txt?x=/y/z#f/g", "hello.txt"),
            ("http://h/a/b/", "b"),
            ("http://h/a/b//", "b"),
            ("http://h/a%20b.tar%2Egz", "a b.tar.gz"),
            ("http://h/a%2fb", "b"),
            ("http://h/100%", "100%"),
            ("http://h/%zz%4", "%zz%4"),
            ("http://h/\u{e9}", "\u{e9}"),
            ("http://h", "__unnamed__"),
            ("http://h/", "__unnamed__"),
            ("http://h/a/..", "__unnamed__"),
            ("http://h/a%2f..", "__unnamed__"),
            ("http://h/a%00", "__unnamed__"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!(String::from_utf8(target.name).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn users_become_basic_authentication() {
        for (url, asked, authorization) in [
            ("https://h/f", "https://h/f", None),
            ("https://me:s%40c@h/f", "https://h/f", Some("Basic bWU6c0Bj")),
            ("https://token@h:8443/f", "https://h:8443/f", Some("Basic dG9rZW46")),
            ("http://me:pw@127.0.0.1/f", "http://127.0.0.1/f", Some("Basic bWU6cHc=")),
            ("http://me:pw@[::1]:80/f#x", "http://[::1]/f", Some("Basic bWU6cHc=")),
        ] {
            let target = Target::parse(url).unwrap();
            let actual = target.authorization.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!((target.url.as_str(), actual), (asked, authorization), "{url}");
        }
    }

    #[test]
    fn refused() {
        for (url, expected) in [
            ("ftp://h/f", "ftp://h/f cannot be fetched: its scheme is unknown, expected http or https"),
            ("https://me:pw@[h/f?q=s", "[h/f cannot be fetched: it is no URL, expected one"),
            ("http://", "http:// cannot be fetched: it is no URL, expected one"),
            (
                "http://me:pw@h/f?q=s",
                "http://h/f?q=… has a user, whose password is not sent over plain http, expected https",
            ),
        ] {
            let error = Target::parse(url).map(drop).unwrap_err();
            assert_eq!(error.to_string(), expected, "{url}");
        }
    }
}
