//! Registries that cannot run here, by exchanges out of their documentation. Nothing in this file was
//! recorded from the registry itself: each row names the page that it follows.

use ocib_image::{Codec, Compression, PlaceErrorKind, Progress, Sink};
use ocib_store::Registries;
use ocib_testkit::{Noise, file_layer};

use crate::{
    options,
    scripted::{Reply, Server},
    sink_to, small_image,
};

/// How a registry answers a push.
struct Dialect {
    name: &'static str,
    /// `Location` of the answer to `POST`; `{host}` is the server.
    opened: &'static str,
    /// Status of the answer to `PATCH`, and its `Location`.
    patched: (u16, &'static str),
    /// Status of the answer to the last `PUT`.
    put: u16,
    /// Whether a blob is found by `HEAD` before a manifest refers to it.
    finds_blobs: bool,
}

const DIALECTS: [Dialect; 7] = [
    // zot, "Push an image" and its OCI conformance report: relative places, 202 with a Range.
    Dialect {
        name: "zot",
        opened: "/v2/a/blobs/uploads/8c2e",
        patched: (202, "/v2/a/blobs/uploads/8c2e"),
        put: 201,
        finds_blobs: true,
    },
    // distribution 3, docs/content/spec/api.md, "Starting an upload": absolute places, state in the query.
    Dialect {
        name: "distribution 3",
        opened: "http://{host}/v2/a/blobs/uploads/6b3c?_state=QWJj%3D",
        patched: (202, "http://{host}/v2/a/blobs/uploads/6b3c?_state=RGVm%3D"),
        put: 201,
        finds_blobs: true,
    },
    // Harbor, which is distribution behind a core service: 204 was seen of its proxy cache (goharbor/harbor#11121).
    Dialect {
        name: "Harbor",
        opened: "http://{host}/v2/a/blobs/uploads/77aa?_state=x",
        patched: (204, "http://{host}/v2/a/blobs/uploads/77aa?_state=y"),
        put: 201,
        finds_blobs: true,
    },
    // Artifact Registry, "Docker API": uploads go to a path of their own.
    Dialect {
        name: "Artifact Registry",
        opened: "/artifacts-uploads/namespaces/p/repositories/a/uploads/AF1",
        patched: (202, "/artifacts-uploads/namespaces/p/repositories/a/uploads/AF1"),
        put: 201,
        finds_blobs: true,
    },
    // GitHub's container registry: `blobs/upload`, without the s.
    Dialect {
        name: "ghcr.io",
        opened: "/v2/a/blobs/upload/9d1",
        patched: (202, "/v2/a/blobs/upload/9d1"),
        put: 201,
        finds_blobs: true,
    },
    // Artifactory: a blob is found only once a manifest refers to it.
    Dialect {
        name: "Artifactory",
        opened: "http://{host}/v2/a/blobs/uploads/5f0",
        patched: (202, "http://{host}/v2/a/blobs/uploads/5f0"),
        put: 201,
        finds_blobs: false,
    },
    // ECR Public answers PATCH as ECR does: 201.
    Dialect {
        name: "ECR Public",
        opened: "http://{host}/v2/a/blobs/uploads/e1",
        patched: (201, "http://{host}/v2/a/blobs/uploads/e1"),
        put: 201,
        finds_blobs: true,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_push_in_each_dialect() {
    for Dialect { name, opened, patched, put, finds_blobs } in DIALECTS {
        let server = Server::start(move |request, host| {
            let place = |location: &str| location.replace("{host}", host);
            match request.method.as_str() {
                "POST" => Reply::status(202).header("Location", &place(opened)),
                "PATCH" => Reply::status(patched.0).header("Location", &place(patched.1)),
                "PUT" => Reply::status(put),
                "HEAD" if finds_blobs && request.target.contains("/blobs/") => Reply::status(200),
                _ => Reply::status(404),
            }
        });
        let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &["1"]);
        let layer = file_layer("x", Noise::bytes(1, 100_000), Compression::Fixed(Codec::Plain));
        let digest = sink.put_layer(&layer, &Progress::unwatched()).await.unwrap().layer.descriptor.digest;
        let end = patched.1.replace("{host}", &server.host());
        let end = end.strip_prefix(&format!("http://{}", server.host())).unwrap_or(&end).to_owned();
        let joint = if end.contains('?') { '&' } else { '?' };
        let end = format!("PUT {end}{joint}digest={}", digest.to_string().replace(':', "%3A"));
        let lines = server.lines();
        assert!(lines.contains(&end), "{name}: {end} is not among {lines:#?}");
        small_image(b"x".to_vec()).put(&sink).await;
        assert!(server.lines().contains(&"PUT /v2/a/manifests/1".to_owned()), "{name}: the tag is not moved");
    }
}

/// Harbor, "Configure Project Quotas": 412 with the code DENIED.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_harbor_that_is_full() {
    const SAID: &str = "adding 1.0 MiB of storage resource, which when updated to current usage of 10.0 GiB will \
                        exceed the configured upper limit of 10.0 GiB.";
    let server = Server::start(|request, _| match request.method.as_str() {
        "POST" => Reply::status(202).header("Location", "/up"),
        "PATCH" => Reply::status(202),
        "PUT" => Reply::status(412).body(format!(r#"{{"errors":[{{"code":"DENIED","message":"{SAID}"}}]}}"#)),
        _ => Reply::status(404),
    });
    let sink = sink_to(Registries::new(options()), &format!("{}/project/sub/a", server.host()), &[]);
    let layer = file_layer("x", b"x".to_vec(), Compression::Fixed(Codec::Plain));
    let error = sink.put_layer(&layer, &Progress::unwatched()).await.unwrap_err();
    assert!(error.to_string().ends_with(&format!("answered 412: DENIED: {SAID}")), "{error}");
    assert_eq!(error.kind, PlaceErrorKind::Refused);
    assert_eq!(
        server.lines().iter().filter(|line| line.starts_with("PATCH")).count(),
        1,
        "it is not tried again"
    );
}

/// Docker Hub, "Usage and limits": 429 with `retry-after`; zot and Quay throttle without it.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_spread() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let refused = AtomicUsize::new(0);
    let server = Server::start(move |request, _| {
        match request.method.as_str() {
            // The first three of each kind are too many.
            "HEAD" | "GET" => Reply::status(404),
            _ if refused.fetch_add(1, Ordering::SeqCst) < 3 => Reply::status(429)
                .header("Retry-After", "0")
                .body(r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#),
            "POST" => Reply::status(202).header("Location", "/up"),
            "PATCH" => Reply::status(202),
            _ => Reply::status(201),
        }
    });
    let sink = sink_to(Registries::new(options()), &format!("{}/a", server.host()), &["1"]);
    small_image(b"x".to_vec()).put(&sink).await;
    assert!(server.lines().contains(&"PUT /v2/a/manifests/1".to_owned()));
}
