//! Who ocib is to registries: files and helpers, then the clouds' own identities.

#[cfg(feature = "ecr")]
use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(feature = "ecr")]
use ocib_image::Reference;
use ocib_image::{Event, Events};
use ocib_net::{Http, HttpOptions};
use ocib_store::{
    Cloud, DockerAuth, Login, Logins, PushOptions, Registries, RegistriesOptions, RegistryConfig,
    RegistrySink,
};
#[cfg(feature = "ecr")]
use ocib_store::{EcrHost, LayerApi};

use crate::{
    args::{self, Shared},
    diagnostic::Failure,
    environment,
};

/// The client for all registries; each login is told to `events` once.
pub(crate) fn registries(
    shared: &Shared,
    http: HttpOptions,
    events: Arc<dyn Events>,
) -> Result<Registries, Failure> {
    let clouds = clouds(shared, &http, &*events);
    let files = DockerAuth::from_environment(&variable);
    let config = Arc::new(registry_config(shared, &*events)?);
    let of_mirrors = Arc::clone(&events);
    let tell = move |login: &Login| events.emit(Event::Note(&login.to_string()));
    Ok(Registries::new(RegistriesOptions {
        config,
        on_mirror_failure: Arc::new(move |failure| of_mirrors.emit(Event::Note(&failure.to_string()))),
        credentials: Arc::new(Logins::new(files, clouds, Arc::new(tell))),
        http: Arc::new(Http::new(http)),
        ..RegistriesOptions::default()
    }))
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

#[cfg_attr(not(feature = "ecr"), expect(unused_variables, reason = "only ECR has flags"))]
#[cfg_attr(
    not(any(feature = "ecr", feature = "google")),
    expect(unused_mut, reason = "there are no clouds in this build")
)]
fn clouds(shared: &Shared, http: &HttpOptions, events: &dyn Events) -> Vec<Arc<dyn Cloud>> {
    let mut clouds: Vec<Arc<dyn Cloud>> = Vec::new();
    #[cfg(feature = "ecr")]
    clouds.extend([Arc::new(ecr(shared, http, events)) as Arc<dyn Cloud>]);
    #[cfg(feature = "google")]
    clouds.extend([Arc::new(google(http)) as Arc<dyn Cloud>]);
    clouds
}

#[cfg(feature = "ecr")]
fn ecr(shared: &Shared, http: &HttpOptions, events: &dyn Events) -> ocib_store::EcrAuth {
    let (aws, http) = aws(http, events);
    ocib_store::EcrAuth::new(aws, http, declared(shared))
}

#[cfg(feature = "ecr")]
fn declared(shared: &Shared) -> BTreeMap<String, EcrHost> {
    shared.ecr_hosts.iter().cloned().collect()
}

/// What writes to a registry, as the flags say.
#[cfg_attr(
    not(feature = "ecr"),
    expect(unused_variables, clippy::unnecessary_wraps, reason = "for ECR alone")
)]
pub(crate) fn sink(
    build: &args::Build,
    http: &HttpOptions,
    events: &dyn Events,
    options: PushOptions,
) -> Result<RegistrySink, Failure> {
    #[cfg(feature = "ecr")]
    if build.ecr_layer_api {
        let api = layer_api(&build.shared, http, events, &options.repository)?;
        return Ok(RegistrySink::new(options).with_layer_api(api));
    }
    Ok(RegistrySink::new(options))
}

/// ECR's own API for the registry of `repository`, which must be one of ECR.
#[cfg(feature = "ecr")]
fn layer_api(
    shared: &Shared,
    http: &HttpOptions,
    events: &dyn Events,
    repository: &Reference,
) -> Result<LayerApi, Failure> {
    let registry = repository.registry();
    let host = declared(shared).remove(registry).or_else(|| EcrHost::of(registry));
    let host = host.filter(|host| !host.is_public()).ok_or_else(|| {
        Failure::usage(format!("--ecr-layer-api: {registry} is no private registry of ECR"))
            .help("leave the flag out, or say which registry it is with --ecr-host HOST=ACCOUNT/REGION")
    })?;
    Ok(LayerApi::new(aws(http, events).0, host, environment::cache_directory()))
}

/// Who ocib is to AWS, and how its APIs are spoken to.
#[cfg(feature = "ecr")]
fn aws(http: &HttpOptions, events: &dyn Events) -> (ocib_net::aws::Aws, Arc<Http>) {
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
    (ocib_net::aws::Aws::new(Arc::clone(&http)), http)
}

#[cfg(feature = "google")]
fn google(http: &HttpOptions) -> ocib_store::GoogleAuth {
    ocib_store::GoogleAuth::new(ocib_net::google::Google::from_environment(
        Arc::new(Http::new(http.clone())),
        Arc::new(variable),
    ))
}
