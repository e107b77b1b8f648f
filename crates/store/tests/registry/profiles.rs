//! Profiles: what a registry is known to take or to want, by its name or by one that it is known as.

use std::{collections::BTreeMap, io::Write, sync::Arc};

use ocib_image::{
    Annotations, Codec, Compression, Digest, Expected, ExpectedLayer, Foreknown, HashReason, LayerError,
    LayerSource, PlaceErrorKind, Platform, Progress, Sealing, Sink, TaskId, Unsealed,
};
use ocib_store::{Registries, RegistriesOptions};
use ocib_testkit::file_layer;

use crate::{
    Login, Warnings, options,
    scripted::{Reply, Server},
    sink_to,
};

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn known_as(host: String, name: &str) -> RegistriesOptions {
    RegistriesOptions { known_as: BTreeMap::from([(host, name.to_owned())]), ..options() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_hashed_for_a_registry_that_takes_it_whole_only() {
    let server = Server::start(|request, _| match request.method.as_str() {
        "POST" => Reply::status(202).header("Location", "/up"),
        "PUT" => Reply::status(201),
        _ => Reply::status(404),
    });
    let options = known_as(server.host(), "europe-docker.pkg.dev");
    let sink = sink_to(Registries::new(options), &format!("{}/a", server.host()), &[]);
    let layer = file_layer("text", b"text".to_vec(), Compression::Fixed(Codec::GZIP));
    let placed = sink.put_layer(&layer, &Progress::unwatched()).await.unwrap();
    assert_eq!(placed.sealing, Sealing::HashedFirst(HashReason::Needed));
    let layer = placed.layer.descriptor;
    let put = format!("PUT /up?digest={}", layer.digest.to_string().replace(':', "%3A"));
    let wrote = |line: &&String| !line.starts_with("HEAD ") && !line.starts_with("GET ");
    let lines = server.lines();
    assert_eq!(lines.iter().filter(wrote).collect::<Vec<_>>(), ["POST /v2/a/blobs/uploads/", &put]);
    let received = server.received();
    let put = received.iter().find(|request| request.method == "PUT").unwrap();
    assert_eq!(Digest::of(&put.body), layer.digest);
    assert_eq!(put.header("content-length"), Some(&*layer.size.to_string()));
}

/// ECR always asks for name and password, so it is not made to ask.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_always_wanted_goes_with_the_first_request() {
    for (name, expected) in [(ECR, Some("Basic QVdTOnRva2Vu")), ("registry.test", None)] {
        let server = Server::start(|_, _| Reply::status(404));
        let options =
            RegistriesOptions { credentials: Login::basic("AWS", "token"), ..known_as(server.host(), name) };
        let reference = format!("{}/a:1", server.host()).parse().unwrap();
        Registries::new(options).look_up(&reference).await.unwrap();
        assert_eq!(server.received()[0].header("authorization"), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_those_of_the_name_that_it_is_known_as() {
    let layer = |stored_bytes| ExpectedLayer {
        what: "COPY a /".to_owned(),
        stored_bytes: Some(stored_bytes),
        tar_bytes: None,
    };
    let image = |layers| vec![Expected { platform: Platform::linux_amd64(), layers, root: None }];
    for (images, ecr, other) in [
        (image(vec![layer(1); 500]), None, None),
        (image(vec![layer(1); 501]), Some("has 501 layers"), None),
        (image(vec![layer((52_000 << 20) + 1)]), Some("54525952001 bytes"), None),
    ] {
        for (name, expected) in [(ECR, ecr), ("registry.test", other)] {
            let host = "127.0.0.1:1".to_owned();
            let registries = Registries::new(known_as(host.clone(), name));
            let checked = sink_to(registries, &format!("{host}/a"), &[]).check(&images).await;
            match (checked, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(expected)) if error.to_string().contains(expected) => {
                    assert_eq!(error.kind, PlaceErrorKind::Refused);
                }
                (checked, expected) => panic!("{name}: {checked:?}, expected {expected:?}"),
            }
        }
    }
}

/// A layer that says how large it is, and is shorter.
#[derive(Debug)]
struct Claiming(u64);

impl LayerSource for Claiming {
    fn write(&self, out: &mut dyn Write) -> Result<(), LayerError> {
        out.write_all(&[0; 4096]).map_err(LayerError::Output)
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.0)
    }

    fn sample(&self, _: &mut dyn FnMut(&[u8])) -> Result<(), LayerError> {
        Ok(())
    }
}

/// What is certain is refused before the first byte, and what is not is said before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_measured_before_it_is_sent() {
    const LIMIT: u64 = 52_000 << 20;
    for (bytes, codec, refused, warned) in [
        (LIMIT + 1, Codec::Plain, true, false),
        (LIMIT, Codec::Plain, false, false),
        (LIMIT, Codec::GZIP, false, true),
        (LIMIT - (LIMIT >> 9), Codec::GZIP, false, false),
    ] {
        let server = Server::start(|request, _| match request.method.as_str() {
            "POST" | "PATCH" => Reply::status(202).header("Location", "/up"),
            "PUT" => Reply::status(201),
            _ => Reply::status(404),
        });
        let sink =
            sink_to(Registries::new(known_as(server.host(), ECR)), &format!("{}/a", server.host()), &[]);
        let layer = Unsealed {
            source: Arc::new(Claiming(bytes)),
            compression: Compression::Fixed(codec),
            annotations: Annotations::new(),
            foreknown: Foreknown::default(),
        };
        let events = Arc::new(Warnings::default());
        let put = sink.put_layer(&layer, &Progress::new(Arc::clone(&events) as _, TaskId(0))).await;
        assert_eq!(
            put.is_err_and(|error| error.to_string().contains("expected at most")),
            refused,
            "{bytes}"
        );
        let said = events.0.lock().unwrap().clone();
        assert_eq!(
            said.iter().any(|text| text.contains("splitting its COPY is safe")),
            warned,
            "{bytes}: {said:?}"
        );
        let sent = server.lines().iter().any(|line| line.starts_with("POST"));
        assert_eq!(sent, !refused, "{bytes}");
    }
}

/// What answers tell of permissions when nothing is written, and what is left behind: nothing.
#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_tried_with_nothing() {
    use ocib_store::{Tried, Write};
    const INVALID: &str = r#"{"errors":[{"code":"DIGEST_INVALID"},{"code":"MANIFEST_INVALID"}]}"#;
    // What PATCH answers, what PUT does, and what is known then of sending, completing and naming.
    for (patch, put, body, expected) in [
        (202, 400, INVALID, ["allowed", "allowed", "allowed"]),
        (405, 400, "", ["unclear", "unclear", "unclear"]),
        (503, 503, "", ["unclear", "unclear", "unclear"]),
        (403, 401, "", ["refused", "refused", "refused"]),
        (202, 201, "", ["allowed", "unclear", "unclear"]),
    ] {
        let server = Server::start(move |request, _| match request.method.as_str() {
            "POST" => Reply::status(202).header("Location", "/up"),
            "PATCH" => Reply::status(patch),
            "PUT" => Reply::status(put).body(body),
            _ => Reply::status(202),
        });
        let registries = Registries::new(options());
        let repository = format!("{}/a", server.host()).parse().unwrap();
        let tried = [
            registries.try_write(&repository, Write::Append).await,
            registries.try_write(&repository, Write::Complete).await,
            registries.try_name(&repository).await,
        ];
        let actual = tried.map(|tried| match tried {
            Ok(Tried::Allowed) => "allowed",
            Ok(Tried::Unclear(_)) => "unclear",
            Err(_) => "refused",
        });
        assert_eq!(actual, expected, "{patch} {put}");
        let lines = server.lines();
        let deleted = lines.iter().filter(|line| line.starts_with("DELETE ")).count();
        assert_eq!(deleted, if put == 201 { 3 } else { 2 }, "{lines:?}");
    }
}
