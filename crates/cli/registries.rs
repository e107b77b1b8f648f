//! Who ocib is to registries: files and helpers, then the clouds' own identities.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use ocib_image::{Credentials, Event, Events};
use ocib_net::{Backoff, Http, HttpOptions};
use ocib_store::{Cloud, DockerAuth, Login, Logins, Registries, RegistriesOptions, RegistryConfig};

use crate::{args::Shared, diagnostic::Failure, environment};

/// The clients of a command.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) registries: Registries,
    /// Who ocib is to each of them.
    pub(crate) credentials: Arc<dyn Credentials>,
    /// Who ocib turned out to be, one for each registry.
    logins: Arc<Mutex<Vec<Login>>>,
    #[cfg(feature = "ecr")]
    pub(crate) ecr: Arc<ocib_store::EcrAuth>,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").field("registries", &self.registries).finish_non_exhaustive()
    }
}

impl Clients {
    /// Clients that spoke to nobody yet; each login is told to `events` once.
    pub(crate) fn new(
        shared: &Shared,
        http: &HttpOptions,
        backoff: Backoff,
        events: Arc<dyn Events>,
    ) -> Result<Self, Failure> {
        #[cfg(feature = "ecr")]
        let ecr = Arc::new(ecr(shared, http, &*events));
        #[cfg_attr(
            not(any(feature = "ecr", feature = "google")),
            expect(unused_mut, reason = "there are none")
        )]
        let mut clouds: Vec<Arc<dyn Cloud>> = Vec::new();
        #[cfg(feature = "ecr")]
        clouds.extend([Arc::clone(&ecr) as Arc<dyn Cloud>]);
        #[cfg(feature = "google")]
        clouds.extend([Arc::new(google(http)) as Arc<dyn Cloud>]);
        let config = Arc::new(registry_config(shared, &*events)?);
        let of_mirrors = Arc::clone(&events);
        let logins: Arc<Mutex<Vec<Login>>> = Arc::default();
        let seen = Arc::clone(&logins);
        let tell = move |login: &Login| {
            events.emit(Event::Note(&login.to_string()));
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(login.clone());
        };
        let files = DockerAuth::from_environment(&variable);
        let credentials: Arc<dyn Credentials> = Arc::new(Logins::new(files, clouds, Arc::new(tell)));
        let registries = Registries::new(RegistriesOptions {
            config,
            on_mirror_failure: Arc::new(move |failure| of_mirrors.emit(Event::Note(&failure.to_string()))),
            credentials: Arc::clone(&credentials),
            http: Arc::new(Http::new(http.clone())),
            backoff,
            known_as: known_as(shared),
            ..RegistriesOptions::default()
        });
        Ok(Self {
            registries,
            credentials,
            logins,
            #[cfg(feature = "ecr")]
            ecr,
        })
    }

    /// Who ocib turned out to be so far.
    pub(crate) fn logins(&self) -> Vec<Login> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `failure` with what is known of who lacks a permission.
    pub(crate) fn explained(&self, failure: Failure) -> Failure {
        failure.with_logins(&self.logins())
    }
}

/// The client for all registries, for commands that need no more.
pub(crate) fn registries(
    shared: &Shared,
    http: &HttpOptions,
    events: Arc<dyn Events>,
) -> Result<Registries, Failure> {
    Ok(Clients::new(shared, http, Backoff::default(), events)?.registries)
}

/// Where registries are, as files say. What makes no difference is said of a file that was named: the
/// system's files hold settings for other programs.
fn registry_config(shared: &Shared, events: &dyn Events) -> Result<RegistryConfig, Failure> {
    let named = shared.registry_config.as_deref();
    let config = RegistryConfig::find(named, &environment::variable);
    let config = config.map_err(|error| Failure::of_registry_config(&error))?;
    if named.is_some() || environment::variable(RegistryConfig::VARIABLE).is_some() {
        config.notes().iter().for_each(|note| events.emit(Event::Note(note)));
    }
    Ok(config)
}

fn variable(name: &str) -> Option<String> {
    environment::variable(name).filter(|value| !value.is_empty())
}

/// Registries of ECR under other names, by names that say so.
#[cfg(feature = "ecr")]
fn known_as(shared: &Shared) -> BTreeMap<String, String> {
    shared.ecr_hosts.iter().map(|(name, host)| (name.clone(), host.kind())).collect()
}

#[cfg(not(feature = "ecr"))]
fn known_as(_: &Shared) -> BTreeMap<String, String> {
    BTreeMap::new()
}

#[cfg(feature = "ecr")]
fn ecr(shared: &Shared, http: &HttpOptions, events: &dyn Events) -> ocib_store::EcrAuth {
    let mut http = http.clone();
    // Certificates for AWS's APIs, by the name that AWS's own programs use.
    if let Some(path) = variable("AWS_CA_BUNDLE") {
        match std::fs::read(&path) {
            Ok(certificates) => http.extra_certificates.push(certificates),
            // It does not matter to builds that have nothing to do with AWS.
            Err(error) => events.emit(Event::Warning(&format!("cannot read AWS_CA_BUNDLE, {path}: {error}"))),
        }
    }
    let http = Arc::new(Http::new(http));
    let aws = ocib_net::aws::Aws::new(Arc::clone(&http));
    ocib_store::EcrAuth::new(aws, http, shared.ecr_hosts.iter().cloned().collect())
}

#[cfg(feature = "google")]
fn google(http: &HttpOptions) -> ocib_store::GoogleAuth {
    ocib_store::GoogleAuth::new(ocib_net::google::Google::from_environment(
        Arc::new(Http::new(http.clone())),
        Arc::new(variable),
    ))
}
