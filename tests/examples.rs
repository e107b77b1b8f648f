//! `docs/examples`: manifests that a real API server would take, and that say what the program knows.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use ocib_testkit::{checkout, run_command};

use crate::program::{Site, names};

fn examples() -> Vec<PathBuf> {
    let directory = checkout().join("docs/examples/kubernetes");
    names(&directory).iter().map(|name| directory.join(name)).collect()
}

/// The Python of an environment that `tests/run.sh` makes.
fn python() -> Command {
    let python = checkout().join("target/test-data/kubernetes-validate/bin/python");
    assert!(python.is_file(), "{} is missing: run tests/run.sh once, which makes it", python.display());
    Command::new(python)
}

/// What `tests/manifests.py` says of manifests that are right.
pub(crate) fn manifests_checked(files: &[PathBuf]) -> String {
    run_command(python().arg(checkout().join("tests/manifests.py")).args(files))
}

/// Blocks of a language, or of none, in a page of the documentation.
pub(crate) fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(checkout().join("docs").join(page)).unwrap();
    // Fences alternate, so every other part lies between two of them.
    let inside = text.split("```").skip(1).step_by(2);
    let of_language = inside.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    of_language.map(str::to_owned).collect()
}

#[test]
fn manifests_fit_kubernetes_schemas() {
    let checked = manifests_checked(&examples());
    let files: BTreeSet<&str> = checked.lines().filter_map(|line| line.split(": ").next()).collect();
    let expected: Vec<_> = examples();
    assert_eq!(files.len(), expected.len(), "{checked}");
    assert!(checked.contains("rbac.yaml: RoleBinding"), "{checked}");
}

#[test]
fn a_manifest_that_is_wrong_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let file = directory.path().join("wrong.yaml");
        fs::write(&file, text).unwrap();
        let output = python().arg(checkout().join("tests/manifests.py")).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        String::from_utf8(output.stderr).unwrap()
    };
    let rbac = fs::read_to_string(checkout().join("docs/examples/kubernetes/rbac.yaml")).unwrap();
    assert!(check(&rbac.replace("resources:", "resource:")).contains("'resource' was unexpected"));
    assert!(
        check(&rbac.replace("    name: ocib\n", "    name: nobody\n"))
            .contains("nothing is ('ServiceAccount', 'ci', 'nobody')")
    );
    let service = &blocks("models.md", "yaml")[0];
    assert!(check(&service.replace("storageUri:", "storageURI:")).contains("'storageURI' was unexpected"));
    let argo = fs::read_to_string(checkout().join("docs/examples/kubernetes/argo-workflow.yaml")).unwrap();
    assert!(check(&argo.replace("volumeMounts:", "volumeMount:")).contains("'volumeMount' was unexpected"));
}

#[test]
fn steps_use_flags_that_there_are() {
    let help = String::from_utf8(Site::new("").done(&["build", "--help"]).stdout).unwrap();
    let known: BTreeSet<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    let mut count = 0;
    for file in examples() {
        for line in fs::read_to_string(&file).unwrap().lines() {
            let argument = line.trim().trim_start_matches("- ").trim_matches('"');
            if let Some(flag) =
                argument.split('=').next().filter(|flag| flag.starts_with("--") && !flag.starts_with("---"))
            {
                assert!(known.contains(flag), "{}: {flag}", file.display());
                count += 1;
            }
        }
    }
    assert!(count >= 8, "only {count} flags were found");
}
