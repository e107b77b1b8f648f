//! COPY and ADD.

use super::{Command, Keyword, Statement, json_or_words};
use crate::{
    Error, Heredoc, Spanned,
    flags::{Flags, KnownFlags},
    heredoc,
};

/// What COPY or ADD brings where. The flags of the other instruction are always `None` or false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// COPY `--from`: a stage's name or number, or an image. Does not expand; `$` in it is an
    /// error once the stage is built, which is not checked here.
    pub from: Option<Spanned<String>>,
    /// `--chown`; expands.
    pub chown: Option<Spanned<String>>,
    /// `--chmod`; expands.
    pub chmod: Option<Spanned<String>>,
    /// `--link`.
    pub link: bool,
    /// COPY `--parents`.
    pub parents: bool,
    /// `--exclude` patterns in order, see [`Patterns`](crate::Patterns). They do not expand.
    pub exclude: Vec<Spanned<String>>,
    /// ADD `--checksum`; expands.
    pub checksum: Option<Spanned<String>>,
    /// ADD `--unpack`.
    pub unpack: Option<bool>,
    /// ADD `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// The sources that are no heredocs, in order; each expands.
    pub sources: Vec<Spanned<String>>,
    /// The sources that are heredocs, in order: files with the heredoc's name and content. BuildKit
    /// copies all `sources` first, whatever the order on the line. Names do not expand, content
    /// does if [`Heredoc::expand`] says so.
    pub heredocs: Vec<Heredoc>,
    /// The last argument; expands.
    pub destination: Spanned<String>,
}

pub(super) const ADD: KnownFlags = KnownFlags {
    text: &["chown", "chmod", "checksum"],
    repeatable: &["exclude"],
    boolean: &["link", "keep-git-dir", "unpack"],
};

pub(super) const COPY: KnownFlags =
    KnownFlags { text: &["chown", "chmod", "from"], repeatable: &["exclude"], boolean: &["link", "parents"] };

pub(super) fn parse(
    statement: &Statement<'_>,
    keyword: Keyword,
    heredocs: &[Heredoc],
) -> Result<Command, Error> {
    let instruction = keyword.name();
    let mut words = json_or_words(statement.args)?;
    let destination = match words.pop() {
        Some(destination) if !words.is_empty() => destination,
        _ => {
            let wanted =
                "at least two arguments, but only one was provided. Destination could not be determined";
            return Err(statement.count(instruction, wanted));
        }
    };
    let mut flags = Flags::parse(&statement.flags, keyword)?;
    if is_heredoc(&destination.value) {
        return Err(Error::HeredocDestination { instruction, span: destination.span });
    }
    let (sources, heredocs) = sources(words, heredocs);
    let transfer = Transfer {
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.switch("link")?.unwrap_or(false),
        parents: flags.switch("parents")?.unwrap_or(false),
        exclude: flags.texts("exclude"),
        checksum: flags.text("checksum"),
        unpack: flags.switch("unpack")?,
        keep_git_dir: flags.switch("keep-git-dir")?,
        sources,
        heredocs,
        destination,
    };
    Ok(if keyword == Keyword::Add { Command::Add(transfer) } else { Command::Copy(transfer) })
}

/// A delimiter with an odd quote is no heredoc to BuildKit, but a path.
fn is_heredoc(word: &str) -> bool {
    matches!(heredoc::parse_word(word), Ok(Some(_)))
}

/// Paths and heredocs apart. A heredoc gets the body of the last one with its name, or none in
/// JSON form, as in BuildKit (`parseSourcesAndDest`).
fn sources(words: Vec<Spanned<String>>, bodies: &[Heredoc]) -> (Vec<Spanned<String>>, Vec<Heredoc>) {
    let (mut paths, mut heredocs) = (Vec::new(), Vec::new());
    for word in words {
        let Ok(Some(announced)) = heredoc::parse_word(&word.value) else {
            paths.push(word);
            continue;
        };
        let body = bodies.iter().rfind(|body| body.name == announced.name);
        let content = body.map(|body| body.content.as_str()).unwrap_or_default();
        let content =
            if announced.chomp { heredoc::without_leading_tabs(content) } else { content.to_owned() };
        heredocs.push(Heredoc { content, span: word.span, ..announced });
    }
    (paths, heredocs)
}
