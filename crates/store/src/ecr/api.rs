//! ECR's own API for one registry.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use aws_sdk_ecr::{
    Client,
    config::{
        Builder, ConfigBag, Intercept, RuntimeComponents, interceptors::FinalizerInterceptorContextRef,
        retry::RetryConfig,
    },
    error::BoxError,
    types::{
        EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
        LayerAvailability,
    },
};
use ocib_image::Digest;
use ocib_net::aws::Aws;

use super::{
    EcrHost, EcrRepository, Encryption, Known, NewRepository,
    auth::{Token, password},
    failure, refused,
};
use crate::Error;

/// One registry of ECR, by AWS's API.
///
/// Calls that are throttled or break off are tried again, six times in all. Errors carry the action
/// and AWS's words; [`Error::denial`] takes the missing permission out of them.
#[derive(Clone, Debug)]
pub struct EcrRegistry {
    pub(super) client: Client,
    pub(super) account: String,
}

/// As often as registries are asked.
const ATTEMPTS: u32 = 6;
/// What `CreateRepository` says of a repository that is there.
pub(super) const ALREADY_EXISTS: &str = "RepositoryAlreadyExistsException";
/// `BatchCheckLayerAvailability` takes so many digests.
const DIGESTS_MAX: usize = 100;

impl EcrRegistry {
    /// The registry `host` for whoever `aws` is. Nothing is asked of ECR yet.
    pub async fn open(aws: &Aws, host: &EcrHost) -> Self {
        Self { client: client(aws, host).await, account: host.account.clone() }
    }

    /// How `repository` is set up; `None` if there is none of that name. Needs
    /// `ecr:DescribeRepositories`.
    pub async fn repository(&self, repository: &str) -> Result<Known<Option<EcrRepository>>, Error> {
        let call =
            self.client.describe_repositories().registry_id(&self.account).repository_names(repository);
        let found = match call.send().await {
            Ok(found) => Ok(found.repositories().first().map(EcrRepository::of)),
            Err(error) => match failure("ecr:DescribeRepositories", error) {
                Error::Aws { code, .. } if code == "RepositoryNotFoundException" => Ok(None),
                error => Err(error),
            },
        };
        Known::of(found)
    }

    /// Creates `repository`, which was missing when somebody looked; one that is there is an error. If the answer
    /// to an attempt got lost and the next one finds it there, it was made by this call, which then goes on to
    /// set what is set afterwards. Needs `ecr:CreateRepository`, for a lifecycle policy also
    /// `ecr:PutLifecyclePolicy`.
    pub async fn create(&self, repository: &str, new: &NewRepository) -> Result<(), Error> {
        const ACTION: &str = "ecr:CreateRepository";
        let mutability = match new.immutable_tags {
            true => ImageTagMutability::Immutable,
            false => ImageTagMutability::Mutable,
        };
        let scanning = ImageScanningConfiguration::builder().scan_on_push(new.scan_on_push).build();
        let call = self
            .client
            .create_repository()
            .registry_id(&self.account)
            .repository_name(repository)
            .image_tag_mutability(mutability)
            .image_scanning_configuration(scanning)
            .encryption_configuration(encryption(&new.encryption)?);
        let lost = Lost::default();
        let created = call.customize().interceptor(lost.clone()).send().await;
        match created.map_err(|error| failure(ACTION, error)) {
            Err(Error::Aws { code, .. }) if code == ALREADY_EXISTS && lost.is_any() => {}
            created => drop(created?),
        }
        match &new.lifecycle_policy {
            Some(policy) => self.set_lifecycle(repository, policy).await,
            None => Ok(()),
        }
    }

    async fn set_lifecycle(&self, repository: &str, policy: &str) -> Result<(), Error> {
        let call = self.client.put_lifecycle_policy().registry_id(&self.account).repository_name(repository);
        let put = call.lifecycle_policy_text(policy).send().await;
        put.map(drop).map_err(|error| failure("ecr:PutLifecyclePolicy", error))
    }

    /// Whether layers can be mounted from other repositories of the registry, which is off unless
    /// somebody has turned it on. Needs `ecr:GetAccountSetting`.
    pub async fn mounts_blobs(&self) -> Result<Known<bool>, Error> {
        let setting = self.client.get_account_setting().name("BLOB_MOUNTING").send().await;
        let setting = setting.map_err(|error| failure("ecr:GetAccountSetting", error));
        Known::of(setting.map(|setting| setting.value() == Some("ENABLED")))
    }

    /// Those of `digests` that `repository` does not have. Needs `ecr:BatchCheckLayerAvailability`.
    pub async fn missing(&self, repository: &str, digests: &[Digest]) -> Result<BTreeSet<Digest>, Error> {
        let mut missing: BTreeSet<Digest> = digests.iter().copied().collect();
        for some in digests.chunks(DIGESTS_MAX) {
            let call = self.client.batch_check_layer_availability().registry_id(&self.account);
            let call = call.repository_name(repository);
            let call = call.set_layer_digests(Some(some.iter().map(Digest::to_string).collect()));
            let checked = call.send().await;
            let checked = checked.map_err(|error| failure("ecr:BatchCheckLayerAvailability", error))?;
            let is_there = |layer: &&aws_sdk_ecr::types::Layer| {
                layer.layer_availability() == Some(&LayerAvailability::Available)
            };
            for layer in checked.layers().iter().filter(is_there) {
                if let Some(digest) = layer.layer_digest().and_then(|digest| digest.parse().ok()) {
                    missing.remove(&digest);
                }
            }
        }
        Ok(missing)
    }
}

/// Whether attempts of a call ended without an answer that says what became of them. The SDK repeats such a call
/// by itself and tells of the last attempt only.
#[derive(Clone, Debug, Default)]
struct Lost(Arc<AtomicBool>);

impl Lost {
    fn is_any(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Intercept for Lost {
    fn name(&self) -> &'static str {
        "Lost"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // A server that fails may have done it before.
        if context.response().is_none_or(|response| response.status().is_server_error()) {
            self.0.store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}

fn encryption(wanted: &Encryption) -> Result<EncryptionConfiguration, Error> {
    let builder = EncryptionConfiguration::builder();
    let builder = match wanted {
        Encryption::Aes256 => builder.encryption_type(EncryptionType::Aes256),
        Encryption::Kms(key) => builder.encryption_type(EncryptionType::Kms).set_kms_key(key.clone()),
        Encryption::Other(name) => builder.encryption_type(EncryptionType::from(name.as_str())),
    };
    builder.build().map_err(|error| refused("ecr:CreateRepository", "", &error.to_string()))
}

/// A token for the registries of `host`'s region.
pub(super) async fn token(aws: &Aws, host: &EcrHost) -> Result<Token, Error> {
    const ACTION: &str = "ecr:GetAuthorizationToken";
    let answer = client(aws, host).await.get_authorization_token().send().await;
    let answer = answer.map_err(|error| failure(ACTION, error))?;
    let none = || refused(ACTION, "", "its answer has no token");
    let data = answer.authorization_data().first().ok_or_else(none)?;
    let password = data.authorization_token().and_then(password).ok_or_else(none)?;
    let expires = data.expires_at().and_then(|end| SystemTime::try_from(*end).ok()).ok_or_else(none)?;
    Ok(Token { password, expires })
}

async fn client(aws: &Aws, host: &EcrHost) -> Client {
    let shared = aws.config(&host.region).await;
    // An endpoint that is named is the one that is meant: the SDK refuses to make another form of it.
    let named = ["AWS_ENDPOINT_URL_ECR", "AWS_ENDPOINT_URL"];
    let is_named =
        shared.endpoint_url().is_some() || named.iter().any(|name| std::env::var_os(name).is_some());
    let config = Builder::from(&shared)
        .use_fips(host.is_fips && !is_named)
        .use_dual_stack(host.is_dual_stack && !is_named)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .build();
    Client::from_conf(config)
}
