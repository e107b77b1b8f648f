//! What others said, as parts of messages.

use std::fmt;

/// One thing that a registry said about a failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegistryCode {
    /// Its code, such as `DENIED`; empty where the registry sent plain text.
    pub code: String,
    /// Its words.
    pub message: String,
}

impl RegistryCode {
    /// Whether it says that a token is past its end, as ECR does with the status 403.
    pub(crate) fn says_expired(&self) -> bool {
        self.message.contains("expired") || self.message.contains("Expired")
    }
}

/// What AWS said, as the end of a sentence.
pub(super) struct After<'a>(pub(super) &'a str, pub(super) &'a str);

impl fmt::Display for After<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        [self.0, self.1].iter().filter(|text| !text.is_empty()).try_for_each(|text| write!(f, ": {text}"))
    }
}

/// What a token allows.
pub(super) struct Actions<'a>(pub(super) &'a [String]);

impl fmt::Display for Actions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("nothing"),
            actions => f.write_str(&actions.join(" and ")),
        }
    }
}

/// The images that there are.
pub(super) struct Images<'a>(pub(super) &'a [String]);

impl fmt::Display for Images<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("no images"),
            names => write!(f, "the images {}", names.join(", ")),
        }
    }
}

/// What a registry said, as the end of a sentence.
pub(super) struct Said<'a>(pub(super) &'a [RegistryCode]);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, RegistryCode { code, message }) in self.0.iter().enumerate() {
            let before = if at == 0 { ": " } else { "; " };
            let between = if code.is_empty() || message.is_empty() { "" } else { ": " };
            write!(f, "{before}{code}{between}{message}")?;
        }
        Ok(())
    }
}
