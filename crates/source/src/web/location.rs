//! The URL of a file, and what its content must be.

use std::{fmt, str::FromStr};

use ocib_image::{Digest, PlaceError};
use ocib_net::{Redacted, Url};

use super::target::Target;
use crate::Error;

/// The URL of one file; what follows `#sha256=` is the digest that it must have, as pip writes it.
///
/// ```
/// let location: ocib_source::WebLocation = "https://example.org/model.gguf".parse()?;
/// assert_eq!(location.to_string(), "https://example.org/model.gguf");
/// # Ok::<(), ocib_image::PlaceError>(())
/// ```
#[derive(Clone)]
pub struct WebLocation {
    pub(super) target: Target,
    /// What its content must be.
    pub digest: Option<Digest>,
}

impl WebLocation {
    /// Whether `text` is meant to be such a URL.
    pub fn is_meant(text: &str) -> bool {
        ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
    }

    /// The name that the file gets: the last part of the URL's path.
    pub fn name(&self) -> &[u8] {
        &self.target.name
    }

    /// Where all of `locations` are, without what may be secret, if that is one place.
    pub fn common(locations: &[Self]) -> Option<String> {
        let parent = |location: &Self| Some(location.to_string().rsplit_once('/')?.0.to_owned());
        let first = parent(locations.first()?);
        first.filter(|first| locations.iter().all(|location| parent(location).as_ref() == Some(first)))
    }
}

impl FromStr for WebLocation {
    type Err = PlaceError;

    /// # Errors
    /// `Input` for what is no URL, or has something else behind `#`; `Refused` for a password over plain http.
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let target = Target::parse(text)?;
        let bad = |why| Error::BadUrl { url: Redacted::of(&target.url).to_string(), why };
        let digest = match text.split_once('#').map(|(_, fragment)| fragment) {
            None | Some("") => None,
            Some(fragment) => {
                let hex = fragment
                    .strip_prefix("sha256=")
                    .ok_or_else(|| bad("behind # it has no sha256=DIGEST"))?;
                let digest = format!("sha256:{}", hex.to_ascii_lowercase()).parse();
                Some(digest.map_err(|_| bad("what follows #sha256= is not 64 hex digits"))?)
            }
        };
        Ok(Self { target, digest })
    }
}

/// Without user, password, query and digest: what may stand in labels.
impl fmt::Display for WebLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url: Url = self.target.url.clone();
        url.set_query(None);
        url.fmt(f)
    }
}

impl fmt::Debug for WebLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebLocation({})", Redacted::of(&self.target.url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let hex = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let digest = format!("sha256:{hex}");
        for (url, shown, expected) in [
            ("https://h/a/m.gguf".to_owned(), "https://h/a/m.gguf", None),
            (format!("https://me:pw@h/m.gguf?token=x#sha256={hex}"), "https://h/m.gguf", Some(&digest)),
            (format!("https://h/m.gguf#sha256={}", hex.to_uppercase()), "https://h/m.gguf", Some(&digest)),
            ("https://h/m.gguf#".to_owned(), "https://h/m.gguf", None),
        ] {
            let location: WebLocation = url.parse().unwrap();
            assert_eq!(location.to_string(), shown);
            assert_eq!(location.digest.map(|digest| digest.to_string()).as_ref(), expected, "{url}");
        }
        for (url, expected) in [
            ("https://h/f#x", "https://h/f cannot be fetched: behind # it has no sha256=DIGEST"),
            (
                "https://h/f#sha256=ab",
                "https://h/f cannot be fetched: what follows #sha256= is not 64 hex digits",
            ),
            ("ftp://h/f", "ftp://h/f cannot be fetched: its scheme is unknown, expected http or https"),
        ] {
            assert_eq!(url.parse::<WebLocation>().unwrap_err().to_string(), expected);
        }
    }
}
