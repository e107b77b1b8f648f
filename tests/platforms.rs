//! Images for several processors: picked out of a base, made together, moved as little as possible.

use std::{collections::BTreeSet, fs, path::Path};

use ocib_testkit::{
    Registry, RegistryOptions, Served, arm64_busybox, require, run_arm64, skopeo, verify_layout,
};
use serde_json::Value;

use crate::program::{Site, config, ended, layers, manifest, set_mode, tag_digest};

const BOTH: [&str; 2] = ["--platform", "linux/amd64,linux/arm64"];

/// Pushes an image with busybox for each of the two processors.
fn push_base(tag: &str) -> Site {
    let site = Site::new("FROM scratch\nARG TARGETARCH\nCOPY busybox-$TARGETARCH /bin/busybox\n");
    for (architecture, program) in
        [("amd64", require("busybox", "busybox-static")), ("arm64", arm64_busybox())]
    {
        let name = format!("context/busybox-{architecture}");
        site.file(&name, fs::read(program).unwrap());
        set_mode(site.path(name), 0o755);
    }
    site.built(&[&BOTH[..], &["--push", "-t", tag]].concat());
    site
}

/// A site for an image on top of `base` with a shared layer, and one that differs by processor.
fn derived(base: &str) -> Site {
    let dockerfile = format!(
        "FROM {base}\nARG TARGETARCH\nCOPY --link shared /shared\nCOPY --link only-$TARGETARCH /only\nCMD [\"/bin/busybox\"]\n"
    );
    let site = Site::new(&dockerfile);
    site.file("context/shared", "for all\n");
    site.file("context/only-amd64", "for amd64\n").file("context/only-arm64", "for arm64\n");
    site
}

/// The manifests of an index by architecture.
fn manifests(repository: &str, index: &Value) -> Vec<(String, Value)> {
    let entries = index["manifests"].as_array().unwrap().iter();
    let by_architecture = |entry: &Value| {
        let digest = entry["digest"].as_str().unwrap();
        let architecture = entry["platform"]["architecture"].as_str().unwrap().to_owned();
        (architecture, manifest(&format!("{repository}@{digest}")))
    };
    entries.map(by_architecture).collect()
}

fn base_layers(base: &str) -> BTreeSet<String> {
    let repository = base.rsplit_once(':').unwrap().0;
    let all = manifests(repository, &manifest(base));
    all.iter().flat_map(|(_, manifest)| layers(manifest)).map(str::to_owned).collect()
}

/// Blobs in `digests` whose bytes were fetched.
fn fetched<'a>(served: &'a Served, digests: &'a BTreeSet<String>) -> Vec<&'a str> {
    served.fetched().into_iter().filter(|hex| digests.contains(*hex)).collect()
}

/// The processor that a program is for: `e_machine` of its ELF header (System V ABI, chapter 4).
fn machine(program: &Path) -> u16 {
    let bytes = fs::read(program).unwrap();
    assert_eq!(&bytes[..4], b"\x7fELF");
    u16::from_le_bytes([bytes[18], bytes[19]])
}

const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

#[test]
fn each_platform_gets_its_own_program_and_shared_layers_are_made_once() {
    let registry = Registry::start(RegistryOptions::default());
    let (base, tag) = (format!("{}/base:1", registry.host()), format!("{}/app:1", registry.host()));
    push_base(&base);
    let before = registry.requests();
    let site = derived(&base);
    let done = site.built(&[&BOTH[..], &["--push", "-t", &tag]].concat());
    let sent = registry.requests().since(&before);

    assert_eq!(done.references(), [format!("{}/app@{}", registry.host(), done.digest())]);
    assert_eq!(tag_digest(&registry, "app", "1").as_deref(), Some(done.digest()));
    let index = manifest(&tag);
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    let images = manifests(&format!("{}/app", registry.host()), &index);
    let architectures: Vec<_> = images.iter().map(|(architecture, _)| architecture.as_str()).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    let (amd64, arm64) = (layers(&images[0].1), layers(&images[1].1));
    assert_eq!((amd64.len(), arm64.len()), (3, 3));
    assert_ne!(amd64[0], arm64[0]);
    assert_eq!(amd64[1], arm64[1], "the shared layer is one layer");
    assert_ne!(amd64[2], arm64[2]);
    let made = sent.with("PATCH", "/v2/app/").len();
    assert_eq!(made, 3, "the shared layer and one for each platform: {sent:?}");

    for (architecture, expected, only) in
        [("amd64", EM_X86_64, "for amd64\n"), ("arm64", EM_AARCH64, "for arm64\n")]
    {
        let files = site.unpacked(&format!("docker://{tag}"), architecture);
        assert_eq!(machine(&files.join("bin/busybox")), expected, "{architecture}");
        assert_eq!(fs::read_to_string(files.join("only")).unwrap(), only);
        assert_eq!(fs::read_to_string(files.join("shared")).unwrap(), "for all\n");
        if architecture == "arm64" {
            assert_eq!(run_arm64(&files.join("bin/busybox"), &["uname", "-m"]), "aarch64\n");
        }
    }
}

#[test]
fn base_layers_are_mounted_not_downloaded() {
    let registry = Registry::start(RegistryOptions::default());
    let (base, tag) = (format!("{}/base:1", registry.host()), format!("{}/other/app:1", registry.host()));
    push_base(&base);
    let base_layers = base_layers(&base);
    assert_eq!(base_layers.len(), 2);
    let site = derived(&base);

    let before = registry.requests();
    site.built(&[&BOTH[..], &["--push", "-t", &tag]].concat());
    let first = registry.requests().since(&before);
    assert_eq!(fetched(&first, &base_layers), Vec::<&str>::new());
    let mounts = first.with("POST", "/v2/other/app/blobs/uploads/").into_iter();
    let mounts: BTreeSet<&str> = mounts
        .filter(|request| request.query.contains("mount=") && request.status == 201)
        .map(|request| &*request.query)
        .collect();
    let expected: BTreeSet<String> =
        base_layers.iter().map(|hex| format!("mount=sha256%3A{hex}&from=base")).collect();
    assert_eq!(mounts, expected.iter().map(String::as_str).collect());

    let before = registry.requests();
    site.built(&[&BOTH[..], &["--push", "-t", &tag]].concat());
    let second = registry.requests().since(&before);
    assert_eq!(fetched(&second, &base_layers), Vec::<&str>::new());
    let mounts = second.0.iter().filter(|request| request.query.contains("mount=")).count();
    assert_eq!(mounts, 0, "they are there already");
}

#[test]
fn a_change_of_the_config_alone_moves_no_layer() {
    let registry = Registry::start(RegistryOptions::default());
    let (base, tag) = (format!("{}/base:1", registry.host()), format!("{}/base:labelled", registry.host()));
    push_base(&base);
    let before = registry.requests();
    let site = Site::new(&format!("FROM {base}\nLABEL a=b\nENV C=d\nCMD [\"/bin/busybox\"]\n"));
    site.built(&[&BOTH[..], &["--push", "-t", &tag]].concat());
    let sent = registry.requests().since(&before);
    assert_eq!(fetched(&sent, &base_layers(&base)), Vec::<&str>::new());
    assert_eq!(sent.uploads().len(), 2, "the two configs: {sent:?}");
}

#[test]
fn base_layers_stream_from_one_registry_to_another() {
    let (from, to) =
        (Registry::start(RegistryOptions::default()), Registry::start(RegistryOptions::default()));
    let (base, tag) = (format!("{}/base:1", from.host()), format!("{}/app:1", to.host()));
    push_base(&base);
    let base_layers = base_layers(&base);
    let site = derived(&base);
    site.built(&[&BOTH[..], &["--push", "-t", &tag]].concat());
    let mut got = fetched(&from.requests(), &base_layers).into_iter().map(str::to_owned).collect::<Vec<_>>();
    got.sort();
    assert_eq!(got, base_layers.iter().cloned().collect::<Vec<_>>(), "each base layer is read once");
    assert_eq!(site.leftovers(), Vec::<String>::new());
    from.stop();

    let copy = site.path("copy");
    let target = format!("oci:{}:x", copy.display());
    let all = ["copy", "--all", "--preserve-digests", "--src-tls-verify=false"];
    skopeo(&[&all[..], &[&format!("docker://{tag}"), &target]].concat());
    verify_layout(&copy);

    let before = to.requests();
    from.restart();
    site.built(&[&BOTH[..], &["--push", "-t", &tag]].concat());
    let again = from.requests();
    assert_eq!(fetched(&again, &base_layers).len(), base_layers.len(), "nothing is read a second time");
    assert_eq!(to.requests().since(&before).uploads().len(), 0, "nor sent");
}

#[test]
fn one_platform_gives_a_plain_manifest() {
    let registry = Registry::start(RegistryOptions::default());
    let (base, tag) = (format!("{}/base:1", registry.host()), format!("{}/app:arm64", registry.host()));
    push_base(&base);
    let site = derived(&base);
    site.built(&["--platform", "linux/arm64", "--push", "-t", &tag]);
    assert_eq!(manifest(&tag)["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let made = config(&format!("docker://{tag}"));
    assert_eq!((&made["os"], &made["architecture"]), (&"linux".into(), &"arm64".into()));

    // Without a word it is amd64, whatever this machine is, and the variable of Docker counts.
    let said = site.built(&["--push", "-t", &tag]).stderr;
    assert!(said.starts_with("building for linux/amd64; --platform chooses another\n"), "{said}");
    let architecture = || config(&format!("docker://{tag}"))["architecture"].clone();
    assert_eq!(architecture(), "amd64");
    let mut command = site.build(&["--push", "-t", &tag]);
    let done = ended(command.env("DOCKER_DEFAULT_PLATFORM", "linux/arm64")).done();
    assert!(!done.stderr.contains("building for"), "{}", done.stderr);
    assert_eq!(architecture(), "arm64");
}

#[test]
fn a_base_for_another_platform_is_warned_of_as_the_check_directive_says() {
    let registry = Registry::start(RegistryOptions::default());
    let tag = format!("{}/base:1", registry.host());
    Site::new("FROM scratch\nLABEL a=b\n").built(&["--platform", "linux/arm64", "--push", "-t", &tag]);
    let site = |directive: &str| Site::new(&format!("{directive}FROM {tag}\nLABEL c=d\n"));
    let arguments = ["--platform", "linux/amd64", "-o", "type=oci,tar=false,dest=out"];
    let warning = |line: usize| {
        format!(
            "warning: context/Dockerfile:{line}: InvalidBaseImagePlatform: Base image {tag} was pulled with platform \
             \"linux/arm64\", expected \"linux/amd64\" for current build"
        )
    };
    let said = |directive: &str| site(directive).built(&arguments).stderr;
    for (directive, line) in [("", 1), ("# check=error=false\n", 2), ("# check=skip=StageNameCasing\n", 2)] {
        let said = said(directive);
        assert!(said.lines().any(|said| said == warning(line)), "{directive}: {said}");
    }
    for directive in
        ["# check=skip=InvalidBaseImagePlatform\n", "# check=skip=all\n", "# check=skip=all;error=true\n"]
    {
        let said = said(directive);
        assert!(!said.contains("InvalidBaseImagePlatform"), "{directive}: {said}");
    }
    let failing = site("# check=error=true\n");
    let said = failing.refused(3, &arguments);
    let expected = format!(
        "{}\nerror: lint violation found for rules: InvalidBaseImagePlatform\n |\nhelp: the Dockerfile says \
         check=error=true: mend what the warnings name, or skip their rules there\n",
        warning(2)
    );
    assert_eq!(said, expected);
    assert_eq!(failing.leftovers(), Vec::<String>::new());
}
