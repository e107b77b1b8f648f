//! Rules: where the images of a namespace really are (containers-registries.conf(5), `[[registry]]`).

use std::{fmt, path::Path, sync::Arc};

use ocib_image::Reference;

use crate::Error;

/// One `[[registry]]` table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rule {
    /// The names that it is for: those that begin with it, or `*.DOMAIN`.
    pub(super) prefix: String,
    /// What the prefix is replaced by; nothing where names stay as they are.
    pub(super) location: Option<String>,
    pub(super) is_insecure: bool,
    pub(super) is_blocked: bool,
    /// In the order in which they are tried.
    pub(super) mirrors: Vec<Mirror>,
    pub(super) place: Place,
}

/// One `[[registry.mirror]]` table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) is_insecure: bool,
    pub(super) pulls: Pulls,
}

/// Which names a mirror is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pulls {
    All,
    ByDigest,
    ByTag,
}

/// Where a rule stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) file: Arc<Path>,
    /// From 1.
    pub(super) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A place that an image can be pulled from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PullSource {
    /// The image's name there.
    pub(crate) name: Reference,
    /// Whether its host may be spoken to over plain http or an unverified https for it.
    pub(crate) is_insecure: bool,
}

impl Rule {
    /// Where `name`, which the rule is for, can be pulled from: mirrors first, its own place last.
    pub(super) fn sources(&self, name: &Reference) -> Result<Vec<PullSource>, Error> {
        let is_pinned = name.digest().is_some();
        let mirrors = self.mirrors.iter().filter(|mirror| match mirror.pulls {
            Pulls::All => true,
            Pulls::ByDigest => is_pinned,
            Pulls::ByTag => !is_pinned,
        });
        let mirrors = mirrors.map(|mirror| (Some(mirror.location.as_str()), mirror.is_insecure));
        mirrors
            .chain([(self.location.as_deref(), self.is_insecure)])
            .map(|(location, is_insecure)| {
                Ok(PullSource { name: self.rewritten(name, location)?, is_insecure })
            })
            .collect()
    }

    /// `name` with `location` in the place of the prefix.
    fn rewritten(&self, name: &Reference, location: Option<&str>) -> Result<Reference, Error> {
        let Some(location) = location else { return Ok(name.clone()) };
        let whole = name.to_string();
        let rest = match_end(&name.name(), &self.prefix).map_or("", |end| &whole[end..]);
        let rewritten = format!("{location}{rest}");
        let is_there = |found: &Reference| location.split('/').next() == Some(found.registry());
        rewritten.parse().ok().filter(is_there).ok_or_else(|| Error::BadLocation {
            name: whole.clone(),
            rewritten: rewritten.clone(),
            place: self.place.to_string(),
        })
    }

    pub(super) fn blocks(&self, name: &Reference) -> Result<(), Error> {
        let Self { prefix, place, .. } = self;
        match self.is_blocked {
            false => Ok(()),
            true => {
                Err(Error::Blocked { name: name.name(), prefix: prefix.clone(), place: place.to_string() })
            }
        }
    }
}

/// Where `prefix` ends in `name`, a name without tag and digest; nothing if it is for other names. It is
/// for whole parts of names: containers/image takes `HOST` for `HOST:PORT` too, calls that unintended,
/// and warns against relying on it; here it would make hosts insecure that nobody named.
pub(super) fn match_end(name: &str, prefix: &str) -> Option<usize> {
    let is_whole = |end: usize| matches!(name.as_bytes().get(end), None | Some(b'/'));
    let Some(domain) = prefix.strip_prefix('*') else {
        return (name.starts_with(prefix) && is_whole(prefix.len())).then_some(prefix.len());
    };
    let in_host = |start: usize| start > 0 && !name[..start].contains('/');
    let mut ends = name.match_indices(domain).filter(|(start, _)| in_host(*start));
    ends.find_map(|(start, _)| Some(start + domain.len()).filter(|end| is_whole(*end)))
}
