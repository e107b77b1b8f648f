//! Lists of files by servers that do not end them, or end them somewhere else than they say.
#![cfg(all(feature = "s3", feature = "gcs"))]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ocib_image::PlaceErrorKind;
use ocib_net::Backoff;
use ocib_source::{BucketLocation, BucketOptions, Buckets, Hub, HubFiles, HubLocation, HubOptions};
use ocib_testkit::{Scripted, ScriptedRegistry};

fn backoff() -> Backoff {
    Backoff { attempts: 2, first: Duration::from_millis(1), longest: Duration::from_millis(1) }
}

fn answer(headers: Vec<(&'static str, String)>, body: &str) -> Scripted {
    Scripted::Answer { status: 200, headers, body: body.to_owned() }
}

fn buckets(server: &ScriptedRegistry) -> Buckets {
    let s3_endpoint = Some(format!("http://{}", server.host()).parse().unwrap());
    Buckets::new(BucketOptions { backoff: backoff(), s3_endpoint, ..BucketOptions::default() })
}

/// What a bucket is whose pages are given by `page`, which is told what follows `continuation-token=`.
async fn bucket(
    page: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Result<(), (PlaceErrorKind, String)> {
    let server = ScriptedRegistry::start(move |_, target, _| {
        let token = target.split_once("continuation-token=").map_or("", |(_, token)| token);
        answer(Vec::new(), &page(token))
    });
    let buckets = buckets(&server);
    let location: BucketLocation = "s3://bucket/m".parse().unwrap();
    buckets.open(&location).await.map(drop).map_err(|error| (error.kind, error.to_string()))
}

fn page(key: Option<&str>, next: &str) -> String {
    let contents = key.map(|key| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>x</LastModified><ETag>e</ETag><Size>1</Size></Contents>"
        )
    });
    let contents = contents.unwrap_or_default();
    format!(
        "<ListBucketResult><IsTruncated>true</IsTruncated>{contents}\
         <NextContinuationToken>{next}</NextContinuationToken></ListBucketResult>"
    )
}

#[tokio::test]
async fn a_list_of_a_bucket_that_goes_round_in_circles_is_not_a_whole_one() {
    let expected = Err((
        PlaceErrorKind::Refused,
        "s3://bucket/m: it does not answer as S3 does: its list of objects has no end".to_owned(),
    ));
    let itself = bucket(|token| page((token != "a").then_some("m/x"), "a"));
    assert_eq!(itself.await, expected);
    let two = bucket(|token| page(None, if token == "a" { "b" } else { "a" }));
    assert_eq!(two.await, expected);
}

#[tokio::test]
async fn a_list_of_the_hub_that_goes_round_in_circles_is_an_error() {
    let commit = "0123456789012345678901234567890123456789";
    let server = ScriptedRegistry::start(move |_, target, host| {
        if target.contains("/revision/") {
            return answer(Vec::new(), &format!("{{\"sha\":\"{commit}\"}}"));
        }
        let other = if target.ends_with("=a") { "b" } else { "a" };
        let next = format!("<http://{host}/api/models/o/n/tree/{commit}?cursor={other}>; rel=\"next\"");
        let directory = format!("[{{\"type\":\"directory\",\"path\":\"d\",\"oid\":\"{commit}\"}}]");
        answer(vec![("link", next)], &directory)
    });
    let endpoint = format!("http://{}", server.host()).parse().unwrap();
    let hub = Hub::new(HubOptions { backoff: backoff(), endpoint, ..HubOptions::default() });
    let location: HubLocation = "hf://o/n".parse().unwrap();
    let error = hub.open(&location, &HubFiles::default()).await.unwrap_err();
    assert!(error.to_string().ends_with("its list of files has no end"), "{error}");
}

/// Some refusals name the region in their text alone. It becomes a part of a host's name.
#[tokio::test]
async fn a_region_is_taken_from_the_text_of_a_refusal_if_it_is_one() {
    for (region, expected) in [("eu-west-1", 2), ("eu.example/", 1)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let server = ScriptedRegistry::start(move |_, _, _| match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Scripted::Answer {
                status: 400,
                headers: Vec::new(),
                body: format!(
                    "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>{region}</Region></Error>"
                ),
            },
            _ => answer(Vec::new(), &page(Some("m/x"), "").replace("true", "false")),
        });
        let error = buckets(&server).open(&"s3://bucket/m".parse().unwrap()).await.err();
        assert_eq!((asked.load(Ordering::SeqCst), error.is_none()), (expected, expected == 2), "{error:?}");
    }
}
