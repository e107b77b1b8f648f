//! IAM Identity Center's portal (Portal API Reference, GetRoleCredentials): what `aws sso login` leaves
//! becomes a session of a role.

use serde_json::json;

use super::{
    account::{AccessKey, SESSION_LIFE},
    world::World,
};
use crate::http::{Incoming, Reply, locked, pairs};

/// The operation's path.
pub(super) const PATH: &str = "/federation/credentials";

/// Answers GetRoleCredentials.
pub(super) fn answer(world: &World, request: &Incoming<'_>) -> Reply {
    let query = pairs(&request.query);
    let field = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let shown = request.header("x-amz-sso_bearer_token");
    let accounts = locked(&world.accounts);
    let Some(role) = shown.and_then(|token| accounts.sso_role(token)) else {
        return refusal("UnauthorizedException", 401, "Session token not found or invalid");
    };
    let name = role.rsplit('/').next().unwrap_or_default();
    if field("account_id") != Some(&world.options.account) || field("role_name") != Some(name) {
        return refusal("ForbiddenException", 403, "No access");
    }
    drop(accounts);
    let expires = world.now() + SESSION_LIFE;
    let key = locked(&world.accounts).start_session(&role, "ada@corp.example", expires);
    let AccessKey { id, secret, session_token, .. } = &key;
    let since = expires.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let credentials = json!({
        "accessKeyId": id,
        "secretAccessKey": secret,
        "sessionToken": session_token,
        "expiration": milliseconds,
    });
    Reply::json(200, "application/json", &json!({"roleCredentials": credentials}))
}

fn refusal(kind: &'static str, status: u16, message: &str) -> Reply {
    let body = json!({"message": message, "__type": format!("com.amazonaws.switchboard.portal#{kind}")});
    Reply::json(status, "application/json", &body).with("x-amzn-errortype", kind)
}
