//! Places in buckets, as they are written.

use std::{fmt, str::FromStr};

use super::BucketProblem;
use crate::Error;

/// A place in a bucket: `s3://BUCKET[/PREFIX]` or `gs://BUCKET[/PREFIX]`.
///
/// ```
/// let location: ocib_source::BucketLocation = "s3://models/llama/8b".parse()?;
/// assert_eq!((&*location.bucket, &*location.key), ("models", "llama/8b"));
/// # Ok::<(), ocib_source::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BucketLocation {
    /// Whose bucket.
    pub provider: Provider,
    /// Its name.
    pub bucket: String,
    /// The object, or what the keys of the objects begin with up to a slash; empty for the whole bucket.
    pub key: String,
}

/// Who keeps a bucket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Provider {
    /// Amazon S3, or a store that speaks its API.
    S3,
    /// Google Cloud Storage.
    Gcs,
}

impl Provider {
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3://",
            Self::Gcs => "gs://",
        }
    }
}

impl BucketLocation {
    /// Whether `text` is meant as one.
    pub fn is_meant(text: &str) -> bool {
        [Provider::S3, Provider::Gcs].iter().any(|provider| text.starts_with(provider.scheme()))
    }

    fn parsed(text: &str) -> Result<Self, &'static str> {
        let providers = [Provider::S3, Provider::Gcs];
        let split = |provider: Provider| Some((provider, text.strip_prefix(provider.scheme())?));
        let (provider, rest) =
            providers.into_iter().find_map(split).ok_or("it begins neither with s3:// nor with gs://")?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        // "Bucket naming rules" of both; underscores are Google's alone, and old buckets of Amazon's.
        let is_name = |name: &str| {
            (3..=222).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && !name.contains("..")
        };
        if !is_name(bucket) {
            return Err("its bucket has a name that is none");
        }
        if key.contains(char::is_control) {
            return Err("its key has control characters");
        }
        Ok(Self { provider, bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl FromStr for BucketLocation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parsed(text).map_err(|why| Error::Bucket {
            name: ocib_net::printable(text.as_bytes(), 200),
            problem: Box::new(BucketProblem::BadLocation { why }),
        })
    }
}

impl fmt::Display for BucketLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.provider.scheme(), self.bucket)?;
        if self.key.is_empty() { Ok(()) } else { write!(f, "/{}", self.key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, expected) in [
            ("s3://models", Ok(("models", ""))),
            ("s3://models/", Ok(("models", ""))),
            ("gs://my_models.example/a b/c", Ok(("my_models.example", "a b/c"))),
            ("s3://b/x", Err("its bucket has a name that is none")),
            ("s3://u:p@bucket/x", Err("its bucket has a name that is none")),
            ("s3:///x", Err("its bucket has a name that is none")),
            ("s3://bucket/a\nb", Err("its key has control characters")),
            ("hf://a/b", Err("it begins neither with s3:// nor with gs://")),
        ] {
            let parsed = BucketLocation::parsed(text);
            let actual = parsed.as_ref().map(|place| (&*place.bucket, &*place.key)).map_err(|&why| why);
            assert_eq!(actual, expected, "{text}");
        }
    }
}
