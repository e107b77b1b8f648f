//! Repositories of ECR: how they are set up, and how a new one shall be.

use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability, Repository,
};

/// How a repository is set up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EcrRepository {
    /// Its ARN.
    pub arn: String,
    /// Its name with the registry's host.
    pub uri: String,
    /// Which tags can be moved.
    pub tags: TagMutability,
    /// How its layers are encrypted.
    pub encryption: Encryption,
    /// Whether images are scanned when they are pushed.
    pub scan_on_push: bool,
}

/// Which tags can be moved to another image (ECR, "Preventing image tags from being overwritten").
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum TagMutability {
    /// All but those that these filters match.
    Mutable {
        /// Filters, in which `*` stands for any text.
        except: Vec<String>,
    },
    /// None but those that these filters match.
    Immutable {
        /// Filters, in which `*` stands for any text.
        except: Vec<String>,
    },
    /// A setting that this version does not know.
    #[default]
    Unknown,
}

impl TagMutability {
    /// Whether `tag` stays where it is once it is there; `None` if that is not known.
    ///
    /// ```
    /// use ocib_store::TagMutability;
    /// let tags = TagMutability::Immutable { except: vec!["dev-*".to_owned()] };
    /// assert_eq!((tags.is_fixed("1.0"), tags.is_fixed("dev-7")), (Some(true), Some(false)));
    /// ```
    pub fn is_fixed(&self, tag: &str) -> Option<bool> {
        let has = |filters: &[String]| filters.iter().any(|filter| matches(filter, tag));
        match self {
            Self::Mutable { except } => Some(has(except)),
            Self::Immutable { except } => Some(!has(except)),
            Self::Unknown => None,
        }
    }
}

/// Whether `filter`, in which `*` stands for any text, is `tag`.
fn matches(filter: &str, tag: &str) -> bool {
    let Some((start, rest)) = filter.split_once('*') else { return filter == tag };
    let Some(tag) = tag.strip_prefix(start) else { return false };
    (0..=tag.len()).filter(|at| tag.is_char_boundary(*at)).any(|at| matches(rest, &tag[at..]))
}

/// How layers are encrypted at rest (ECR, "Encryption at rest").
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Encryption {
    /// With keys of ECR.
    #[default]
    Aes256,
    /// With a key of KMS: this one, or the account's own for ECR.
    Kms(Option<String>),
    /// In a way that this version does not know.
    Other(String),
}

/// How a repository shall be set up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewRepository {
    /// Whether images are scanned when they are pushed.
    pub scan_on_push: bool,
    /// How its layers are encrypted; it cannot be changed later.
    pub encryption: Encryption,
    /// Whether a tag stays where it is.
    pub immutable_tags: bool,
    /// The text of a lifecycle policy (JSON).
    pub lifecycle_policy: Option<String>,
}

impl NewRepository {
    /// Whether nothing is asked of it, as ECR Public has no such settings.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

impl EcrRepository {
    pub(super) fn of(repository: &Repository) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let filters = repository.image_tag_mutability_exclusion_filters();
        let except = filters.iter().map(|filter| filter.filter().to_owned()).collect();
        let tags = match repository.image_tag_mutability() {
            Some(ImageTagMutability::Mutable) => TagMutability::Mutable { except: Vec::new() },
            Some(ImageTagMutability::MutableWithExclusion) => TagMutability::Mutable { except },
            Some(ImageTagMutability::Immutable) => TagMutability::Immutable { except: Vec::new() },
            Some(ImageTagMutability::ImmutableWithExclusion) => TagMutability::Immutable { except },
            _ => TagMutability::Unknown,
        };
        let scanning = repository.image_scanning_configuration();
        Self {
            arn: text(repository.repository_arn()),
            uri: text(repository.repository_uri()),
            tags,
            encryption: encryption(repository.encryption_configuration()),
            scan_on_push: scanning.is_some_and(ImageScanningConfiguration::scan_on_push),
        }
    }
}

fn encryption(configuration: Option<&EncryptionConfiguration>) -> Encryption {
    // Repositories from before there was a choice have none.
    let Some(configuration) = configuration else { return Encryption::Aes256 };
    match configuration.encryption_type() {
        EncryptionType::Aes256 => Encryption::Aes256,
        EncryptionType::Kms => Encryption::Kms(configuration.kms_key().map(str::to_owned)),
        other => Encryption::Other(other.as_str().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_tags() {
        for (filter, tag, expected) in [
            ("latest", "latest", true),
            ("latest", "latest-1", false),
            ("dev-*", "dev-1", true),
            ("dev-*", "dev-", true),
            ("dev-*", "prod-dev-1", false),
            ("*-rc*", "1.0-rc2", true),
            ("*-rc*", "1.0", false),
            ("*", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
        ] {
            assert_eq!(matches(filter, tag), expected, "{filter} {tag}");
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        assert_eq!(TagMutability::Unknown.is_fixed("1.0"), None);
        assert_eq!(TagMutability::Mutable { except: vec!["v*".into()] }.is_fixed("v1"), Some(true));
        assert_eq!(TagMutability::Mutable { except: Vec::new() }.is_fixed("v1"), Some(false));
    }
}
