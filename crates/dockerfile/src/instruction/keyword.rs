//! The names of the instructions, and their flags.

use super::{healthcheck, run, transfer};
use crate::{flags::KnownFlags, stage};

/// An instruction's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
}

const ALL: [(&str, Keyword); 18] = [
    ("ADD", Keyword::Add),
    ("ARG", Keyword::Arg),
    ("CMD", Keyword::Cmd),
    ("COPY", Keyword::Copy),
    ("ENTRYPOINT", Keyword::Entrypoint),
    ("ENV", Keyword::Env),
    ("EXPOSE", Keyword::Expose),
    ("FROM", Keyword::From),
    ("HEALTHCHECK", Keyword::Healthcheck),
    ("LABEL", Keyword::Label),
    ("MAINTAINER", Keyword::Maintainer),
    ("ONBUILD", Keyword::Onbuild),
    ("RUN", Keyword::Run),
    ("SHELL", Keyword::Shell),
    ("STOPSIGNAL", Keyword::Stopsignal),
    ("USER", Keyword::User),
    ("VOLUME", Keyword::Volume),
    ("WORKDIR", Keyword::Workdir),
];

/// The names in capitals.
pub(crate) const NAMES: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = ALL[at].0;
        at += 1;
    }
    names
};

impl Keyword {
    /// The instruction that `word` names, in any letter case.
    pub(crate) fn of(word: &str) -> Option<Self> {
        ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|&(_, keyword)| keyword)
    }

    /// In capitals.
    pub(crate) fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// What it may have before its arguments. ARG and STOPSIGNAL take any flag, as nobody looks at them.
    pub(crate) fn flags(self) -> &'static KnownFlags {
        match self {
            Self::Add => &transfer::ADD,
            Self::Copy => &transfer::COPY,
            Self::From => &stage::FLAGS,
            Self::Healthcheck => &healthcheck::FLAGS,
            Self::Run => &run::FLAGS,
            _ => &KnownFlags::NONE,
        }
    }
}

/// All instructions in the order of their names, each with the names of the flags that it has, without
/// dashes.
///
/// ```
/// use ocib_dockerfile::instruction_flags;
///
/// let from = instruction_flags().find(|(instruction, _)| *instruction == "FROM");
/// assert_eq!(from, Some(("FROM", vec!["platform"])));
/// ```
pub fn instruction_flags() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    ALL.into_iter().map(|(name, keyword)| (name, keyword.flags().all().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keywords_agree() {
        for (name, keyword) in ALL {
            assert_eq!((keyword.name(), Keyword::of(&name.to_lowercase())), (name, Some(keyword)));
        }
    }
}
