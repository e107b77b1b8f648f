//! Assertions that a service account signs (RFC 7519, RS256), checked by OpenSSL.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::Refused;
use crate::process::require;

/// The most that an assertion may live (Google Identity, "Using OAuth 2.0 for Server to Server
/// Applications").
const LIFE_MAX: Duration = Duration::from_secs(3600);

/// Whether an assertion is this account's, for this endpoint, and about now.
pub(super) fn check(
    assertion: &str,
    key: &Path,
    account: &str,
    audience: &str,
    now: SystemTime,
) -> Result<(), Refused> {
    let malformed = (400, "invalid_grant", "Bad Request");
    let (signed, signature) = assertion.rsplit_once('.').ok_or(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(malformed)?;
    let json = |part: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    };
    let (header, claims) = json(header).zip(json(claims)).ok_or(malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed)?;
    if header["alg"] != "RS256" || !is_signed(signed, &signature, key) {
        return Err((400, "invalid_grant", "Invalid JWT Signature."));
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).expect("the clock is past 1970").as_secs();
    let (issued, expires) = claims["iat"].as_u64().zip(claims["exp"].as_u64()).unwrap_or_default();
    if expires < now || issued > now + 300 || expires.saturating_sub(issued) > LIFE_MAX.as_secs() {
        let text =
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.";
        return Err((400, "invalid_grant", text));
    }
    if claims["iss"] != account || claims["aud"] != audience {
        return Err((400, "invalid_grant", "Invalid grant: account not found"));
    }
    if claims["scope"].as_str().is_none_or(str::is_empty) {
        return Err((400, "invalid_scope", "Invalid OAuth scope or ID token audience provided."));
    }
    Ok(())
}

fn is_signed(signed: &str, signature: &[u8], key: &Path) -> bool {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (text, proof) = (dir.path().join("text"), dir.path().join("proof"));
    fs::write(&text, signed).and_then(|()| fs::write(&proof, signature)).expect("files of ours");
    let mut command = Command::new(require("openssl", "openssl"));
    command.args(["dgst", "-sha256", "-verify"]).arg(key).arg("-signature").arg(proof).arg(text);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.expect("openssl can be run").success()
}
