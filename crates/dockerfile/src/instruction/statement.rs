//! A logical line cut into keyword, flags and arguments.

use super::{Keyword, keyword::NAMES};
use crate::{
    Error, Span,
    flags::{self, FlagWord},
    json,
    line::Slice,
    suggest, words,
};

/// BuildKit's `Node`, before the arguments are looked at.
#[derive(Debug)]
pub(crate) struct Statement<'l> {
    all: Slice<'l>,
    pub(crate) word: Slice<'l>,
    pub(crate) flags: Vec<FlagWord<'l>>,
    /// Without white space around it.
    pub(crate) args: Slice<'l>,
    pub(crate) escape: char,
}

impl<'l> Statement<'l> {
    pub(crate) fn split(all: Slice<'l>, escape: char) -> Self {
        let trimmed = all.trim();
        let (word, rest) = words::split_blank(trimmed);
        let rest = rest.unwrap_or_else(|| trimmed.part(trimmed.text().len(), trimmed.text().len()));
        let (flags, args) = flags::split(rest, escape);
        Self { all, word, flags, args, escape }
    }

    /// What the first word says.
    pub(crate) fn keyword(&self) -> Result<Keyword, Error> {
        let found = self.word.text();
        Keyword::of(found).ok_or_else(|| Error::UnknownInstruction {
            found: found.to_owned(),
            suggestion: suggest::nearest(found, &NAMES),
            span: self.word.span(),
        })
    }

    /// The instruction that follows ONBUILD.
    pub(crate) fn trigger(&self) -> Self {
        Self::split(self.args, self.escape)
    }

    /// Whether `<<` has a meaning on this line: in shell form of COPY, ADD and RUN, and of those
    /// behind ONBUILD.
    pub(crate) fn takes_heredocs(&self) -> Result<bool, Error> {
        match Keyword::of(self.word.text()) {
            Some(Keyword::Add | Keyword::Copy | Keyword::Run) => Ok(json::strings(self.args)?.is_none()),
            Some(Keyword::Onbuild) if Keyword::of(self.trigger().word.text()) != Some(Keyword::Onbuild) => {
                self.trigger().takes_heredocs()
            }
            _ => Ok(false),
        }
    }

    /// From the keyword to the last argument.
    pub(crate) fn span(&self) -> Span {
        self.all.trim().span()
    }

    /// The whole line, joined.
    pub(crate) fn original(&self) -> &'l str {
        self.all.text()
    }

    /// The error of a wrong number of arguments.
    pub(crate) fn count(&self, instruction: &'static str, wanted: &'static str) -> Error {
        let place = if self.args.is_empty() { self.word } else { self.args };
        Error::ArgumentCount { instruction, wanted, span: place.span() }
    }
}
