//! `ocib plan`: exact text and JSON, the same errors as a build, and no trace left anywhere.

use std::process::Command;

use ocib_testkit::{Registry, RegistryOptions, closed_host, sparse_file};
use serde_json::{Value, json};

use crate::program::{Ended, Site, ended, layers, manifest, tag_digest};

/// `ocib plan context` with these arguments, and a home that is not there yet.
fn plan(site: &Site, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocib"));
    site.clean(command.args(["plan", "context", "--quiet"]).args(arguments));
    command.env("HOME", site.path("home"));
    command
}

fn planned(site: &Site, arguments: &[&str]) -> String {
    let Ended { stdout, .. } = ended(&mut plan(site, arguments)).done();
    String::from_utf8(stdout).unwrap()
}

fn object(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&planned(site, &[&["--json"], arguments].concat())).unwrap()
}

/// A site with a base in the registry that has accounts and a link to a directory.
fn on_base(registry: &Registry, dockerfile: &str) -> (Site, String) {
    let base = Site::new("FROM scratch\nCOPY --chmod=0644 passwd /etc/\nENV HF_TOKEN=none\n");
    base.file("context/passwd", "app:x:1001:1001::/:/bin/sh\n");
    let tag = format!("{}/base:1", registry.host());
    base.built(&["--push", "--compression", "none", "-t", &tag]);
    let site = Site::new(&dockerfile.replace("@BASE@", &tag));
    site.file("context/model/a", "hello\n").file("context/model/b", "bb");
    (site, tag)
}

/// Everything but the lines of the config, which the JSON has, too.
fn without_config(text: &str) -> String {
    let (before, rest) = text.split_once("\nconfig\n").unwrap();
    let (_, after) = rest.split_once("\noutputs\n").unwrap();
    format!("{before}\noutputs\n{after}")
}

#[test]
fn a_native_plan_is_exact() {
    let registry = Registry::start(RegistryOptions::default());
    let dockerfile = "FROM @BASE@\nCOPY --chown=app model /models/\nWORKDIR /models\nENV A=b\n";
    let (site, base) = on_base(&registry, dockerfile);
    let digest = tag_digest(&registry, "base", "1").unwrap();
    let name = base.strip_suffix(":1").unwrap();
    let layer = layers(&manifest(&base))[0].to_owned();
    let tag = format!("{}/tiny:2", registry.host());
    let expected = format!(
        "\
platform linux/amd64
  base {base} for linux/amd64
    pinned {name}@{digest}
    manifest {digest}
    1 layer, 2560 bytes as stored

stage 0 from {base}
  line 2: COPY --chown=app model /models/
    from the context: 8 bytes in 2 files, 3584 bytes as tar
  line 3: WORKDIR /models
    0 bytes in 0 files, 1024 bytes as tar

layers
  1  base sha256:{layer}, 2560 bytes as stored
  2  made by stage 0, line 2: 8 bytes in 2 files, 3584 bytes as tar, none
  3  made by stage 0, line 3: 0 bytes in 0 files, 1024 bytes as tar, none
  to send: 2 layers made here, 4608 bytes before compression; 1 layer of bases, 2560 bytes unless they are there

config
  {{
    \"Env\": [
      \"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\",
      \"HF_TOKEN=*******\",
      \"A=b\"
    ],
    \"WorkingDir\": \"/models\"
  }}

outputs
  push to {}/tiny, as 2
    1  base, mounted from {name} if the registry agrees, else sent
    2  streamed, sent
    3  streamed, sent
",
        registry.host()
    );
    let flags = ["--compression", "none", "--push", "-t", &tag];
    let before = registry.requests().uploads().len();
    assert_eq!(planned(&site, &flags), expected);
    assert_eq!(registry.requests().uploads().len(), before, "a plan sends nothing");
    assert_eq!(tag_digest(&registry, "tiny", "2"), None);
    assert_eq!(site.leftovers(), Vec::<String>::new(), "a plan writes nothing");

    // What was planned is what is made.
    site.built(&flags);
    let made = manifest(&tag);
    let sizes: Vec<&Value> = made["layers"].as_array().unwrap().iter().map(|layer| &layer["size"]).collect();
    assert_eq!(sizes, [2560, 3584, 1024]);
}

/// A build stage with a RUN, and an image that takes something out of it.
const DELEGATING: &str = "\
FROM @BASE@ AS build
ARG API_TOKEN=hunter2 NAME=x
WORKDIR /src
COPY model ./
RUN --mount=type=cache,target=/c --mount=target=/m \\
    make
ENV A=$NAME
COPY model/a /x
RUN <<EOF
make more
EOF
COPY --chown=app model /after/
FROM scratch AS image
COPY --from=build /out /out
COPY --link model /linked/
COPY model /models/
";

#[test]
fn a_plan_with_run_says_what_is_known_and_what_depends() {
    let registry = Registry::start(RegistryOptions::default());
    let (site, base) = on_base(&registry, DELEGATING);
    let digest = tag_digest(&registry, "base", "1").unwrap();
    let name = base.strip_suffix(":1").unwrap();
    let expected = format!(
        "\
platform linux/amd64
  base {base} for linux/amd64
    pinned {name}@{digest}
    manifest {digest}
    1 layer, 2560 bytes as stored

stage 0 (build) from {base}
  line 3: WORKDIR /src
    0 bytes in 0 files, 1536 bytes as tar
  line 4: COPY model ./
    from the context: 8 bytes in 2 files, 3072 bytes as tar
  delegated, lines 5 to 11: on linux/amd64 as root in /src
    with API_TOKEN=*******
    with HF_TOKEN=*******
    with NAME=x
    with PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    lines 5 to 6: RUN --mount=type=cache,target=/c --mount=target=/m     make
      from the context
    line 7: ENV A=$NAME
    line 8: COPY model/a /x
      from the context
    lines 9 to 11: RUN <<EOF
    as a Dockerfile of its own:
      FROM input-1
      RUN --mount=type=cache,target=/c --mount=type=bind,from=input-2,source=/0/x,target=/m [\"/bin/sh\",\"-c\",\"make\"]
      COPY --from=input-2 [\"/1/x/a\",\"/x\"]
      ENV A=\"x\"
      RUN [\"/bin/sh\",\"-c\",\"make more\\n\"]
    to the run repository, unless it is there: input-1, 2 layers made here, 4608 bytes as tar; 1 layer of bases, 2560 bytes
    to the run repository, unless it is there: input-2, 2 layers made here, 8704 bytes as tar; 0 layers of bases, 0 bytes
  line 12: COPY --chown=app model /after/
    from the context: 8 bytes in 2 files; the rest depends on what stage 0 delegates

stage 1 (image) from scratch
  line 14: COPY /out /out
    from stage 0: depends on what stage 0 delegates
  line 15: COPY model /linked/
    from the context: 8 bytes in 2 files, 3584 bytes as tar
  line 16: COPY model /models/
    from the context: 8 bytes in 2 files; the rest depends on what stage 0 delegates

layers
  1  made by stage 1, line 14: depends on what stage 0 delegates, auto
  2  made by stage 1, line 15: 8 bytes in 2 files, 3584 bytes as tar, auto
  3  made by stage 1, line 16: 8 bytes in 2 files; the rest depends on what stage 0 delegates, auto
  to send: 3 layers made here, at least 3592 bytes before compression; 0 layers of bases, 0 bytes unless they are there

outputs
  OCI layout in ocib-out
    1  unknown: depends on what stage 0 delegates
    2  streamed, sent
    3  unknown: depends on what stage 0 delegates
  not with these flags: RUN needs a backend, which --run names
"
    );
    assert_eq!(without_config(&planned(&site, &[])), expected);
    assert_eq!(site.leftovers(), Vec::<String>::new());
}

#[test]
fn json_has_the_documented_fields() {
    let why = "depends on what stage 0 delegates";
    let depends = json!({"made": "unknown", "stored": "unknown", "why": why, "from": null});
    let registry = Registry::start(RegistryOptions::default());
    let dockerfile = "FROM @BASE@ AS build\nARG API_TOKEN=hunter2\nCOPY <<EOF /x\nx\nEOF\nRUN --mount=target=/m make\n\
                      COPY model/a /\n";
    let (site, base) = on_base(&registry, dockerfile);
    let digest = tag_digest(&registry, "base", "1").unwrap();
    let name = base.strip_suffix(":1").unwrap();
    let manifest = manifest(&base);
    let layer = &manifest["layers"][0];
    let from_context = json!([{"kind": "context"}]);
    let heredoc = json!({"kind": "known", "entries": 1, "files": 1, "contentBytes": 2, "tarBytes": 2048});
    let after = json!({"kind": "files", "files": 1, "contentBytes": 6, "afterStage": 0});
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = json!({
        "schemaVersion": 1,
        "dockerfile": "context/Dockerfile",
        "buildable": false,
        "compression": "gzip:5",
        "targets": [{
            "platform": "linux/amd64",
            "bases": [{
                "name": base,
                "platform": "linux/amd64",
                "pinned": format!("{name}@{digest}"),
                "manifest": digest,
                "layers": [layer],
            }],
            "stages": [{
                "index": 0,
                "name": "build",
                "from": {"kind": "image", "name": base},
                "parts": [
                    {"kind": "native", "steps": [{
                        "line": 3,
                        "endLine": 5,
                        "text": "COPY <<EOF /x",
                        "sources": [{"kind": "heredoc", "name": "EOF"}],
                        "size": heredoc,
                    }]},
                    {
                        "kind": "delegated",
                        "line": 6,
                        "endLine": 6,
                        "platform": "linux/amd64",
                        "user": "",
                        "workingDir": "/",
                        "shell": ["/bin/sh", "-c"],
                        "variables": {"API_TOKEN": "*******", "HF_TOKEN": "*******", "PATH": path},
                        "instructions": [{
                            "line": 6,
                            "endLine": 6,
                            "text": "RUN --mount=target=/m make",
                            "sources": from_context,
                        }],
                        "job": {
                            "dockerfile": [
                                "FROM input-1",
                                "RUN --mount=type=bind,from=input-2,source=/0/x,target=/m [\"/bin/sh\",\"-c\",\"make\"]",
                            ],
                            "inputs": [
                                {"name": "input-1", "madeLayers": 1, "tarBytes": 2048, "baseLayers": 1, "baseBytes": 2560},
                                {"name": "input-2", "madeLayers": 1, "tarBytes": 5632, "baseLayers": 0, "baseBytes": 0},
                            ],
                            "contextBytes": null,
                        },
                    },
                    {"kind": "native", "steps": [{
                        "line": 7,
                        "endLine": 7,
                        "text": "COPY model/a /",
                        "sources": from_context,
                        "size": after,
                    }]},
                ],
            }],
            "layers": [
                {
                    "kind": "base",
                    "mediaType": layer["mediaType"],
                    "digest": layer["digest"],
                    // The layer is stored plain, so both are the same.
                    "diffId": layer["digest"],
                    "size": layer["size"],
                },
                {"kind": "made", "stage": 0, "line": 3, "text": "COPY <<EOF /x", "codec": "gzip:5", "size": heredoc},
                {"kind": "delegated", "stage": 0},
                {"kind": "made", "stage": 0, "line": 7, "text": "COPY model/a /", "codec": "gzip:5", "size": after},
            ],
            "config": {"Env": [format!("PATH={path}"), "HF_TOKEN=*******"], "WorkingDir": "/"},
        }],
        "outputs": [
            {
                "kind": "registry",
                "repository": "a.example/x",
                "tags": ["1", "2"],
                "parts": null,
                "unknown": "it cannot be asked",
                "images": [],
            },
            {
                "kind": "archive",
                "format": "oci",
                "path": "x.tar",
                "names": ["a.example/x:1", "a.example/x:2"],
                "unknown": null,
                "images": [{"platform": "linux/amd64", "layers": [
                    {"made": "base", "stored": "stored", "why": null, "from": null},
                    {"made": "streamed", "stored": "stored", "why": null, "from": null},
                    depends,
                    depends,
                ]}],
            },
        ],
    });
    let flags = [
        "--compression=gzip",
        "--tag=a.example/x:1",
        "--tag=a.example/x:2",
        "--output=type=registry",
        "--output=type=oci,dest=x.tar",
    ];
    let mut plan = object(&site, &flags);
    let unknown = plan["outputs"][0]["unknown"].as_str().unwrap();
    // Both tags are asked at once, and the first that fails is told.
    assert!(unknown.starts_with("GET https://a.example/v2/x/manifests/"), "{unknown}");
    plan["outputs"][0]["unknown"] = json!("it cannot be asked");
    assert_eq!(plan, expected);
}

#[test]
fn platforms_and_named_contexts_are_planned() {
    let site = Site::new("FROM scratch\nARG TARGETARCH\nCOPY --from=files one /$TARGETARCH\n");
    site.file("files/one", "1\n");
    let flags = ["--platform", "linux/arm64,linux/amd64", "--build-context", "files=files"];
    let plan = object(&site, &flags);
    let of = |target: &Value| {
        let step = &target["stages"][0]["parts"][0]["steps"][0];
        (target["platform"].clone(), step["text"].clone(), step["sources"].clone())
    };
    let targets: Vec<_> = plan["targets"].as_array().unwrap().iter().map(of).collect();
    let sources = json!([{"kind": "namedContext", "name": "files"}]);
    assert_eq!(
        targets,
        [
            (json!("linux/arm64"), json!("COPY one /arm64"), sources.clone()),
            (json!("linux/amd64"), json!("COPY one /amd64"), sources),
        ]
    );
    assert!(planned(&site, &flags).ends_with("  layers that platforms share are made and sent once\n"));
}

#[test]
fn names_cannot_fake_lines() {
    let site = Site::new("FROM scratch\nCOPY [\"a\\u001bb\\nlayers\", \"/\"]\n");
    site.file("context/a\u{1b}b\nlayers", "");
    let text = planned(&site, &[]);
    assert!(text.contains("  line 2: COPY a\\u{1b}b\\nlayers /\n"), "{text}");
}

#[test]
fn errors_are_those_of_a_build() {
    let host = closed_host();
    for (dockerfile, flags, code) in [
        (format!("FROM {host}/base:1\nRUN true\n"), &[][..], 5),
        ("FROM scratch\nCOPY modle /\n".to_owned(), &[], 3),
        ("FROM scratch\nCPOY model /\n".to_owned(), &[], 3),
        ("FROM scratch\nRUN true\nCOPY modle /\n".to_owned(), &["--target", "none"], 3),
        ("FROM scratch\n".to_owned(), &["--push"], 2),
        ("FROM scratch\n".to_owned(), &["--memory", "1MiB"], 2),
        ("FROM scratch\n".to_owned(), &["--load"], 2),
    ] {
        let site = Site::new(&dockerfile);
        site.file("context/model/a", "a\n");
        let said = ended(&mut plan(&site, flags)).failed(code);
        assert_eq!(said, site.refused(code, &[&["--quiet"], flags].concat()), "{dockerfile}");
    }
    // Also what a build would only find out after a RUN.
    let site = Site::new("FROM scratch\nRUN make\nCOPY modle /\n");
    site.file("context/model/a", "a\n");
    let said = ended(&mut plan(&site, &[])).failed(3);
    assert!(said.starts_with("error: /modle: not found\n --> context/Dockerfile:3:6\n"), "{said}");
}

/// What is smaller is told by nothing but its headers.
#[test]
fn of_a_large_layer_it_is_known_how_it_is_stored() {
    let site = Site::new("FROM scratch\nCOPY small /\nCOPY large /\n");
    sparse_file(&site.path("context/small"), 1 << 30);
    sparse_file(&site.path("context/large"), 9 << 30);
    let codecs = |compression| {
        let plan = object(&site, &["--compression", compression]);
        let layers = plan["targets"][0]["layers"].as_array().unwrap().iter();
        layers.map(|layer| layer["codec"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let gzip = codecs("gzip").remove(0);
    assert_eq!(codecs("auto"), ["auto", &gzip]);
    assert_eq!(codecs("none"), ["none", "none"]);
}

#[test]
fn flags_that_a_build_refuses_are_refused() {
    let site = Site::new("FROM scratch\n");
    for flags in
        [&["--cache-from", "type=local,src=x"][..], &["--ecr-layer-api", "--push", "-t", "127.0.0.1:1/x:1"]]
    {
        let built = ended(&mut site.build(&[&["-q"], flags].concat())).failed(2);
        let planned = ended(&mut site.ocib(&[&["plan", "-q", "context"], flags].concat())).failed(2);
        assert_eq!(planned, built);
    }
}
