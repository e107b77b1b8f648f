//! `--run-context`: how files that RUN needs reach a pod.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use futures_core::future::BoxFuture;
use ocib_image::PlaceError;
use ocib_kaniko::{Claim, ContextError, ContextStore, ContextUrl, ContextWay, PackedContext};
use ocib_net::Backoff;
use ocib_source::{BucketLocation, BucketUploads, ReadAhead};
use tokio::sync::Mutex;

use crate::{args::Shared, diagnostic::Failure, sources, wiring};

const FORMS: &str =
    "registry, attach, pvc:CLAIM[/PATH]:DIRECTORY, s3://BUCKET[/PREFIX] or gs://BUCKET[/PREFIX]";

/// The value of `--run-context`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RunContext {
    /// As layers of small images beside the result.
    Registry,
    /// As the input of the container, through the API server.
    Attach,
    /// On a volume.
    Claim { claim: String, path: String, directory: PathBuf },
    /// In a bucket.
    Bucket(BucketLocation),
}

impl FromStr for RunContext {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "registry" => return Ok(Self::Registry),
            "attach" => return Ok(Self::Attach),
            text if BucketLocation::is_meant(text) => {
                return text.parse().map(Self::Bucket).map_err(|error: ocib_source::Error| error.to_string());
            }
            _ => {}
        }
        let wrong = || format!("expected {FORMS}");
        let (volume, directory) =
            text.strip_prefix("pvc:").and_then(|rest| rest.split_once(':')).ok_or_else(wrong)?;
        let (claim, path) = volume.split_once('/').unwrap_or((volume, ""));
        // A name as Kubernetes takes it, and what it takes for a `subPath`.
        let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        let is_claim = !claim.is_empty() && claim.bytes().all(is_inner);
        let is_path = !path.starts_with('/') && !path.split('/').any(|part| part == "..");
        match is_claim && is_path && directory.starts_with('/') {
            true => Ok(Self::Claim {
                claim: claim.to_owned(),
                path: path.to_owned(),
                directory: directory.into(),
            }),
            false => Err(wrong()),
        }
    }
}

/// As it was given.
impl fmt::Display for RunContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry => f.write_str("registry"),
            Self::Attach => f.write_str("attach"),
            Self::Claim { claim, path, directory } if path.is_empty() => {
                write!(f, "pvc:{claim}:{}", directory.display())
            }
            Self::Claim { claim, path, directory } => write!(f, "pvc:{claim}/{path}:{}", directory.display()),
            Self::Bucket(location) => location.fmt(f),
        }
    }
}

impl RunContext {
    /// The way that is meant; nobody is asked yet.
    pub(crate) fn way(&self, shared: &Shared) -> Result<ContextWay, Failure> {
        Ok(match self {
            Self::Registry => ContextWay::Registry,
            Self::Attach => ContextWay::Attach,
            Self::Claim { claim, path, directory } => {
                ContextWay::Claim(Arc::new(Claim::new(claim, path, directory)))
            }
            Self::Bucket(location) => ContextWay::Store(Arc::new(BucketContexts::new(location, shared)?)),
        })
    }
}

/// Contexts as objects of a bucket.
#[derive(Debug)]
struct BucketContexts {
    uploads: BucketUploads,
    /// Contexts of several platforms go there one after the other, so that one's memory is enough.
    one: Mutex<()>,
}

impl BucketContexts {
    fn new(location: &BucketLocation, shared: &Shared) -> Result<Self, Failure> {
        let buckets = sources::buckets(wiring::http(shared)?, Backoff::default(), ReadAhead::default())?;
        let uploads = buckets.uploads(location).map_err(|error| Failure::of_place(&error))?;
        Ok(Self { uploads, one: Mutex::default() })
    }

    async fn put(&self, name: &str, context: &mut PackedContext) -> Result<ContextUrl, ContextError> {
        let _one = self.one.lock().await;
        let name = object(name);
        let mut upload = self.uploads.begin(&name);
        while let Some(piece) = context.next().await? {
            upload.write(&piece).await?;
        }
        upload.finish().await?;
        Ok(ContextUrl { url: self.uploads.location(&name).to_string(), environment: self.environment() })
    }

    /// What makes the executor find the bucket where this program did. Who it is there it must know itself.
    fn environment(&self) -> Vec<(String, String)> {
        let endpoint = self.uploads.endpoint().map(|url| url.as_str().trim_end_matches('/').to_owned());
        let variables = match (self.uploads.region(), endpoint) {
            (Some(region), None) => vec![("AWS_REGION", region)],
            (Some(region), Some(endpoint)) => vec![
                ("AWS_REGION", region),
                ("S3_ENDPOINT", endpoint),
                ("S3_FORCE_PATH_STYLE", "true".to_owned()),
            ],
            (None, Some(endpoint)) => vec![("STORAGE_EMULATOR_HOST", endpoint)],
            (None, None) => Vec::new(),
        };
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn object(name: &str) -> String {
    format!("{name}.tar.gz")
}

impl ContextStore for BucketContexts {
    fn put<'a>(
        &'a self,
        name: &'a str,
        context: &'a mut PackedContext,
    ) -> BoxFuture<'a, Result<ContextUrl, ContextError>> {
        Box::pin(self.put(name, context))
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), PlaceError>> {
        Box::pin(async move { self.uploads.remove(&object(name)).await })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, PlaceError>> {
        Box::pin(async {
            let name = object(&format!("ocib-preflight-{}", std::process::id()));
            self.uploads.check(&name).await?;
            let place = self.uploads.location("").to_string();
            Ok(format!("{} takes objects, and lets them be removed", place.trim_end_matches('/')))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways() {
        let claim = |claim: &str, path: &str, directory: &str| {
            Ok(RunContext::Claim {
                claim: claim.to_owned(),
                path: path.to_owned(),
                directory: directory.into(),
            })
        };
        let wrong = || Err(format!("expected {FORMS}"));
        for (text, expected) in [
            ("registry", Ok(RunContext::Registry)),
            ("attach", Ok(RunContext::Attach)),
            ("pvc:work:/work", claim("work", "", "/work")),
            ("pvc:my.work/a/b:/mnt/b", claim("my.work", "a/b", "/mnt/b")),
            ("s3://contexts/ci", Ok(RunContext::Bucket("s3://contexts/ci".parse().unwrap()))),
            ("gs://contexts", Ok(RunContext::Bucket("gs://contexts".parse().unwrap()))),
            ("pvc:work", wrong()),
            ("pvc:work:relative", wrong()),
            ("pvc:Work:/work", wrong()),
            ("pvc:work/../x:/work", wrong()),
            ("pvc::/work", wrong()),
            ("bucket", wrong()),
        ] {
            let parsed = text.parse::<RunContext>();
            assert_eq!(parsed, expected, "{text}");
            assert!(parsed.is_err() || parsed.unwrap().to_string() == text);
        }
        assert!("s3://b".parse::<RunContext>().unwrap_err().contains("bucket"));
    }
}
