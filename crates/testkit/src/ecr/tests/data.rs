//! The data plane's dialect, request by request.

use std::{collections::BTreeMap, time::Duration};

use ocib_image::Digest;

use super::wire::{Bench, exchange, refusal};
use crate::{
    EcrRepository,
    ecr::{AwsAction, EcrOptions, MissingRepository, Policy, SecondPatch, Trust},
};

const EXPIRED: &str = "Your authorization token has expired. Reauthenticate and try again.";
const MISSING: &str =
    "The repository with name 'other' does not exist in the registry with id '123456789012'";

#[test]
fn tokens() {
    let mut bench = Bench::new(EcrOptions::default());
    let host = bench.emulator.host();
    let naked = exchange(&host, "GET", "/v2/", &[], b"");
    assert_eq!((naked.status, naked.body.as_str()), (401, "Not Authorized\n"));
    let challenge = format!("Basic realm=\"https://{host}/\",service=\"ecr.amazonaws.com\"");
    assert_eq!(naked.header("www-authenticate"), challenge);
    let wrong = exchange(&host, "GET", "/v2/", &["Authorization: Basic QVdTOng="], b"");
    assert_eq!(wrong.refusal(), refusal(403, "DENIED", "Your Authorization Token is invalid."));
    assert_eq!(bench.send("GET", "/v2/", &[], b"").status, 200);
    bench.emulator.expire_tokens();
    assert_eq!(bench.send("GET", "/v2/", &[], b"").refusal(), refusal(403, "DENIED", EXPIRED));
    bench.renew();
    assert_eq!(bench.send("GET", "/v2/", &[], b"").status, 200);
}

#[test]
fn a_token_dies_with_its_session_and_with_time() {
    let mut bench = Bench::new(EcrOptions::default());
    let role = bench.emulator.role("builder", Policy::all(), Trust::Account);
    bench.key = bench.emulator.session(&role, "run", Duration::from_secs(900));
    bench.renew();
    assert_eq!(bench.send("GET", "/v2/", &[], b"").status, 200);
    bench.emulator.expire_sessions();
    assert_eq!(bench.send("GET", "/v2/", &[], b"").refusal(), refusal(403, "DENIED", EXPIRED));
    let bench = Bench::new(EcrOptions { token_life: Duration::ZERO, ..EcrOptions::default() });
    assert_eq!(bench.send("GET", "/v2/", &[], b"").refusal(), refusal(403, "DENIED", EXPIRED));
}

#[test]
fn one_patch_a_session() {
    for (second_patch, status) in [(SecondPatch::Discarded, 400), (SecondPatch::StaleRange, 201)] {
        // Small parts, so that the second one is not the whole blob's undoing.
        let options = EcrOptions { second_patch, part_bytes: 1..=10 << 20, ..EcrOptions::default() };
        let bench = Bench::new(options);
        let first = bench.send("PATCH", &bench.start(), &["Content-Range: 0-4"], b"first");
        assert_eq!((first.status, first.header("range")), (201, "0-4"));
        let location = first.header("location");
        // Docker's form again, and a wrong range.
        for (headers, got) in [(vec![], 0), (vec!["Content-Range: 3-8"], 3)] {
            let again = bench.send("PATCH", location, &headers, b"second");
            let text = format!("First byte of the layer part is {got} instead of 5");
            assert_eq!(again.refusal(), refusal(416, "BLOB_UPLOAD_INVALID", text));
        }
        let second = bench.send("PATCH", location, &["Content-Range: 5-10"], b"second");
        assert_eq!((second.status, second.header("range")), (201, "0-4"), "the range is stuck");
        let digest = Digest::of(b"firstsecond");
        let put = bench.send("PUT", &format!("{}&digest={digest}", second.header("location")), &[], b"");
        assert_eq!(put.status, status, "{put:?}");
    }
}

#[test]
fn the_last_location_counts() {
    let bench = Bench::new(EcrOptions::default());
    let start = bench.start();
    let patched = bench.send("PATCH", &start, &[], b"content");
    let digest = Digest::of(b"content");
    let path = patched.header("location").split('?').next().unwrap().to_owned();
    for location in [start, format!("{path}?")] {
        let answer = bench.send("PUT", &format!("{location}&digest={digest}"), &[], b"");
        assert_eq!((answer.status, answer.refusal().1.as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
    }
    let wrong = Digest::of(b"other");
    let answer = bench.send("PUT", &format!("{}&digest={wrong}", patched.header("location")), &[], b"");
    let text = format!("The layer's digest is '{digest}' and not '{wrong}'");
    assert_eq!(answer.refusal(), refusal(400, "DIGEST_INVALID", text));
    let answer = bench.send("PUT", &format!("{}&digest={digest}", patched.header("location")), &[], b"");
    assert_eq!((answer.status, answer.header("docker-content-digest")), (201, digest.to_string().as_str()));
    // It is used up.
    let answer = bench.send("PUT", &format!("{}&digest={digest}", patched.header("location")), &[], b"");
    assert_eq!(answer.status, 404);
}

#[test]
fn a_monolithic_put_and_a_cut_body() {
    let bench = Bench::new(EcrOptions::default());
    let digest = Digest::of(b"content");
    let put = bench.send("PUT", &format!("{}&digest={digest}", bench.start()), &[], b"content");
    assert_eq!(put.status, 201);
    assert_eq!(bench.emulator.blobs("team/a"), [(digest, 7)]);
    let start = bench.start();
    bench.emulator.inject(AwsAction::UploadLayerPart, 1, crate::EcrFault::Reset { after_bytes: 3 });
    assert_eq!(bench.send("PATCH", &start, &[], b"content").status, 0);
    let id = bench.emulator.sessions()[1].id.clone();
    for (headers, text) in [
        (vec![], "First byte of the layer part is 0 instead of 3".to_owned()),
        (vec!["Content-Range: 3-6"], format!("The upload with id '{id}' broke off")),
    ] {
        let again = bench.send("PATCH", &start, &headers, b"tent");
        assert_eq!(again.refusal(), refusal(416, "BLOB_UPLOAD_INVALID", text));
    }
    assert_eq!(bench.emulator.bytes_received(), 7 + 3);
}

#[test]
fn reading() {
    let bench = Bench::new(EcrOptions { keep_bytes_max: 10, ..EcrOptions::default() });
    let digest = bench.push(b"0123456789");
    let blob = format!("/v2/team/a/blobs/{digest}");
    let head = bench.send("HEAD", &blob, &[], b"");
    assert_eq!((head.status, head.header("content-length"), head.body.as_str()), (200, "10", ""));
    // A failed HEAD says nothing; the same as GET does.
    let unknown = format!("/v2/team/a/blobs/{}", Digest::of(b"x"));
    let head = bench.send("HEAD", &unknown, &[], b"");
    assert_eq!((head.status, head.body.as_str()), (404, ""));
    assert_eq!(bench.send("GET", &unknown, &[], b"").refusal().1, "BLOB_UNKNOWN");
    assert_eq!(
        bench.send("GET", "/v2/team/a/manifests/1", &[], b"").refusal(),
        refusal(404, "MANIFEST_UNKNOWN", "Requested image not found")
    );
    assert_eq!(bench.send("GET", "/v2/team/a/blobs/x", &[], b"").refusal().1, "DIGEST_INVALID");

    let redirect = bench.send("GET", &blob, &[], b"");
    assert_eq!(redirect.status, 307);
    let host = bench.emulator.layers_host();
    let path = redirect.header("location").strip_prefix(&format!("http://{host}")).unwrap().to_owned();
    for (method, headers, status, body) in
        [("GET", vec![], 200, "0123456789"), ("GET", vec!["Range: bytes=7-"], 206, "789")]
    {
        let answer = exchange(&host, method, &path, &headers, b"");
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{method} {headers:?}");
    }
    for (method, headers, status) in [
        ("GET", vec!["Authorization: Basic QVdTOng="], 400),
        ("GET", vec!["Range: bytes=10-"], 416),
        ("HEAD", vec![], 403),
    ] {
        assert_eq!(exchange(&host, method, &path, &headers, b"").status, status, "{method} {headers:?}");
    }
    let unsigned = path.split('?').next().unwrap();
    assert_eq!(exchange(&host, "GET", unsigned, &[], b"").status, 403);

    let large = bench.push(b"0123456789a");
    let redirect = bench.send("GET", &format!("/v2/team/a/blobs/{large}"), &[], b"");
    let path = redirect.header("location").strip_prefix(&format!("http://{host}")).unwrap().to_owned();
    let answer = exchange(&host, "GET", &path, &[], b"");
    let text = format!("the emulator did not keep the bytes of {large}: see EcrOptions::keep_bytes_max");
    assert_eq!(answer.refusal(), refusal(500, "UNKNOWN", text));
}

#[test]
fn missing_repositories() {
    let uploads = "/v2/other/blobs/uploads/";
    for (missing_repository, post, get) in [
        (MissingRepository::NameUnknown, 404, 404),
        (MissingRepository::HangUp, 0, 404),
        (MissingRepository::Create, 202, 404),
    ] {
        let bench = Bench::new(EcrOptions { missing_repository, ..EcrOptions::default() });
        let answer = bench.send("GET", "/v2/other/manifests/1", &[], b"");
        assert_eq!(answer.status, get);
        assert_eq!(answer.refusal(), refusal(404, "NAME_UNKNOWN", MISSING));
        assert_eq!(bench.send("POST", uploads, &[], b"").status, post, "{missing_repository:?}");
        assert_eq!(bench.emulator.repository("other").is_some(), post == 202);
    }
}

#[test]
fn mounts() {
    for (mounts, kms_key, from, status) in [
        (false, None, "base", 202),
        (true, None, "base", 201),
        (true, None, "nowhere", 202),
        (true, Some("arn:aws:kms:eu-west-1:123456789012:key/1"), "base", 202),
    ] {
        let bench = Bench::new(EcrOptions { mounts, ..EcrOptions::default() });
        let digest = bench.push(b"layer");
        let settings = EcrRepository { kms_key: kms_key.map(ToOwned::to_owned), ..EcrRepository::default() };
        bench.emulator.create_repository(EcrRepository { name: "to".to_owned(), ..settings });
        let from = from.replace("base", "team/a");
        let path = format!("/v2/to/blobs/uploads/?mount={digest}&from={from}");
        let answer = bench.send("POST", &path, &[], b"");
        assert_eq!(answer.status, status, "{mounts} {kms_key:?} {from}");
        assert_eq!(bench.emulator.blobs("to").len(), usize::from(status == 201));
        if status == 202 {
            // The session is as good as any.
            let put = format!("{}&digest={digest}", answer.header("location"));
            assert_eq!(bench.send("PUT", &put, &[], b"layer").status, 201);
        }
        let origin = bench.send("POST", &format!("{path}&origin=x"), &[], b"");
        assert_eq!(origin.refusal().1, "UNSUPPORTED");
    }
}

#[test]
fn limits_and_quotas() {
    let quotas = BTreeMap::from([(AwsAction::BatchGetImage, 1)]);
    let bench = Bench::new(EcrOptions { layer_bytes_max: 4, quotas, ..EcrOptions::default() });
    let answer = bench.send("PATCH", &bench.start(), &[], b"12345");
    assert_eq!(answer.refusal(), refusal(405, "UNSUPPORTED", "Limit exceeded: a layer has at most 4 bytes"));
    let manifests: Vec<_> =
        (0..20).map(|_| bench.send("GET", "/v2/team/a/manifests/1", &[], b"").refusal()).collect();
    assert_eq!(manifests[0].0, 404);
    // A slow machine may get more than one through, but not twenty in a second.
    assert!(manifests.contains(&refusal(429, "TOOMANYREQUESTS", "Rate exceeded")), "{manifests:?}");
    assert_eq!(bench.send("GET", "/v2/team/a/referrers/sha256:ab", &[], b"").status, 405);
}

#[test]
fn iam_comes_before_arguments() {
    let bench = Bench::new(EcrOptions::default());
    let uploads = "/v2/nowhere/blobs/uploads/";
    let blob = format!("/v2/nowhere/blobs/{}", Digest::of(b""));
    for (method, path, action) in [
        ("POST", uploads.to_owned(), "ecr:InitiateLayerUpload"),
        ("PATCH", format!("{uploads}1"), "ecr:UploadLayerPart"),
        ("PUT", format!("{uploads}1?digest=nonsense"), "ecr:CompleteLayerUpload"),
        ("HEAD", blob.clone(), "ecr:BatchCheckLayerAvailability"),
        ("GET", blob, "ecr:GetDownloadUrlForLayer"),
        ("GET", "/v2/nowhere/manifests/1".to_owned(), "ecr:BatchGetImage"),
        ("PUT", "/v2/nowhere/manifests/1".to_owned(), "ecr:PutImage"),
    ] {
        bench.emulator.set_policy(&bench.key.arn, Policy::all().deny(action));
        let answer = bench.send(method, &path, &[], b"");
        assert_eq!(answer.status, 403, "{action}");
        if method != "HEAD" {
            let text = format!(
                "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: {action} on resource: \
                 arn:aws:ecr:eu-west-1:123456789012:repository/nowhere with an explicit deny in an \
                 identity-based policy"
            );
            assert_eq!(answer.refusal(), refusal(403, "DENIED", text));
        }
        bench.emulator.set_policy(&bench.key.arn, Policy::all());
        assert_ne!(bench.send(method, &path, &[], b"").status, 403, "{action}");
    }
}
