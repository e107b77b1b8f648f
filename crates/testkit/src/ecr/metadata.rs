//! Where machines and containers get credentials: the instance metadata service, version 2 only (EC2
//! User Guide, "Use IMDSv2"), and the endpoint of ECS and of EKS Pod Identity (SDKs and Tools Reference
//! Guide, "Container credential provider").

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    account::{AccessKey, SESSION_LIFE},
    world::World,
};
use crate::http::{Incoming, Reply, iso, locked};

/// Who the machine and the container are.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    /// The ARN of the instance's role.
    pub(super) instance_role: Option<String>,
    /// The ARN of the container's role, and the token that its requests must bring.
    pub(super) container_role: Option<(String, String)>,
    tokens: BTreeSet<String>,
}

/// The container endpoint's path.
pub(super) const CONTAINER_PATH: &str = "/v1/credentials";

/// Answers a request to either service, or nothing if the path is of neither.
pub(super) fn answer(world: &World, request: &Incoming<'_>) -> Option<Reply> {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", CONTAINER_PATH) => Some(container(world, request)),
        ("PUT", "/latest/api/token") => Some(token(world, request)),
        ("GET", path) => path.strip_prefix("/latest/").map(|path| instance(world, request, path)),
        _ => None,
    }
}

fn token(world: &World, request: &Incoming<'_>) -> Reply {
    let ttl = request.header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|ttl| ttl.parse::<u32>().ok());
    // EC2 User Guide: 1 second to 6 hours.
    let Some(ttl @ 1..=21_600) = ttl else { return Reply::new(400) };
    let token = locked(&world.accounts).opaque("AQAEA", 51);
    locked(&world.metadata).tokens.insert(token.clone());
    Reply::text(200, "text/plain", &token).with("x-aws-ec2-metadata-token-ttl-seconds", ttl.to_string())
}

fn instance(world: &World, request: &Incoming<'_>, path: &str) -> Reply {
    const CREDENTIALS: &str = "meta-data/iam/security-credentials/";
    let metadata = locked(&world.metadata);
    let shown = request.header("x-aws-ec2-metadata-token");
    if !shown.is_some_and(|token| metadata.tokens.contains(token)) {
        return Reply::new(401);
    }
    let role = metadata.instance_role.clone();
    drop(metadata);
    let options = &world.options;
    let name = role.as_deref().and_then(|role| role.rsplit('/').next());
    match (path, path.strip_prefix(CREDENTIALS), role.as_deref(), name) {
        ("meta-data/placement/region", ..) => Reply::text(200, "text/plain", &options.region),
        ("dynamic/instance-identity/document", ..) => {
            let document = json!({"accountId": options.account, "region": options.region});
            Reply::json(200, "text/plain", &document)
        }
        (_, Some(""), _, Some(name)) => Reply::text(200, "text/plain", name),
        (_, Some(asked), Some(role), Some(name)) if asked == name => {
            let mut body = credentials(world, role, "i-0123456789abcdef0");
            body["Code"] = "Success".into();
            body["Type"] = "AWS-HMAC".into();
            body["LastUpdated"] = iso(world.now()).into();
            Reply::json(200, "text/plain", &body)
        }
        _ => Reply::new(404),
    }
}

fn container(world: &World, request: &Incoming<'_>) -> Reply {
    let role = locked(&world.metadata).container_role.clone();
    match role {
        Some((role, token)) if request.header("authorization") == Some(&token) => {
            let mut body = credentials(world, &role, "eks-pod");
            body["RoleArn"] = role.into();
            Reply::json(200, "application/json", &body)
        }
        Some(_) => Reply::json(401, "application/json", &json!({"message": "unauthorized"})),
        None => Reply::new(404),
    }
}

fn credentials(world: &World, role: &str, session: &str) -> Value {
    let expires = world.now() + SESSION_LIFE;
    let key = locked(&world.accounts).start_session(role, session, expires);
    let AccessKey { id, secret, session_token, .. } = &key;
    json!({"AccessKeyId": id, "SecretAccessKey": secret, "Token": session_token, "Expiration": iso(expires)})
}
