//! Who ocib is, and what registries other than ECR say of that.

use ocib_image::PlaceErrorKind::{Denied, Refused};

use super::{Cause, cause};

pub(super) const CAUSES: [Cause; 16] = [
    cause(
        "helper-missing",
        "a credential helper is not installed",
        "install the program that the message names, or remove it from the file that names it; for ECR and Google \
         ocib needs no helper",
        Denied,
        &[&["there is no such program in path"], &["docker-credential-", "executable file not found"]],
    ),
    cause(
        "helper-failed",
        "a credential helper failed",
        "run the helper by hand, `echo HOST | docker-credential-NAME get`, and mend what it says",
        Denied,
        &[&["credential helper"], &["error getting credentials"]],
    ),
    cause(
        "credentials-file",
        "the credentials file cannot be read or understood",
        "mend the file that the message names: it is JSON with `auths`, `credHelpers` or `credsStore`",
        Denied,
        &[&["cannot use the credentials file"], &["config.json", "invalid character"]],
    ),
    cause(
        "needs-password",
        "the registry wants a user and a password",
        "log in with a password or an access token; an identity token is for registries with a token endpoint",
        Denied,
        &[&["wants a user and a password"]],
    ),
    cause(
        "foreign-realm",
        "the registry names a token endpoint of another domain",
        "check the registry's configuration: the password would go to a stranger, so ocib did not send it",
        Denied,
        &[&["wants its credentials sent to"]],
    ),
    cause(
        "bad-realm",
        "the registry names a token endpoint that is no URL",
        "mend `realm` in the registry's configuration, or ask whoever runs it",
        Refused,
        &[&["names a token endpoint that is no url"]],
    ),
    cause(
        "google-no-identity",
        "nobody in Google Cloud was found",
        "give the pod or runner a service account (Workload Identity), or set GOOGLE_APPLICATION_CREDENTIALS",
        Denied,
        &[&["no identity for google cloud was found"], &["could not find default credentials"]],
    ),
    cause(
        "google-denied",
        "a permission of Google's registry is missing",
        "give the account the role roles/artifactregistry.writer on the repository (reader for bases)",
        Denied,
        &[&["artifactregistry.repositories."], &["permission \"artifactregistry"]],
    ),
    cause(
        "github-packages-denied",
        "the token of GitHub may not write this package",
        "add `permissions: packages: write` to the job, and give the repository write access in the package's \
         settings if another one created it",
        Denied,
        &[&["write_package"], &["installation not allowed to"], &["read_package"]],
    ),
    cause(
        "hub-rate-limit",
        "Docker Hub's limit of pulls is reached",
        "log in to Docker Hub, wait, or take the base from a mirror: --build-context NAME=docker-image://MIRROR",
        Denied,
        &[&["pull rate limit"]],
    ),
    cause(
        "scope-downgraded",
        "the registry gave a token for less than was asked",
        "the login is valid, but may not do this in this repository: give it the right to write (Docker Hub says \
         this also where the repository does not exist)",
        Denied,
        &[&["insufficient_scope"], &["insufficient scope"], &["requested access to the resource is denied"]],
    ),
    cause(
        "wrong-password",
        "the registry does not accept the password",
        "log in again; registries with two factors want an access token in place of the password",
        Denied,
        &[
            &["incorrect username or password"],
            &["invalid username"],
            &["bad credentials"],
            &["unauthorized: authentication failed"],
        ],
    ),
    cause(
        "refresh-token-expired",
        "the identity token of the login is no longer good",
        "log in again: `docker login HOST` or `az acr login`",
        Denied,
        &[&["invalid_grant"], &["refresh token", "expired"]],
    ),
    cause(
        "push-denied-anonymous",
        "the registry wants to know who asks",
        "log in with `docker login`, `podman login` or `skopeo login`, or set REGISTRY_AUTH_FILE or DOCKER_CONFIG",
        Denied,
        &[&["no basic auth credentials"], &["authentication required"]],
    ),
    cause(
        "proxy-login",
        "the proxy wants a login",
        "give it in HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, or name the registry in NO_PROXY",
        Denied,
        &[&["answered 407"], &["proxy authentication required"], &["proxy authorization required"]],
    ),
    cause(
        "proxy-intercepts",
        "something between here and the registry answers in its place",
        "name the registry in NO_PROXY, or ask who runs the proxy to let it through; if it opens TLS, give its \
         certificate with --ca-file",
        Refused,
        &[
            &["zscaler"],
            &["netskope"],
            &["forcepoint"],
            &["web filter"],
            &["captive portal"],
            &["blocked by", "polic"],
            &["tunnel", "unsuccessful"],
            &["tunnel", "failed"],
            &["proxyconnect"],
        ],
    ),
];
