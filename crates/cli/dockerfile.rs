//! What the flags say about the Dockerfile: where it is, its ignore file, values of its ARGs.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use ocib_dockerfile::{Dockerfile, Patterns};

use crate::diagnostic::Failure;

/// Dockerfiles and ignore files hold text, not data; a larger one is a mistake.
const TEXT_MAX: u64 = 16 << 20;

/// A Dockerfile as it was found.
pub(crate) struct Source {
    /// What it is called in messages: its path, or stdin.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Source {
    /// Reads `file`, or stdin if that is `-`; without it the Dockerfile in the context.
    pub(crate) fn read(context: &Path, file: Option<&Path>) -> Result<Self, Failure> {
        let path = path(context, file);
        if path.as_os_str() != "-" {
            let bytes = read(&path, "the Dockerfile")?;
            return Ok(Self { name: path.display().to_string(), bytes });
        }
        let mut bytes = Vec::new();
        let read = std::io::stdin().take(TEXT_MAX).read_to_end(&mut bytes);
        read.map_err(|error| Failure::input(format!("cannot read the Dockerfile from stdin: {error}")))?;
        Ok(Self { name: "stdin".to_owned(), bytes })
    }

    /// What the spans of [`Source::parse`]'s result count in, also where that is an error.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn parse(&self) -> Result<Dockerfile, ocib_dockerfile::Error> {
        ocib_dockerfile::parse(&self.bytes)
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
pub(crate) fn ignored(context: &Path, file: Option<&Path>) -> Result<Patterns, Failure> {
    let mut own = path(context, file).into_os_string();
    own.push(".dockerignore");
    let own = PathBuf::from(own);
    let path = if own.is_file() { own } else { context.join(".dockerignore") };
    if !path.is_file() {
        return Ok(Patterns::default());
    }
    let bytes = read(&path, "the ignore file")?;
    Patterns::parse_ignore_file(&bytes)
        .map_err(|error| Failure::input(format!("{}: {error}", path.display())))
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

fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    let open = || {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(TEXT_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    open().map_err(|error: std::io::Error| {
        Failure::input(format!("cannot read {what} {}: {error}", path.display()))
    })
}
