//! What backends are asked for: `testdata/jobs/NAME/Dockerfile` and beside it `job.txt`, with the keys. The context
//! is `testdata/jobs/context`; `flags` and bases are as in `testdata/plans`.
//!
//! `OCIB_TEST_REWRITE=1 cargo test -p ocib-build golden` writes the jobs anew.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, sync::Arc};

use ocib_dockerfile::Patterns;
use ocib_image::{Platform, RunFeatures, RunFiles};
use serde_json::Value;

use crate::{
    NativeRun, Request,
    delegate::{Input, Results, Wanted},
    lower::{Backend, Lowering, Stages},
    plan::{self, Doubts, golden},
    stages,
};

const MOUNTS: &[&str] = &["bind", "cache", "tmpfs"];

fn job(request: &Arc<Request>, bases: &BTreeMap<String, Value>, files: RunFiles) -> String {
    let stages = stages::Stages::new(request, &Platform::linux_amd64()).unwrap();
    let images = golden::images(&stages, bases);
    let plan = plan::plan(&stages, &images, &Doubts::new()).unwrap();
    let backend = Backend { name: "test", features: RunFeatures::new(MOUNTS, false, false), files };
    let mut lowering = Lowering::new(Arc::clone(request), images, BTreeMap::new()).for_backend(backend);
    let wanted = Stages::new(plan).advance(&mut lowering, &Results::new()).unwrap();
    wanted.iter().map(|wanted| shown(request, wanted)).collect()
}

fn shown(request: &Request, wanted: &Wanted) -> String {
    let mut out = format!("{} on {}\n  key {}\n", wanted.title, wanted.platform, wanted.key);
    let mut names = Vec::new();
    for image in &wanted.images {
        names.push(match image {
            Input::There(pinned, _) => pinned.to_string(),
            Input::Made(target, _) => {
                let name = format!("input-{}", names.len() + 1);
                writeln!(
                    out,
                    "  {name} of {} layers, {}",
                    target.parts.len(),
                    target.config.runtime.env.join(" ")
                )
                .unwrap();
                name
            }
        });
    }
    let dockerfile = wanted.dockerfile.text(&names);
    for (line, span) in dockerfile.lines().zip(wanted.dockerfile.spans()) {
        writeln!(out, "  {:>2} | {line}", request.dockerfile.position(span.start).line).unwrap();
    }
    for member in &wanted.context {
        let all: Vec<_> = member.files.in_order().map(|(name, _)| String::from_utf8_lossy(name)).collect();
        writeln!(out, "  context {}: {}", member.archive.as_deref().unwrap_or("files"), all.join(" "))
            .unwrap();
    }
    out
}

#[test]
fn jobs_are_as_written_down() {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    let testdata = Path::new(&package).join("../../testdata");
    let bases: BTreeMap<String, Value> =
        serde_json::from_slice(&fs::read(testdata.join("plans/bases.json")).unwrap()).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(testdata.join("jobs")).unwrap() {
        let case = entry.unwrap().path();
        if !case.join("Dockerfile").is_file() {
            continue;
        }
        count += 1;
        let mut request = golden::request(&case);
        let context = ocib_source::Directory::open(&testdata.join("jobs/context")).unwrap();
        request.context = Some(Arc::new(context));
        request.ignored = Patterns::default();
        // The bases have no files that could say whether a RUN is simple.
        request.native_run = NativeRun::Off;
        let request = Arc::new(request);
        let mut found = job(&request, &bases, RunFiles::Registry);
        if case.ends_with("copies") {
            found += "\nby context\n";
            found += &job(&request, &bases, RunFiles::Context);
        }
        let golden = case.join("job.txt");
        if std::env::var_os(golden::REWRITE).is_some() {
            fs::write(&golden, &found).unwrap();
        }
        assert_eq!(found, fs::read_to_string(&golden).unwrap_or_default(), "{}", case.display());
    }
    assert_eq!(count, 5);
}
