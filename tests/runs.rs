//! What tests of RUN share: a registry with a base, a site, and real buildah under observation.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ocib_testkit::{Registry, RegistryOptions, require};
use serde_json::Value;

use crate::program::{Ended, Site, config, ended, layers, manifest, names, set_mode, stored_blob};

/// A registry with a base that has a shell, a site, and a wrapper of buildah that keeps books.
pub(crate) struct Runs {
    pub(crate) registry: Registry,
    pub(crate) site: Site,
}

/// Busybox under these names.
const APPLETS: [&str; 13] =
    ["cat", "chmod", "echo", "id", "ls", "mkdir", "printf", "pwd", "sleep", "stat", "tail", "touch", "wc"];

impl Runs {
    /// `@BASE@` in the Dockerfile stands for the base.
    pub(crate) fn new(dockerfile: &str) -> Self {
        let registry = Registry::start(RegistryOptions::default());
        let base = Site::new("FROM scratch\nCOPY bin /bin/\nCOPY etc /etc/\nENV FROM_BASE=yes\n");
        base.file("context/etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1001:1002::/:/bin/sh\n");
        base.file("context/bin/sh", fs::read(require("busybox", "busybox-static")).unwrap());
        set_mode(base.path("context/bin/sh"), 0o755);
        for applet in APPLETS {
            std::os::unix::fs::symlink("sh", base.path(format!("context/bin/{applet}"))).unwrap();
        }
        let name = format!("{}/base:1", registry.host());
        base.built(&["--push", "--compression", "none", "-t", &name]);
        let site = Site::new(&dockerfile.replace("@BASE@", &name));
        site.file("scratch/.keep", "");
        let runs = Self { registry, site };
        runs.keep_books();
        runs
    }

    /// The program that `--run-program` names: before buildah builds, it writes down what it was given and
    /// what the run repository holds.
    fn keep_books(&self) {
        let blobs = self.repository("_layers/sha256");
        let script = format!(
            "#!/bin/sh\n\
             case \" $* \" in *\" build \"*)\n\
             ls {blobs} > {site}/sent.$$\n\
             while [ \"$1\" != --file ]; do set -- \"$@\" \"$1\"; shift; done\n\
             cp \"$2\" {site}/job.$$\n\
             set -- \"$@\" \"$1\" \"$2\"; shift 2\n\
             while [ \"$1\" != --root ]; do set -- \"$@\" \"$1\"; shift; done\n\
             esac\n\
             exec {buildah} \"$@\"\n",
            blobs = blobs.display(),
            site = self.site.name(""),
            buildah = require("buildah", "buildah").display(),
        );
        self.site.file("buildah", script);
        set_mode(self.site.path("buildah"), 0o755);
    }

    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        self.registry.storage().join("docker/registry/v2/repositories/runs").join(name)
    }

    pub(crate) fn tag(&self) -> String {
        format!("{}/app:1", self.registry.host())
    }

    pub(crate) fn build(&self, more: &[&str]) -> Command {
        let runs = format!("{}/runs", self.registry.host());
        let (tag, program, scratch) = (self.tag(), self.site.name("buildah"), self.site.name("scratch"));
        let mut flags = vec!["--run", "buildah", "--run-program", &program];
        if more.contains(&"--run") {
            flags.clear();
        }
        // What is tried here are backends, with commands that need none.
        if !more.contains(&"--native-run") {
            flags.extend(["--native-run", "off"]);
        }
        flags.extend([
            "--run-repository",
            &runs,
            "--scratch-dir",
            &scratch,
            "--compression",
            "none",
            "--push",
            "-t",
            &tag,
        ]);
        self.site.build(&[&flags[..], more].concat())
    }

    pub(crate) fn built(&self) -> Ended {
        let done = ended(&mut self.build(&[])).done();
        assert_eq!(names(&self.site.path("scratch")), [".keep"], "the storage is removed");
        done
    }

    /// The Dockerfiles that buildah was called with.
    pub(crate) fn jobs(&self) -> Vec<String> {
        self.books("job.")
    }

    fn books(&self, prefix: &str) -> Vec<String> {
        let all = names(&self.site.path(""));
        let mine = all.iter().filter(|name| name.starts_with(prefix));
        mine.map(|name| fs::read_to_string(self.site.path(name)).unwrap()).collect()
    }

    /// The layers that the run repository had before the only job, without those of the base, and their bytes.
    pub(crate) fn sent(&self) -> u64 {
        let base = manifest(&format!("{}/base:1", self.registry.host()));
        let base: BTreeSet<&str> = layers(&base).into_iter().collect();
        let [sent] = &self.books("sent.")[..] else { panic!("there should be one job") };
        let sent = sent.lines().filter(|hex| !base.contains(hex));
        sent.map(|hex| fs::metadata(stored_blob(&self.registry, hex)).unwrap().len()).sum()
    }

    /// The files of the image.
    pub(crate) fn files(&self) -> PathBuf {
        self.site.unpacked(&format!("docker://{}", self.tag()), "amd64")
    }

    pub(crate) fn config(&self) -> Value {
        config(&format!("docker://{}", self.tag()))
    }
}

/// What a tree holds: paths with modes, owners and contents.
pub(crate) fn listing(root: &Path) -> Vec<String> {
    let output = Command::new("find")
        .args([
            ".",
            "-printf",
            "%p %y %m %U:%G %l ",
            "(",
            "-type",
            "f",
            "-exec",
            "sha256sum",
            "{}",
            ";",
            "-o",
        ])
        .args(["-printf", "\\n", ")"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// History has a line with a layer for each layer.
pub(crate) fn assert_consistent(config: &Value) {
    let history = config["history"].as_array().unwrap();
    let layers = history.iter().filter(|line| line["empty_layer"] != Value::Bool(true)).count();
    assert_eq!(layers, config["rootfs"]["diff_ids"].as_array().unwrap().len(), "{config:#}");
}
