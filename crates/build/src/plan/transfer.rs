//! COPY and ADD: words expanded, sources and destination absolute.

use ocib_dockerfile::{Span, Spanned, Transfer};

use ocib_image::{Digest, GitReference, Remote};

use super::{Action, CopyPlan, Dispatcher, Inline, Source, Step};
use crate::{Error, Problem, files::Mode, path};

impl Dispatcher<'_> {
    pub(super) fn transfer(&mut self, name: &str, transfer: &Transfer, span: Span) -> Result<Step, Error> {
        let chown = self.flag(transfer.chown.as_ref())?;
        let chmod_text = self.flag(transfer.chmod.as_ref())?;
        let chmod = match &chmod_text {
            None => Mode::Keep,
            Some(mode) => Mode::parse(&mode.value)
                .ok_or_else(|| Problem::BadMode { value: mode.value.clone() }.at(mode.span))?,
        };
        let checksum = self.flag(transfer.checksum.as_ref())?;
        let mut sources = Vec::new();
        let mut shown = Vec::new();
        for source in &transfer.sources {
            let value = self.expand(source)?;
            let source = Spanned::new(value, source.span);
            let (source, text) = match name {
                "ADD" => added(source, checksum.as_ref(), transfer)?,
                _ => copied(source)?,
            };
            sources.push(source);
            shown.push(text);
        }
        if let (Some(checksum), [_, _, ..]) = (&checksum, &sources[..]) {
            return Err(Problem::ManyChecksummed.at(checksum.span));
        }
        let mut inline = Vec::new();
        for heredoc in &transfer.heredocs {
            let content = match heredoc.expand {
                true => self
                    .expander
                    .heredoc(&heredoc.content, &self.state.variables)
                    .map_err(|error| Problem::Expand(error).at(heredoc.span))?,
                false => heredoc.content.clone(),
            };
            let file = heredoc_file(&heredoc.name).map_err(|problem| problem.at(heredoc.span))?;
            inline.push(Inline { name: heredoc.name.clone(), file, content });
        }
        let written = self.expand(&transfer.destination)?;
        let destination = path::absolute(&self.state.config.runtime.working_dir, &written);
        let from =
            transfer.from.as_ref().map(|from| self.stages.copy_origin(self.index, from)).transpose()?;

        let mut created_by = name.to_owned();
        if transfer.parents {
            created_by.push_str(" --parents");
        }
        let flag = |name: &str, value: &Option<Spanned<String>>| {
            value.as_ref().map(|value| format!(" --{name}={}", value.value)).unwrap_or_default()
        };
        created_by += &flag("chown", &chown);
        created_by += &flag("chmod", &chmod_text);
        let words = shown
            .into_iter()
            .chain(inline.iter().map(|inline| format!("<<{}", inline.name)))
            .chain([written]);
        words.for_each(|word| created_by += &format!(" {word}"));
        created_by += " # buildkit";

        let action = Action::Copy(CopyPlan {
            from,
            unpack: transfer.unpack.unwrap_or(name == "ADD"),
            unpack_remote: transfer.unpack == Some(true),
            sources,
            inline,
            destination,
            chown,
            // BuildKit makes no separate layer for a mode that it would have to look up.
            link: transfer.link && chmod == Mode::Keep,
            chmod,
            parents: transfer.parents,
            exclude: transfer.exclude.clone(),
        });
        self.commit(created_by.clone(), true);
        Ok(Step { created_by, span, action })
    }
}

impl Dispatcher<'_> {
    /// A flag's value, expanded; one that is empty then is as good as absent.
    fn flag(&self, word: Option<&Spanned<String>>) -> Result<Option<Spanned<String>>, Error> {
        let Some(word) = word else { return Ok(None) };
        let value = self.expand(word)?;
        Ok((!value.is_empty()).then(|| Spanned::new(value, word.span)))
    }
}

/// A source of COPY, which takes nothing from afar, and how history shows it.
fn copied(source: Spanned<String>) -> Result<(Source, String), Error> {
    let text = source.value.clone();
    match parse_git(&source)? {
        Some(git) if !git.is_like_path => Err(Problem::CopiedGit.at(source.span)),
        _ if is_http(&text) || is_extension(&text) => Err(Problem::CopiedUrl.at(source.span)),
        _ => Ok((Source::Path(source), text)),
    }
}

/// A source of ADD, and how history shows it: URLs without what may be secret.
fn added(
    source: Spanned<String>,
    checksum: Option<&Spanned<String>>,
    transfer: &Transfer,
) -> Result<(Source, String), Error> {
    let text = source.value.clone();
    let remote = match parse_git(&source)? {
        Some(git) if !git.is_like_path => Remote::Git(with_flags(git, checksum, transfer, source.span)?),
        _ if is_url(&text) => {
            let digest = checksum.map(parse_checksum).transpose()?;
            Remote::Url { url: text.clone(), digest }
        }
        _ => {
            return match checksum {
                Some(checksum) => Err(Problem::LocalChecksum.at(checksum.span)),
                None => Ok((Source::Path(source), text)),
            };
        }
    };
    let text = match &remote {
        Remote::Git(_) => without_user(&text),
        Remote::Url { url, .. } => redacted(url),
    };
    Ok((Source::Remote(Spanned::new(remote, source.span)), text))
}

fn parse_git(source: &Spanned<String>) -> Result<Option<GitReference>, Error> {
    GitReference::parse(&source.value).map_err(|error| Problem::BadGitReference(error).at(source.span))
}

/// What flags and options say must be the same (BuildKit, `dispatchCopy`).
fn with_flags(
    mut git: GitReference,
    checksum: Option<&Spanned<String>>,
    transfer: &Transfer,
    span: Span,
) -> Result<GitReference, Error> {
    if let (Some(flag), Some(option)) = (transfer.keep_git_dir, git.keep_git_dir)
        && flag != option
    {
        return Err(Problem::KeepGitDirConflict.at(span));
    }
    if let (Some(flag), Some(option)) = (checksum, &git.checksum)
        && flag.value != *option
    {
        let (flag_value, option) = (flag.value.clone(), option.clone());
        return Err(Problem::ChecksumConflict { flag: flag_value, option }.at(flag.span));
    }
    git.keep_git_dir = git.keep_git_dir.or(transfer.keep_git_dir);
    git.checksum = git.checksum.or_else(|| checksum.map(|flag| flag.value.clone()));
    Ok(git)
}

fn parse_checksum(written: &Spanned<String>) -> Result<Digest, Error> {
    let digest = written.value.parse();
    digest.map_err(|error| Problem::BadChecksum(error).at(written.span))
}

fn is_http(source: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| source.starts_with(scheme))
}

/// Whether it is meant to be fetched: BuildKit takes what is neither http nor git for a path, and then
/// finds nothing there.
fn is_url(source: &str) -> bool {
    is_http(source) || is_extension(source) || source.starts_with("ftp://")
}

/// Whether it is what only ocib fetches.
fn is_extension(source: &str) -> bool {
    ocib_dockerfile::ADD_EXTENSIONS.iter().any(|scheme| source.starts_with(scheme))
}

/// A URL as history may show it: not the user, password and query, which may be secret.
fn redacted(url: &str) -> String {
    without_user(url.split(['?', '#']).next().unwrap_or_default())
}

/// A repository as history may show it: all options of its query are known, and no secrets.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, rest) = rest.split_at(end);
    format!("{scheme}://{}{rest}", host.rsplit('@').next().unwrap_or_default())
}

/// The file that a heredoc becomes. BuildKit writes it into an empty root and copies it from there
/// (`dispatchCopy`), so its name may begin, end and turn around with slashes, but lead into no directory.
fn heredoc_file(name: &str) -> Result<String, Problem> {
    let path = String::from_utf8_lossy(&path::clean(name.as_bytes())).into_owned();
    let why = match path.as_str() {
        "" => "is a directory",
        path if path.contains('/') => "no such file or directory",
        _ => return Ok(path),
    };
    Err(Problem::HeredocName { name: name.to_owned(), path, why })
}
