//! An emulator of Amazon ECR that speaks its dialect strictly: what ECR refuses it refuses, with the
//! same words where they are known.
//!
//! ```text
//!   /v2/…                          data plane: Basic tokens, 201 on PATCH, one PATCH a session …
//!   POST / with X-Amz-Target       ECR's API and ECR Public's token, AWS JSON 1.1
//!   POST / with a form             STS: GetCallerIdentity, AssumeRole, AssumeRoleWithWebIdentity
//!   /token/                        ECR Public's bearer tokens, if it is that
//!   /latest/…, /v1/credentials     instance metadata (IMDSv2), ECS and EKS Pod Identity
//!   another port                   layers in object storage, which refuses an Authorization header
//! ```
//!
//! One port serves all but the last, so `AWS_ENDPOINT_URL` is enough to lead AWS's clients here
//! ([`EcrEmulator::environment`]). A request passes, in this order, the planned faults
//! ([`EcrEmulator::inject`]), authentication (signatures and tokens are checked for real), the quota,
//! IAM, and only then are its arguments looked at.
//!
//! Where a behaviour comes from stands beside it, an issue by its repository and number. `(U)` marks
//! what no source confirms. Everything is plain HTTP on loopback.

mod account;
mod action;
mod control;
mod data;
mod fault;
mod iam;
mod image;
mod layers;
mod metadata;
mod options;
mod quota;
mod refusal;
mod repository;
mod sigv4;
mod sso;
mod sts;
mod upload;
mod world;

use std::{sync::Arc, time::Duration};

use ocib_image::Digest;

pub use account::{AccessKey, SsoClient, Trust};
pub use action::AwsAction;
pub use fault::EcrFault;
pub use iam::Policy;
pub use options::{EcrOptions, MissingRepository, SecondPatch};
pub use repository::EcrRepository;
pub use upload::UploadSession;

use crate::{
    http::{HttpServer, Incoming, Reply, http_date, locked},
    registry::{Request, Served},
};
use repository::Repository;
use world::World;

/// A running emulator, ended when dropped.
#[derive(Debug)]
pub struct EcrEmulator {
    server: HttpServer,
    layers: HttpServer,
    world: Arc<World>,
}

/// A request that was answered, or left without an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EcrCall {
    /// Method, path, query, status (0: the connection was closed instead) and the answer's length.
    pub request: Request,
    /// What it was, if it was something.
    pub action: Option<AwsAction>,
    /// Bytes of its body that were read.
    pub body_bytes: u64,
}

impl EcrEmulator {
    /// Starts an emulator without repositories and identities.
    pub fn start(options: EcrOptions) -> Self {
        let world = Arc::new(World::new(options));
        let serving = world.clone();
        let layers = HttpServer::start(move |request| {
            let reply = layers::answer(&serving, request);
            logged(&serving, request, Some(AwsAction::GetObject), reply)
        });
        let (serving, layers_host) = (world.clone(), layers.host());
        let server = HttpServer::start(move |request| {
            let (action, reply) = route(&serving, &layers_host, request);
            logged(&serving, request, action, reply)
        });
        Self { server, layers, world }
    }

    /// `127.0.0.1:PORT`, the registry's host in references.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// `http://127.0.0.1:PORT`, the endpoint of every service.
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// The host of the object storage that layers come from.
    pub fn layers_host(&self) -> String {
        self.layers.host()
    }

    /// Where a container finds its credentials (`AWS_CONTAINER_CREDENTIALS_FULL_URI`).
    pub fn container_credentials_url(&self) -> String {
        format!("{}{}", self.url(), metadata::CONTAINER_PATH)
    }

    /// Makes a user with a key. Its ARN is in the key.
    pub fn user(&self, name: &str, policy: Policy) -> AccessKey {
        locked(&self.world.accounts).add_user(name, policy)
    }

    /// Makes a role and returns its ARN.
    pub fn role(&self, name: &str, policy: Policy, trust: Trust) -> String {
        locked(&self.world.accounts).add_role(name, policy, trust)
    }

    /// Replaces the policy of a user or role, by its ARN. Sessions and tokens that exist follow it.
    pub fn set_policy(&self, arn: &str, policy: Policy) {
        locked(&self.world.accounts).set_policy(arn, policy);
    }

    /// Starts a session of a role, as STS would.
    pub fn session(&self, role: &str, name: &str, life: Duration) -> AccessKey {
        let expires = self.world.now() + life;
        locked(&self.world.accounts).start_session(role, name, expires)
    }

    /// Makes the machine an EC2 instance with this role: without it there is no role to find.
    pub fn instance_role(&self, role: &str) {
        locked(&self.world.metadata).instance_role = Some(role.to_owned());
    }

    /// Gives containers this role, if they show `token` (the content of the file that
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` names).
    pub fn container_role(&self, role: &str, token: &str) {
        locked(&self.world.metadata).container_role = Some((role.to_owned(), token.to_owned()));
    }

    /// What `aws sso login` leaves for somebody who may have this role: the access token of the portal.
    pub fn sso_login(&self, role: &str) -> String {
        locked(&self.world.accounts).sso_login(role)
    }

    /// What renews such a login, once.
    pub fn sso_client(&self, role: &str) -> SsoClient {
        locked(&self.world.accounts).sso_client(role)
    }

    /// A token for the data plane, minted as GetAuthorizationToken does, without a call: the password of
    /// the user `AWS`.
    pub fn token(&self, key: &AccessKey) -> String {
        let expires = self.world.now() + self.world.options.token_life;
        locked(&self.world.accounts).mint(&key.id, expires)
    }

    /// What leads AWS's clients to the emulator, as this identity, and keeps them off the machine's own.
    pub fn environment(&self, key: &AccessKey) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("AWS_ACCESS_KEY_ID", key.id.clone()),
            ("AWS_SECRET_ACCESS_KEY", key.secret.clone()),
            ("AWS_REGION", self.world.options.region.clone()),
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
        ];
        variables.extend(key.session_token.clone().map(|token| ("AWS_SESSION_TOKEN", token)));
        variables
    }

    /// Makes a repository, or one with other settings in its place.
    pub fn create_repository(&self, settings: EcrRepository) {
        let repository = Repository::new(settings, self.world.now());
        locked(&self.world.repositories).insert(repository.settings.name.clone(), repository);
    }

    /// Makes a repository with AWS's default settings.
    pub fn create(&self, name: &str) {
        self.create_repository(EcrRepository { name: name.to_owned(), ..EcrRepository::default() });
    }

    /// Settings of a repository, if it exists.
    pub fn repository(&self, name: &str) -> Option<EcrRepository> {
        locked(&self.world.repositories).get(name).map(|repository| repository.settings.clone())
    }

    /// Tags of a repository with the digests that they name, in order.
    pub fn tags(&self, repository: &str) -> Vec<(String, Digest)> {
        let repositories = locked(&self.world.repositories);
        let tags = repositories.get(repository).map(|repository| repository.tags.clone());
        tags.unwrap_or_default().into_iter().collect()
    }

    /// A manifest or index, by its digest.
    pub fn manifest(&self, repository: &str, digest: Digest) -> Option<Vec<u8>> {
        let repositories = locked(&self.world.repositories);
        repositories.get(repository)?.images.get(&digest).map(|image| image.manifest.to_vec())
    }

    /// Digests of a repository's blobs with their sizes in bytes, in order.
    pub fn blobs(&self, repository: &str) -> Vec<(Digest, u64)> {
        let repositories = locked(&self.world.repositories);
        let blobs = repositories.get(repository).map(|repository| repository.blobs.clone());
        blobs.unwrap_or_default().into_iter().map(|(digest, blob)| (digest, blob.bytes)).collect()
    }

    /// Plans a fault for the `nth` request from now of an action, counted from 1.
    pub fn inject(&self, action: AwsAction, nth: usize, fault: EcrFault) {
        locked(&self.world.faults).plan(action, nth, fault);
    }

    /// How many faults have happened.
    pub fn happened(&self) -> usize {
        locked(&self.world.faults).happened()
    }

    /// Ends every token that was minted so far.
    pub fn expire_tokens(&self) {
        locked(&self.world.accounts).expire_tokens();
    }

    /// Ends every session that was started so far, and its tokens with it.
    pub fn expire_sessions(&self) {
        locked(&self.world.accounts).expire_sessions();
    }

    /// Every secret that was handed out so far: secret keys, session tokens, passwords, web identities.
    /// None may be found in what a program writes.
    pub fn secrets(&self) -> Vec<String> {
        locked(&self.world.accounts).secrets()
    }

    /// Every request that was answered so far, of both ports, in order.
    pub fn requests(&self) -> Served {
        let answered = self.calls().into_iter().filter(|call| call.request.status != 0);
        Served(answered.map(|call| call.request).collect())
    }

    /// The same with what each request was, and with those that got no answer.
    pub fn calls(&self) -> Vec<EcrCall> {
        locked(&self.world.calls).clone()
    }

    /// Requests of this action so far.
    pub fn count(&self, action: AwsAction) -> usize {
        self.calls().iter().filter(|call| call.action == Some(action)).count()
    }

    /// Uploads that were begun so far, in order.
    pub fn sessions(&self) -> Vec<UploadSession> {
        locked(&self.world.sessions).iter().map(|session| locked(session).clone()).collect()
    }

    /// Bytes of layers that came so far, also those that were refused or lost.
    pub fn bytes_received(&self) -> u64 {
        self.sessions().iter().map(|session| session.bytes).sum()
    }
}

fn route(world: &World, layers: &str, request: &mut Incoming<'_>) -> (Option<AwsAction>, Option<Reply>) {
    if request.path == "/v2" || request.path.starts_with("/v2/") {
        return data::answer(world, layers, request);
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/") if request.header("x-amz-target").is_some() => control::answer(world, layers, request),
        ("POST", "/") => sts::answer(world, request),
        ("GET", data::TOKEN_PATH) if world.options.public_alias.is_some() => {
            (None, Some(data::bearer(world, request)))
        }
        ("GET", sso::PATH) => (None, Some(sso::answer(world, request))),
        ("POST", sso::TOKEN_PATH) => (None, Some(sso::renew(world, request))),
        _ => (None, Some(metadata::answer(world, request).unwrap_or_else(|| Reply::new(404)))),
    }
}

/// Writes a request down before its answer leaves: who has the answer finds it there.
fn logged(
    world: &World,
    request: &Incoming<'_>,
    action: Option<AwsAction>,
    reply: Option<Reply>,
) -> Option<Reply> {
    let reply = reply.filter(|_| action.is_none_or(|action| !locked(&world.faults).loses(action)));
    let (status, bytes) = reply.as_ref().map_or((0, 0), |reply| (reply.status, reply.len()));
    let (method, path, query) = (request.method.clone(), request.path.clone(), request.query.clone());
    let bytes = if method == "HEAD" { 0 } else { bytes };
    let body_bytes = request.body_bytes();
    let request = Request { method, path, query, status, bytes };
    locked(&world.calls).push(EcrCall { request, action, body_bytes });
    reply.map(|reply| reply.with("date", http_date(world.now())))
}

#[cfg(test)]
mod tests;
