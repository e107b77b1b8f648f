//! References: how images are named (Docker's grammar, distribution/reference).

use std::{fmt, str::FromStr};

use crate::{Digest, Error};

/// Docker Hub's name in references; its API lives on another host, which is the store's business.
const DOCKER_HUB: &str = "docker.io";
/// distribution/reference: `NameTotalLengthMax`.
const NAME_MAX: usize = 255;
/// Longest tag of Docker's grammar; ECR allows more, which its profile checks.
const TAG_MAX: usize = 300;

/// `registry/repository[:tag][@digest]`, complete: a missing registry was filled in as Docker does.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and optional port, e.g. `docker.io`, `127.0.0.1:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry, e.g. `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What the last part of a manifest URL is: the digest if pinned, else the tag, else `latest`.
    pub fn target(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same name with `latest` where neither tag nor digest was written.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same repository with this digest and no tag: the form that always means the same bytes.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The name without tag and digest: `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why| Error::BadReference { text: text.chars().take(300).collect(), why };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| bad("the digest is malformed"))?)),
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let (name, tag) = match rest.rfind(':') {
            Some(at) if !rest[at..].contains('/') => (&rest[..at], Some(&rest[at + 1..])),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !tag_is_good(tag)) {
            return Err(bad("a tag is a letter, digit or _, then letters, digits, _ . and -"));
        }
        let (registry, repository) = split_registry(name);
        if registry != DOCKER_HUB && !host_is_good(registry) {
            return Err(bad("the registry is not a host name"));
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("a repository is lower case"));
        }
        let repository = match registry == DOCKER_HUB && !repository.contains('/') {
            true => format!("library/{repository}"),
            false => repository.to_owned(),
        };
        if !repository.split('/').all(component_is_good) {
            return Err(bad(
                "a repository's parts are letters and digits, separated by one of . _ __ or dashes",
            ));
        }
        if registry.len() + repository.len() >= NAME_MAX {
            return Err(bad("the name is longer than 255 bytes"));
        }
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }
}

/// distribution/reference, `splitDockerDomain`: the first part is a host only if it looks like one.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((host, rest))
            if host.contains(['.', ':'])
                || host == "localhost"
                || host.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (if host == "index.docker.io" { DOCKER_HUB } else { host }, rest)
        }
        _ => (DOCKER_HUB, name),
    }
}

fn host_is_good(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("", rest),
        Some(_) => return false,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let label_is_good = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let port_is_good = |port: &str| {
        port.is_empty() || port.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok())
    };
    (name.is_empty() && host.starts_with('[') || name.split('.').all(label_is_good)) && port_is_good(port)
}

fn tag_is_good(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn component_is_good(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut ends_well = false;
    for b in part.bytes() {
        if alphanumeric(b) {
            let dashes = separator.bytes().all(|b| b == b'-');
            if !(dashes || matches!(separator.as_str(), "." | "_" | "__"))
                || (!ends_well && !separator.is_empty())
            {
                return false;
            }
            separator.clear();
            ends_well = true;
        } else if b"._-".contains(&b) {
            separator.push(char::from(b));
        } else {
            return false;
        }
    }
    ends_well && separator.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_what_docker_fills_in() {
        let digest = Digest::of(b"");
        for (text, expected) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("org/app", "docker.io/org/app"),
            ("index.docker.io/app", "docker.io/library/app"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("[::1]:5000/app:1", "[::1]:5000/app:1"),
            ("ghcr.io/a__b/c-d.e:V1_x", "ghcr.io/a__b/c-d.e:V1_x"),
            (&format!("a.b/c:t@{digest}"), &format!("a.b/c:t@{digest}")),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_name() {
        for (text, why) in [
            ("App", "a repository is lower case"),
            ("a.b/c@sha256:00", "the digest is malformed"),
            ("a.b/c:", "a tag is a letter, digit or _, then letters, digits, _ . and -"),
            ("a..b/c", "the registry is not a host name"),
            ("a.b:port/c", "the registry is not a host name"),
            ("a/-b", "a repository's parts are letters and digits, separated by one of . _ __ or dashes"),
            ("a/b___c", "a repository's parts are letters and digits, separated by one of . _ __ or dashes"),
            ("", "a repository's parts are letters and digits, separated by one of . _ __ or dashes"),
        ] {
            assert_eq!(
                text.parse::<Reference>().unwrap_err().to_string(),
                format!("{text:?} is not an image reference: {why}")
            );
        }
    }
}
