//! Assertions of service accounts: JSON Web Tokens signed with the account's key (RFC 7523; Google,
//! "Using OAuth 2.0 for server to server applications").

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::json;

use super::token::SCOPE;

/// An assertion that lives for an hour, the longest that Google takes.
const LIFE_SECONDS: u64 = 3600;

/// An assertion by `account` for the token endpoint `audience`, made at `now` (seconds since 1970).
pub(super) fn assertion(
    account: &str,
    pem: &str,
    key_id: &str,
    audience: &str,
    now: u64,
) -> Result<String, String> {
    let key = RsaKeyPair::from_pkcs8(&der(pem).ok_or("private_key is no PEM")?)
        .map_err(|_| "private_key is no RSA key in PKCS #8".to_owned())?;
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": key_id });
    let claims = json!({
        "iss": account, "scope": SCOPE, "aud": audience, "iat": now, "exp": now + LIFE_SECONDS,
    });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| "private_key cannot sign".to_owned())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn der(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}
