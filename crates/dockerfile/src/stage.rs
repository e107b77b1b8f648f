//! Stages: FROM, and the instructions up to the next.

use crate::{
    Error, Instruction, Span, Spanned,
    flags::{Flags, KnownFlags},
    instruction::{Keyword, Statement},
    line::Slice,
    words,
};

/// A stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its number, from 0.
    pub index: usize,
    /// Its name in lower case, as BuildKit keeps it. Names may repeat.
    pub name: Option<Spanned<String>>,
    /// What it begins with.
    pub from: From,
    /// What follows FROM, in order.
    pub instructions: Vec<Instruction>,
    /// The FROM instruction.
    pub span: Span,
}

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// `scratch`, an earlier stage or an image; expands with global ARGs.
    pub image: Spanned<String>,
    /// `--platform`; expands with global ARGs.
    pub platform: Option<Spanned<String>>,
    /// The instruction in one line, with its continuations joined.
    pub original: String,
}

/// A FROM instruction.
#[derive(Debug)]
pub(crate) struct StageStart {
    name: Option<Spanned<String>>,
    from: From,
    span: Span,
}

impl StageStart {
    pub(crate) fn stage(self, index: usize) -> Stage {
        let Self { name, from, span } = self;
        Stage { index, name, from, instructions: Vec::new(), span }
    }
}

pub(crate) const FLAGS: KnownFlags = KnownFlags { text: &["platform"], repeatable: &[], boolean: &[] };

pub(crate) fn start(statement: &Statement<'_>) -> Result<StageStart, Error> {
    let arguments = words::blank_separated(statement.args);
    let (image, name) = match arguments.as_slice() {
        [image] => (image, None),
        [image, as_word, name] if as_word.text().eq_ignore_ascii_case("as") => {
            (image, Some(stage_name(*name)?))
        }
        _ => return Err(statement.count("FROM", "either one or three arguments")),
    };
    let mut flags = Flags::parse(&statement.flags, Keyword::From)?;
    let from = From {
        image: image.spanned(),
        platform: flags.text("platform"),
        original: statement.original().to_owned(),
    };
    Ok(StageStart { name, from, span: statement.span() })
}

/// `^[a-z][a-z0-9-_.]*$`, after the name has been put in lower case.
fn stage_name(word: Slice<'_>) -> Result<Spanned<String>, Error> {
    let name = word.text().to_lowercase();
    let first = name.starts_with(|c: char| c.is_ascii_lowercase());
    let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
    if first && rest {
        return Ok(Spanned::new(name, word.span()));
    }
    Err(Error::BadStageName { found: word.text().to_owned(), span: word.span() })
}
