//! ONBUILD: an instruction for images that build upon this one.

use super::{Keyword, Statement, healthcheck, no_flags, pairs};
use crate::{Error, Heredoc, json};

/// The trigger's text. It is parsed when it fires; until then only what BuildKit's first parser
/// pass would stumble over is an error.
pub(super) fn parse(statement: &Statement<'_>, heredocs: &[Heredoc]) -> Result<String, Error> {
    if statement.args.is_empty() {
        return Err(statement.count("ONBUILD", "at least one argument"));
    }
    let trigger = statement.trigger();
    let keyword = Keyword::of(trigger.word.text());
    if keyword != Some(Keyword::Onbuild) {
        check(&trigger, keyword)?;
    }
    no_flags(statement)?;
    let span = trigger.word.span();
    match keyword {
        Some(Keyword::Onbuild) => return Err(Error::ChainedOnBuild { span }),
        Some(Keyword::From | Keyword::Maintainer) => {
            return Err(Error::BadTrigger { trigger: keyword.map_or("", Keyword::name), span });
        }
        _ => {}
    }
    let original = statement.original().trim_start();
    let mut text = original[statement.word.text().len()..].trim_start().to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(text)
}

fn check(trigger: &Statement<'_>, keyword: Option<Keyword>) -> Result<(), Error> {
    match keyword {
        Some(Keyword::Env) => pairs::pairs(trigger, "ENV").map(drop),
        Some(Keyword::Label) => pairs::pairs(trigger, "LABEL").map(drop),
        Some(Keyword::Healthcheck) => healthcheck::command(trigger).map(drop),
        Some(
            Keyword::Add
            | Keyword::Copy
            | Keyword::Volume
            | Keyword::Run
            | Keyword::Cmd
            | Keyword::Entrypoint
            | Keyword::Shell,
        ) => json::strings(trigger.args).map(drop),
        _ => Ok(()),
    }
}
