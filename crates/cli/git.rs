//! Repositories as contexts.

use std::{path::PathBuf, sync::Arc};

use ocib_image::{Events, GitReference};
use ocib_net::{Backoff, HttpOptions};
use ocib_source::{Git, GitCredentials, GitOptions};

use crate::diagnostic::Failure;

/// BuildKit's argument for a `.git` directory in the context.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Whoever fetches from repositories, with the credentials of the environment.
pub(crate) fn git(http: HttpOptions, scratch: PathBuf, events: Arc<dyn Events>) -> Git {
    let credentials = GitCredentials::from_variables(std::env::vars_os().filter_map(|(name, value)| {
        // What is no text is no credential.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    }));
    Git::new(GitOptions { http, backoff: Backoff::default(), scratch, credentials, events })
}

/// The repository that a context names; nothing if it is a directory or names something else.
pub(crate) fn reference(context: &str) -> Result<Option<GitReference>, Failure> {
    match std::path::Path::new(context).is_dir() {
        true => Ok(None),
        false => GitReference::parse(context).map_err(|error| Failure::input(error.to_string())),
    }
}

/// `BUILDKIT_CONTEXT_KEEP_GIT_DIR` among the build arguments.
pub(crate) fn keeps_git_dir(
    build_args: &std::collections::BTreeMap<String, String>,
) -> Result<bool, Failure> {
    match build_args.get(KEEP_GIT_DIR).map(String::as_str) {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => {
            Err(Failure::usage(format!("--build-arg {KEEP_GIT_DIR}: {other:?} is neither 1 nor 0")))
        }
    }
}
