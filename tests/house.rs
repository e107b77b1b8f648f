//! The house: which room may use which, what a stranger gets, and what may lie around.
//!
//! The tables are the rules. A room that needs more than its row allows needs a decision record
//! first (`docs/decisions`), and then a change here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// What a room may use of ours: always, and besides that in its tests.
struct Room {
    name: &'static str,
    uses: &'static [&'static str],
    tests_use: &'static [&'static str],
}

const ROOMS: [Room; 12] = [
    Room { name: "ocib-image", uses: &[], tests_use: &[] },
    Room { name: "ocib-dockerfile", uses: &[], tests_use: &[] },
    Room { name: "ocib-net", uses: &["ocib-image"], tests_use: &["ocib-testkit"] },
    Room { name: "ocib-store", uses: &["ocib-image", "ocib-net"], tests_use: &["ocib-testkit"] },
    Room { name: "ocib-source", uses: &["ocib-image", "ocib-net"], tests_use: &["ocib-testkit"] },
    Room {
        name: "ocib-build",
        uses: &["ocib-dockerfile", "ocib-image"],
        tests_use: &["ocib-source", "ocib-testkit"],
    },
    Room { name: "ocib-kaniko", uses: &["ocib-image"], tests_use: &["ocib-testkit"] },
    Room { name: "ocib-local", uses: &["ocib-image"], tests_use: &["ocib-testkit"] },
    Room { name: "ocib-model", uses: &["ocib-image", "ocib-source"], tests_use: &["ocib-testkit"] },
    Room { name: "ocib-fleet", uses: &["ocib-build", "ocib-image"], tests_use: &["ocib-testkit"] },
    Room { name: "ocib-testkit", uses: &["ocib-image"], tests_use: &[] },
    Room {
        name: "ocib",
        uses: &[
            "ocib-image",
            "ocib-dockerfile",
            "ocib-net",
            "ocib-store",
            "ocib-source",
            "ocib-build",
            "ocib-kaniko",
            "ocib-local",
            "ocib-model",
            "ocib-fleet",
        ],
        tests_use: &["ocib-testkit"],
    },
];

/// Packages that only some rooms may name. A star stands for any ending.
const HOMES: [(&str, &[&str]); 7] = [
    ("clap*", &["ocib"]),
    ("indicatif", &["ocib"]),
    ("annotate-snippets", &["ocib"]),
    ("kube*", &["ocib-kaniko"]),
    ("k8s-openapi", &["ocib-kaniko"]),
    ("aws-*", &["ocib-net", "ocib-store"]),
    ("reqwest", &["ocib-net"]),
];

/// Packages of the command line: in the root package, behind its feature `cli` and no other.
const CLI_ONLY: [&str; 3] = ["clap", "indicatif", "annotate-snippets"];

/// Rooms that wait for nothing, and what would tie them to a runtime or a network.
const SYNC_ROOMS: [&str; 3] = ["ocib-image", "ocib-dockerfile", "ocib-build"];
const RUNTIMES: [&str; 5] = ["tokio", "async-std", "smol", "hyper", "reqwest"];

/// Permissive licences, by SPDX. Whatever is not here asks for a decision.
const LICENCES: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// What a stranger who depends on `ocib` gets: features, packages at most, packages that must not come.
const STRANGERS: [(&[&str], usize, &[&str]); 5] = [
    (&[], 146, &["clap", "indicatif", "annotate-snippets", "kube", "aws-config", "ocib-testkit"]),
    // Nothing but the room itself: serde and tokio are there for the others.
    (&["model"], 148, &["clap", "kube", "aws-config", "ring", "ocib-testkit"]),
    (&["google"], 146, &["clap", "aws-config", "ring"]),
    // kube's client; TLS as everywhere here.
    (&["kaniko"], 196, &["clap", "aws-config", "ring", "openssl", "kube-runtime", "ocib-testkit"]),
    // No TLS and no HTTP client but ours.
    (&["ecr"], 195, &["clap", "kube", "ring", "openssl", "aws-smithy-http-client", "ocib-testkit"]),
];

/// The top level, besides dot files and what git ignores there.
const TOP_LEVEL: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "benches",
    "crates",
    "docs",
    "testdata",
    "tests",
];

const LINES_MAX: usize = 600;

/// Places that exist on one machine only. Put together here so that this file does not name them.
const FOREIGN_PLACES: [&str; 2] = [concat!("/wo", "rk/"), concat!("../sha", "red")];

fn root() -> PathBuf {
    ocib_testkit::checkout()
}

/// What a command prints; fails with what it complains about.
fn output(command: &mut Command) -> String {
    let output = command.output().expect("the command can be started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(directory).env_remove("CARGO_TARGET_DIR");
    command
}

/// `cargo metadata` for the machine that the tests run on, without a look at the network.
fn metadata() -> Value {
    let version = output(cargo(&root()).arg("-vV"));
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    let arguments = ["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host];
    serde_json::from_str(&output(cargo(&root()).args(arguments))).expect("cargo writes JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The packages of the workspace.
fn members(metadata: &Value) -> Vec<&Value> {
    let ids: BTreeSet<&str> = list(metadata, "workspace_members").iter().filter_map(Value::as_str).collect();
    list(metadata, "packages").iter().filter(|package| ids.contains(text(package, "id"))).collect()
}

#[test]
fn rooms_use_only_what_their_row_allows() {
    let metadata = metadata();
    let members = members(&metadata);
    let names: BTreeSet<&str> = members.iter().map(|member| text(member, "name")).collect();
    for member in members {
        let name = text(member, "name");
        let room = ROOMS.iter().find(|room| room.name == name);
        let room = room.unwrap_or_else(|| panic!("{name} has no row: a new room needs a decision record"));
        for dependency in list(member, "dependencies") {
            let used = text(dependency, "name");
            let is_dev = text(dependency, "kind") == "dev";
            let is_allowed = room.uses.contains(&used) || is_dev && room.tests_use.contains(&used);
            assert!(!names.contains(used) || is_allowed, "{name} must not use {used}");
        }
    }
}

#[test]
fn packages_stay_in_their_rooms() {
    let metadata = metadata();
    for member in members(&metadata) {
        let name = text(member, "name");
        for dependency in list(member, "dependencies") {
            let used = text(dependency, "name");
            for (pattern, homes) in HOMES {
                let is_meant = match pattern.strip_suffix('*') {
                    Some(start) => used.starts_with(start),
                    None => used == pattern,
                };
                assert!(!is_meant || homes.contains(&name), "{name} must not use {used}, only {homes:?} may");
            }
            if name == "ocib" && CLI_ONLY.contains(&used) {
                assert_eq!(dependency["optional"], true, "{used} must be optional");
                assert_eq!(features_with(member, used), ["cli"], "{used} belongs to the feature cli alone");
            }
        }
    }
}

fn features_with<'a>(package: &'a Value, dependency: &str) -> Vec<&'a str> {
    let names = |values: &Value| {
        let all = values.as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().any(|value| value.as_str() == Some(&format!("dep:{dependency}")))
    };
    let features = package["features"].as_object().expect("a package has features");
    features.iter().filter(|(_, values)| names(values)).map(|(name, _)| &**name).collect()
}

#[test]
fn sync_rooms_have_no_runtime() {
    let metadata = metadata();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"], "nodes").iter().map(|node| (text(node, "id"), node)).collect();
    let names: BTreeMap<&str, &str> = list(&metadata, "packages")
        .iter()
        .map(|package| (text(package, "id"), text(package, "name")))
        .collect();
    for room in members(&metadata).into_iter().filter(|room| SYNC_ROOMS.contains(&text(room, "name"))) {
        let mut seen = BTreeSet::new();
        let mut todo = vec![text(room, "id")];
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                let is_normal = |kind: &Value| kind["kind"].is_null();
                let used = list(nodes[id], "deps").iter();
                let used = used.filter(|used| list(used, "dep_kinds").iter().any(is_normal));
                todo.extend(used.map(|used| text(used, "pkg")));
            }
        }
        let tree: BTreeSet<&str> = seen.iter().map(|id| names[id]).collect();
        for runtime in RUNTIMES {
            assert!(!tree.contains(runtime), "{} must not need {runtime}", text(room, "name"));
        }
    }
}

#[test]
fn licences_are_permissive() {
    let metadata = metadata();
    let used: BTreeSet<&str> =
        list(&metadata["resolve"], "nodes").iter().map(|node| text(node, "id")).collect();
    for package in list(&metadata, "packages").iter().filter(|package| used.contains(text(package, "id"))) {
        let licence = text(package, "license");
        assert!(is_permissive(licence), "{} has the licence {licence:?}", text(package, "name"));
    }
}

/// Whether an SPDX expression leaves a way that is permissive. `/` is an old way to write OR.
fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = &words[..];
    any_of(&mut words) && words.is_empty()
}

fn take(words: &mut &[&str], wanted: &str) -> bool {
    let is_next = words.first() == Some(&wanted);
    *words = &words[usize::from(is_next)..];
    is_next
}

fn any_of(words: &mut &[&str]) -> bool {
    let mut result = all_of(words);
    while take(words, "OR") {
        result |= all_of(words);
    }
    result
}

fn all_of(words: &mut &[&str]) -> bool {
    let mut result = one(words);
    while take(words, "AND") {
        result &= one(words);
    }
    result
}

fn one(words: &mut &[&str]) -> bool {
    if take(words, "(") {
        let inner = any_of(words);
        return take(words, ")") && inner;
    }
    let Some((licence, rest)) = words.split_first() else { return false };
    *words = rest;
    match *words {
        ["WITH", exception, rest @ ..] => {
            *words = rest;
            LICENCES.contains(&&*format!("{licence} WITH {exception}"))
        }
        _ => LICENCES.contains(licence),
    }
}

#[test]
fn licence_expressions() {
    for (expression, expected) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("MIT OR GPL-3.0-only AND ISC", true),
        ("(MIT OR GPL-3.0-only) AND ISC", true),
        ("ISC AND (GPL-3.0-only OR AGPL-3.0-only)", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only", true),
        ("GPL-2.0-only WITH Classpath-exception-2.0", false),
        ("(MIT", false),
        ("MIT OR", true),
        ("MIT ISC", false),
        ("", false),
    ] {
        assert_eq!(is_permissive(expression), expected, "{expression}");
    }
}

#[test]
fn strangers_get_a_small_tree() {
    for (features, packages_max, forbidden) in STRANGERS {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let manifest = format!(
            "[package]\nname = \"stranger\"\nedition = \"2024\"\n\n\
             [dependencies]\nocib = {{ path = {:?}, default-features = false, features = {features:?} }}\n",
            root()
        );
        let write = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a file has a directory")).expect("it can be made");
            fs::write(path, content).expect("a file can be written");
        };
        write("Cargo.toml", manifest.as_bytes());
        write("Cargo.lock", &fs::read(root().join("Cargo.lock")).expect("there is a lock file"));
        write("src/lib.rs", b"");
        let arguments = ["tree", "--offline", "--edges=normal", "--prefix=none", "--format={p}"];
        let tree = output(cargo(directory.path()).args(arguments));
        let packages: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
        let count = packages.len();
        assert!(count <= packages_max, "{features:?}: {count} packages, expected {packages_max} at most");
        let names: BTreeSet<&str> = packages.iter().filter_map(|package| package.split(' ').next()).collect();
        for name in forbidden {
            assert!(!names.contains(name), "{features:?} must not bring {name}");
        }
    }
}

/// All files below the top level's own, but for what git ignores there.
fn files() -> Vec<PathBuf> {
    let ignored = fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    let ignored: BTreeSet<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let mut files = Vec::new();
    let mut todo = vec![root()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).expect("a directory can be listed") {
            let entry = entry.expect("a directory can be read to its end");
            let name = entry.file_name();
            let is_left_out =
                directory == root() && (ignored.contains(&*name.to_string_lossy()) || name == ".git");
            match entry.file_type().expect("an entry has a type").is_dir() {
                _ if is_left_out => {}
                true => todo.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files
}

#[test]
fn nothing_lies_around() {
    let top = |path: &PathBuf| {
        let path = path.strip_prefix(root()).expect("files are below the root");
        path.iter().next().expect("a path has a component").to_string_lossy().into_owned()
    };
    let found: BTreeSet<String> = files().iter().map(top).collect();
    for name in found.iter().filter(|name| !name.starts_with('.')) {
        assert!(TOP_LEVEL.contains(&name.as_str()), "{name} does not belong on the top level");
    }
}

#[test]
fn files_are_short() {
    let testdata = root().join("testdata");
    let is_source =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "rs") && !path.starts_with(&testdata);
    for path in files().into_iter().filter(is_source) {
        let lines = fs::read_to_string(&path).expect("sources are UTF-8").lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines, expected {LINES_MAX} at most", path.display());
    }
}

/// A test that is left out says nothing. What needs a process of its own is started again by a test
/// (`crates/store/tests/ecr/cases.rs`).
#[test]
fn no_test_is_left_out() {
    let attribute = concat!("#[ign", "ore");
    for path in files().into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")) {
        let text = fs::read_to_string(&path).expect("sources are UTF-8");
        assert!(!text.contains(attribute), "{} has a test that is ignored", path.display());
    }
}

/// What is tested is what users have, whatever it was compiled for.
#[test]
fn the_program_is_the_same_in_every_profile() {
    let name = concat!("debug_", "assertions");
    let is_tested = |path: &PathBuf| path.starts_with(root().join("crates"));
    for path in files().into_iter().filter(is_tested) {
        let content = fs::read(&path).expect("a file can be read");
        let is_named = String::from_utf8_lossy(&content).contains(name);
        assert!(!is_named, "{} does something else in some profiles", path.display());
    }
}

#[test]
fn files_name_no_place_of_one_machine() {
    for path in files() {
        let content = fs::read(&path).expect("a file can be read");
        let content = String::from_utf8_lossy(&content);
        for place in FOREIGN_PLACES {
            assert!(!content.contains(place), "{} mentions {place}", path.display());
        }
    }
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    for path in files().into_iter().filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let content = fs::read_to_string(&path).expect("docs are UTF-8");
        let targets = content.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap_or_default();
            let directory = path.parent().expect("a file has a directory");
            assert!(directory.join(file).exists(), "{} links to {target}", path.display());
        }
    }
}

/// Commands, and the guides that have a word on each of their flags.
const GUIDES: [(&str, &[&str]); 10] = [
    ("build", &["docs/build.md", "docs/run-kubernetes.md"]),
    ("plan", &["docs/build.md", "docs/plan.md", "docs/run-kubernetes.md"]),
    ("copy", &["docs/images.md"]),
    ("tag", &["docs/images.md"]),
    ("inspect", &["docs/images.md"]),
    ("verify", &["docs/images.md"]),
    ("model build", &["docs/models.md"]),
    ("model inspect", &["docs/models.md"]),
    ("model pull", &["docs/models.md", "docs/models-pull.md"]),
    ("model check", &["docs/models.md", "docs/models-pull.md"]),
];

#[test]
fn every_flag_is_in_the_guide() {
    for (command, guides) in GUIDES {
        let help = output(Command::new(env!("CARGO_BIN_EXE_ocib")).args(command.split(' ')).arg("--help"));
        let read = |guide: &&str| fs::read_to_string(root().join(guide)).expect("there is a guide");
        let text: String = guides.iter().map(read).collect();
        for flag in help.lines().filter_map(flag) {
            assert!(text.contains(&format!("`{flag}`")), "{guides:?} say nothing of {flag}");
        }
    }
}

/// The long flag that a line of a help begins with.
fn flag(line: &str) -> Option<&str> {
    let flag = line.trim_start();
    let flag = flag.split_once(", ").filter(|(short, _)| short.len() == 2).map_or(flag, |(_, long)| long);
    flag.starts_with("--").then(|| flag.split([' ', '[', '=']).next().unwrap_or_default())
}

#[test]
fn the_digest_in_the_readme_is_true() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut build = Command::new(env!("CARGO_BIN_EXE_ocib"));
    let context = root().join("testdata/modelcar");
    build.current_dir(directory.path()).args(["build", "--tag=tiny:1.0"]).arg(context);
    for variable in ["SOURCE_DATE_EPOCH", "DOCKER_DEFAULT_PLATFORM"] {
        build.env_remove(variable);
    }
    let reference = output(&mut build);
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a readme");
    assert!(readme.contains(reference.trim()), "README.md does not name {reference}");
}
