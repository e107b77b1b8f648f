//! Credentials: who ocib is to a registry.

use std::{fmt, time::Instant};

use futures_core::future::BoxFuture;

use crate::{PlaceError, Reference};

/// Text that must never be seen: it has no `Display`, and its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Marks `text` as secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// What proves an identity to a registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credential {
    /// A name and a password or token.
    Basic {
        /// The name.
        user: String,
        /// The password or token.
        password: Secret,
    },
    /// A name and a token of a session, whose owner gives another one when asked again.
    Session {
        /// The name.
        user: String,
        /// The token.
        token: Secret,
        /// When to ask again: some time before the token's end.
        fresh_until: Instant,
    },
    /// An OAuth2 refresh token, exchanged at the registry's token endpoint.
    IdentityToken(Secret),
}

/// Finds the credential for a repository.
pub trait Credentials: Send + Sync {
    /// The credential for `repository`, or `None` to go there anonymously.
    fn find<'a>(&'a self, repository: &'a Reference)
    -> BoxFuture<'a, Result<Option<Credential>, PlaceError>>;

    /// The registry took `credential`, which was found for `repository`, for expired or wrong: whoever
    /// keeps it must not give it again. Nothing is to be done by those who look anew each time.
    fn refused<'a>(&'a self, repository: &'a Reference, credential: &'a Credential) -> BoxFuture<'a, ()> {
        let _ = (repository, credential);
        Box::pin(std::future::ready(()))
    }
}
