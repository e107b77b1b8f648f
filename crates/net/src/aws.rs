//! Identities of AWS, by the ways that AWS's own programs go.
//!
//! In this order: environment variables, the profile (keys, roles, SSO, a program), a web identity
//! token (EKS service accounts, GitLab), GitHub's OIDC, the container's endpoint (ECS, EKS Pod
//! Identity), the instance's metadata (IMDSv2). The first that is configured counts: if it fails,
//! so does the whole, since going on would make ocib somebody whom nobody has named. What counted
//! once stays: sessions are renewed by the same way.
//!
//! The SDK reads `AWS_*` variables and profiles itself; this is the one part of the library that
//! looks at the process's environment.

mod chain;
mod connector;
mod github;
#[cfg(feature = "s3")]
mod sign;

use std::{fmt, sync::Arc, time::Duration};

pub use aws_config::SdkConfig;
use aws_config::{
    BehaviorVersion, Region, environment::EnvironmentVariableRegionProvider,
    meta::region::RegionProviderChain, profile::ProfileFileRegionProvider, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
#[cfg(feature = "s3")]
pub use sign::{S3Request, sign_s3};
use tokio::sync::OnceCell;

use self::{
    chain::{Chain, Renewed},
    connector::Connector,
};
use crate::{Error, Http, Identity, Url, cloud::metadata_http};

/// Somebody in AWS, found when first needed. Clones share sessions.
///
/// ```
/// use std::sync::Arc;
/// use ocib_net::{Http, HttpOptions, aws::Aws};
/// let aws = Aws::new(Arc::new(Http::new(HttpOptions::default())));
/// # let _ = aws;
/// ```
#[derive(Clone)]
pub struct Aws {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Connector,
    chain: OnceCell<Arc<Chain>>,
}

/// Credentials of AWS for a while.
#[derive(Clone, Debug)]
pub struct Session {
    /// The keys; their `Debug` hides the secret ones.
    pub credentials: Credentials,
    /// What supplied them.
    pub provider: &'static str,
}

/// Where the user says that instance metadata is.
const IMDS_ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
/// A question that is only for the report must not hold a build up.
const REPORT_PATIENCE: Duration = Duration::from_secs(5);

impl Aws {
    /// Whoever the environment says, through `http`. Nothing is read or asked yet.
    pub fn new(http: Arc<Http>) -> Self {
        let named = std::env::var(IMDS_ENDPOINT).ok();
        let named = named.and_then(|endpoint| Some(endpoint.parse::<Url>().ok()?.host_str()?.to_owned()));
        let connector = Connector::new(http, Arc::new(metadata_http(named)));
        Self { shared: Arc::new(Shared { connector, chain: OnceCell::new() }) }
    }

    /// The current session, made anew when half of its life is over. `region` is where STS is asked
    /// if neither the environment nor the profile names a region.
    ///
    /// # Errors
    ///
    /// [`Error::Unidentified`] with every way that was tried.
    pub async fn session(&self, region: &str) -> Result<Session, Error> {
        self.chain(region).await.session().await
    }

    /// The configuration of a client of the SDK for `region`: its credentials and HTTP are ours,
    /// endpoints come from `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_<SERVICE>` and the profile.
    pub async fn config(&self, region: &str) -> SdkConfig {
        let chain = self.chain(region).await;
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(self.shared.connector.clone())
            // The chain keeps sessions itself.
            .identity_cache(aws_config::identity::IdentityCache::no_cache())
            .credentials_provider(SharedCredentialsProvider::new(Renewed(chain)))
            .region(Region::new(region.to_owned()));
        config.load().await
    }

    /// Forgets the session whose access key is `refused`, as the next one may be better.
    pub async fn forget(&self, refused: &Session) {
        if let Some(chain) = self.shared.chain.get() {
            chain.forget(refused).await;
        }
    }

    /// Who AWS says that `session` is (`sts:GetCallerIdentity`). What it does not tell within five
    /// seconds stays unknown: the answer is for reports only.
    pub async fn identity(&self, region: &str, session: &Session) -> Identity {
        let config = aws_sdk_sts::config::Builder::from(&self.config(region).await)
            .credentials_provider(session.credentials.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(REPORT_PATIENCE).build())
            .build();
        let caller = aws_sdk_sts::Client::from_conf(config).get_caller_identity().send().await.ok();
        let named = session.credentials.account_id().map(|account| account.as_str().to_owned());
        Identity {
            provider: session.provider.to_owned(),
            name: caller.as_ref().and_then(|caller| caller.arn().map(str::to_owned)),
            account: caller.as_ref().and_then(|caller| caller.account().map(str::to_owned)).or(named),
            expires: session.credentials.expiry(),
        }
    }

    /// The region that the environment or the profile names, for comparing it with others.
    pub async fn configured_region() -> Option<String> {
        let named = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new());
        Some(named.region().await?.as_ref().to_owned())
    }

    async fn chain(&self, region: &str) -> Arc<Chain> {
        let chain = self.shared.chain.get_or_init(|| async {
            let region = Self::configured_region().await.unwrap_or_else(|| region.to_owned());
            Arc::new(Chain::new(&self.shared.connector, &region))
        });
        Arc::clone(chain.await)
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").finish_non_exhaustive()
    }
}
