//! Pushes that are killed without warning, on machines that remember nothing: the next run completes them,
//! and sends again at most what was on its way.

use ocib_testkit::{Fault, FaultProxy, Registry, RegistryOptions, RequestKind, is_full, noise_file};

use crate::program::{Site, names, signal, started, tag_digest, until, wait};

const LAYERS: u64 = 8;
/// Layers in flight.
const JOBS: u64 = 2;
/// Marks and the config, which are sent with the layers.
const SMALL: u64 = 64 << 10;

/// A context of eight layers.
fn site(layer_bytes: u64) -> Site {
    let copies: String = (0..LAYERS).map(|number| format!("COPY {number} /models/\n")).collect();
    let site = Site::new(&format!("FROM scratch\n{copies}"));
    (0..LAYERS).for_each(|number| {
        noise_file(&site.path(format!("context/{number}")), number, layer_bytes);
    });
    site
}

/// Bytes of layers that passed the proxy, whether they arrived or not.
fn sent(proxy: &FaultProxy) -> u64 {
    proxy.sent(RequestKind::UploadPatch) + proxy.sent(RequestKind::UploadPut)
}

/// A push that is killed as soon as so many bytes have passed, and its successor.
fn killed_after(site: &Site, layer_bytes: u64, bytes: u64, expected: &str) {
    let registry = Registry::start(RegistryOptions::default());
    let proxy = FaultProxy::start(&registry.host());
    let tag = format!("{}/a:1", proxy.host());
    let jobs = JOBS.to_string();
    let arguments = ["--quiet", "--jobs", &jobs, "--compression", "none", "--push", "-t", &tag];
    // However late this test looks: no more passes.
    proxy.pause_after(&[RequestKind::UploadPatch, RequestKind::UploadPut], bytes);
    let mut child = started(&mut site.build(&arguments));
    until(&mut child, "enough bytes have passed", || sent(&proxy) >= bytes);
    signal(&child, "KILL");
    wait(child);
    proxy.resume();
    let tags = registry.storage().join("docker/registry/v2/repositories/a/_manifests/tags");
    assert!(!tags.exists() || names(&tags).is_empty(), "a tag was there before its image");

    // The successor has a connection cut under it, too.
    proxy.inject_into(RequestKind::UploadPatch, Fault::RequestBody { after_bytes: bytes % layer_bytes });
    proxy.inject_into(RequestKind::UploadPut, Fault::RequestBody { after_bytes: bytes % layer_bytes / 2 });
    let done = site.built(&arguments);
    assert_eq!(done.digest(), expected, "after {bytes} bytes");
    assert_eq!(tag_digest(&registry, "a", "1").as_deref(), Some(expected));

    let all = LAYERS * layer_bytes;
    // The kill may lose all that was in flight, each cut one layer.
    let most = all + (JOBS + 2) * (layer_bytes + SMALL) + SMALL;
    assert!(sent(&proxy) <= most, "{} bytes of {all} were sent, killed after {bytes}", sent(&proxy));
    // What had arrived was not sent again: each blob was completed once.
    let requests = registry.requests();
    let mut completed = requests.completed();
    let before = completed.len();
    completed.dedup();
    assert_eq!(completed.len(), before, "a blob was completed twice, killed after {bytes}");
}

#[test]
fn a_push_that_is_killed_at_any_moment_is_completed_by_the_next_run() {
    let (layer_bytes, times) = if is_full() { (256 << 20, 20) } else { (20 << 20, 4) };
    let site = site(layer_bytes);
    let layout = ["--quiet", "--compression", "none", "-o", "type=oci,dest=layout,tar=false"];
    let expected = site.built(&layout).digest().to_owned();
    std::fs::remove_dir_all(site.path("layout")).unwrap();
    let mut random: u64 = 7;
    for _ in 0..times {
        // Knuth's MMIX generator: the same moments in each run.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bytes = (random >> 16) % (LAYERS * layer_bytes * 9 / 10);
        killed_after(&site, layer_bytes, bytes, &expected);
    }
}
