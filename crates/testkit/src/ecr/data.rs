//! The data plane: `/v2/…` in ECR's dialect of the distribution specification.

use ocib_image::Digest;

use super::{
    AwsAction, EcrOptions, MissingRepository,
    account::{Caller, password},
    image,
    refusal::Refusal,
    repository::Repository,
    upload::Upload,
    world::World,
};
use crate::http::{Incoming, Reply, decoded, locked};

/// What a path means.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Target {
    Ping,
    Uploads,
    Upload(String),
    Blob(String),
    Manifest(String),
    Tags,
    Nothing,
}

/// Answers a request to `/v2/…`, and says which action it was.
pub(super) fn answer(
    world: &World,
    layers: &str,
    request: &mut Incoming<'_>,
) -> (Option<AwsAction>, Option<Reply>) {
    let (name, target) = target(&request.path);
    let actions = actions(&target, request);
    let plane = DataPlane { world, layers, name: &name };
    let reply = match plane.answer(&target, &actions, request) {
        Ok(reply) => Some(reply),
        Err(refusal) => refusal.data_plane(),
    };
    let reply = reply.map(|reply| reply.with("docker-distribution-api-version", "registry/2.0"));
    (actions.last().copied(), reply)
}

/// Repository and target of a path. A name may have the words of the paths in it, so the last count.
fn target(path: &str) -> (String, Target) {
    let path = path.strip_prefix("/v2").unwrap_or_default();
    if path.is_empty() || path == "/" {
        return (String::new(), Target::Ping);
    }
    let path = path.trim_start_matches('/');
    let cut = |word: &str| path.rsplit_once(word).map(|(name, rest)| (name.to_owned(), decoded(rest)));
    if let Some((name, id)) = cut("/blobs/uploads/") {
        return (name, if id.is_empty() { Target::Uploads } else { Target::Upload(id) });
    }
    if let Some((name, "")) = path.rsplit_once("/tags/list") {
        return (name.to_owned(), Target::Tags);
    }
    match (cut("/blobs/"), cut("/manifests/")) {
        (Some((name, digest)), _) => (name, Target::Blob(digest)),
        (_, Some((name, reference))) => (name, Target::Manifest(reference)),
        (None, None) => (path.to_owned(), Target::Nothing),
    }
}

/// Which calls of ECR's API a request is (the policies that pulling and pushing need, in the ECR User
/// Guide, say so).
fn actions(target: &Target, request: &Incoming<'_>) -> Vec<AwsAction> {
    match (request.method.as_str(), target) {
        ("POST", Target::Uploads) => vec![AwsAction::InitiateLayerUpload],
        ("PATCH", Target::Upload(_)) => vec![AwsAction::UploadLayerPart],
        ("PUT", Target::Upload(_)) if request.length() == Some(0) => vec![AwsAction::CompleteLayerUpload],
        ("PUT", Target::Upload(_)) => vec![AwsAction::UploadLayerPart, AwsAction::CompleteLayerUpload],
        ("HEAD", Target::Blob(_)) => vec![AwsAction::BatchCheckLayerAvailability],
        ("GET", Target::Blob(_)) => vec![AwsAction::GetDownloadUrlForLayer],
        ("HEAD" | "GET", Target::Manifest(_)) => vec![AwsAction::BatchGetImage],
        ("PUT", Target::Manifest(_)) => vec![AwsAction::PutImage],
        ("GET", Target::Tags) => vec![AwsAction::ListImages],
        _ => Vec::new(),
    }
}

struct DataPlane<'a> {
    world: &'a World,
    /// The second origin's host.
    layers: &'a str,
    name: &'a str,
}

impl DataPlane<'_> {
    fn answer(
        &self,
        target: &Target,
        actions: &[AwsAction],
        request: &mut Incoming<'_>,
    ) -> Result<Reply, Refusal> {
        for action in actions {
            self.world.misbehave(*action, request)?;
        }
        let is_public = self.options().public_alias.is_some();
        let Some(authorization) = request.header("authorization") else {
            return Ok(challenge(request, is_public));
        };
        if is_public && authorization == ANONYMOUS {
            return self.answer_anybody(target, actions, request);
        }
        let caller = locked(&self.world.accounts).login(authorization, self.world.now())?;
        let resource = self.options().repository_arn(self.name);
        for action in actions {
            self.world.admit(*action, &caller, &resource)?;
        }
        match (request.method.as_str(), target) {
            ("GET" | "HEAD", Target::Ping) => Ok(Reply::text(200, "text/plain", "")),
            ("POST", Target::Uploads) => self.start(request, &caller),
            ("PATCH", Target::Upload(id)) => self.patch(request, id),
            ("PUT", Target::Upload(id)) => self.complete(request, id),
            ("HEAD" | "GET", Target::Blob(text)) => self.blob(request, text),
            ("HEAD" | "GET", Target::Manifest(reference)) => self.manifest(reference),
            ("PUT", Target::Manifest(reference)) => self.put_manifest(request, reference, &caller),
            ("GET", Target::Tags) => self.tags(),
            // Referrers too: 405 has been seen. (U) GET and DELETE of an upload, and deleting blobs and
            // manifests, which ECR does by other calls.
            (method, _) => Err(Refusal::unsupported(method)),
        }
    }

    /// Everybody may read what is public. (U) The refusal's text.
    fn answer_anybody(
        &self,
        target: &Target,
        actions: &[AwsAction],
        request: &Incoming<'_>,
    ) -> Result<Reply, Refusal> {
        if !actions.iter().all(|action| action.is_read()) {
            return Err(Refusal::denied("Not Authorized".to_owned()));
        }
        match target {
            Target::Ping => Ok(Reply::text(200, "text/plain", "")),
            Target::Blob(text) => self.blob(request, text),
            Target::Manifest(reference) => self.manifest(reference),
            _ => Err(Refusal::unsupported(&request.method)),
        }
    }

    /// POST: an upload, or a mount where that is switched on.
    fn start(&self, request: &Incoming<'_>, caller: &Caller) -> Result<Reply, Refusal> {
        if request.parameter("origin").is_some() {
            // ECR knows no such parameter (containerd sends it). (U) Status and text.
            return Err(Refusal::parameter("origin", "unknown parameter"));
        }
        let entered = self.world.enter_repository(self.name, caller);
        let hangs_up = self.options().missing_repository == MissingRepository::HangUp;
        entered.map_err(|refusal| if hangs_up { Refusal::hang_up() } else { refusal })?;
        if let (Some(digest), Some(from)) = (request.parameter("mount"), request.parameter("from"))
            && let Some(digest) = self.mount(&parse(&digest)?, &from, caller)
        {
            return Ok(self.created(digest));
        }
        let id = self.world.start_upload(self.name);
        let upload = self.world.upload(&id, self.name)?;
        let upload = locked(&upload);
        // No byte: a range cannot say so (distribution-spec#578).
        Ok(self.located(request, 202, &upload).with("range", "0-0"))
    }

    /// Takes a blob from another repository, if that is allowed. What prevents it is not said: the
    /// answer is an upload, as the distribution specification wants. (U) Which rights on the other repository it takes.
    fn mount(&self, digest: &Digest, from: &str, caller: &Caller) -> Option<Digest> {
        let resource = self.options().repository_arn(from);
        let accounts = locked(&self.world.accounts);
        let needed = [AwsAction::BatchCheckLayerAvailability, AwsAction::GetDownloadUrlForLayer];
        let rights = needed.iter().filter_map(|action| self.options().right(*action));
        let is_allowed =
            rights.into_iter().all(|right| accounts.authorize(caller, &right, &resource).is_ok());
        drop(accounts);
        if !self.options().mounts || !is_allowed {
            return None;
        }
        let mut repositories = locked(&self.world.repositories);
        let from = repositories.get(from)?;
        let (blob, key) = (from.blobs.get(digest)?.clone(), from.settings.kms_key.clone());
        let to = repositories.get_mut(self.name)?;
        // ECR User Guide, "Blob mounting": "identical encryption type and keys".
        (to.settings.kms_key == key).then(|| to.blobs.insert(*digest, blob));
        (to.settings.kms_key == key).then_some(*digest)
    }

    fn patch(&self, request: &mut Incoming<'_>, id: &str) -> Result<Reply, Refusal> {
        let upload = self.world.upload(id, self.name)?;
        let mut upload = locked(&upload);
        self.append(request, &mut upload)?;
        // 201 where the specification says 202 (mise#11376, tart#273).
        Ok(self.located(request, 201, &upload).with("range", upload.range()))
    }

    fn append(&self, request: &mut Incoming<'_>, upload: &mut Upload) -> Result<(), Refusal> {
        self.check_location(request, upload)?;
        let range = request.header("content-range").map(ToOwned::to_owned);
        let first = range.map(|range| {
            let first = range.split('-').next().unwrap_or_default();
            first.parse().map_err(|_| Refusal::parameter("Content-Range", "must be FIRST-LAST"))
        });
        upload.patch(request, first.transpose()?, self.options())
    }

    fn complete(&self, request: &mut Incoming<'_>, id: &str) -> Result<Reply, Refusal> {
        let digest = request.parameter("digest").ok_or_else(|| Refusal::bad_digest(""))?;
        let digest = parse(&digest)?;
        let upload = self.world.upload(id, self.name)?;
        let mut upload = locked(&upload);
        match request.length() {
            Some(0) => self.check_location(request, &upload)?,
            _ => self.append(request, &mut upload)?,
        }
        let blob = upload.complete(digest, self.options())?;
        self.world.with_repository(self.name, |repository| {
            repository.blobs.entry(digest).or_insert(blob);
            Ok(())
        })?;
        Ok(self.created(digest))
    }

    /// The request must go to the `Location` of the last answer, with its query.
    fn check_location(&self, request: &Incoming<'_>, upload: &Upload) -> Result<(), Refusal> {
        let stamp = upload.stamp();
        let is_current = request.query.split('&').any(|pair| pair == stamp);
        let stale = || Refusal::no_upload(&upload.id, self.name, &self.options().account);
        if is_current { Ok(()) } else { Err(stale()) }
    }

    /// GET leads to the second origin, by a URL that is signed; HEAD is answered here.
    fn blob(&self, request: &Incoming<'_>, text: &str) -> Result<Reply, Refusal> {
        let digest = parse(text)?;
        let missing = || Refusal::no_blob(digest, self.name, &self.options().account);
        let bytes = self.world.with_repository(self.name, |repository| {
            repository.blobs.get(&digest).map(|blob| blob.bytes).ok_or_else(missing)
        })?;
        let reply = match request.method.as_str() {
            "HEAD" => Reply::new(200).with("content-type", "application/octet-stream").claiming(bytes),
            _ => {
                let url = self.world.presign(self.layers, self.name, digest);
                Reply::new(307).with("location", url)
            }
        };
        Ok(reply.with("docker-content-digest", digest.to_string()))
    }

    fn manifest(&self, reference: &str) -> Result<Reply, Refusal> {
        if reference.parse::<Digest>().is_err() && !image::is_tag(reference) {
            // rules_oci#720: 400 for a HEAD. (U) Code and text.
            return Err(Refusal::injected(
                400,
                "TAG_INVALID",
                "InvalidParameterException",
                "Invalid image tag",
            ));
        }
        self.world.with_repository(self.name, |repository| {
            let (digest, image) = repository.find(reference).ok_or_else(Refusal::no_image)?;
            let reply = Reply::bytes(200, &image.media_type, image.manifest.clone());
            Ok(reply.with("docker-content-digest", digest.to_string()))
        })
    }

    fn put_manifest(
        &self,
        request: &mut Incoming<'_>,
        reference: &str,
        caller: &Caller,
    ) -> Result<Reply, Refusal> {
        self.world.enter_repository(self.name, caller)?;
        let manifest = request.read_all(image::MANIFEST_BYTES_MAX).map_err(|_| Refusal::hang_up())?;
        let digest = reference.parse().ok();
        let incoming = image::Incoming {
            manifest: &manifest,
            media_type: request.header("content-type"),
            tag: digest.is_none().then_some(reference),
            digest,
        };
        let put = |repository: &mut Repository| incoming.put(repository, self.options(), self.world.now());
        let stored = self.world.with_repository(self.name, put)?;
        let location = format!("/v2/{}/manifests/{}", self.name, stored.digest);
        let reply = Reply::new(201).with("location", location);
        Ok(reply.with("docker-content-digest", stored.digest.to_string()))
    }

    fn tags(&self) -> Result<Reply, Refusal> {
        self.world.with_repository(self.name, |repository| {
            let tags: Vec<&String> = repository.tags.keys().collect();
            let body = serde_json::json!({"name": self.name, "tags": tags});
            Ok(Reply::json(200, "application/json", &body))
        })
    }

    fn created(&self, digest: Digest) -> Reply {
        let location = format!("/v2/{}/blobs/{digest}", self.name);
        Reply::new(201).with("location", location).with("docker-content-digest", digest.to_string())
    }

    /// An answer that says where the upload goes on: an absolute URL, as ECR's are.
    fn located(&self, request: &Incoming<'_>, status: u16, upload: &Upload) -> Reply {
        let (host, id) = (request.header("host").unwrap_or_default(), &upload.id);
        let location = format!("http://{host}/v2/{}/blobs/uploads/{id}?{}", self.name, upload.stamp());
        Reply::new(status).with("location", location).with("docker-upload-uuid", id.as_str())
    }

    fn options(&self) -> &EcrOptions {
        &self.world.options
    }
}

/// Where ECR Public's registry gives its bearer tokens.
pub(super) const TOKEN_PATH: &str = "/token/";
/// What who is nobody shows to ECR Public.
const ANONYMOUS: &str = "Bearer anonymous";

/// ECR Public's token endpoint: a token of the API, shown as a password, becomes a bearer token.
pub(super) fn bearer(world: &World, request: &Incoming<'_>) -> Reply {
    let token = match request.header("authorization") {
        None => "anonymous".to_owned(),
        Some(authorization) => {
            let known = locked(&world.accounts).login(authorization, world.now());
            match known.and_then(|_| password(authorization).ok_or_else(Refusal::token_invalid)) {
                Ok(password) => password,
                Err(refusal) => return refusal.data_plane().unwrap_or_else(|| Reply::new(500)),
            }
        }
    };
    Reply::json(200, "application/json", &serde_json::json!({"token": token, "expires_in": 3600}))
}

/// The question for a token. No scope is negotiated; the form is in regclient#709, ECR Public's is what it
/// answers to `GET /v2/`.
fn challenge(request: &Incoming<'_>, is_public: bool) -> Reply {
    let host = request.header("host").unwrap_or_default();
    let question = match is_public {
        true => format!("Bearer realm=\"http://{host}{TOKEN_PATH}\",service=\"{host}\",scope=\"aws\""),
        false => format!("Basic realm=\"https://{host}/\",service=\"ecr.amazonaws.com\""),
    };
    Reply::text(401, "text/plain; charset=utf-8", "Not Authorized\n").with("www-authenticate", question)
}

fn parse(digest: &str) -> Result<Digest, Refusal> {
    digest.parse().map_err(|_| Refusal::bad_digest(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let text = ToOwned::to_owned;
        for (path, name, expected) in [
            ("/v2/", "", Target::Ping),
            ("/v2", "", Target::Ping),
            ("/v2/a/b/blobs/uploads/", "a/b", Target::Uploads),
            ("/v2/a/blobs/uploads/1-2", "a", Target::Upload(text("1-2"))),
            ("/v2/a/blobs/sha256%3Aab", "a", Target::Blob(text("sha256:ab"))),
            ("/v2/manifests/manifests/1", "manifests", Target::Manifest(text("1"))),
            ("/v2/a/tags/list", "a", Target::Tags),
            ("/v2/a/referrers/sha256:ab", "a/referrers/sha256:ab", Target::Nothing),
            ("/v2/_catalog", "_catalog", Target::Nothing),
        ] {
            assert_eq!(target(path), (name.to_owned(), expected), "{path}");
        }
    }
}
