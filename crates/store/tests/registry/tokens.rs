//! Tokens: who ocib is to registries that want to know.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use ocib_image::{Codec, Compression, Credential, PlaceErrorKind, Progress, Secret, Sink};
use ocib_store::{Registries, RegistriesOptions};
use ocib_testkit::{Noise, file_layer};

use crate::{
    Login, options,
    scripted::{Received, Reply, Server},
    sink_to, small_image,
};

/// A registry with its own token endpoint; `accept` says which tokens are good for a request.
fn token_registry(
    expires_in: u64,
    accept: impl Fn(&Received, &str) -> bool + Send + Sync + 'static,
) -> Server {
    let issued = AtomicUsize::new(0);
    Server::start(move |request, host| {
        if request.target.starts_with("/token") {
            let token = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::status(200).body(format!(r#"{{"token":"t{token}","expires_in":{expires_in}}}"#));
        }
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if !token.is_some_and(|token| accept(request, token)) {
            let challenge = format!(r#"Bearer realm="http://{host}/token",service="{host}""#);
            return Reply::status(401).header("WWW-Authenticate", &challenge);
        }
        match request.method.as_str() {
            "POST" => Reply::status(202).header("Location", "/v2/a/up"),
            "PATCH" => Reply::status(202),
            "PUT" => Reply::status(201),
            _ => Reply::status(404),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_serves_all_that_wait_for_it() {
    let server = token_registry(300, |_, _| true);
    let credentials = Login::basic("me", "secret");
    let registries = Registries::new(RegistriesOptions { credentials, ..options() });
    let sink = sink_to(registries, &format!("{}/a", server.host()), &["1"]);
    let images: Vec<_> = (0..8).map(|at| small_image(vec![at])).collect();
    let progress = Progress::unwatched();
    for put in join_all(images.iter().map(|image| sink.put_blob(&image.layer, &progress))).await {
        put.unwrap();
    }
    let received = server.received();
    let tokens: Vec<_> = received.iter().filter(|request| request.is("GET", "/token")).collect();
    let service = server.host().replace(':', "%3A");
    let line = format!("GET /token?client_id=ocib&service={service}&scope=repository%3Aa%3Apull%2Cpush");
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].line(), line);
    assert_eq!(tokens[0].header("authorization"), Some("Basic bWU6c2VjcmV0"));
    assert!(received.iter().all(|request| request.target.starts_with("/token")
        || request.header("authorization") == Some("Bearer t1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_dies_while_a_layer_is_sent() {
    let server = token_registry(300, |request, token| token != "t1" || request.method != "PATCH");
    let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &[]);
    let layer = file_layer("noise", Noise::bytes(1, 2_000_000), Compression::Fixed(Codec::Plain));
    sink.put_layer(&layer, &Progress::unwatched()).await.unwrap();
    let lines: Vec<_> =
        server.lines().iter().map(|line| line.split('?').next().unwrap().to_owned()).collect();
    let transfer = ["GET /token", "POST /v2/a/blobs/uploads/", "PATCH /v2/a/up"];
    let expected = [&transfer[..], &transfer, &["PUT /v2/a/up"]].concat();
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_used_until_shortly_before_its_end() {
    let server = token_registry(0, |_, _| true);
    let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &[]);
    let image = small_image(b"x".to_vec());
    sink.put_manifest(&image.manifest).await.unwrap();
    let tokens = server.lines().iter().filter(|line| line.starts_with("GET /token")).count();
    assert_eq!(tokens, 2, "one for HEAD, one for PUT");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_is_exchanged() {
    let server = token_registry(300, |_, _| true);
    let credentials = Arc::new(Login(Credential::IdentityToken(Secret::new("refresh"))));
    let registries = Registries::new(RegistriesOptions { credentials, ..options() });
    let sink = sink_to(registries, &format!("{}/a", server.host()), &[]);
    sink.put_manifest(&small_image(b"x".to_vec()).manifest).await.unwrap();
    let received = server.received();
    let exchange = received.iter().find(|request| request.is("POST", "/token")).unwrap();
    let service = server.host().replace(':', "%3A");
    let form = format!(
        "grant_type=refresh_token&refresh_token=refresh&client_id=ocib&service={service}\
         &scope=repository%3Aa%3Apull%2Cpush"
    );
    assert_eq!(String::from_utf8_lossy(&exchange.body), form);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_token_endpoint_gets_no_password() {
    let other = Server::start(|_, _| Reply::status(200).body(r#"{"token":"t"}"#));
    let realm = format!("http://localhost:{}/token", other.host().rsplit(':').next().unwrap());
    let challenge = format!(r#"Bearer realm="{realm}",service="x""#);
    let server = Server::start(move |_, _| Reply::status(401).header("WWW-Authenticate", &challenge));
    let credentials = Login::basic("me", "secret");
    let registries = Registries::new(RegistriesOptions { credentials, ..options() });
    let sink = sink_to(registries, &format!("{}/a", server.host()), &[]);
    let error = sink.put_manifest(&small_image(b"x".to_vec()).manifest).await.unwrap_err();
    let host = server.host();
    let expected = format!("{host} wants its credentials sent to {realm}, which is not of the same domain");
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Denied, expected));
    assert_eq!(other.received(), []);
}

/// Docker Hub's answer to who may only read, and to who is nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_less_than_was_asked_for_is_no_token() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
    for (access, expected) in
        [(r#"[{"type":"repository","name":"a","actions":["pull"]}]"#, "pull"), ("[]", "nothing")]
    {
        let claims = BASE64.encode(format!(r#"{{"access":{access},"iss":"x"}}"#));
        let server = Server::start(move |request, host| match request.header("authorization") {
            _ if request.target.starts_with("/token") => {
                Reply::status(200).body(format!(r#"{{"token":"head.{claims}.signature"}}"#))
            }
            None => Reply::status(401)
                .header("WWW-Authenticate", &format!(r#"Bearer realm="http://{host}/token",service="x""#)),
            Some(_) => Reply::status(200),
        });
        let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &["1"]);
        let error = sink.put_manifest(&small_image(b"x".to_vec()).manifest).await.unwrap_err();
        let expected = format!("the token for {}/a grants {expected}, expected pull and push", server.host());
        assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Denied, expected));
    }
}

/// Docker Hub sends the token under two names, others a life that no clock holds, or one that is no number.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_token_endpoints_as_they_come() {
    for answer in [
        r#"{"token":"t","access_token":"t","expires_in":300,"issued_at":"2026-11-28T00:00:00Z"}"#,
        r#"{"access_token":"t","expires_in":18446744073709551615}"#,
        r#"{"token":"","access_token":"t","expires_in":"3600"}"#,
        r#"{"token":"t","expires_in":-1}"#,
    ] {
        let server = Server::start(move |request, host| match request.header("authorization") {
            _ if request.target.starts_with("/token") => Reply::status(200).body(answer),
            Some("Bearer t") if request.method == "PUT" => Reply::status(201),
            Some("Bearer t") => Reply::status(404),
            _ => Reply::status(401)
                .header("WWW-Authenticate", &format!(r#"Bearer realm="http://{host}/token",service="x""#)),
        });
        let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &["1"]);
        let put = sink.put_manifest(&small_image(b"x".to_vec()).manifest).await;
        assert!(put.is_ok(), "{answer}: {put:?}");
    }
}

/// An identity token is in the body of its request, which a redirect would take along.
#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_is_not_redirected() {
    let other = Server::start(|_, _| Reply::status(200).body(r#"{"token":"t"}"#));
    let elsewhere = format!("http://{}/token", other.host());
    let server = Server::start(move |request, host| match request.target.starts_with("/token") {
        true => Reply::status(307).header("Location", &elsewhere),
        false => Reply::status(401)
            .header("WWW-Authenticate", &format!(r#"Bearer realm="http://{host}/token",service="x""#)),
    });
    let credentials = Arc::new(Login(Credential::IdentityToken(Secret::new("refresh"))));
    let registries = Registries::new(RegistriesOptions { credentials, ..options() });
    let sink = sink_to(registries, &format!("{}/a", server.host()), &[]);
    let error = sink.put_manifest(&small_image(b"x".to_vec()).manifest).await.unwrap_err();
    assert!(error.to_string().ends_with("/token answered 307"), "{error}");
    assert_eq!(other.received(), []);
}
