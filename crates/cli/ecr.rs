//! What a build does for ECR: the flags, and the policy that it prints.

use std::path::PathBuf;

use clap::Args;
use ocib_image::{ImageName, Reference};
use ocib_store::{EcrAuth, EcrHost, Encryption, NewRepository, PolicyOptions, iam_policy};

use crate::{diagnostic::Failure, dockerfile, report};

/// Flags for ECR.
#[derive(Args, Debug)]
pub(crate) struct Ecr {
    /// Create the repository in ECR if it is missing; with settings, which ECR Public does not have: scan (on
    /// push), kms[=KEY] (in place of AES256), immutable (tags).
    #[arg(
        long,
        value_name = "SETTING,…",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub(crate) ecr_create_repository: Option<String>,

    /// The lifecycle policy (JSON) of a repository that is created.
    #[arg(long, value_name = "FILE", requires = "ecr_create_repository")]
    pub(crate) ecr_lifecycle_policy: Option<PathBuf>,

    /// Print the least permissions that the build needs in AWS, as a policy for IAM, and do nothing else.
    #[arg(long)]
    pub(crate) print_iam_policy: bool,
}

impl Ecr {
    /// How a missing repository is created, if it is.
    pub(crate) fn new_repository(&self) -> Result<Option<NewRepository>, Failure> {
        let Some(settings) = &self.ecr_create_repository else { return Ok(None) };
        let mut new = NewRepository::default();
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                None if setting == "scan" => new.scan_on_push = true,
                None if setting == "immutable" => new.immutable_tags = true,
                None if setting == "kms" => new.encryption = Encryption::Kms(None),
                Some(("kms", key)) if !key.is_empty() => {
                    new.encryption = Encryption::Kms(Some(key.to_owned()));
                }
                _ => {
                    let message = format!("--ecr-create-repository: {setting:?} is no setting");
                    return Err(Failure::usage(message).help("expected scan, kms, kms=KEY or immutable"));
                }
            }
        }
        if let Some(path) = &self.ecr_lifecycle_policy {
            let text = dockerfile::read(path, "the lifecycle policy")?;
            if serde_json::from_slice::<serde_json::Value>(&text).is_err() {
                return Err(Failure::usage(format!(
                    "--ecr-lifecycle-policy {}: it is no JSON",
                    path.display()
                )));
            }
            new.lifecycle_policy = Some(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(Some(new))
    }

    /// Prints the policy of what is pushed under `tags` and reads `images`.
    pub(crate) fn print_policy(
        &self,
        tags: &[Reference],
        images: impl IntoIterator<Item = ImageName>,
        auth: &EcrAuth,
    ) -> Result<(), Failure> {
        let place = |reference: &Reference| -> Option<(EcrHost, String)> {
            Some((auth.host(reference.registry())?, reference.repository().to_owned()))
        };
        let pushes: Vec<_> = tags.iter().filter_map(place).collect();
        let of_registry = |name: ImageName| match name {
            ImageName::Registry(reference) => place(&reference),
            _ => None,
        };
        let mut pulls: Vec<_> = images.into_iter().filter_map(of_registry).collect();
        // Everybody may read there.
        pulls.retain(|(host, _)| !host.is_public());
        if pushes.is_empty() && pulls.is_empty() {
            return Err(Failure::usage("the build needs no permission of ECR")
                .help("name an image there with --tag; --ecr-host declares a registry under another name"));
        }
        let options = PolicyOptions {
            creates: self.ecr_create_repository.is_some(),
            sets_lifecycle: self.ecr_lifecycle_policy.is_some(),
            describes: false,
        };
        report::result(iam_policy(&pushes, &pulls, options).trim_end());
        Ok(())
    }
}
