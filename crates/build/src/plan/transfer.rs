//! COPY and ADD: words expanded, sources and destination absolute.

use ocib_dockerfile::{Span, Spanned, Transfer};

use ocib_image::Digest;

use super::{Action, CopyPlan, Dispatcher, Remote, Source, Step};
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
            shown.push(redacted(&value));
            let is_remote = name == "ADD" && is_remote(&value);
            sources.push(match (is_remote, &checksum) {
                (true, checksum) => {
                    let digest = checksum.as_ref().map(parse_checksum).transpose()?;
                    Source::Remote(Spanned::new(Remote { url: value, digest }, source.span))
                }
                (false, None) => Source::Path(Spanned::new(value, source.span)),
                (false, Some(checksum)) => return Err(Problem::LocalChecksum.at(checksum.span)),
            });
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
            inline.push((heredoc.name.clone(), content));
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
        let words =
            shown.into_iter().chain(inline.iter().map(|(name, _)| format!("<<{name}"))).chain([written]);
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

fn parse_checksum(written: &Spanned<String>) -> Result<Digest, Error> {
    let digest = written.value.parse();
    digest.map_err(|error| Problem::BadChecksum(error).at(written.span))
}

/// Whether ADD would fetch it (BuildKit: HTTP URLs, and what its git reference parser takes).
fn is_remote(source: &str) -> bool {
    let has_scheme = ["http://", "https://", "git://", "ssh://", "git@", "ftp://", "s3://", "hf://"]
        .iter()
        .any(|scheme| source.starts_with(scheme));
    has_scheme || source.starts_with("github.com/")
}

/// A source as history may show it: of a URL, not the user, password and query, which may be secret.
fn redacted(url: &str) -> String {
    if !is_remote(url) {
        return url.to_owned();
    }
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) =
        rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    let host = host.rsplit('@').next().unwrap_or_default();
    if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
}
