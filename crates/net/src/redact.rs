//! URLs as they may be shown: in errors, logs and progress.

use std::fmt;

use reqwest::Url;

/// A URL without user, password and fragment, and without the values of its query: signed URLs and
/// upload sessions carry their secrets there.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted(String);

/// Query values that say what was asked for and are no secret.
const SHOWN: [&str; 5] = ["digest", "from", "mount", "scope", "service"];
/// Longer URLs are cut: a message is for reading.
const SHOWN_CHARS: usize = 300;

impl Redacted {
    /// `url` without its secrets.
    pub fn of(url: &Url) -> Self {
        let mut shown = url.clone();
        // Both fail only for URLs that cannot have a user, which then have none.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_fragment(None);
        shown.set_query(None);
        let mut text = shown.to_string();
        for (at, (key, value)) in url.query_pairs().enumerate() {
            text.push(if at == 0 { '?' } else { '&' });
            text.push_str(&crate::printable(key.as_bytes(), SHOWN_CHARS));
            text.push('=');
            match SHOWN.contains(&&*key) {
                true => text.push_str(&crate::printable(value.as_bytes(), SHOWN_CHARS)),
                false => text.push('…'),
            }
        }
        if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARS) {
            text.truncate(end);
            text.push('…');
        }
        Self(text)
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out() {
        for (url, expected) in [
            ("https://a.b/v2/x/manifests/1", "https://a.b/v2/x/manifests/1"),
            ("https://me:pw@a.b/x#frag", "https://a.b/x"),
            (
                "http://127.0.0.1:5000/u?_state=SECRET&digest=sha256:1",
                "http://127.0.0.1:5000/u?_state=…&digest=sha256:1",
            ),
            ("https://s3/x?X-Amz-Signature=abc", "https://s3/x?X-Amz-Signature=…"),
            ("https://a/x?SECRET", "https://a/x?SECRET=…"),
            ("https://a/x?mount=%1b[31m", "https://a/x?mount=\\u{1b}[31m"),
        ] {
            assert_eq!(Redacted::of(&url.parse().unwrap()).to_string(), expected, "{url}");
        }
    }

    #[test]
    fn long_urls_are_cut() {
        let url = format!("https://a/{}", "x".repeat(400));
        assert_eq!(Redacted::of(&url.parse().unwrap()).to_string().chars().count(), SHOWN_CHARS + 1);
    }
}
