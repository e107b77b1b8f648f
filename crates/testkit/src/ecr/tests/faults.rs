//! Faults and the log.

use std::{thread, time::Duration};

use super::wire::{Bench, exchange, refusal};
use crate::ecr::{AwsAction, EcrFault, EcrOptions};

#[test]
fn each_fault_at_its_turn() {
    let bench = Bench::new(EcrOptions::default());
    let fault = EcrFault::Refuse { status: 503, message: "later".to_owned() };
    bench.emulator.inject(AwsAction::InitiateLayerUpload, 2, fault);
    bench.start();
    let answer = bench.send("POST", "/v2/team/a/blobs/uploads/", &[], b"");
    assert_eq!(answer.refusal(), refusal(503, "UNKNOWN", "later"));
    let start = bench.start();

    bench.emulator.inject(AwsAction::UploadLayerPart, 1, EcrFault::DropUpload);
    let dropped = bench.send("PATCH", &start, &[], b"x");
    assert_eq!((dropped.status, dropped.refusal().1.as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));

    bench.emulator.inject(AwsAction::BatchGetImage, 1, EcrFault::Reset { after_bytes: 0 });
    assert_eq!(bench.send("GET", "/v2/team/a/manifests/1", &[], b"").status, 0);

    bench.emulator.inject(AwsAction::BatchGetImage, 1, EcrFault::ExpireTokens);
    assert_eq!(bench.send("GET", "/v2/team/a/manifests/1", &[], b"").status, 403);
    assert_eq!(bench.emulator.happened(), 4);

    let calls = bench.emulator.calls();
    let calls: Vec<_> = calls.iter().map(|call| (call.action.unwrap(), call.request.status)).collect();
    let expected = [
        (AwsAction::InitiateLayerUpload, 202),
        (AwsAction::InitiateLayerUpload, 503),
        (AwsAction::InitiateLayerUpload, 202),
        (AwsAction::UploadLayerPart, 404),
        (AwsAction::BatchGetImage, 0),
        (AwsAction::BatchGetImage, 403),
    ];
    assert_eq!(calls, expected);
    assert_eq!(bench.emulator.requests().0.len(), 5);
}

#[test]
fn what_stalls_ends_with_the_emulator() {
    let bench = Bench::new(EcrOptions::default());
    let start = bench.start();
    bench.emulator.inject(AwsAction::UploadLayerPart, 1, EcrFault::Stall { after_bytes: 2 });
    let sending = {
        let (host, login) = (bench.emulator.host(), bench.login());
        let path = start.strip_prefix(&bench.emulator.url()).unwrap().to_owned();
        thread::spawn(move || exchange(&host, "PATCH", &path, &[&login], b"content"))
    };
    // Looking at it does not wait for it.
    while bench.emulator.bytes_received() < 2 {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(!sending.is_finished());
    assert_eq!(bench.emulator.bytes_received(), 2);
    drop(bench);
    assert_eq!(sending.join().unwrap().status, 0);
}
