//! Git references: what of a repository is meant, as Dockerfiles and command lines write it.
//!
//! The forms and the words of the errors are BuildKit's (`frontend/dockerfile/dfgitutil`,
//! `util/gitutil`). Nothing is asked here: whether a repository is there is found out elsewhere.

use std::{collections::BTreeMap, fmt};

use crate::Error;

/// A repository, and what of it is meant.
///
/// ```
/// use ocib_image::GitReference;
///
/// let git = GitReference::parse("https://me:pw@example.org/a.git#v1:docs")?.expect("it is one");
/// assert_eq!((git.reference.as_deref(), git.subdir.as_deref()), (Some("v1"), Some("docs")));
/// assert_eq!(git.to_string(), "https://example.org/a.git#v1:docs");
/// assert_eq!(GitReference::parse("https://example.org/a.tar")?, None);
/// # Ok::<(), ocib_image::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitReference {
    remote: String,
    /// How the repository is reached.
    pub transport: GitTransport,
    /// A branch, a tag, a full name such as `refs/heads/x`, or the 40 digits of a commit; the
    /// repository's default branch if not given.
    pub reference: Option<String>,
    /// The directory of the repository that is meant, in place of all of it.
    pub subdir: Option<String>,
    /// How the digits of the commit, or of the tag that leads to it, must begin.
    pub checksum: Option<String>,
    /// Whether a `.git` directory is wanted; `None` if nothing was said of it.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are wanted; `None`, as BuildKit has it, means yes.
    pub submodules: Option<bool>,
    /// Written as `github.com/…`, which could be a path too: BuildKit takes it for a repository as a
    /// context, and for a path in `ADD`.
    pub is_like_path: bool,
}

/// How a repository is reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GitTransport {
    /// `https://`.
    Https,
    /// `http://`.
    Http,
    /// `ssh://`, and `user@host:path`.
    Ssh,
    /// `git://`.
    Git,
}

/// What is a path for certain, although it may hold a colon.
const PATHS: [&str; 2] = ["./", "../"];

impl GitReference {
    /// The repository that `text` names; `None` if it names something else: over http and https, only
    /// paths that end in `.git` are repositories.
    ///
    /// # Errors
    /// [`Error::BadGitReference`] for a repository with options that contradict each other or that
    /// nobody knows.
    pub fn parse(text: &str) -> Result<Option<Self>, Error> {
        if PATHS.iter().any(|start| text.starts_with(start)) {
            return Ok(None);
        }
        let is_like_path = text.starts_with("github.com/");
        let full = if is_like_path { format!("https://{text}") } else { text.to_owned() };
        let (rest, fragment) = full.split_once('#').unwrap_or((&full, ""));
        let (remote, query) = rest.split_once('?').unwrap_or((rest, ""));
        let Some(transport) = transport(remote) else { return Ok(None) };
        let is_http = matches!(transport, GitTransport::Http | GitTransport::Https);
        let path = remote.split_once("://").map_or(remote, |(_, rest)| rest);
        // What cannot be decoded is no URL; whoever fetches it says so.
        let (Some(path), Some(fragment)) = (decoded(path, false), decoded(fragment, false)) else {
            return Ok(None);
        };
        if is_http && !is_like_path && !path.ends_with(".git") {
            return Ok(None);
        }
        let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
        let mut git = Self {
            remote: remote.to_owned(),
            transport,
            reference: some(reference),
            subdir: some(subdir),
            checksum: None,
            keep_git_dir: None,
            submodules: None,
            is_like_path,
        };
        let options = options(query).and_then(|options| git.load(options));
        let text = git.shown_remote();
        options.map(|()| Some(git)).map_err(|why| Error::BadGitReference { text, why })
    }

    /// The commit `commit` of the repository at `remote`, a URL without options: a submodule's.
    /// `None` if that is no place of repositories.
    pub fn at_commit(remote: &str, commit: &str) -> Option<Self> {
        Some(Self {
            remote: remote.to_owned(),
            transport: transport(remote)?,
            reference: some(commit),
            subdir: None,
            checksum: None,
            keep_git_dir: None,
            submodules: None,
            is_like_path: false,
        })
    }

    /// Where the repository is, as written: there may be a password in it.
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// The same place over https, as most servers have it.
    pub fn https_form(&self) -> String {
        let rest = self.remote.split_once("://").map(|(_, rest)| rest);
        let (host, path) = match rest {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => self.remote.split_once(':').unwrap_or((&self.remote, "")),
        };
        let host = host.rsplit('@').next().unwrap_or_default();
        let host = if rest.is_some() { host.split(':').next().unwrap_or_default() } else { host };
        let path = path.trim_matches('/');
        let end = if path.ends_with(".git") { "" } else { ".git" };
        format!("https://{host}/{path}{end}")
    }

    /// The remote without user and password.
    fn shown_remote(&self) -> String {
        match self.remote.split_once("://") {
            Some((scheme, rest)) => {
                let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
                format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or_default())
            }
            // The user of `git@host:path` is a name for a service, and has no password.
            None => self.remote.clone(),
        }
    }

    fn load(&mut self, options: BTreeMap<String, String>) -> Result<(), String> {
        let (mut tag, mut branch) = (None, None);
        for (key, value) in options {
            match &*key {
                "submodules" => self.submodules = Some(boolean(&key, &value)?),
                "keep-git-dir" => self.keep_git_dir = Some(boolean(&key, &value)?),
                // How a commit is asked for makes no difference to what is in it.
                "fetch-by-commit" => drop(boolean(&key, &value)?),
                _ if value.is_empty() => return Err(format!("query {key:?} has no value")),
                "ref" => agree("ref", &mut self.reference, value)?,
                "subdir" => agree("subdir", &mut self.subdir, value)?,
                "tag" => tag = Some(value),
                "branch" => branch = Some(value),
                "checksum" | "commit" => agree("checksum", &mut self.checksum, value)?,
                "mtime" if value == "commit" => {}
                "mtime" if value == "checkout" => {
                    return Err("mtime=checkout is the time of the build, which is never in an image, \
                                expected mtime=commit"
                        .to_owned());
                }
                "mtime" => return Err(format!("invalid mtime value: {value:?}")),
                _ => return Err(format!("unexpected query {key:?}")),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err("branch conflicts with tag".to_owned());
        }
        for (prefix, name) in [("refs/tags/", tag), ("refs/heads/", branch)] {
            let Some(name) = name else { continue };
            let full = if name.starts_with(prefix) { name } else { format!("{prefix}{name}") };
            agree("ref", &mut self.reference, full)?;
        }
        if self.reference.is_none() {
            self.reference.clone_from(&self.checksum);
        }
        Ok(())
    }
}

/// Sets `place`, unless something else is there.
fn agree(what: &str, place: &mut Option<String>, value: String) -> Result<(), String> {
    match place {
        Some(before) if *before != value => Err(format!("{what} conflicts: {before:?} vs {value:?}")),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Go's `strconv.ParseBool`; nothing is as good as `true`.
fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid {key} value: {value:?}")),
    }
}

/// How what is written without query and fragment is reached, if it names a repository at all.
fn transport(remote: &str) -> Option<GitTransport> {
    if let Some((scheme, _)) = remote.split_once("://")
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return match &*scheme.to_ascii_lowercase() {
            "https" => Some(GitTransport::Https),
            "http" => Some(GitTransport::Http),
            "ssh" => Some(GitTransport::Ssh),
            "git" => Some(GitTransport::Git),
            _ => None,
        };
    }
    is_scp_style(remote).then_some(GitTransport::Ssh)
}

/// `[user@]host:path` (BuildKit, `sshutil.ParseSCPStyleURL`), but no URL, which has a slash there.
fn is_scp_style(remote: &str) -> bool {
    let Some((authority, path)) = remote.split_once(':') else { return false };
    let (user, host) = match authority.split_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let is_word = |text: &str, also: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
    };
    let is_scheme = user.is_none() && host.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_url = is_scheme && (path.is_empty() || path.starts_with('/'));
    !is_url && user.is_none_or(|user| is_word(user, b"-_")) && is_word(host, b"-.")
}

/// The pairs of a query, each key once.
fn options(query: &str) -> Result<BTreeMap<String, String>, String> {
    let mut options = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(key), Some(value)) = (decoded(key, true), decoded(value, true)) else {
            return Err("its query is not encoded as URLs are".to_owned());
        };
        if options.contains_key(&key) {
            return Err(format!("query {key:?} has multiple values"));
        }
        options.insert(key, value);
    }
    Ok(options)
}

/// RFC 3986, section 2.1; in a query a plus sign is a space. `None` for what is no encoding of UTF-8.
fn decoded(text: &str, is_query: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' if is_query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Without user and password.
impl fmt::Display for GitReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown_remote())?;
        match (&self.reference, &self.subdir) {
            (None, None) => Ok(()),
            (reference, None) => write!(f, "#{}", reference.as_deref().unwrap_or_default()),
            (reference, Some(subdir)) => {
                write!(f, "#{}:{subdir}", reference.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Without user and password.
impl fmt::Debug for GitReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitReference")
            .field("remote", &self.shown_remote())
            .field("reference", &self.reference)
            .field("subdir", &self.subdir)
            .field("checksum", &self.checksum)
            .field("keep_git_dir", &self.keep_git_dir)
            .field("submodules", &self.submodules)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
