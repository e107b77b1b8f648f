//! Bases: what survives of them, where they may come from, and what is refused.

use std::{fs, process::Command};

use ocib_image::Digest;
use ocib_testkit::{Noise, Registry, RegistryOptions, require, rootfs, run_command, skopeo, verify_layout};
use serde_json::{Value, json};

use crate::program::{Site, config, ended, layers, manifest, stored_blob, tag_digest};

/// Writes an OCI layout with one image, tag `1`, and no layer, whose config is `config`.
fn handmade_layout(site: &Site, name: &str, config: &Value) {
    let put = |content: &Value| {
        let bytes = serde_json::to_vec_pretty(content).unwrap();
        let digest = Digest::of(&bytes).to_string();
        let path = format!("{name}/blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap());
        site.file(path, &bytes);
        json!({"digest": digest, "size": bytes.len()})
    };
    let typed = |mut descriptor: Value, media_type: &str| {
        descriptor["mediaType"] = json!(format!("application/vnd.oci.image.{media_type}.v1+json"));
        descriptor
    };
    let config = typed(put(config), "config");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": []});
    let mut manifest = typed(put(&manifest), "manifest");
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "1"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    site.file(format!("{name}/index.json"), index.to_string());
    site.file(format!("{name}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
}

fn pushed(registry: &Registry, site: &Site, name: &str) -> String {
    let tag = format!("{}/{name}:1", registry.host());
    site.built(&["--push", "-t", &tag]);
    tag
}

#[test]
fn fields_that_ocib_does_not_know_survive() {
    let site = Site::new("FROM base\nLABEL new=label\nCOPY f /f\n");
    site.file("context/f", "f\n");
    let base = json!({
        "architecture": "amd64",
        "os": "linux",
        "author": "ada",
        "created": "2020-01-02T03:04:05Z",
        "com.vendor.build": {"numbers": [1, 2.5, 12_345_678_901_234_567_890_u64], "nothing": null},
        "config": {
            "Env": ["PATH=/bin", "A=b"],
            "Healthcheck": {"Test": ["CMD", "/ok"], "Interval": 30_000_000_000_u64, "StartInterval": 7},
            "Shell": ["/bin/bash", "-c"],
            "OnBuild": [],
            "ArgsEscaped": true,
            "NetworkDisabled": true,
            "MacAddress": "02:42:ac:11:00:02",
            "VendorThing": {"deep": ["er"]},
            "Labels": {"old": "label"},
        },
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [{"created": "2020-01-02T03:04:05Z", "created_by": "by hand", "vendor": 1, "empty_layer": true}],
    });
    handmade_layout(&site, "base", &base);
    site.built(&["--build-context", "base=oci-layout://base:1", "-o", "type=oci,tar=false,dest=out"]);
    verify_layout(&site.path("out"));
    let made = config(&format!("oci:{}", site.name("out")));

    let mut expected = base.clone();
    expected["created"] = json!("1970-01-01T00:00:00Z");
    expected["config"]["Labels"]["new"] = json!("label");
    expected["rootfs"]["diff_ids"] = made["rootfs"]["diff_ids"].clone();
    let own = |created_by: &str| json!({"created": "1970-01-01T00:00:00Z", "created_by": created_by, "comment": "buildkit.dockerfile.v0"});
    let mut label = own("LABEL new=label");
    label["empty_layer"] = json!(true);
    expected["history"] = json!([base["history"][0], label, own("COPY f /f # buildkit")]);
    // An empty list says as little as none.
    expected["config"].as_object_mut().unwrap().remove("OnBuild");
    let mut shown = made.clone();
    shown["config"].as_object_mut().unwrap().remove("OnBuild");
    assert_eq!(shown, expected);
}

#[test]
fn named_contexts_take_the_place_of_images() {
    let registry = Registry::start(RegistryOptions::default());
    let base = Site::new("FROM scratch\nCOPY f /from/context\nLABEL which=registry\n");
    base.file("context/f", "in the registry\n");
    let tag = pushed(&registry, &base, "base");
    let manifest_digest = tag_digest(&registry, "base", "1").unwrap();

    let site = Site::new("FROM base\nCOPY --from=files . /files/\n");
    site.file("files/one", "1\n").file("files/two", "2\n").file("files/.dockerignore", "two\n");
    base.file("context/f", "in the layout\n");
    base.file("context/Dockerfile", "FROM scratch\nCOPY f /from/context\nLABEL which=layout\n");
    let layout = site.name("layout");
    base.built(&["-t", "x/y:tagged", "-o", &format!("type=oci,tar=false,dest={layout}")]);

    let pinned = format!("docker-image://{}/base@{manifest_digest}", registry.host());
    for (source, which) in [
        (&*format!("docker-image://{tag}"), "registry"),
        (&*pinned, "registry"),
        ("oci-layout://layout", "layout"),
        ("oci-layout://layout:tagged", "layout"),
        (&*format!("oci-layout://{layout}"), "layout"),
    ] {
        let contexts = ["--build-context", &format!("base={source}"), "--build-context", "files=files"];
        site.built(&[&contexts[..], &["-o", "type=oci,tar=false,dest=out"]].concat());
        let files = rootfs(&site.path("out"), "linux/amd64");
        let paths: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(paths, ["files", "files/.dockerignore", "files/one", "from", "from/context"], "{source}");
        let config = config(&format!("oci:{}", site.name("out")));
        assert_eq!(config["config"]["Labels"]["which"], which, "{source}");
        fs::remove_dir_all(site.path("out")).unwrap();
    }
}

#[test]
fn triggers_of_the_base_run_first() {
    let registry = Registry::start(RegistryOptions::default());
    let base = Site::new(
        "FROM scratch\nWORKDIR /app\nONBUILD ARG NAME=nobody\nONBUILD LABEL for=$NAME\nONBUILD COPY trigger ./\n",
    );
    let tag = pushed(&registry, &base, "onbuild");
    let site = Site::new(&format!("FROM {tag}\nCOPY own ./\n"));
    site.file("context/trigger", "t\n").file("context/own", "o\n");
    site.built(&["--build-arg", "NAME=ada", "-o", "type=oci,tar=false,dest=out"]);
    let files = rootfs(&site.path("out"), "linux/amd64");
    assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), ["app", "app/own", "app/trigger"]);
    let config = config(&format!("oci:{}", site.name("out")));
    assert_eq!(config["config"]["Labels"], json!({"for": "ada"}));
    assert!(config["config"].get("OnBuild").is_none(), "triggers are not inherited twice");

    let missing = Site::new(&format!("FROM {tag}\n"));
    let said = missing.refused(3, &["--quiet"]);
    let expected = format!(
        "error: /trigger: not found\n --> context/Dockerfile:1:1\n  |\n1 | FROM {tag}\n  | {}\n  |\n\
         help: sources are relative to the build context's root\n",
        "^".repeat("FROM ".len() + tag.len())
    );
    assert_eq!(said, expected);
}

#[test]
fn stages_and_images_are_copied_from() {
    let registry = Registry::start(RegistryOptions::default());
    let other =
        Site::new("FROM scratch\nARG TARGETARCH\nCOPY --chown=3:4 $TARGETARCH /opt/arch\nCOPY gone /\n");
    other.file("context/amd64", "amd64\n").file("context/arm64", "arm64\n").file("context/gone", "");
    let index = format!("{}/index:1", registry.host());
    other.built(&["--platform", "linux/amd64,linux/arm64", "--push", "-t", &index]);
    let site = Site::new(&format!(
        "FROM scratch AS one\n\
         COPY --chmod=600 f /deep/file\n\
         FROM scratch\n\
         COPY --from=one /deep /second/\n\
         FROM scratch\n\
         COPY --from=one --chown=1:2 /deep/file /by-name\n\
         COPY --from=1 /second/file /by-number\n\
         COPY --from={index} /opt /from-index/\n"
    ));
    site.file("context/f", "f\n");
    site.built(&["--platform", "linux/amd64,linux/arm64", "-o", "type=oci,tar=false,dest=out"]);
    verify_layout(&site.path("out"));
    for (platform, content) in [("linux/amd64", "amd64\n"), ("linux/arm64", "arm64\n")] {
        let files = rootfs(&site.path("out"), platform);
        let shown: Vec<_> = files.iter().map(|(path, file)| format!("{path} {file}")).collect();
        let expected = [
            "by-name f 0600 1:2 2",
            "by-number f 0600 0:0 2",
            "from-index d 0755 0:0 0",
            "from-index/arch f 0644 3:4 6",
        ];
        assert_eq!(shown, expected, "{platform}");
        let digest = Digest::of(content.as_bytes()).to_string();
        let sha256 = files["from-index/arch"].sha256.as_deref().unwrap();
        assert_eq!(format!("sha256:{sha256}"), digest, "{platform}");
    }
}

#[test]
fn a_base_without_the_platform_is_refused() {
    let registry = Registry::start(RegistryOptions::default());
    let base = Site::new("FROM scratch\nLABEL a=b\n");
    let tag = format!("{}/base:1", registry.host());
    base.built(&["--platform", "linux/amd64,linux/arm64", "--push", "-t", &tag]);
    let site = Site::new(&format!("# a comment\nFROM {tag} AS app\n"));
    let said = site.refused(5, &["--quiet", "--platform", "linux/amd64,linux/s390x"]);
    let expected = format!(
        "error[platform-missing]: cannot resolve {tag} for linux/s390x: {tag} has no image for linux/s390x, only for linux/amd64, \
         linux/arm64\n --> context/Dockerfile:2:6\n  |\n2 | FROM {tag} AS app\n  |      {}\n  |\nhelp: choose one of the \
         platforms that the message names with --platform, or another base\n",
        "^".repeat(tag.len())
    );
    assert_eq!(said.trim_end(), expected.trim_end());
    assert_eq!(site.leftovers(), Vec::<String>::new());
}

/// Changes one byte of a blob in the registry's storage, in place, as a failing disk would.
fn tamper(registry: &Registry, hex: &str, at: usize) {
    let path = stored_blob(registry, hex);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

const TAMPERED: &str = "help: the content is not what its digest says: do not use it, and tell its owner\n";

#[test]
fn a_tampered_manifest_is_refused() {
    let registry = Registry::start(RegistryOptions::default());
    let base = Site::new("FROM scratch\nCOPY f /\n");
    base.file("context/f", "f\n");
    let tag = pushed(&registry, &base, "base");
    let digest = tag_digest(&registry, "base", "1").unwrap();
    let path = stored_blob(&registry, digest.strip_prefix("sha256:").unwrap());
    let other = fs::read_to_string(&path).unwrap().replacen("\"size\":", "\"size\": ", 1);
    fs::write(&path, &other).unwrap();
    let other = Digest::of(other.as_bytes());

    let pinned = format!("{}/base@{digest}", registry.host());
    for base in [tag, pinned] {
        let site = Site::new(&format!("FROM {base}\nLABEL a=b\n"));
        let said = site.refused(5, &["--quiet", "--push", "-t", &format!("{}/final:1", registry.host())]);
        let expected = format!(
            "error[content-corrupt]: cannot resolve {base} for linux/amd64: {base} has digest {other}, expected {digest}\n \
             --> context/Dockerfile:1:6\n  |\n1 | FROM {base}\n  |      {}\n  |\n{TAMPERED}",
            "^".repeat(base.len())
        );
        assert_eq!(said, expected);
        assert_eq!(tag_digest(&registry, "final", "1"), None);
    }
}

#[test]
fn a_tampered_layer_is_refused_where_it_is_read_and_where_it_is_copied() {
    let (from, to) =
        (Registry::start(RegistryOptions::default()), Registry::start(RegistryOptions::default()));
    let base = Site::new("FROM scratch\nCOPY f /opt/\n");
    base.file("context/f", Noise::bytes(1, 500_000));
    let tag = format!("{}/base:1", from.host());
    base.built(&["--compression", "none", "--push", "-t", &tag]);
    let manifest = manifest(&tag);
    let hex = layers(&manifest)[0];
    // In the middle of the file's content, where tar itself has no checksum.
    tamper(&from, hex, 100_000);
    let actual = Digest::of(&fs::read(stored_blob(&from, hex)).unwrap());

    let copying = Site::new(&format!("FROM {tag}\nLABEL a=b\n"));
    let target = format!("{}/final:1", to.host());
    let said = copying.refused(5, &["--quiet", "--push", "-t", &target]);
    let mismatch = format!("has digest {actual}, expected sha256:{hex}");
    assert!(
        said.starts_with("error[content-corrupt]: ") && said.contains(&mismatch) && said.ends_with(TAMPERED),
        "{said}"
    );
    assert_eq!(tag_digest(&to, "final", "1"), None);
    assert!(!stored_blob(&to, hex).exists());

    let reading = Site::new(&format!("FROM {tag}\nCOPY g /opt/\n"));
    reading.file("context/g", "g\n");
    let into_image = Site::new(&format!("FROM scratch\nCOPY --from={tag} /opt /opt\n"));
    for site in [reading, into_image] {
        for output in ["type=oci,tar=false,dest=out", "type=oci,dest=out.tar"] {
            let mut command = site.build(&["--quiet", "-o", output]);
            let said = ended(&mut command).failed(5);
            assert!(said.starts_with("error[content-corrupt]: ") && said.contains(&mismatch), "{said}");
            assert!(!site.path("out/index.json").exists() && !site.path("out.tar").exists());
        }
    }
}

#[test]
fn bases_of_docker_media_types_and_of_others_layouts_work() {
    let registry = Registry::start(RegistryOptions::default());
    let base = Site::new("FROM scratch\nCOPY f /base/\nENV A=b\n");
    base.file("context/f", "f\n");
    let tag = pushed(&registry, &base, "oci");
    let docker = format!("{}/docker:1", registry.host());
    let to_docker = ["copy", "--format", "v2s2", "--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(&[&to_docker[..], &[&format!("docker://{tag}"), &format!("docker://{docker}")]].concat());
    let site = Site::new(&format!("FROM {docker}\nCOPY g /base/\n"));
    site.file("context/g", "g\n");
    site.built(&["-o", "type=oci,tar=false,dest=out"]);
    verify_layout(&site.path("out"));
    let files = rootfs(&site.path("out"), "linux/amd64");
    assert_eq!(files.keys().map(String::as_str).collect::<Vec<_>>(), ["base", "base/f", "base/g"]);
    let manifest = skopeo(&["inspect", "--raw", &format!("oci:{}", site.name("out"))]);
    assert!(!manifest.contains("vnd.docker"), "one manifest holds types of one kind: {manifest}");

    let mut make = Command::new(require("umoci", "umoci"));
    run_command(make.args(["init", "--layout", &site.name("empty")]));
    let mut make = Command::new(require("umoci", "umoci"));
    run_command(make.args(["new", "--image", &format!("{}:1", site.name("empty"))]));
    let on_umoci = Site::new("FROM base\nCOPY g /\n");
    on_umoci.file("context/g", "g\n");
    let context = format!("base=oci-layout://{}:1", site.name("empty"));
    on_umoci.built(&["--build-context", &context, "-o", "type=oci,tar=false,dest=out"]);
    verify_layout(&on_umoci.path("out"));
}

/// A build that asks a base nothing does not look into it: where the registry can mount its layers, none of
/// their bytes move.
#[test]
fn links_and_scratch_fetch_no_base_layer() {
    let registry = Registry::start(RegistryOptions::default());
    let base = Site::new("FROM scratch\nCOPY f /opt/f\nCOPY --link passwd /etc/passwd\nWORKDIR /srv\n");
    base.file("context/f", "f\n").file("context/passwd", "app:x:7:8::/:/bin/sh\n");
    let base = pushed(&registry, &base, "base");
    let base_manifest = manifest(&base);
    let base_layers = layers(&base_manifest);
    assert_eq!(base_layers.len(), 3);
    let asked = |name: &str, dockerfile: &str| {
        let site = Site::new(dockerfile);
        site.file("context/f", "f\n").file("context/dir/g", "g\n").file("context/dir/h", "h\n");
        let before = registry.requests();
        pushed(&registry, &site, name);
        registry.requests().since(&before)
    };
    for (number, instructions) in [
        "COPY --link f /opt/deep/f",
        "COPY --link f /opt/f",
        "COPY --link --chown=1:2 dir/ f /opt/",
        "COPY --link --parents dir/g /opt/",
        "ADD --link f /opt/",
        "COPY --link <<end /opt/inline\ntext\nend",
        "COPY --link f /one\nCOPY --link dir /two\nLABEL a=b",
        "USER app\nENV A=b\nEXPOSE 80\nVOLUME /v\nCMD [\"x\"]\nENTRYPOINT [\"y\"]\nHEALTHCHECK NONE",
    ]
    .into_iter()
    .enumerate()
    {
        let served = asked(&format!("linked{number}"), &format!("FROM {base}\n{instructions}\n"));
        let fetched: Vec<_> = served.fetched().into_iter().filter(|hex| base_layers.contains(hex)).collect();
        assert_eq!(fetched, Vec::<&str>::new(), "{instructions}");
        let mounts = served.0.iter().filter(|request| request.query.contains("mount=")).count();
        assert_eq!(mounts, base_layers.len(), "{instructions}");
    }
    // Of a base that the target does not need, not even the name is looked up.
    let unused = format!("FROM {base} AS unused\nFROM scratch\nCOPY f /f\nCOPY dir /dir\nWORKDIR /srv\n");
    let served = asked("scratch", &unused);
    assert_eq!(served.0.iter().filter(|request| request.path.contains("/v2/base/")).count(), 0, "{served:?}");
    // What does depend on the base is seen in the log: where /opt leads, and who app is.
    for (number, instruction) in ["COPY f /opt/f", "COPY --chown=app f /f"].into_iter().enumerate() {
        let served = asked(&format!("looked{number}"), &format!("FROM {base}\n{instruction}\n"));
        assert!(served.fetched().iter().any(|hex| base_layers.contains(hex)), "{instruction}: {served:?}");
    }
}

/// As where BuildKit finds them, which writes them into an empty root first.
#[test]
fn heredocs_are_files_of_their_names() {
    let site = Site::new(
        "FROM scratch\nCOPY <<a <</b <<c/ <<../d <<e/../f /x/\n1\na\n2\n/b\n3\nc/\n4\n../d\n5\ne/../f\n",
    );
    site.built(&["--output", "type=oci,dest=out,tar=false"]);
    let files = rootfs(&site.path("out"), "linux/amd64");
    let found: Vec<String> = files.iter().map(|(path, file)| format!("{path} {file}")).collect();
    let file = |name| format!("x/{name} f 0644 0:0 2");
    assert_eq!(found[1..], ["a", "b", "c", "d", "f"].map(file));
}
