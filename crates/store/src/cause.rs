//! Causes of failures, and what to do about each: one table for messages, preflight and `ocib explain`.
//!
//! A cause is found in two ways. An [`Error`] of this crate says by its variant what it is, or holds a
//! stranger's words, and only those are searched: a repository may be called `expired`. Plain text, such
//! as a log of docker, Kaniko or the AWS CLI, is searched line by line. Either way the first row of the
//! table that fits counts, so rows stand from the particular to the general.

mod table;

use std::fmt::Write;

use ocib_image::{PlaceError, PlaceErrorKind};

use crate::{Error, IamDenial};

/// Why something failed, and what to do next.
#[derive(Debug)]
pub struct Cause {
    /// Its name in messages, JSON and links; it never changes.
    pub id: &'static str,
    /// What happened, in a few words.
    pub title: &'static str,
    /// What to do. `{action}`, `{identity}`, `{resource}` and `{repository}` stand for what the failure
    /// names.
    remedy: &'static str,
    /// What kind of failure it is where only its text is known.
    pub kind: PlaceErrorKind,
    /// It is this cause if all texts of one row are there, in lower case.
    signs: &'static [&'static [&'static str]],
}

/// A cause that was found, with what the failure says of it.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The cause.
    pub cause: &'static Cause,
    denial: Option<IamDenial>,
    repository: Option<String>,
}

impl Cause {
    /// All causes, the particular before the general.
    ///
    /// ```
    /// assert!(ocib_store::Cause::all().any(|cause| cause.id == "token-expired"));
    /// ```
    pub fn all() -> impl Iterator<Item = &'static Self> {
        table::ALL.iter().copied().flatten()
    }

    /// The cause with this id.
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|cause| cause.id == id)
    }

    /// What to do, without anything that one failure names.
    pub fn general_remedy(&self) -> String {
        Diagnosis { cause: Self::named(self.id).unwrap_or(&table::OTHER), denial: None, repository: None }
            .remedy()
    }

    fn fits(&self, text: &str) -> bool {
        self.signs.iter().any(|row| row.iter().all(|sign| text.contains(sign)))
    }
}

impl Diagnosis {
    /// The cause of an error of this crate.
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Mirrors { source, .. } => return Self::of(source),
            Error::Place(place) => return Self::of_place(place),
            _ => {}
        }
        match variant(error) {
            Some(id) => Cause::named(id).map(|cause| Self::new(cause, &error.to_string())),
            None => Self::of_text(&words(error)),
        }
    }

    /// The cause of an error of any place.
    pub fn of_place(error: &PlaceError) -> Option<Self> {
        match error.story().downcast_ref::<Error>() {
            Some(ours) => Self::of(ours),
            None => Self::of_text(&error.to_string()),
        }
    }

    /// The cause that `text`, one message of any program, speaks of.
    ///
    /// ```
    /// use ocib_store::Diagnosis;
    /// let text = "denied: Your authorization token has expired. Reauthenticate and try again.";
    /// assert_eq!(Diagnosis::of_text(text).map(|found| found.cause.id), Some("token-expired"));
    /// ```
    pub fn of_text(text: &str) -> Option<Self> {
        let lower = text.to_lowercase();
        Cause::all().find(|cause| cause.fits(&lower)).map(|cause| Self::new(cause, text))
    }

    /// The cause of that id, which somebody found in `text`.
    pub fn named(id: &str, text: &str) -> Option<Self> {
        Cause::named(id).map(|cause| Self::new(cause, text))
    }

    /// Every cause that a log speaks of, each once, in the order of its lines; or what all lines
    /// together say, if none of them does.
    pub fn all_of_log(text: &str) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for diagnosis in text.lines().filter_map(Self::of_text) {
            if !found.iter().any(|known| known.cause.id == diagnosis.cause.id) {
                found.push(diagnosis);
            }
        }
        if found.is_empty() {
            let joined: Vec<&str> = text.split_whitespace().collect();
            found.extend(Self::of_text(&joined.join(" ")));
        }
        found
    }

    /// The permission that is missing, if that is the cause.
    pub fn denial(&self) -> Option<&IamDenial> {
        self.denial.as_ref()
    }

    /// What to do, with what the failure names.
    pub fn remedy(&self) -> String {
        let denial = self.denial.as_ref();
        let of = |part: fn(&IamDenial) -> Option<&str>, otherwise: &str| {
            denial.and_then(part).unwrap_or(otherwise).to_owned()
        };
        let names = [
            ("{action}", of(|denial| Some(&denial.action), "that the message names")),
            ("{identity}", of(|denial| denial.identity.as_deref(), "the identity")),
            ("{resource}", of(|denial| denial.resource.as_deref(), "the repository")),
            ("{repository}", self.repository.clone().unwrap_or_else(|| "NAME".to_owned())),
        ];
        let mut remedy = self.cause.remedy.to_owned();
        for (placeholder, name) in names {
            remedy = remedy.replace(placeholder, &name);
        }
        remedy
    }

    fn new(cause: &'static Cause, text: &str) -> Self {
        Self { cause, denial: IamDenial::parse(text), repository: repository(text) }
    }
}

/// The repository that a message of ECR names.
fn repository(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("repository with name '")?;
    let (name, _) = rest.split_once('\'')?;
    Some(ocib_net::printable(name.as_bytes(), 300))
}

/// The cause that a variant stands for whatever its words.
fn variant(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::WrongDigest { .. } | Error::WrongSize { .. } => "content-corrupt",
        Error::TooLarge { .. } => "layer-too-large",
        Error::TooManyLayers { .. } => "too-many-layers",
        Error::TagTooLong { .. } => "tag-too-long",
        Error::TagTaken { .. } => "tag-immutable",
        Error::NoRepository { .. } => "ecr-repository-missing",
        Error::NoPublicRepository { .. } => "ecr-public-repository-missing",
        Error::NoPlatform { .. } => "platform-missing",
        Error::ForeignLayer { .. } => "foreign-layer",
        Error::ForeignRealm { .. } => "foreign-realm",
        Error::BadRealm { .. } => "bad-realm",
        Error::NeedsPassword { .. } => "needs-password",
        Error::NotGranted { .. } => "scope-downgraded",
        Error::CredentialFile { .. } => "credentials-file",
        Error::CredentialHelper { .. } => "helper-failed",
        Error::NoHelper { .. } => "helper-missing",
        Error::BadLayout { .. } => "layout-broken",
        Error::NotInLayout { .. } => "layout-image-missing",
        Error::Incomplete { .. } => "incomplete-answer",
        Error::Http(error) => return http(error),
        _ => return None,
    })
}

fn http(error: &ocib_net::Error) -> Option<&'static str> {
    use ocib_net::Error as Http;
    Some(match error {
        Http::Stalled { .. } => "stalled",
        Http::TooLong { .. } => "answer-too-long",
        Http::Redirect { .. } => "redirect-refused",
        Http::Forbidden { .. } => "plain-http-refused",
        Http::ProxyLogin { .. } => "proxy-login",
        Http::Tls { .. } => "no-system-certificates",
        _ => return None,
    })
}

/// What strangers said in `error`, without URLs and names of ours.
fn words(error: &Error) -> String {
    match error {
        Error::Registry { url, status, codes, .. } => {
            let mut text = format!("answered {}", status.as_u16());
            // ECR Public uses ECR's words, and other remedies.
            if url.to_string().starts_with(PUBLIC_ECR) {
                text.push_str(" at public.ecr.aws");
            }
            for said in codes {
                let _ = write!(text, ": {}: {}", said.code, said.message);
            }
            text
        }
        Error::Http(ocib_net::Error::Connection { why, .. }) => why.clone(),
        Error::Http(ocib_net::Error::Untrusted { why, .. }) => {
            format!("the server's certificate is not trusted: {why}")
        }
        Error::Http(ocib_net::Error::Status { status, said, .. }) => {
            format!("answered {}: {said}", status.as_u16())
        }
        other => other.to_string(),
    }
}

const PUBLIC_ECR: &str = "https://public.ecr.aws/";

#[cfg(test)]
mod tests;
