//! `ocib inspect`: what it shows is what skopeo finds.

use ocib_testkit::{Registry, RegistryOptions, skopeo};
use serde_json::Value;

use crate::program::{Site, ended, manifest, tag_digest};

fn site() -> Site {
    let site = Site::new(
        "FROM scratch\nCOPY f /f\nENV A=b\nLABEL evil=\"\\x1b[2Jx\"\nUSER 1000\nWORKDIR /w\nENTRYPOINT [\"/f\"]\nCMD [\"a b\"]\nEXPOSE 80\n",
    );
    site.file("context/f", "content\n");
    site
}

#[test]
fn an_image_as_text() {
    let registry = Registry::start(RegistryOptions::default());
    let site = site();
    let tag = format!("{}/app:1", registry.host());
    site.built(&["-q", "--compression", "none", "--annotation", "k=\u{202e}v", "--push", "-t", &tag]);
    let shown = String::from_utf8(site.done(&["inspect", &tag]).stdout).unwrap();
    let raw = manifest(&tag);
    let digest = tag_digest(&registry, "app", "1").unwrap();
    let layer = |at: usize| raw["layers"][at]["digest"].as_str().unwrap();
    let config = raw["config"]["digest"].as_str().unwrap();
    let expected_start = format!(
        "name         {tag}\n\
         digest       {digest}\n\
         type         application/vnd.oci.image.manifest.v1+json\n\
         platform     linux/amd64\n\
         created      1970-01-01T00:00:00Z\n\
         user         1000\n\
         entrypoint   [\"/f\"]\n\
         cmd          [\"a b\"]\n\
         workdir      /w\n\
         ports        80/tcp\n\
         config       {config}\n"
    );
    let start = shown
        .replace("env\n  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n  A=b\n", "");
    let start: String = start
        .lines()
        .filter(|line| !line.starts_with("labels") && !line.contains("evil="))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(start.starts_with(&expected_start), "{shown}");
    assert!(shown.contains("annotations\n  k=\\u{202e}v\n"), "{shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown}");
    assert!(
        shown.contains(&format!("\n  {} ", layer(0))) && shown.contains("  plain COPY f /f # buildkit\n"),
        "{shown}"
    );
}

#[test]
fn an_index_as_a_tree_and_one_platform_of_it() {
    let registry = Registry::start(RegistryOptions::default());
    let site = site();
    let tag = format!("{}/app:1", registry.host());
    site.built(&["-q", "--platform", "linux/amd64,linux/arm64", "--push", "-t", &tag]);
    let index = manifest(&tag);
    let child = |at: usize| index["manifests"][at]["digest"].as_str().unwrap();
    let shown = String::from_utf8(site.done(&["inspect", &tag]).stdout).unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[3], "manifests");
    for (line, (platform, at)) in lines[4..].iter().zip([("linux/amd64", 0), ("linux/arm64", 1)]) {
        let start = format!("  {platform:<16} {}  2 layers, ", child(at));
        assert!(line.starts_with(&start), "{shown}");
    }
    let one = String::from_utf8(site.done(&["inspect", "--platform", "linux/arm64", &tag]).stdout).unwrap();
    assert!(
        one.contains(&format!("digest       {}\n", child(1))) && one.contains("platform     linux/arm64\n"),
        "{one}"
    );

    let json: Value = serde_json::from_slice(&site.done(&["inspect", "--json", &tag]).stdout).unwrap();
    assert_eq!(
        (&json["digest"], &json["manifests"][1]["digest"]),
        (&tag_digest(&registry, "app", "1").into(), &child(1).into())
    );
    assert_eq!(
        (&json["manifests"][1]["platform"], &json["manifests"][1]["layers"]),
        (&"linux/arm64".into(), &2.into())
    );
    let said = ended(&mut site.ocib(&["inspect", "--config", &tag])).failed(2);
    let expected = format!(
        "error: {tag} is an index, and each of its manifests has a config of its own\n |\nhelp: choose one with --platform: linux/amd64, linux/arm64\n"
    );
    assert_eq!(said, expected);
}

#[test]
fn raw_bytes_are_those_that_skopeo_gets() {
    let registry = Registry::start(RegistryOptions::default());
    let site = site();
    let tag = format!("{}/app:1", registry.host());
    site.built(&["-q", "--push", "-t", &tag]);
    site.built(&["-q", "-t", "app:1", "-o", "type=oci,tar=false,dest=layout"]);
    site.built(&["-q", "-t", "app:1", "-o", "type=docker,dest=app.tar"]);
    for (ours, theirs) in [
        (tag.clone(), format!("docker://{tag}")),
        ("oci-layout://layout:1".to_owned(), format!("oci:{}:1", site.name("layout"))),
    ] {
        for flags in [&["--raw"][..], &["--raw", "--config"]] {
            let expected = skopeo(&[&["inspect", "--tls-verify=false"], flags, &[&theirs]].concat());
            let shown = site.done(&["inspect", flags.last().unwrap(), &ours]).stdout;
            assert_eq!(String::from_utf8(shown).unwrap(), expected, "{ours}");
        }
    }
    let json: Value =
        serde_json::from_slice(&site.done(&["inspect", "--json", "docker-archive://app.tar:app:1"]).stdout)
            .unwrap();
    assert_eq!(json["digest"], tag_digest(&registry, "app", "1").unwrap());
    assert_eq!(json["runtime"]["cmd"], serde_json::json!(["a b"]));
    assert_eq!(json["layers"][0]["createdBy"], "COPY f /f # buildkit");
    let pinned = format!("docker-archive://app.tar:app:1@{}", json["digest"].as_str().unwrap());
    assert_eq!(json["pinned"], pinned);
}
