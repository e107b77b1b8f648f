//! The guides to models: every command in them is run, and every manifest is checked.

use std::{collections::BTreeSet, env, fs, os::unix::fs::symlink, path::Path, process::Command};

use ocib_testkit::{
    FileServer, HubAccess, HubServer, Registry, RegistryOptions, checkout, require, run_command,
};

use crate::{
    examples::{blocks, manifests_checked},
    model::{built, digests, hub_model, write_model},
    model_artifacts::gguf,
    program::{Site, ended},
};

/// What the guides begin with: a model in a directory and on a Hub, a base with a shell, and the checkout.
fn site() -> (Site, HubServer) {
    let site = Site::new("FROM scratch\nCOPY bin /bin/\n");
    write_model(&site, 2);
    fs::create_dir(site.path("context/bin")).unwrap();
    fs::copy(require("busybox", "busybox-static"), site.path("context/bin/busybox")).unwrap();
    for name in ["sh", "ln", "ls", "sleep"] {
        symlink("busybox", site.path("context/bin").join(name)).unwrap();
    }
    site.built(&["--quiet", "-o", "type=oci,dest=base,tar=false"]);
    symlink(checkout().join("testdata"), site.path("testdata")).unwrap();
    let server = HubServer::start();
    for repository in ["org/model", "org/private"] {
        let files = hub_model(&site);
        let files: Vec<_> = files.iter().map(|(name, content)| (&**name, content.clone())).collect();
        server.publish(repository, &files);
    }
    server.restrict("org/private", HubAccess::Private);
    (site, server)
}

/// Runs the commands of a guide one after another; gives those that failed, and what all of them wrote to stdout.
fn run(site: &Site, server: &HubServer, guide: &str) -> (Vec<String>, String) {
    let registry = Registry::start(RegistryOptions::default());
    let files = FileServer::start();
    files.put("/tiny/model.gguf", &gguf());
    let program = Path::new(env!("CARGO_BIN_EXE_ocib")).parent().unwrap();
    let path = env::var("PATH").unwrap();
    let (mut failed, mut said) = (Vec::new(), String::new());
    for line in blocks(guide, "").iter().flat_map(|block| block.lines()) {
        // What a block says besides commands is what they write.
        if !["ocib ", "ls ", "HF_ENDPOINT="].iter().any(|start| line.starts_with(start)) {
            continue;
        }
        let command = line.replace("localhost:5000", &registry.host());
        let command = command.replace("https://models.example", &files.url(""));
        let command =
            command.replace("https://hub.example", &server.endpoint()).replace("hf_token", server.token());
        let command =
            command.replace("https://models.example/tiny/model.gguf", &files.url("/tiny/model.gguf"));
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]);
        site.clean(&mut shell);
        shell.env("PATH", format!("{}:{path}", program.display())).env("HF_ENDPOINT", server.endpoint());
        let ended = ended(&mut shell);
        said.push_str(&String::from_utf8_lossy(&ended.stdout));
        match ended.code() {
            Some(0) => {}
            Some(1) if line.starts_with("ocib model check") => failed.push(line.to_owned()),
            _ => panic!("{line}\n{}", ended.stderr),
        }
    }
    (failed, said)
}

#[test]
fn commands_of_the_guide_to_models_do_what_it_says() {
    let (site, server) = site();
    let (failed, said) = run(&site, &server, "models.md");
    assert_eq!(failed, Vec::<String>::new());
    assert!(said.contains("ok     oci://\n"), "{said}");
    for directory in ["files", "files-raw"] {
        let mut compare = Command::new("diff");
        compare.args(["-r", "--exclude=.*"]).arg(site.path("model")).arg(site.path(directory));
        run_command(&mut compare);
    }
}

#[test]
fn commands_of_the_guide_to_pulls_do_what_it_says() {
    let (site, server) = site();
    let (failed, said) = run(&site, &server, "models-pull.md");
    // The image of the examples has no base, which is what the check is shown to find.
    assert_eq!(failed, ["ocib model check localhost:5000/models/tiny:1.0"]);
    let shown = blocks("models-pull.md", "").into_iter().find(|block| block.starts_with("wrong ")).unwrap();
    assert!(said.contains(&shown), "{said}");
}

#[test]
fn manifests_of_the_guides_fit_their_schemas() {
    let site = Site::new("");
    let mut files = Vec::new();
    for guide in ["models.md", "models-pull.md"] {
        for (number, block) in blocks(guide, "yaml").iter().enumerate() {
            let name = format!("{guide}-{number}.yaml");
            site.file(&name, block);
            files.push(site.path(name));
        }
    }
    let checked = manifests_checked(&files);
    let kinds: BTreeSet<&str> = checked.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(kinds, ["InferenceService", "Pod"].into(), "{checked}");
    assert_eq!(checked.lines().count(), 3, "{checked}");
}

/// `hf download` of the model.
fn downloaded(site: &Site, server: &HubServer, arguments: &[&str]) {
    let hf = checkout().join("target/test-data/hub/bin/hf");
    assert!(hf.is_file(), "{} is missing: run tests/run.sh once, which makes it", hf.display());
    let mut download = Command::new(hf);
    download.args(["download", "org/model"]).args(arguments);
    site.clean(&mut download);
    download.env("HF_ENDPOINT", server.endpoint()).env("HF_HOME", site.path("hf"));
    download.env("HF_HUB_DISABLE_XET", "1").env("HF_HUB_DISABLE_TELEMETRY", "1");
    run_command(&mut download);
}

/// The Hub's own client takes the stand-in for the Hub, and gets the files that ocib packages.
#[test]
fn the_hubs_client_gets_the_same_files() {
    let (site, server) = site();
    downloaded(&site, &server, &["--local-dir", "downloaded"]);
    let mut compare = Command::new("diff");
    compare.args(["-r", "--exclude=.*"]).arg(site.path("model")).arg(site.path("downloaded"));
    run_command(&mut compare);
}

/// In the client's cache files are links to blobs beside the snapshot.
#[test]
fn what_the_hubs_client_keeps_is_the_model() {
    let (site, server) = site();
    downloaded(&site, &server, &[]);
    let output = |name: &str| format!("type=oci,tar=false,dest={name}");
    let (_, of_hub) = built(&site, Some(&server), &["hf://org/model", "-t", "x:1", "-o", &output("hub")]);
    let model = "hf/hub/models--org--model";
    let commit = fs::read_to_string(site.path(model).join("refs/main")).unwrap();
    for (number, source) in [model.to_owned(), format!("{model}/snapshots/{commit}")].iter().enumerate() {
        let name = format!("cache{number}");
        let (_, of_cache) = built(&site, None, &[source, "-t", "x:1", "-o", &output(&name)]);
        assert_eq!(digests(&of_cache), digests(&of_hub), "{source}");
        let shown = site.done(&["inspect", "--json", &format!("oci-layout://{name}:1")]);
        let shown = String::from_utf8(shown.stdout.clone()).unwrap();
        assert!(shown.contains("https://huggingface.co/org/model") && shown.contains(&commit), "{shown}");
    }
}
