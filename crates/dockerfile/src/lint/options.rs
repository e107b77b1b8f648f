//! The `# check=…` directive.

use super::{RULES, Shown, Warning, rule};
use crate::Dockerfile;

/// What the directive says (BuildKit, `linter.ParseLintOptions`).
#[derive(Debug, Default)]
pub(super) struct CheckOptions {
    skip: Names,
    experimental: Names,
    is_error: bool,
}

#[derive(Debug, Default)]
enum Names {
    #[default]
    None,
    All,
    These(Vec<String>),
}

impl Names {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            names => Self::These(names.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn contain(&self, rule: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(names) => names.iter().any(|name| name == rule),
        }
    }
}

impl CheckOptions {
    /// Options that no build takes are reported and have no effect.
    pub(super) fn of(dockerfile: &Dockerfile, warnings: &mut Vec<Warning>) -> Self {
        let mut options = Self::default();
        let Some(directive) = &dockerfile.directives.check else { return options };
        for option in directive.value.split(';') {
            if let Err(message) = options.set(option) {
                warnings.push(Warning::new(rule::INVALID_CHECK_OPTION, message, directive.span));
            }
        }
        options
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name.trim() {
            "skip" => self.skip = Names::parse(value),
            "experimental" => self.experimental = Names::parse(value),
            "error" => {
                self.is_error = boolean(value.trim()).ok_or_else(|| {
                    format!("Check option error should be true or false, found {:?}", value.trim())
                })?;
            }
            name => {
                return Err(format!("Check option {name:?} should be one of skip, error and experimental"));
            }
        }
        Ok(())
    }

    /// As in BuildKit `skip` has no say in what `experimental` names.
    pub(super) fn shows(&self, rule: &str, advice: bool) -> bool {
        match RULES.iter().find(|known| known.name == rule).map(|known| known.shown) {
            Some(Shown::OnRequest) => self.experimental.contain(rule),
            Some(Shown::OnCheck) => advice && !self.skip.contain(rule),
            Some(Shown::Always) | None => !self.skip.contain(rule),
        }
    }
}

/// Whether a `# check=error=true` directive wants findings to fail a build.
pub fn warnings_are_errors(dockerfile: &Dockerfile) -> bool {
    CheckOptions::of(dockerfile, &mut Vec::new()).is_error
}

/// What is wrong with a `# check=…` directive, if it is: BuildKit then builds nothing, whatever else it skips.
pub fn bad_check_option(dockerfile: &Dockerfile) -> Option<Warning> {
    let mut found = Vec::new();
    CheckOptions::of(dockerfile, &mut found);
    found.into_iter().next()
}

/// Whether findings of a rule are wanted during a build: for whoever finds what this crate cannot, since it
/// knows no images. The rule may be one that is not in [`RULES`].
///
/// ```
/// use ocib_dockerfile::{parse, warns_of};
///
/// let dockerfile = parse(b"# check=skip=InvalidBaseImagePlatform\nFROM alpine\n")?;
/// assert!(!warns_of(&dockerfile, "InvalidBaseImagePlatform"));
/// # Ok::<(), ocib_dockerfile::Error>(())
/// ```
pub fn warns_of(dockerfile: &Dockerfile, rule: &str) -> bool {
    CheckOptions::of(dockerfile, &mut Vec::new()).shows(rule, false)
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
