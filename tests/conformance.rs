//! What a copy-only Dockerfile means, as BuildKit recorded it: `testdata/conformance`.

use std::{collections::BTreeMap, process::Command};

use ocib_testkit::{Registry, RegistryOptions, checkout, require, run_command};

/// The cases that differ, with how.
fn differing() -> BTreeMap<String, Vec<String>> {
    let registry = Registry::start(RegistryOptions::default());
    let tool = checkout().join("testdata/conformance/tools/check.py");
    let mut check = Command::new(require("python3", "python3"));
    check.arg(tool).args(["--ocib", env!("CARGO_BIN_EXE_ocib"), "--registry", &registry.host()]);
    let answer = run_command(&mut check);
    let mut results: BTreeMap<String, Vec<String>> = serde_json::from_str(&answer).unwrap();
    assert!(results.len() > 200, "only {} cases were found", results.len());
    results.retain(|_, differences| !differences.is_empty());
    results
}

#[test]
fn images_are_what_buildkit_makes() {
    for tool in ["xz", "bzip2", "zstd"] {
        let package = if tool == "xz" { "xz-utils" } else { tool };
        require(tool, package);
    }
    let differing = differing();
    assert!(differing.is_empty(), "{differing:#?}");
}
