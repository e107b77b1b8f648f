//! What registries say: who asks, what is there, what may be done.

use std::time::{Duration, SystemTime};

use ocib_build::Prepared;
use ocib_image::{Digest, Expected, ExpectedLayer, Reference, Sink};
use ocib_store::{Cause, PushOptions, Tagged, Tried, Write};

use super::{
    findings::{Finding, Findings},
    machine::size,
};
use crate::{
    output::{Means, Parts},
    registries::Clients,
};

/// How far a clock may be off before signatures of AWS are refused (SigV4, "five minutes").
const SKEW_MAX: Duration = Duration::from_secs(300);
/// An identity that ends sooner may not see the end of a build.
const SOON: Duration = Duration::from_secs(15 * 60);

/// Why ECR's API is not asked, though a token in a file is enough to push.
#[cfg(feature = "ecr")]
const NOBODY: &str = "without an identity of AWS";

/// One repository that is to be pushed to.
struct Place<'a> {
    clients: &'a Clients,
    repository: Reference,
    /// The names that the image gets there.
    names: Vec<Reference>,
    expected: Vec<Expected>,
}

/// Looks at the repository of `push`.
pub(super) async fn check(
    clients: &Clients,
    means: &Means,
    push: PushOptions,
    prepared: Option<&Prepared>,
    findings: &mut Findings,
) {
    let expected = prepared.map(Prepared::expected).unwrap_or_default();
    let repository = push.repository.clone();
    let named = |tag: &String| format!("{}:{tag}", repository.name()).parse().ok();
    let names = push.tags.iter().filter_map(named).collect();
    limits(means, push, &expected, prepared.is_some(), findings).await;
    let place = Place { clients, repository, names, expected };
    if !place.greet(findings).await {
        findings.add(Finding::unknown(
            "permission",
            place.repository.name(),
            "the registry could not be asked",
        ));
        return;
    }
    if let Some(error) = place.nobody_in_public().await {
        findings.add(Finding::refused("permission", place.repository.name(), error));
        return;
    }
    let exists = place.tags(means.creates_repositories(), findings).await;
    if exists {
        place.permissions(findings).await;
    } else {
        let detail = "which permissions there are shows when the repository is there";
        findings.add(Finding::unknown("permission", place.repository.name(), detail));
    }
    place.mounts(findings).await;
}

/// Who ocib is to each registry that wanted to know.
pub(super) fn identities(clients: &Clients, findings: &mut Findings) {
    let now = SystemTime::now();
    for login in clients.logins() {
        let expires = login.identity.as_ref().and_then(|identity| identity.expires);
        let left = expires.map(|end| end.duration_since(now).unwrap_or_default());
        let detail = match &login.identity {
            Some(identity) => identity.to_string(),
            None => format!("credentials from {}", login.source),
        };
        findings.add(match left {
            Some(left) if left < SOON => {
                let detail = format!("{detail}, which is in {} minutes", left.as_secs() / 60);
                Finding::unknown("identity", &login.registry, detail)
                    .remedy("the build must end by then, or its way must give a new session")
            }
            _ => Finding::ok("identity", &login.registry, detail),
        });
        for note in &login.notes {
            findings.add(Finding::ok("identity", &login.registry, note));
        }
    }
}

/// Sizes and counts against the registry's profile.
async fn limits(
    means: &Means,
    push: PushOptions,
    expected: &[Expected],
    is_known: bool,
    findings: &mut Findings,
) {
    let name = push.repository.name();
    let limit = push.registries.layer_bytes_max(push.repository.registry());
    let limit = limit.into_iter().chain(means.parts().map(|parts| parts.layer_bytes_max)).min();
    // What is small enough before it is compressed is small enough.
    let may_exceed = |layer: &ExpectedLayer| {
        limit.is_some_and(|limit| layer.bytes_max().is_none_or(|bytes| bytes > limit))
    };
    let in_parts = means.parts().map_or_else(String::new, |Parts { most, bytes, layer_bytes_max }| {
        let [bytes, layer_bytes_max] = [bytes, layer_bytes_max].map(size);
        format!("; in at most {most} parts of up to {bytes}, so {layer_bytes_max} a layer")
    });
    let checked = means.limits(push).check(expected).await;
    let layers = || expected.iter().flat_map(|image| &image.layers);
    let unmeasured = layers().filter(|layer| may_exceed(layer)).count();
    let most = expected.iter().map(|image| image.layers.len()).max().unwrap_or_default();
    findings.add(match checked {
        Err(error) => Finding::refused("limits", name, error),
        Ok(()) if !is_known => Finding::unknown("limits", name, "the layers are not known"),
        Ok(()) if unmeasured > 0 => {
            let detail = format!(
                "layers of an image: {most}; how large {unmeasured} of all are shows when they are compressed{in_parts}"
            );
            Finding::unknown("limits", name, detail)
        }
        Ok(()) => Finding::ok(
            "limits",
            name,
            format!("layers of an image: {most}, and none is too large as far as is known{in_parts}"),
        ),
    });
}

impl Place<'_> {
    fn makes_repositories(&self) -> bool {
        self.clients.registries.makes_repositories(self.repository.registry())
    }

    /// Whether the registry answers, and what time it has.
    async fn greet(&self, findings: &mut Findings) -> bool {
        let registry = self.repository.registry();
        match self.clients.registries.greet(&self.repository).await {
            Ok(greeting) => {
                findings.add(Finding::ok("registry", registry, format!("it answers at {}", greeting.url)));
                findings.add(clock(registry, greeting.clock));
                true
            }
            Err(error) => {
                findings.add(Finding::refused("registry", registry, error));
                false
            }
        }
    }

    /// What the tags name now; whether the repository is there, or need not be.
    async fn tags(&self, creates: bool, findings: &mut Findings) -> bool {
        let mut exists = true;
        for name in &self.names {
            let found = match self.clients.registries.look_up(name).await {
                Ok(found) => found,
                Err(error) => {
                    findings.add(Finding::refused("tag", name.to_string(), error));
                    continue;
                }
            };
            match found {
                Tagged::NoRepository if !self.makes_repositories() => {
                    exists = false;
                    findings.add(self.missing(creates));
                    break;
                }
                Tagged::NoRepository => {
                    findings.add(Finding::ok("tag", name.to_string(), "the repository begins with it"));
                }
                Tagged::Nothing => findings.add(Finding::ok("tag", name.to_string(), "it is new")),
                Tagged::Names(there) => findings.add(self.conflict(name, there).await),
            }
        }
        exists
    }

    fn missing(&self, creates: bool) -> Finding {
        match creates {
            true => {
                let detail = "it will be created; whether that is allowed shows only when it is done";
                let service = if self.is_public() { "ecr-public" } else { "ecr" };
                Finding::unknown("repository", self.repository.name(), detail)
                    .remedy(format!("{service}:CreateRepository is needed; --print-iam-policy prints all"))
            }
            false => Finding::refused("repository", self.repository.name(), self.no_repository()),
        }
    }

    /// Whether it is in ECR Public.
    fn is_public(&self) -> bool {
        #[cfg(feature = "ecr")]
        return self.clients.ecr.public(self.repository.registry()).is_some();
        #[cfg(not(feature = "ecr"))]
        false
    }

    fn no_repository(&self) -> ocib_store::Error {
        #[cfg(feature = "ecr")]
        return self.clients.ecr.missing(&self.repository);
        #[cfg(not(feature = "ecr"))]
        ocib_store::Error::NoRepository {
            name: self.repository.repository().to_owned(),
            registry: self.repository.registry().to_owned(),
        }
    }

    /// Why there is no token of ECR Public, which everybody may read from, so that only a push needs one.
    async fn nobody_in_public(&self) -> Option<ocib_store::Error> {
        #[cfg(feature = "ecr")]
        if self.is_public() && matches!(self.clients.credentials.find(&self.repository).await, Ok(None)) {
            return self.clients.ecr.demand(self.repository.registry()).await.err();
        }
        None
    }

    /// Whether a tag that is there may be moved.
    async fn conflict(&self, name: &Reference, there: Digest) -> Finding {
        let wanted = self.expected.first().and_then(|image| image.root);
        if wanted == Some(there) {
            return Finding::ok("tag", name.to_string(), "it names this very image already");
        }
        #[cfg(feature = "ecr")]
        if let Some(finding) = self.immutable(name, there, wanted).await {
            return finding;
        }
        Finding::ok("tag", name.to_string(), format!("it names {there} now and will be moved"))
    }

    #[cfg(feature = "ecr")]
    async fn immutable(&self, name: &Reference, there: Digest, wanted: Option<Digest>) -> Option<Finding> {
        use ocib_store::Known;
        let tag = name.tag().unwrap_or_default();
        let unknown = |detail: String| Some(Finding::unknown("tag", name.to_string(), detail));
        let registry = self.repository.registry();
        let Some(api) = self.clients.ecr.api(registry).await else {
            let why = format!("it names {there} now; whether it may be moved cannot be asked {NOBODY}");
            return self.clients.registries.has_rights_of_ecr(registry).then(|| unknown(why)).flatten();
        };
        match api.repository(self.repository.repository()).await {
            Err(error) => Some(Finding::refused("tag", name.to_string(), error)),
            Ok(Known::Unknown(denial)) => unknown(format!(
                "it names {there} now; whether it may be moved cannot be asked without {}",
                denial.action
            )),
            Ok(Known::Known(None)) => None,
            Ok(Known::Known(Some(settings))) => match (settings.tags.is_fixed(tag), wanted) {
                (Some(false), _) => None,
                (None, _) => {
                    unknown(format!("it names {there} now; its repository has a setting that is not known"))
                }
                (Some(true), None) => unknown(format!(
                    "it names {there} and is immutable: the build is fine only if it gives that image"
                )),
                (Some(true), Some(wanted)) => {
                    let (repository, tag) = (name.name(), tag.to_owned());
                    let error = ocib_store::Error::TagTaken { repository, tag, there, wanted };
                    Some(Finding::refused("tag", name.to_string(), error))
                }
            },
        }
    }

    /// Each permission by a question that changes nothing.
    async fn permissions(&self, findings: &mut Findings) {
        let (registries, repository) = (&self.clients.registries, &self.repository);
        let (name, registry) = (repository.name(), repository.registry());
        let (is_private_ecr, is_ecr) = (
            registries.has_rights_of_ecr(registry),
            registries.has_rights_of_ecr(registry) || self.is_public(),
        );
        let mut tell = |what: &str, right: &str, result: Result<Tried, ocib_store::Error>| {
            let what = if is_ecr { format!("{what} ({right})") } else { what.to_owned() };
            findings.add(match result {
                Ok(Tried::Allowed) => Finding::ok("permission", &name, format!("{what}: allowed")),
                Ok(Tried::Unclear(answer)) => Finding::unknown(
                    "permission",
                    &name,
                    format!("{what}: shows only when it is done; tried with nothing: {answer}"),
                ),
                Err(error) => Finding::refused("permission", &name, error),
            });
        };
        let asked = self.ask_for_layers().await.map(|()| Tried::Allowed);
        tell("ask for layers", "BatchCheckLayerAvailability", asked);
        let begun = registries.try_write(repository, Write::Begin).await;
        let has_begun = begun.is_ok();
        tell("begin an upload", "InitiateLayerUpload", begun);
        if is_private_ecr {
            let read = registries.try_read(repository).await.map(|()| Tried::Allowed);
            tell("read layers", "GetDownloadUrlForLayer", read);
        }
        // Both begin an upload themselves.
        if has_begun {
            if registries.takes_streams(registry) {
                let sent = registries.try_write(repository, Write::Append).await;
                tell("send parts", "UploadLayerPart", sent);
            }
            let completed = registries.try_write(repository, Write::Complete).await;
            tell("complete an upload", "CompleteLayerUpload", completed);
        }
        tell("name an image", "PutImage", registries.try_name(repository).await);
        // Layers that are larger than what was looked at, key policies, quotas, connections.
        let detail = "whether all of it arrives and is taken shows only when it is done";
        findings.add(Finding::unknown("sending", &name, detail));
    }

    /// ECR's registry does not say why it refuses this question, its API does.
    async fn ask_for_layers(&self) -> Result<(), ocib_store::Error> {
        let digest = Digest::of(b"ocib preflight");
        #[cfg(feature = "ecr")]
        if let Some(api) = self.clients.ecr.api(self.repository.registry()).await {
            return api.missing(self.repository.repository(), &[digest]).await.map(drop);
        }
        self.clients.registries.ask_for_blob(&self.repository, digest).await.map(drop)
    }

    /// Whether layers of other repositories need not be sent.
    async fn mounts(&self, findings: &mut Findings) {
        let registry = self.repository.registry();
        #[cfg(feature = "ecr")]
        if let Some(api) = self.clients.ecr.api(registry).await {
            findings.add(match api.mounts_blobs().await {
                Ok(ocib_store::Known::Known(true)) => Finding::ok("mounts", registry, "on"),
                Ok(ocib_store::Known::Known(false)) => {
                    Finding::ok("mounts", registry, "off: layers of other repositories are sent again")
                }
                Ok(ocib_store::Known::Unknown(denial)) => Finding::unknown(
                    "mounts",
                    registry,
                    format!("they cannot be asked for without {}", denial.action),
                ),
                Err(error) => Finding::refused("mounts", registry, error),
            });
            return;
        }
        #[cfg(feature = "ecr")]
        if self.clients.registries.has_rights_of_ecr(registry) {
            let detail = format!("they cannot be asked for {NOBODY}");
            return findings.add(Finding::unknown("mounts", registry, detail));
        }
        findings.add(match self.clients.registries.asks_to_mount(registry) {
            true => Finding::unknown(
                "mounts",
                registry,
                "the registry decides for each layer; a refusal costs one transfer",
            ),
            false => Finding::ok("mounts", registry, "off: this registry has none"),
        });
    }
}

fn clock(registry: &str, clock: Option<SystemTime>) -> Finding {
    let Some(clock) = clock else {
        return Finding::unknown("clock", registry, "the registry does not tell its time");
    };
    let now = SystemTime::now();
    let off = now.duration_since(clock).or_else(|_| clock.duration_since(now)).unwrap_or_default();
    let detail = format!("{} seconds off the registry's", off.as_secs());
    match Cause::named("clock-skew").filter(|_| off > SKEW_MAX) {
        Some(cause) => Finding::problem("clock", registry, detail, cause),
        None => Finding::ok("clock", registry, detail),
    }
}
