//! Who ocib is to registries: files and helpers, then the clouds' own identities.

use std::sync::Arc;

use ocib_image::{Event, Events};
use ocib_net::{Http, HttpOptions};
use ocib_store::{Cloud, DockerAuth, Login, Logins, Registries, RegistriesOptions};

use crate::args::Shared;

/// The client for all registries; each login is told to `events` once.
pub(crate) fn registries(shared: &Shared, http: HttpOptions, events: Arc<dyn Events>) -> Registries {
    let clouds = clouds(shared, &http, &*events);
    let files = DockerAuth::from_environment(&variable);
    let tell = move |login: &Login| events.emit(Event::Note(&login.to_string()));
    Registries::new(RegistriesOptions {
        credentials: Arc::new(Logins::new(files, clouds, Arc::new(tell))),
        http: Arc::new(Http::new(http)),
        ..RegistriesOptions::default()
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg_attr(
    not(any(feature = "ecr", feature = "google")),
    expect(unused_variables, unused_mut, reason = "there are no clouds in this build")
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
