//! `ocib verify`: what is right is said to be right, and what is wrong is named.

use std::fs;

use ocib_image::Digest;
use ocib_testkit::{Noise, Registry, RegistryOptions};

use crate::program::{Site, ended, layers, manifest, stored_blob, tag_digest};

fn site() -> Site {
    let site = Site::new("FROM scratch\nCOPY noise /\nCOPY text /\n");
    site.file("context/noise", Noise::bytes(1, 300_000)).file("context/text", "text\n".repeat(50_000));
    site
}

#[test]
fn every_part_of_an_index_is_right() {
    let registry = Registry::start(RegistryOptions::default());
    let site = site();
    for codec in ["none", "gzip", "zstd"] {
        let tag = format!("{}/app:{codec}", registry.host());
        site.built(&[
            "-q",
            "--platform",
            "linux/amd64,linux/arm64",
            "--compression",
            codec,
            "--push",
            "-t",
            &tag,
        ]);
        let shown = String::from_utf8(site.done(&["verify", "-q", &tag]).stdout).unwrap();
        let kinds: Vec<_> =
            shown.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
        // The layers are the same for both.
        let expected =
            ["ok index", "ok manifest", "ok config", "ok manifest", "ok config", "ok layer", "ok layer"];
        assert_eq!(kinds, expected, "{codec}");
        assert!(shown.contains(&tag_digest(&registry, "app", codec).unwrap()));
        let one = site.done(&["verify", "-q", "--platform", "linux/arm64", &tag]);
        assert_eq!(String::from_utf8(one.stdout).unwrap().lines().count(), 5);
    }
}

/// Changes the stored bytes of each part in turn.
#[test]
fn each_wrong_part_is_named() {
    let registry = Registry::start(RegistryOptions::default());
    let site = site();
    let tag = format!("{}/app:1", registry.host());
    site.built(&["-q", "--compression", "gzip", "--push", "-t", &tag]);
    let raw = manifest(&tag);
    let config = raw["config"]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    for (kind, hex) in [("config", config), ("layer", layers(&raw)[0]), ("layer", layers(&raw)[1])] {
        let path = stored_blob(&registry, hex);
        let right = fs::read(&path).unwrap();
        let mut wrong = right.clone();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 1;
        fs::write(&path, &wrong).unwrap();
        let run = ended(&mut site.ocib(&["verify", "-q", &tag]));
        let shown = String::from_utf8(run.stdout.clone()).unwrap();
        let bad: Vec<&str> = shown.lines().filter(|line| line.starts_with("wrong")).collect();
        let start = format!("wrong  {kind:<8} sha256:{hex} {}: ", right.len());
        assert_eq!(bad.len(), 1, "{shown}");
        assert!(bad[0].starts_with(&start) && bad[0].contains(&Digest::of(&wrong).to_string()), "{shown}");
        assert!(
            run.stderr.ends_with(&format!(
                "error: 1 of 4 parts of {tag} are wrong\n |\nhelp: do not use the image, and tell its owner\n"
            )),
            "{}",
            run.stderr
        );
        assert_eq!(run.code(), Some(1));
        fs::write(&path, &right).unwrap();
    }
    site.done(&["verify", "-q", &tag]);
    fs::remove_file(stored_blob(&registry, layers(&raw)[0])).unwrap();
    let run = ended(&mut site.ocib(&["verify", "-q", &tag]));
    let shown = String::from_utf8(run.stdout.clone()).unwrap();
    assert!(shown.contains(&format!("wrong  layer    sha256:{} ", layers(&raw)[0])), "{shown}");
}

/// A layer whose stored bytes are right, but which holds something else than its config says.
#[test]
fn a_wrong_diff_id_is_found() {
    let site = site();
    site.built(&["-q", "--compression", "gzip", "-t", "app:1", "-o", "type=oci,tar=false,dest=layout"]);
    let blob =
        |digest: &str| site.path(format!("layout/blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap()));
    let read = |digest: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(blob(digest)).unwrap()).unwrap()
    };
    let write = |value: &serde_json::Value| {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Digest::of(&bytes).to_string();
        fs::write(blob(&digest), &bytes).unwrap();
        (digest, bytes.len())
    };
    let mut index: serde_json::Value =
        serde_json::from_slice(&fs::read(site.path("layout/index.json")).unwrap()).unwrap();
    let mut manifest = read(index["manifests"][0]["digest"].as_str().unwrap());
    let mut config = read(manifest["config"]["digest"].as_str().unwrap());
    let right = config["rootfs"]["diff_ids"][1].as_str().unwrap().to_owned();
    let wrong = Digest::of(b"other").to_string();
    config["rootfs"]["diff_ids"][1] = wrong.as_str().into();
    let (digest, size) = write(&config);
    (manifest["config"]["digest"], manifest["config"]["size"]) = (digest.into(), size.into());
    let (digest, size) = write(&manifest);
    (index["manifests"][0]["digest"], index["manifests"][0]["size"]) = (digest.into(), size.into());
    fs::write(site.path("layout/index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    let run = ended(&mut site.ocib(&["verify", "-q", "oci-layout://layout"]));
    let shown = String::from_utf8(run.stdout.clone()).unwrap();
    assert!(
        shown.contains(&format!(": it has diff ID {right}, expected {wrong} by its config\n")),
        "{shown}"
    );
    assert_eq!(run.code(), Some(1));
}

#[test]
fn an_image_is_what_its_context_gives_or_what_differs_is_named() {
    let registry = Registry::start(RegistryOptions::default());
    let site = site();
    let tag = format!("{}/app:1", registry.host());
    let flags = ["--platform", "linux/amd64,linux/arm64", "--build-arg", "X=1"];
    site.file("context/Dockerfile", "FROM scratch\nARG X\nCOPY noise /\nCOPY text /\nENV A=$X\n");
    site.built(&[&["-q", "--push", "-t", &tag], &flags[..]].concat());
    let digest = tag_digest(&registry, "app", "1").unwrap();

    let before = registry.requests();
    let arguments = ["verify", "-q", &tag, "--context", "context", "--", "--build-arg", "X=1"];
    let shown = String::from_utf8(site.done(&arguments).stdout).unwrap();
    assert_eq!(shown, format!("ok     {digest} is what context gives\n"));
    let manifest = manifest(&format!("{tag}@{}", amd64(&tag)).replace(":1@", "@"));
    let fetched = registry.requests().since(&before);
    assert!(layers(&manifest).iter().all(|layer| !fetched.fetched().contains(layer)), "{fetched:?}");

    site.file("context/text", "other\n");
    let ended =
        ended(&mut site.ocib(&["verify", "-q", &tag, "--platform", "linux/amd64", "--context", "context"]));
    let shown = String::from_utf8(ended.stdout.clone()).unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("differs layer 2 (COPY text /) is sha256:"), "{shown}");
    assert!(lines[1].starts_with("differs config sha256:"), "{shown}");
    assert!(lines[1].ends_with(": config.Env, history, rootfs.diff_ids"), "{shown}");
    assert_eq!(lines.len(), 2, "{shown}");
    assert!(ended.stderr.contains("but context gives sha256:"), "{}", ended.stderr);
}

/// `ocib verify … --context context` with these flags of the build: the lines of stdout, and stderr.
fn verified(site: &Site, tag: &str, flags: &[&str]) -> (Vec<String>, String) {
    let own = ["verify", "-q", tag, "--context", "context", "--"];
    let done = ended(&mut site.ocib(&[&own, flags].concat()));
    let lines = String::from_utf8(done.stdout.clone()).unwrap();
    (lines.lines().map(str::to_owned).collect(), done.stderr)
}

#[test]
fn an_image_on_a_base_is_what_its_context_gives() {
    let registry = Registry::start(RegistryOptions::default());
    let host = registry.host();
    let push_base = |dockerfile: &str, compression: &str| {
        let base = Site::new(dockerfile);
        base.file("context/passwd", "app:x:1001:1001::/:/bin/sh\n")
            .file("context/a", Noise::bytes(1, 200_000));
        base.file("context/b", Noise::bytes(2, 200_000));
        let flags = ["-q", "--push", "--compression", compression, "-t", &format!("{host}/base:1")];
        base.built(&flags).digest().to_owned()
    };
    let three = "FROM scratch\nCOPY passwd /etc/\nCOPY a /\nCOPY b /\n";
    let first = push_base(three, "gzip");
    let site =
        Site::new(&format!("FROM {host}/base:1\nUSER app\nCOPY --chown=app text /home/\nWORKDIR /home/x\n"));
    site.file("context/text", "text\n");
    let tag = format!("{host}/app:1");
    let digest = site.built(&["-q", "--push", "-t", &tag]).digest().to_owned();

    // The base's accounts are looked up; nothing else of its layers is read, and nothing of the image's.
    let before = registry.requests();
    let (lines, _) = verified(&site, &tag, &[]);
    assert_eq!(lines, [format!("ok     {digest} is what context gives")]);
    let since = registry.requests().since(&before);
    let own = layers(&manifest(&tag)).into_iter().skip(3).map(str::to_owned).collect::<Vec<_>>();
    assert!(own.iter().all(|layer| !since.fetched().contains(&layer.as_str())), "{since:?}");

    // The base's tag has moved on to one with a changed layer: that layer and the config differ.
    push_base(&three.replace("COPY b /", "COPY b /other"), "gzip");
    let (lines, said) = verified(&site, &tag, &[]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("differs layer 3 (base layer) is sha256:"), "{lines:?}");
    assert!(lines[1].ends_with(": history, rootfs.diff_ids"), "{lines:?}");
    assert!(said.contains("help: the base is not the one that the image was built on"), "{said}");
    // As the remedy says.
    let pinned = format!("{host}/base:1=docker-image://{host}/base@{first}");
    let (lines, said) = verified(&site, &tag, &["--build-context", &pinned]);
    assert_eq!(lines, [format!("ok     {digest} is what context gives")], "{said}");

    // The same base, compressed anew as some mirrors do: other bytes, the same content.
    push_base(three, "none");
    let (lines, said) = verified(&site, &tag, &[]);
    assert_eq!(lines.len(), 3, "the config says nothing of it: {lines:?}");
    let end = ": the same content by its config, compressed otherwise";
    assert!(lines.iter().all(|line| line.contains("(base layer)") && line.ends_with(end)), "{lines:?}");
    assert!(said.contains("help: the base is not the one that the image was built on"), "{said}");
    push_base(three, "gzip");
    let (lines, said) = verified(&site, &tag, &["--compression", "gzip"]);
    assert!(lines.len() == 1 && lines[0].ends_with(end), "{lines:?}");
    assert!(said.contains("help: give the --compression that the image was built with after --"), "{said}");

    // A base with fewer layers does not make the layers above it other ones.
    push_base("FROM scratch\nCOPY passwd /etc/\nCOPY a /\n", "gzip");
    let (lines, _) = verified(&site, &tag, &[]);
    assert_eq!(lines[0], "differs the image has 5 layers, the build 4");
    assert_eq!(lines.len(), 2, "{lines:?}");
    // A wrong base altogether: its accounts are others too, and so the copy is another layer.
    push_base("FROM scratch\nCOPY --chmod=0600 passwd /etc/\nCOPY b /x\nCOPY a /y\n", "none");
    let (lines, said) = verified(&site, &tag, &[]);
    let starts: Vec<_> = lines.iter().map(|line| line.split(" is ").next().unwrap()).collect();
    let layer = |number: usize| format!("differs layer {number} (base layer)");
    assert_eq!(starts[..3], [layer(1), layer(2), layer(3)], "{lines:?}");
    assert!(starts[3].starts_with("differs config sha256:"), "{lines:?}");
    assert!(said.contains("the base is not the one"), "{said}");
}

#[test]
fn images_are_read_through_mirrors() {
    let [primary, mirror] = [(); 2].map(|()| Registry::start(RegistryOptions::default()));
    let site = site();
    let names = [format!("{}/team/app:1", primary.host()), format!("{}/cache/app:1", mirror.host())];
    for name in &names {
        site.built(&["-q", "--push", "-t", name]);
    }
    let rule = format!(
        "[[registry]]\nprefix = \"registry.test/team\"\nlocation = \"{}/team\"\n[[registry.mirror]]\nlocation = \
         \"{}/cache\"\n",
        primary.host(),
        mirror.host()
    );
    site.file("registries.conf", rule);
    let run = |arguments: &[&str]| {
        let flags = ["-q", "--registry-config", "registries.conf", "registry.test/team/app:1"];
        let (command, rest) = arguments.split_first().unwrap();
        String::from_utf8(site.done(&[&[*command], &flags[..], rest].concat()).stdout).unwrap()
    };
    let before = [&primary, &mirror].map(Registry::requests);
    let digest = tag_digest(&mirror, "cache/app", "1").unwrap();
    assert!(run(&["inspect"]).contains(&digest));
    assert!(run(&["verify"]).lines().all(|line| line.starts_with("ok ")));
    assert_eq!(run(&["verify", "--context", "context"]), format!("ok     {digest} is what context gives\n"));
    run(&["copy", "oci-layout://copied:1"]);
    run(&["copy", &format!("{}/team/copied:1", primary.host())]);
    assert_eq!(tag_digest(&primary, "team/copied", "1"), Some(digest));
    let [to_primary, to_mirror] = [(&primary, &before[0]), (&mirror, &before[1])]
        .map(|(registry, before)| registry.requests().since(before));
    assert_eq!(to_primary.with("GET", "/team/app/"), Vec::<&ocib_testkit::Request>::new());
    assert!(to_mirror.fetched().len() >= 6, "{to_mirror:?}");

    // What the mirror has lost comes from home, and that is said.
    mirror.stop();
    let done = site.done(&["inspect", "--registry-config", "registries.conf", "registry.test/team/app:1"]);
    let note =
        format!("registry.test/team/app:1 is not taken from the mirror {}/cache/app:1: ", mirror.host());
    assert!(done.stderr.contains(&note), "{}", done.stderr);
}

/// The digest of the manifest for linux/amd64.
fn amd64(tag: &str) -> String {
    let index = manifest(tag);
    let all = index["manifests"].as_array().unwrap();
    let found = all.iter().find(|entry| entry["platform"]["architecture"] == "amd64").unwrap();
    found["digest"].as_str().unwrap().to_owned()
}

/// Found by hand: `ocib verify … | head -3` ended in a panic.
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let site = site();
    site.built(&["-q", "-o", "type=oci,dest=layout,tar=false"]);
    let mut command = site.ocib(&["verify", "-q", "oci-layout://layout"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}
