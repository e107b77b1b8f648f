//! IAM Identity Center's portal (Portal API Reference, GetRoleCredentials): what `aws sso login` leaves
//! becomes a session of a role; and its OIDC service (OIDC API Reference, CreateToken), by which a login is renewed.

use serde_json::{Value, json};

use super::{
    account::{AccessKey, SESSION_LIFE, SsoClient},
    world::World,
};
use crate::http::{Incoming, Reply, locked, pairs};

/// GetRoleCredentials' path.
pub(super) const PATH: &str = "/federation/credentials";
/// CreateToken's.
pub(super) const TOKEN_PATH: &str = "/token";
/// How long a renewed login lives, in seconds.
const LOGIN_LIFE: u64 = 28_800;
/// Greatest body of CreateToken.
const BODY_BYTES_MAX: u64 = 64 << 10;

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

/// Answers CreateToken with the grant `refresh_token`; other grants need a browser.
pub(super) fn renew(world: &World, request: &mut Incoming<'_>) -> Reply {
    let body = request.read_all(BODY_BYTES_MAX).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let shown =
        SsoClient { id: text("clientId"), secret: text("clientSecret"), refresh_token: text("refreshToken") };
    let renewed = (text("grantType") == "refresh_token").then(|| locked(&world.accounts).sso_renew(&shown));
    match renewed.flatten() {
        Some((access_token, refresh_token)) => {
            let answer = json!({
                "accessToken": access_token,
                "refreshToken": refresh_token,
                "expiresIn": LOGIN_LIFE,
                "tokenType": "Bearer",
            });
            Reply::json(200, "application/json", &answer)
        }
        None => {
            let body =
                json!({"error": "invalid_grant", "error_description": "Invalid refresh token provided"});
            Reply::json(400, "application/json", &body).with("x-amzn-errortype", "InvalidGrantException")
        }
    }
}

fn refusal(kind: &'static str, status: u16, message: &str) -> Reply {
    let body = json!({"message": message, "__type": format!("com.amazonaws.switchboard.portal#{kind}")});
    Reply::json(status, "application/json", &body).with("x-amzn-errortype", kind)
}
