//! Places on the Hub, as they are written.

use std::{fmt, str::FromStr};

use super::HubProblem;
use crate::Error;

/// A model repository of the Hub, or a file or directory of it: `hf://ORG/NAME[@REVISION][/PATH]`.
///
/// ```
/// let location: ocib_source::HubLocation = "hf://org/name@refs/pr/1/onnx/model.onnx".parse()?;
/// assert_eq!((location.repository(), location.revision.as_str()), ("org/name", "refs/pr/1"));
/// assert_eq!(location.path, "onnx/model.onnx");
/// assert_eq!("hf://org/name".parse::<ocib_source::HubLocation>()?.to_string(), "hf://org/name@main");
/// # Ok::<(), ocib_source::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HubLocation {
    pub(super) repository: String,
    /// A branch, a tag or a commit; `main` where none is written.
    pub revision: String,
    /// The file or directory that is meant, without slashes around it; empty for the whole.
    pub path: String,
}

const SCHEME: &str = "hf://";
const DEFAULT_REVISION: &str = "main";
/// The Hub's own limit for a repository's name (`validate_repo_id`).
const NAME_BYTES_MAX: usize = 96;

impl HubLocation {
    /// Whether `text` is meant as one.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// `ORG/NAME`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    fn parsed(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix(SCHEME).ok_or("it does not begin with hf://")?;
        let (org, rest) = rest.split_once('/').ok_or("it has no repository")?;
        if matches!(org, "datasets" | "spaces" | "buckets") {
            return Err("only model repositories are read");
        }
        let (name, rest) = match rest.find(['/', '@']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if !is_name(org) || !is_name(name) || org.len() + name.len() >= NAME_BYTES_MAX {
            return Err("its repository has a name that the Hub does not give");
        }
        let (revision, path) = match rest.strip_prefix('@') {
            Some(rest) => split_revision(rest),
            None => (DEFAULT_REVISION.to_owned(), rest),
        };
        let path = path.trim_matches('/');
        let is_outside = |part: &str| matches!(part, "" | "." | "..");
        if revision.split('/').any(is_outside) || revision.contains(|c: char| c.is_control() || c == ' ') {
            return Err("its revision, or a part of it, is empty, ., .. or has blanks");
        }
        if !path.is_empty() && path.split('/').any(is_outside) || path.contains('\0') {
            return Err("a part of its path is empty, . or ..");
        }
        Ok(Self { repository: format!("{org}/{name}"), revision, path: path.to_owned() })
    }
}

/// A revision ends at the first slash, but for the Hub's own `refs/pr/N` and `refs/convert/NAME`
/// (`HfFileSystem`, `SPECIAL_REFS_REVISION_REGEX`); other slashes are written as `%2F`.
fn split_revision(rest: &str) -> (String, &str) {
    let slashes = match rest.starts_with("refs/pr/") || rest.starts_with("refs/convert/") {
        true => 2,
        false => 0,
    };
    let end = rest.match_indices('/').nth(slashes).map_or(rest.len(), |(at, _)| at);
    let (revision, path) = rest.split_at(end);
    (revision.replace("%2F", "/").replace("%2f", "/"), path)
}

/// `validate_repo_id` of the Hub's client.
fn is_name(name: &str) -> bool {
    let is_edge = |name: &str| name.starts_with(['-', '.']) || name.ends_with(['-', '.']);
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !is_edge(name)
        && !name.contains("--")
        && !name.contains("..")
}

impl FromStr for HubLocation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parsed(text).map_err(|why| Error::Hub {
            name: ocib_net::printable(text.as_bytes(), 200),
            problem: Box::new(HubProblem::BadLocation { why }),
        })
    }
}

impl fmt::Display for HubLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_special = self.revision.starts_with("refs/pr/") || self.revision.starts_with("refs/convert/");
        let revision = match is_special {
            true => self.revision.clone(),
            false => self.revision.replace('/', "%2F"),
        };
        write!(f, "{SCHEME}{}@{revision}", self.repository)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, repository, revision, path, printed) in [
            ("hf://o/n", "o/n", "main", "", "hf://o/n@main"),
            ("hf://o/n/", "o/n", "main", "", "hf://o/n@main"),
            (
                "hf://Qwen/Qwen2.5-7B/a/b.txt",
                "Qwen/Qwen2.5-7B",
                "main",
                "a/b.txt",
                "hf://Qwen/Qwen2.5-7B@main/a/b.txt",
            ),
            ("hf://o/n@v1", "o/n", "v1", "", "hf://o/n@v1"),
            ("hf://o/n@v1/d/", "o/n", "v1", "d", "hf://o/n@v1/d"),
            ("hf://o/n@refs/pr/7/d/f", "o/n", "refs/pr/7", "d/f", "hf://o/n@refs/pr/7/d/f"),
            ("hf://o/n@refs/convert/gguf", "o/n", "refs/convert/gguf", "", "hf://o/n@refs/convert/gguf"),
            ("hf://o/n@feature%2Fx/f", "o/n", "feature/x", "f", "hf://o/n@feature%2Fx/f"),
            ("hf://o/n/a@b", "o/n", "main", "a@b", "hf://o/n@main/a@b"),
        ] {
            let location: HubLocation = text.parse().unwrap();
            assert_eq!(
                (location.repository(), &*location.revision, &*location.path, &*location.to_string()),
                (repository, revision, path, printed),
                "{text}"
            );
            assert_eq!(printed.parse::<HubLocation>().unwrap(), location);
        }
    }

    #[test]
    fn refused() {
        for (text, why) in [
            ("https://o/n", "it does not begin with hf://"),
            ("hf://gpt2", "it has no repository"),
            ("hf://datasets/o/n", "only model repositories are read"),
            ("hf:///n", "its repository has a name that the Hub does not give"),
            ("hf://o/a--b", "its repository has a name that the Hub does not give"),
            ("hf://o/-a", "its repository has a name that the Hub does not give"),
            ("hf://u:p@o/n", "its repository has a name that the Hub does not give"),
            ("hf://o/n@", "its revision, or a part of it, is empty, ., .. or has blanks"),
            ("hf://o/n@../d", "its revision, or a part of it, is empty, ., .. or has blanks"),
            ("hf://o/n/a//b", "a part of its path is empty, . or .."),
            ("hf://o/n/../m", "a part of its path is empty, . or .."),
        ] {
            let error = text.parse::<HubLocation>().unwrap_err();
            assert_eq!(error.to_string(), format!("{text}: {why}, expected hf://ORG/NAME[@REVISION][/PATH]"));
        }
    }
}
