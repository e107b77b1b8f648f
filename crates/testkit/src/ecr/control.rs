//! The control plane: ECR's API and ECR Public's token, in AWS JSON 1.1.

mod images;
mod layers;
mod repositories;

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ocib_image::Digest;
use serde_json::{Value, json};

use super::{
    AwsAction,
    account::Caller,
    refusal::{AWS_JSON, REQUEST_ID, Refusal},
    repository::seconds,
    sigv4::Signed,
    world::World,
};
use crate::http::{Incoming, Reply, locked};

/// Greatest body of a request: a part of 20 MiB in base64 (ECR API Reference, UploadLayerPart).
const BODY_BYTES_MAX: u64 = 32 << 20;

/// What precedes an operation's name in `X-Amz-Target`.
const ECR: &str = "AmazonEC2ContainerRegistry_V20150921.";
const ECR_PUBLIC: &str = "SpencerFrontendService.";

/// Answers a call to the API, and says which action it was.
pub(super) fn answer(
    world: &World,
    layers: &str,
    request: &mut Incoming<'_>,
) -> (Option<AwsAction>, Option<Reply>) {
    let target = request.header("x-amz-target").unwrap_or_default().to_owned();
    let is_public = target.starts_with(ECR_PUBLIC);
    let operation = match (target.strip_prefix(ECR), target.strip_prefix(ECR_PUBLIC)) {
        (Some(name), _) => AwsAction::named(&format!("ecr:{name}")),
        (_, Some("GetAuthorizationToken")) => Some(AwsAction::PublicGetAuthorizationToken),
        (_, Some("CreateRepository")) if world.options.public_alias.is_some() => {
            Some(AwsAction::CreateRepository)
        }
        _ => None,
    };
    let Some(action) = operation else {
        let body = json!({"__type": "UnknownOperationException"});
        return (None, Some(Reply::json(400, AWS_JSON, &body)));
    };
    let reply = match call(world, layers, (action, is_public), request) {
        Ok(body) => Some(Reply::json(200, AWS_JSON, &body)),
        Err(refusal) => refusal.control_plane(),
    };
    (Some(action), reply.map(|reply| reply.with("x-amzn-requestid", REQUEST_ID)))
}

fn call(
    world: &World,
    layers: &str,
    (action, is_public): (AwsAction, bool),
    request: &mut Incoming<'_>,
) -> Result<Value, Refusal> {
    world.misbehave(action, request)?;
    let body = request.read_all(BODY_BYTES_MAX).map_err(|_| Refusal::hang_up())?;
    let service = if is_public { "ecr-public" } else { "ecr" };
    let region = world.options.signing_region(is_public);
    let signed = Signed::of(request, &body);
    let caller = locked(&world.accounts).authenticate(&signed, service, region, world.now())?;
    let malformed = || Refusal::signature("SerializationException", "Malformed JSON");
    let arguments: Value = serde_json::from_slice(&body).map_err(|_| malformed())?;
    let host = request.header("host").unwrap_or_default();
    let call = Call { world, layers, host, caller: &caller, arguments: &arguments };
    call.admit(action)?;
    call.answer(action)
}

/// A call whose signature is right.
struct Call<'a> {
    world: &'a World,
    /// The second origin's host.
    layers: &'a str,
    /// The registry's host, as the client knows it.
    host: &'a str,
    caller: &'a Caller,
    arguments: &'a Value,
}

impl Call<'_> {
    /// IAM, before any argument but the names of resources is looked at.
    fn admit(&self, action: AwsAction) -> Result<(), Refusal> {
        let names = match action {
            AwsAction::DescribeRepositories => self.texts("repositoryNames"),
            _ => self.arguments["repositoryName"].as_str().into_iter().collect(),
        };
        let resources = match names.is_empty() {
            true => vec!["*".to_owned()],
            false => names.iter().map(|name| self.world.options.repository_arn(name)).collect(),
        };
        resources.iter().try_for_each(|resource| self.world.admit(action, self.caller, resource))?;
        let own = self.world.options.account.as_str();
        match self.arguments["registryId"].as_str() {
            // (U) Another account's registry needs a policy there, which nothing here has.
            Some(other) if other != own => {
                let (arn, name) = (&self.caller.arn, action.name());
                let text = format!(
                    "User: {arn} is not authorized to perform: {name} on resource: {} because no \
                     resource-based policy allows the {name} action",
                    resources.join(", ")
                );
                Err(Refusal::denied(text))
            }
            _ => Ok(()),
        }
    }

    fn answer(&self, action: AwsAction) -> Result<Value, Refusal> {
        match action {
            AwsAction::GetAuthorizationToken => Ok(self.token()),
            AwsAction::PublicGetAuthorizationToken => self.public_token(),
            AwsAction::DescribeRegistry => Ok(json!({
                "registryId": self.world.options.account,
                "replicationConfiguration": {"rules": []},
            })),
            AwsAction::GetAccountSetting => self.account_setting(),
            AwsAction::DescribeRepositories => self.describe_repositories(),
            AwsAction::CreateRepository => self.create_repository(),
            AwsAction::GetLifecyclePolicy => self.lifecycle_policy(),
            AwsAction::PutLifecyclePolicy => self.put_lifecycle_policy(),
            AwsAction::BatchCheckLayerAvailability => self.check_layers(),
            AwsAction::GetDownloadUrlForLayer => self.download_url(),
            AwsAction::InitiateLayerUpload => self.initiate_upload(),
            AwsAction::UploadLayerPart => self.upload_part(),
            AwsAction::CompleteLayerUpload => self.complete_upload(),
            AwsAction::BatchGetImage => self.images(),
            AwsAction::DescribeImages => self.describe_images(),
            AwsAction::PutImage => self.put_image(),
            _ => Err(Refusal::unsupported(action.name())),
        }
    }

    /// `expiresAt` is the token's own life, though the session may end before (buildkit#5712).
    fn token(&self) -> Value {
        let (token, expires) = self.minted();
        json!({"authorizationData": [{
            "authorizationToken": STANDARD.encode(format!("AWS:{token}")),
            "expiresAt": seconds(expires),
            "proxyEndpoint": format!("http://{}", self.host),
        }]})
    }

    /// The token of ECR Public needs a second right (ECR Public User Guide, "Registry authentication")
    /// and comes alone, not in a list.
    fn public_token(&self) -> Result<Value, Refusal> {
        self.world.admit(AwsAction::GetServiceBearerToken, self.caller, "*")?;
        let (token, expires) = self.minted();
        let token = STANDARD.encode(format!("AWS:{token}"));
        Ok(json!({"authorizationData": {"authorizationToken": token, "expiresAt": seconds(expires)}}))
    }

    fn minted(&self) -> (String, SystemTime) {
        let expires = self.world.now() + self.world.options.token_life;
        (locked(&self.world.accounts).mint_for(self.caller, expires), expires)
    }

    /// ECR API Reference, GetAccountSetting.
    fn account_setting(&self) -> Result<Value, Refusal> {
        let name = self.text("name")?;
        let value = match name {
            "BLOB_MOUNTING" if self.world.options.mounts => "ENABLED",
            "BLOB_MOUNTING" => "DISABLED",
            "BASIC_SCAN_TYPE_VERSION" => "AWS_NATIVE",
            _ => return Err(Refusal::parameter("name", "unknown account setting")),
        };
        Ok(json!({"name": name, "value": value}))
    }

    /// A text that must be there.
    fn text(&self, name: &str) -> Result<&str, Refusal> {
        let text = self.arguments[name].as_str().filter(|text| !text.is_empty());
        text.ok_or_else(|| Refusal::parameter(name, "must not be null"))
    }

    /// A number that must be there.
    fn number(&self, name: &str) -> Result<u64, Refusal> {
        self.arguments[name].as_u64().ok_or_else(|| Refusal::parameter(name, "must not be null"))
    }

    /// A list of texts, or nothing.
    fn texts(&self, name: &str) -> Vec<&str> {
        self.arguments[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn digest(&self, name: &str) -> Result<Digest, Refusal> {
        let text = self.text(name)?;
        text.parse().map_err(|_| Refusal::bad_digest(text))
    }

    fn repository(&self) -> Result<&str, Refusal> {
        self.text("repositoryName")
    }

    fn account(&self) -> &str {
        &self.world.options.account
    }
}
