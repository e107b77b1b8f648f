//! What a build reads: the Dockerfile, the context with its ignore file, values of ARGs.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use ocib_dockerfile::{Dockerfile, Patterns};
use ocib_image::{ArchiveCodec, Progress, Remote, Tree};
use ocib_source::{Archive, Directory, Scratch};

use crate::{diagnostic::Failure, sources, tree};

/// Dockerfiles and ignore files hold text, not data; a larger one is a mistake.
pub(crate) const TEXT_MAX: u64 = 16 << 20;
/// Enough of a stream to tell an archive from a Dockerfile.
const START_BYTES: u64 = 64 << 10;

/// A Dockerfile as it was found.
pub(crate) struct Source {
    /// What it is called in messages: its path, or stdin.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// What the context argument and `--file` name: everything that a build reads.
pub(crate) struct Inputs {
    pub(crate) source: Source,
    /// What COPY takes files from; nothing if only a Dockerfile came on stdin.
    pub(crate) tree: Option<Arc<dyn Tree>>,
    /// What the ignore file hides of it.
    pub(crate) ignored: Patterns,
}

/// Brings the files of what is elsewhere.
type FetchTree<'a> = dyn Fn(&Remote) -> Result<Arc<dyn Tree>, Failure> + 'a;

/// What contexts need besides a directory.
pub(crate) struct Places<'a> {
    /// Where what cannot be read twice is written to.
    pub(crate) scratch: &'a Path,
    /// Is told so before.
    pub(crate) note: &'a dyn Fn(&str),
    /// Fetches a repository, or lists what a bucket or hub has.
    pub(crate) fetch: &'a FetchTree<'a>,
    /// Whether a repository's context has a `.git` directory.
    pub(crate) keeps_git_dir: bool,
}

impl Source {
    /// Reads `file`, or stdin if that is `-`; without it the Dockerfile in the context.
    fn read(context: &Path, file: Option<&Path>) -> Result<Self, Failure> {
        let path = path(context, file);
        if path.as_os_str() != "-" {
            let bytes = read(&path, "the Dockerfile")?;
            return Ok(Self { name: path.display().to_string(), bytes });
        }
        Self::of_stdin(Vec::new())
    }

    /// The rest of stdin, of which `start` was read.
    fn of_stdin(mut start: Vec<u8>) -> Result<Self, Failure> {
        let read = std::io::stdin().take(TEXT_MAX).read_to_end(&mut start);
        read.map_err(|error| Failure::input(format!("cannot read the Dockerfile from stdin: {error}")))?;
        Ok(Self { name: "stdin".to_owned(), bytes: start })
    }

    /// What may be shown of a Dockerfile that cannot be understood; the spans of the error fit it.
    pub(crate) fn text(&self) -> String {
        ocib_dockerfile::redacted_text(&String::from_utf8_lossy(&self.bytes))
    }

    pub(crate) fn parse(&self) -> Result<Dockerfile, ocib_dockerfile::Error> {
        ocib_dockerfile::parse(&self.bytes)
    }
}

impl Inputs {
    /// Reads what `context` and `file` name.
    pub(crate) fn read(context: &str, file: Option<&Path>, places: &Places<'_>) -> Result<Self, Failure> {
        if context == "-" {
            return Self::of_stdin(file, places);
        }
        if let Some(mut remote) = sources::remote(context)? {
            if let Remote::Git(reference) = &mut remote {
                reference.keep_git_dir = Some(reference.keep_git_dir == Some(true) || places.keeps_git_dir);
            }
            let name = match &remote {
                Remote::Git(reference) => reference.to_string(),
                Remote::Url { url, .. } => url.clone(),
            };
            return Self::of_tree((places.fetch)(&remote)?, file, &name);
        }
        let tree = open_directory(Path::new(context))?;
        let source = Source::read(Path::new(context), file)?;
        let ignored = ignored(Path::new(context), file)?;
        Ok(Self { source, tree: Some(tree), ignored })
    }

    /// As docker: stdin is an archive of the whole context, or else the Dockerfile itself.
    fn of_stdin(file: Option<&Path>, places: &Places<'_>) -> Result<Self, Failure> {
        let Places { scratch, note, .. } = *places;
        let mut start = Vec::new();
        let read = std::io::stdin().take(START_BYTES).read_to_end(&mut start);
        read.map_err(|error| Failure::input(format!("cannot read the context from stdin: {error}")))?;
        let is_tar = || ocib_image::is_archive(Box::new(Cursor::new(start.clone())));
        if ArchiveCodec::sniff(&start).is_none() && !is_tar() {
            return match file {
                Some(file) => Err(Failure::input("stdin is no archive, so there is no context")
                    .help(format!("leave --file {} out to build the Dockerfile on stdin", file.display()))),
                None => {
                    Ok(Self { source: Source::of_stdin(start)?, tree: None, ignored: Patterns::default() })
                }
            };
        }
        note(&format!("the context on stdin cannot be read twice: it is written to {}", scratch.display()));
        let all = Box::new(Cursor::new(start).chain(std::io::stdin()));
        let progress = Progress::unwatched();
        let archive = Archive::spool(all, "stdin", &Scratch { directory: scratch, progress: &progress })
            .map_err(|error| {
                Failure::input(error.to_string())
                    .help("name a directory that can be written with --scratch-dir")
            })?;
        note(&format!("{} bytes written for the context", archive.spooled_bytes().unwrap_or_default()));
        Self::of_tree(Arc::new(archive), file, "the context on stdin")
    }

    /// A context with everything in it; only of one that is not on stdin the Dockerfile may be there.
    fn of_tree(tree: Arc<dyn Tree>, file: Option<&Path>, context: &str) -> Result<Self, Failure> {
        if file.is_some_and(|file| file.as_os_str() == "-") {
            let ignored = tree::ignored(&*tree, None)?;
            return Ok(Self { source: Source::of_stdin(Vec::new())?, tree: Some(tree), ignored });
        }
        let names = match file {
            Some(file) => vec![file.display().to_string()],
            None => vec!["Dockerfile".to_owned(), "dockerfile".to_owned()],
        };
        for name in &names {
            if let Some(bytes) = tree::read(&*tree, name)? {
                let ignored = tree::ignored(&*tree, Some(name))?;
                let source = Source { name: name.clone(), bytes };
                return Ok(Self { source, tree: Some(tree), ignored });
            }
        }
        Err(Failure::input(format!("{context} has no {}", names[0])))
    }
}

/// The directory of a context.
pub(crate) fn open_directory(path: &Path) -> Result<Arc<dyn Tree>, Failure> {
    let text = path.to_string_lossy();
    if text.contains("://") || text.starts_with("git@") {
        let message = format!(
            "{text}: contexts are directories, git repositories (http URLs that end in .git), s3://, gs://, hf:// and tar \
             archives on stdin"
        );
        return Err(Failure::input(message).help("download it, then give the directory"));
    }
    match Directory::open(path) {
        Ok(directory) => Ok(Arc::new(directory)),
        Err(error) => Err(Failure::input(error.to_string())
            .help("the build context is an existing directory, a git repository, or - for stdin")),
    }
}

fn path(context: &Path, file: Option<&Path>) -> PathBuf {
    let lower_case = context.join("dockerfile");
    match file {
        Some(path) => path.to_owned(),
        None if !context.join("Dockerfile").exists() && lower_case.exists() => lower_case,
        None => context.join("Dockerfile"),
    }
}

/// The ignore file of this very Dockerfile, else that of the context.
fn ignored(context: &Path, file: Option<&Path>) -> Result<Patterns, Failure> {
    let mut own = path(context, file).into_os_string();
    own.push(".dockerignore");
    let own = PathBuf::from(own);
    ignore_file(&if own.is_file() { own } else { context.join(".dockerignore") })
}

/// The patterns of a file; none if it is not there.
pub(crate) fn ignore_file(path: &Path) -> Result<Patterns, Failure> {
    match path.is_file() {
        true => patterns(&path.display().to_string(), &read(path, "the ignore file")?),
        false => Ok(Patterns::default()),
    }
}

pub(crate) fn patterns(name: &str, text: &[u8]) -> Result<Patterns, Failure> {
    Patterns::parse_ignore_file(text).map_err(|error| Failure::input(format!("{name}: {error}")))
}

/// `--build-arg`: as in buildx a name alone takes the environment's value, or counts as not given.
pub(crate) fn build_args(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = BTreeMap::new();
    for text in texts {
        match text.split_once('=') {
            Some(("", _)) => return Err(Failure::usage("--build-arg has no name, expected NAME=VALUE")),
            Some((name, value)) => drop(all.insert(name.to_owned(), value.to_owned())),
            None => all.extend(std::env::var(text).ok().map(|value| (text.clone(), value))),
        }
    }
    Ok(all)
}

/// The content of a file that is text.
pub(crate) fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    let open = || {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(TEXT_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    open().map_err(|error: std::io::Error| {
        Failure::input(format!("cannot read {what} {}: {error}", path.display()))
    })
}
