//! Identities of clouds: who a credential says that ocib is, and why there is none.

use std::{fmt, time::SystemTime};

/// Who ocib is to a cloud, and until when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// What supplied the credential, such as `web identity token`.
    pub provider: String,
    /// The effective name: an ARN of AWS, an account's address of Google. `None` where the cloud
    /// would not tell.
    pub name: Option<String>,
    /// The account or project that it belongs to, where that is known.
    pub account: Option<String>,
    /// When the credential ends; `None` if it does not, or does not say so.
    pub expires: Option<SystemTime>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("unknown identity");
        write!(f, "{name}, from {}", self.provider)?;
        match self.expires {
            Some(expires) => write!(f, ", until {}", humantime::format_rfc3339_seconds(expires)),
            None => Ok(()),
        }
    }
}

/// A way to an identity that led to none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// What should have supplied the credential.
    pub provider: String,
    /// Why it did not.
    pub why: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.provider, self.why)
    }
}

/// Attempts as a list for a message.
pub(crate) struct Tried<'a>(pub(crate) &'a [Attempt]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, attempt) in self.0.iter().enumerate() {
            write!(f, "{}{attempt}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_it_is_and_until_when() {
        let mut identity = Identity {
            provider: "web identity token".into(),
            name: Some("arn:aws:sts::1:assumed-role/r/s".into()),
            account: Some("1".into()),
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)),
        };
        let expected = "arn:aws:sts::1:assumed-role/r/s, from web identity token, until 1970-01-02T00:00:00Z";
        assert_eq!(identity.to_string(), expected);
        (identity.name, identity.expires) = (None, None);
        assert_eq!(identity.to_string(), "unknown identity, from web identity token");
    }
}
