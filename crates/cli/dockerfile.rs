//! What a build reads: the Dockerfile, the context with its ignore file, values of ARGs.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use ocib_dockerfile::{Dockerfile, Patterns};
use ocib_image::{ArchiveCodec, Progress, Tree};
use ocib_source::{Archive, Directory, Scratch};

use crate::diagnostic::Failure;

/// Dockerfiles and ignore files hold text, not data; a larger one is a mistake.
const TEXT_MAX: u64 = 16 << 20;
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
    /// Reads what `context` and `file` name. A tar on stdin is written to `scratch`, since it cannot be
    /// read twice; `note` is told so before.
    pub(crate) fn read(
        context: &str,
        file: Option<&Path>,
        scratch: &Path,
        note: &dyn Fn(&str),
    ) -> Result<Self, Failure> {
        if context == "-" {
            return Self::of_stdin(file, scratch, note);
        }
        let tree = open_directory(Path::new(context))?;
        let source = Source::read(Path::new(context), file)?;
        let ignored = ignored(Path::new(context), file)?;
        Ok(Self { source, tree: Some(tree), ignored })
    }

    /// As docker: stdin is an archive of the whole context, or else the Dockerfile itself.
    fn of_stdin(file: Option<&Path>, scratch: &Path, note: &dyn Fn(&str)) -> Result<Self, Failure> {
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
        Self::of_archive(Arc::new(archive), file)
    }

    fn of_archive(tree: Arc<dyn Tree>, file: Option<&Path>) -> Result<Self, Failure> {
        let name = file.map_or_else(|| "Dockerfile".to_owned(), |file| file.display().to_string());
        let missing = || Failure::input(format!("the context on stdin has no {name}"));
        let bytes = read_in(&*tree, &name)?.ok_or_else(missing)?;
        let own = format!("{name}.dockerignore");
        let (ignore_name, ignore) = match read_in(&*tree, &own)? {
            Some(bytes) => (own, Some(bytes)),
            None => (".dockerignore".to_owned(), read_in(&*tree, ".dockerignore")?),
        };
        let ignored = patterns(&ignore_name, &ignore.unwrap_or_default())?;
        Ok(Self { source: Source { name, bytes }, tree: Some(tree), ignored })
    }
}

/// A file of a tree, if it is there.
fn read_in(tree: &dyn Tree, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::input(format!("cannot read {name}: {error}"));
    let path = name.trim_start_matches("./").as_bytes();
    if tree.stat(path).map_err(|error| bad(&error))?.is_none() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let file = tree.open(path, 0).map_err(|error| bad(&error))?;
    file.take(TEXT_MAX).read_to_end(&mut bytes).map_err(|error| bad(&error))?;
    Ok(Some(bytes))
}

/// The directory of a context.
pub(crate) fn open_directory(path: &Path) -> Result<Arc<dyn Tree>, Failure> {
    let text = path.to_string_lossy();
    if text.contains("://") || text.starts_with("git@") {
        let message = format!("{text}: this version builds from directories and from tar archives on stdin");
        return Err(Failure::input(message).help("clone or download it, then give the directory"));
    }
    match Directory::open(path) {
        Ok(directory) => Ok(Arc::new(directory)),
        Err(error) => Err(Failure::input(error.to_string())
            .help("the build context is an existing directory, or - for stdin")),
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

fn patterns(name: &str, text: &[u8]) -> Result<Patterns, Failure> {
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
