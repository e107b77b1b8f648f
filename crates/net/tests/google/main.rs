//! Each way to an identity of Google Cloud, against servers on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, which clippy cannot see here")]

#[path = "../../../store/tests/registry/scripted.rs"]
#[expect(dead_code, reason = "registries need more of it")]
mod scripted;

use std::{fs, path::Path, process::Command, sync::Arc};

use ocib_net::{Http, HttpOptions, google::Google};
use serde_json::{Value, json};

use crate::scripted::{Received, Reply, Server};

const TOKEN: &str = "planted-access-token";
const SUBJECT: &str = "eyJplanted.eyJzdWIi.c2ln";

/// Token endpoint, metadata server, IAM and a provider of subject tokens in one.
fn cloud() -> Server {
    Server::start(|request, _| answer(request))
}

fn answer(request: &Received) -> Reply {
    let granted =
        || Reply::status(200).body(json!({ "access_token": TOKEN, "expires_in": 3600 }).to_string());
    let metadata = "/computeMetadata/v1/instance/service-accounts/default";
    let flavoured = |reply: Reply| reply.header("Metadata-Flavor", "Google");
    match (request.method.as_str(), request.target.as_str()) {
        ("POST", "/token") => granted(),
        ("GET", target) if target == format!("{metadata}/token") => flavoured(granted()),
        ("GET", target) if target == format!("{metadata}/email") => {
            flavoured(Reply::status(200).body("vm@project.iam.gserviceaccount.com"))
        }
        ("GET", "/subject") if request.header("x-leave") == Some("planted-leave") => {
            Reply::status(200).body(json!({ "value": SUBJECT }).to_string())
        }
        ("POST", "/v1/projects/-/serviceAccounts/ci@p.iam:generateAccessToken")
            if request.header("authorization") == Some(&format!("Bearer {TOKEN}")) =>
        {
            let body = json!({ "accessToken": "impersonated", "expireTime": "2099-01-01T00:00:00Z" });
            Reply::status(200).body(body.to_string())
        }
        _ => {
            Reply::status(400).body(format!(r#"{{"error":"invalid_grant","error_description":"{SUBJECT}"}}"#))
        }
    }
}

fn google(variables: &[(&str, &str)]) -> Google {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let lookup = move |name: &str| Some(variables.iter().find(|(known, _)| known == name)?.1.clone());
    Google::from_environment(Arc::new(Http::new(HttpOptions::default())), Arc::new(lookup))
}

/// Token, provider and name; or why there is none.
async fn found(variables: &[(&str, &str)]) -> Result<[String; 3], String> {
    let google = google(variables);
    let token = google.token().await.map_err(|error| error.to_string())?;
    assert!(!format!("{token:?} {google:?}").contains(&token.token));
    Ok([token.token, token.identity.provider, token.identity.name.unwrap_or_default()])
}

/// A file of credentials, and what it is found as.
async fn found_in_file(file: &Value) -> Result<[String; 3], String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.json");
    fs::write(&path, file.to_string()).unwrap();
    let path = path.to_str().unwrap();
    found(&[("GOOGLE_APPLICATION_CREDENTIALS", path)]).await.map_err(|why| why.replace(path, "FILE"))
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_service_account() {
    let server = cloud();
    let directory = tempfile::tempdir().unwrap();
    let [key, public, signed, signature] =
        ["key", "public", "signed", "signature"].map(|name| directory.path().join(name));
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", text(&key)]);
    openssl(&["pkey", "-in", text(&key), "-pubout", "-out", text(&public)]);
    let token_uri = format!("http://{}/token", server.host());
    let file = json!({
        "type": "service_account", "client_email": "ci@p.iam", "private_key_id": "k1", "project_id": "p",
        "private_key": fs::read_to_string(&key).unwrap(), "token_uri": token_uri,
    });
    let expected = [TOKEN, "GOOGLE_APPLICATION_CREDENTIALS", "ci@p.iam"].map(str::to_owned);
    assert_eq!(found_in_file(&file).await, Ok(expected));

    // The assertion, judged by a program that shares nothing with ocib.
    let body = String::from_utf8(server.received()[0].body.clone()).unwrap();
    let assertion = body.split_once("&assertion=").unwrap().1;
    let (content, proof) = assertion.rsplit_once('.').unwrap();
    fs::write(&signed, content).unwrap();
    fs::write(&signature, decode(proof)).unwrap();
    openssl(&["dgst", "-sha256", "-verify", text(&public), "-signature", text(&signature), text(&signed)]);
    let (header, claims) = content.split_once('.').unwrap();
    let [header, claims] =
        [header, claims].map(|part| serde_json::from_slice::<Value>(&decode(part)).unwrap());
    assert_eq!(header, json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" }));
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("ci@p.iam"), &json!(token_uri)));
}

fn decode(base64url: &str) -> Vec<u8> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.decode(base64url).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_refresh_token() {
    let server = cloud();
    let file = json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "secret&", "refresh_token": "refresh",
        "token_uri": format!("http://{}/token", server.host()),
    });
    let expected = [TOKEN, "GOOGLE_APPLICATION_CREDENTIALS", ""].map(str::to_owned);
    assert_eq!(found_in_file(&file).await, Ok(expected));
    let body = String::from_utf8(server.received()[0].body.clone()).unwrap();
    assert_eq!(body, "grant_type=refresh_token&client_id=id&client_secret=secret%26&refresh_token=refresh");
}

fn external(server: &Server, source: &Value) -> Value {
    let base = format!("http://{}", server.host());
    json!({
        "type": "external_account", "audience": "//iam.googleapis.com/pool",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": format!("{base}/token"),
        "service_account_impersonation_url":
            format!("{base}/v1/projects/-/serviceAccounts/ci@p.iam:generateAccessToken"),
        "credential_source": source,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_from_elsewhere() {
    let server = cloud();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("{SUBJECT}\n")).unwrap();
    let url = format!("http://{}/subject", server.host());
    let format = json!({ "type": "json", "subject_token_field_name": "value" });
    for source in [
        json!({ "file": file.path() }),
        json!({ "url": url, "headers": { "X-Leave": "planted-leave" }, "format": format }),
    ] {
        let expected = ["impersonated", "GOOGLE_APPLICATION_CREDENTIALS", "ci@p.iam"].map(str::to_owned);
        assert_eq!(found_in_file(&external(&server, &source)).await, Ok(expected), "{source}");
    }
    let exchange = server.received().into_iter().find(|request| request.is("POST", "/token")).unwrap();
    assert!(String::from_utf8(exchange.body).unwrap().contains(&format!("subject_token={SUBJECT}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_google() {
    let server = cloud();
    let expected = [TOKEN, "metadata server", "vm@project.iam.gserviceaccount.com"].map(str::to_owned);
    assert_eq!(found(&[("GCE_METADATA_HOST", &server.host())]).await, Ok(expected));
    assert_eq!(server.received()[0].header("metadata-flavor"), Some("Google"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_serves_all() {
    let server = cloud();
    let google = google(&[("GCE_METADATA_HOST", &server.host())]);
    let tokens = futures_util::future::join_all((0..8).map(|_| google.token())).await;
    assert!(tokens.iter().all(Result::is_ok));
    assert_eq!(server.received().len(), 2, "a token and a name");
    google.forget(TOKEN).await;
    google.token().await.unwrap();
    assert_eq!(server.received().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_was_tried() {
    let server = cloud();
    let other = Server::start(|_, _| Reply::status(200).body("<html>"));
    let host = other.host();
    let start = "no identity for Google Cloud was found: GOOGLE_APPLICATION_CREDENTIALS: ";
    let said = found(&[("HOME", "/nonexistent"), ("GCE_METADATA_HOST", &host)]).await.unwrap_err();
    let expected = format!(
        "{start}it is not set; gcloud's file: there is no \
         /nonexistent/.config/gcloud/application_default_credentials.json; \
         metadata server: {host} is no metadata server"
    );
    assert_eq!(said, expected);

    let refused = json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "s", "refresh_token": "r",
        "token_uri": format!("http://{}/elsewhere", server.host()),
    });
    let subject = "[secret]";
    let host = server.host();
    let refusal = format!(
        "FILE: POST http://{host}/elsewhere answered 400: \
         {{\"error\":\"invalid_grant\",\"error_description\":\"{subject}\"}}"
    );
    for (file, expected) in [
        (
            json!({ "type": "other" }),
            "FILE: expected a service_account, authorized_user or external_account (line 1, column 15)"
                .to_owned(),
        ),
        (
            json!({ "type": "service_account", "client_email": "a", "private_key": "planted" }),
            "FILE: private_key is no PEM".to_owned(),
        ),
        (
            external(&server, &json!({ "executable": { "command": "planted" } })),
            "FILE: credential_source has neither file nor url, the kinds that ocib reads".to_owned(),
        ),
        (refused, refusal),
    ] {
        assert_eq!(found_in_file(&file).await, Err(format!("{start}{expected}")), "{file}");
    }
}
