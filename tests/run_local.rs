//! RUN by a program of this host: real buildah, called for what needs a container and for nothing else.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use ocib_testkit::{Registry, RegistryOptions, is_full, require, skopeo};
use serde_json::Value;

use crate::program::{
    Ended, Site, config, ended, layers, manifest, names, set_mode, signal, started, stored_blob, tag_digest,
    until, wait,
};

/// A registry with a base that has a shell, a site, and a wrapper of buildah that keeps books.
struct Runs {
    registry: Registry,
    site: Site,
}

/// Busybox under these names.
const APPLETS: [&str; 12] =
    ["cat", "chmod", "echo", "id", "ls", "mkdir", "printf", "pwd", "sleep", "tail", "touch", "wc"];

impl Runs {
    /// `@BASE@` in the Dockerfile stands for the base.
    fn new(dockerfile: &str) -> Self {
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

    fn repository(&self, name: &str) -> PathBuf {
        self.registry.storage().join("docker/registry/v2/repositories/runs").join(name)
    }

    fn tag(&self) -> String {
        format!("{}/app:1", self.registry.host())
    }

    fn build(&self, more: &[&str]) -> Command {
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

    fn built(&self) -> Ended {
        let done = ended(&mut self.build(&[])).done();
        assert_eq!(names(&self.site.path("scratch")), [".keep"], "the storage is removed");
        done
    }

    /// The Dockerfiles that buildah was called with.
    fn jobs(&self) -> Vec<String> {
        self.books("job.")
    }

    fn books(&self, prefix: &str) -> Vec<String> {
        let all = names(&self.site.path(""));
        let mine = all.iter().filter(|name| name.starts_with(prefix));
        mine.map(|name| fs::read_to_string(self.site.path(name)).unwrap()).collect()
    }

    /// The layers that the run repository had before the only job, without those of the base, and their bytes.
    fn sent(&self) -> u64 {
        let base = manifest(&format!("{}/base:1", self.registry.host()));
        let base: BTreeSet<&str> = layers(&base).into_iter().collect();
        let [sent] = &self.books("sent.")[..] else { panic!("there should be one job") };
        let sent = sent.lines().filter(|hex| !base.contains(hex));
        sent.map(|hex| fs::metadata(stored_blob(&self.registry, hex)).unwrap().len()).sum()
    }

    /// The files of the image.
    fn files(&self) -> PathBuf {
        self.site.unpacked(&format!("docker://{}", self.tag()), "amd64")
    }

    fn config(&self) -> Value {
        config(&format!("docker://{}", self.tag()))
    }
}

/// What a tree holds: paths with modes, owners and contents.
fn listing(root: &std::path::Path) -> Vec<String> {
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
fn assert_consistent(config: &Value) {
    let history = config["history"].as_array().unwrap();
    let layers = history.iter().filter(|line| line["empty_layer"] != Value::Bool(true)).count();
    assert_eq!(layers, config["rootfs"]["diff_ids"].as_array().unwrap().len(), "{config:#}");
}

const FOUR_STAGES: &str = "\
FROM @BASE@ AS tools
COPY tool /opt/tool
FROM @BASE@ AS unused
RUN exit 1
FROM @BASE@ AS build
ARG VERSION=1
WORKDIR /src
COPY main.txt ./
COPY --from=tools /opt/tool /opt/tool
RUN cat main.txt /opt/tool > /out && echo $VERSION $FROM_BASE >> /out && mkdir -m 700 /made
FROM @BASE@
COPY --from=build /out /app/out
COPY --from=build --chown=app /made /made
COPY big /big
ENV A=b
USER app
CMD [\"cat\", \"/app/out\"]
";

#[test]
fn only_the_stage_with_run_is_delegated_and_the_image_is_what_buildah_makes() {
    let runs = Runs::new(FOUR_STAGES);
    runs.site.file("context/tool", "tool\n").file("context/main.txt", "main\n");
    runs.site.file("context/big", vec![7; 4 << 20]);
    runs.built();
    let [job] = &runs.jobs()[..] else { panic!("one job: {:?}", runs.jobs()) };
    assert_eq!(job.lines().count(), 2, "{job}");
    assert!(job.ends_with("RUN [\"/bin/sh\",\"-c\",\"cat main.txt /opt/tool > /out && echo $VERSION $FROM_BASE >> /out && mkdir -m 700 /made\"]\n"), "{job}");
    // Three layers of tar: two small files and a directory, each with headers and an end.
    assert!(runs.sent() <= 3 * 4096, "{} bytes were sent for 10 bytes in 2 files", runs.sent());
    assert_consistent(&runs.config());

    // The same by buildah alone.
    let whole = format!("{}/whole:1", runs.registry.host());
    let storage = runs.site.name("storage");
    let buildah = |arguments: &[&str]| {
        let global = ["--root", &storage, "--runroot", &storage, "--storage-driver", "vfs"];
        let output = Command::new("buildah").args(global).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let context = runs.site.name("context");
    buildah(&["build", "--isolation", "chroot", "--layers", "--tls-verify=false", "-t", &whole, &context]);
    buildah(&["push", "--tls-verify=false", &whole]);
    let ours = listing(&runs.files());
    let theirs = listing(&runs.site.unpacked(&format!("docker://{whole}"), "amd64"));
    assert_eq!(ours, theirs);
    let theirs = config(&format!("docker://{whole}"));
    for key in ["Env", "User", "Cmd", "WorkingDir"] {
        assert_eq!(runs.config()["config"][key], theirs["config"][key], "{key}");
    }

    // Nothing has changed: nothing runs.
    let first = tag_digest(&runs.registry, "app", "1");
    runs.built();
    assert_eq!((runs.jobs().len(), tag_digest(&runs.registry, "app", "1")), (1, first));
    // Unless it is wanted.
    ended(&mut runs.build(&["--no-cache"])).done();
    assert_eq!(runs.jobs().len(), 2);
    // What is copied after RUN is no reason to run; what is copied before is.
    runs.site.file("context/big", "small now");
    runs.built();
    assert_eq!(runs.jobs().len(), 2);
    runs.site.file("context/main.txt", "other\n");
    runs.built();
    assert_eq!(runs.jobs().len(), 3);
}

#[test]
fn between_runs_state_files_and_owners_are_as_written() {
    let runs = Runs::new(
        "FROM @BASE@\n\
         ARG EARLY\n\
         RUN mkdir -p /real /data && ls -l /real && touch /was-file\n\
         ENV LATER=\"a 'b' \\\"c\\\" \\$d\\\\\" OTHER=other\n\
         ARG MIDDLE=\"x;y|z&\"\n\
         USER 1001\n\
         WORKDIR /data\n\
         COPY --chown=app one.txt two[[]1].txt /real/\n\
         COPY --chown=5:6 --chmod=640 tree /data/tree\n\
         COPY one.txt /data\n\
         COPY [\"one.txt\", \"/data/a \\\\$b \\\\'c\\\\'\"]\n\
         COPY <<EOF /real/inline\n\
         $EARLY is known\n\
         EOF\n\
         RUN test \"$(id -u)\" = 1001 && test \"$(pwd)\" = /data && test \"$MIDDLE\" = \"x;y|z&\"\n\
         USER 0\n\
         RUN <<EOF\n\
         printf '%s\\n' \"$LATER\" \"$OTHER\" \"$EARLY\" \"$MIDDLE\" > /printed\n\
         pwd >> /printed\n\
         EOF\n\
         RUN <<EOF cat > /heredoc\n\
         body $LATER\n\
         EOF\n\
         RUN [\"mkdir\", \"/exec form $x\"]\n",
    );
    runs.site.file("context/one.txt", "1").file("context/two[1].txt", "2").file("context/tree/leaf", "l");
    let early = "q\"'$HOME `id` \\n\n#second line";
    ended(&mut runs.build(&["--build-arg", &format!("EARLY={early}")])).done();
    let files = runs.files();
    let read = |name: &str| fs::read_to_string(files.join(name)).unwrap();
    let later = "a 'b' \"c\" $d\\";
    assert_eq!(read("printed"), format!("{later}\nother\n{early}\nx;y|z&\n/data\n"));
    assert_eq!(read("heredoc"), format!("body {later}\n"));
    assert_eq!(read("real/inline"), format!("{early} is known\n"));
    assert_eq!([read("real/two[1].txt"), read("data/one.txt")], ["2", "1"]);
    assert_eq!(read("data/a $b 'c'"), "1");
    assert!(files.join("exec form $x").is_dir());
    use std::os::unix::fs::MetadataExt;
    let owner =
        |name: &str| fs::metadata(files.join(name)).map(|m| (m.uid(), m.gid(), m.mode() & 0o777)).unwrap();
    assert_eq!(owner("real/one.txt"), (1001, 1002, 0o644));
    assert_eq!(owner("data/tree/leaf"), (5, 6, 0o640));
    let config = runs.config();
    assert_consistent(&config);
    let env = config["config"]["Env"].as_array().unwrap();
    let named = |name: &str| env.iter().any(|pair| pair.as_str().unwrap().starts_with(name));
    assert!(named("LATER=") && named("OTHER=") && !named("EARLY=") && !named("MIDDLE="), "{env:?}");
    assert_eq!((&config["config"]["User"], &config["config"]["WorkingDir"]), (&"0".into(), &"/data".into()));
}

/// 8 MiB, and 2 GiB with `OCIB_TEST_FULL`.
#[test]
fn what_is_copied_after_a_run_never_goes_there() {
    let runs = Runs::new("FROM @BASE@\nRUN mkdir /models\nCOPY model /models/\nWORKDIR /models/work\n");
    let bytes = if is_full() { 2 << 30 } else { 8 << 20 };
    runs.site.file("context/model", "model");
    File::options().write(true).open(runs.site.path("context/model")).unwrap().set_len(bytes).unwrap();
    runs.built();
    assert_eq!(runs.sent(), 0, "nothing was made for it");
    let files = runs.files();
    assert!(files.join("models/work").is_dir());
    assert_eq!(fs::metadata(files.join("models/model")).unwrap().len(), bytes);
    let stored = names(&runs.repository("_layers/sha256"));
    let bytes: u64 =
        stored.iter().map(|hex| fs::metadata(stored_blob(&runs.registry, hex)).unwrap().len()).sum();
    assert!(bytes < 6 << 20, "the run repository holds {bytes} bytes, which is more than the base");
}

#[test]
fn a_stage_that_two_others_begin_with_runs_once_and_triggers_run_too() {
    let runs = Runs::new(
        "FROM @BASE@ AS common\n\
         RUN touch /common\n\
         ONBUILD RUN touch /triggered\n\
         FROM common AS a\n\
         RUN touch /a\n\
         FROM common AS b\n\
         COPY file /b\n\
         FROM @BASE@\n\
         COPY --from=a /common /a /triggered /all/\n\
         COPY --from=b /b /triggered /all/\n",
    );
    runs.site.file("context/file", "");
    runs.built();
    // common; a with its trigger; b's trigger alone.
    assert_eq!(runs.jobs().len(), 3, "{:#?}", runs.jobs());
    assert_eq!(names(&runs.files().join("all")), ["a", "b", "common", "triggered"]);
}

#[test]
fn binds_of_context_stage_and_image_are_there_while_a_command_runs() {
    let runs = Runs::new(
        "FROM @BASE@ AS other\n\
         COPY file /from-stage\n\
         FROM @BASE@\n\
         RUN --mount=target=/c,source=dir --mount=type=bind,from=other,source=/from-stage,target=/s \\\n\
             --mount=type=bind,from=@BASE@,target=/i --mount=type=cache,target=/k --mount=type=tmpfs,target=/t \\\n\
             cat /c/leaf /s /i/etc/passwd > /out\n\
         RUN <<EOF\n\
         #!/bin/sh\n\
         echo script $0 > /script\n\
         EOF\n",
    );
    runs.site.file("context/file", "stage\n").file("context/dir/leaf", "context\n").file("context/rest", "r");
    runs.built();
    let out = fs::read_to_string(runs.files().join("out")).unwrap();
    assert!(out.starts_with("context\nstage\nroot:x:0:0"), "{out}");
    assert_eq!(fs::read_to_string(runs.files().join("script")).unwrap(), "script /dev/pipes/EOF\n");
    // Two layers of one file each, and the stage's.
    assert!(runs.sent() <= 5 * 4096, "{}", runs.sent());
}

#[test]
fn a_command_that_fails_is_shown_at_its_line_with_its_last_words() {
    let runs = Runs::new(
        "FROM @BASE@\nENV A=b\nRUN echo one\nCOPY file /\nRUN echo last words && exit 7\nRUN true\n",
    );
    runs.site.file("context/file", "");
    let said = ended(&mut runs.build(&["--quiet"])).failed(1);
    assert!(
        said.starts_with("error[run-command-failed]: the command ended with exit code 7\n --> "),
        "{said}"
    );
    assert!(said.contains("Dockerfile:5:1") && said.contains("5 | RUN echo last words && exit 7"), "{said}");
    assert!(said.contains("\nlast words\n") || said.contains("last words"), "{said}");
    assert_eq!(tag_digest(&runs.registry, "app", "1"), None);
    assert_eq!(names(&runs.site.path("scratch")), [".keep"]);
}

#[test]
fn what_a_backend_lacks_is_refused_at_its_line() {
    for (flag, what) in [
        ("--network=none", "--network=none"),
        ("--security=insecure", "--security=insecure"),
        ("--mount=type=secret,id=a,required", "--mount=type=secret"),
        ("--device=x", "--device=x"),
    ] {
        let runs = Runs::new(&format!("FROM @BASE@\nRUN {flag} true\n"));
        let said = ended(&mut runs.build(&["--quiet"])).failed(3);
        let expected = format!("error: RUN {what} cannot be carried out by buildah\n");
        assert!(said.starts_with(&expected) && said.contains("Dockerfile:2:"), "{said}");
        assert_eq!(runs.jobs(), Vec::<String>::new());
        // Nobody calls it buildable beforehand, and a part that waits for another's result is no exception.
        let runs = Runs::new(&format!("FROM @BASE@ AS a\nRUN true\nFROM a\nRUN touch /a\nRUN {flag} true\n"));
        let said = ended(&mut runs.build(&["--quiet"])).failed(3);
        assert!(said.starts_with(&expected) && said.contains("Dockerfile:5:"), "{said}");
        assert_eq!(runs.jobs(), Vec::<String>::new());
        let tag = runs.tag();
        let flags = ["context", "--run", "buildah", "--native-run", "off", "-t", &tag];
        assert_eq!(ended(&mut runs.site.ocib(&[&["plan", "--quiet"], &flags[..]].concat())).failed(3), said);
        let found = ended(&mut runs.site.ocib(&[&["preflight"], &flags[..]].concat()));
        assert_eq!(found.code(), Some(3), "{found:?}");
    }
    let runs = Runs::new("FROM @BASE@\nRUN <<EOF\n#!/usr/bin/node\nEOF\n");
    let said = ended(&mut runs.build(&["--quiet"])).failed(3);
    assert!(said.starts_with("error: a script for an interpreter that cannot be given it "), "{said}");
}

#[test]
fn a_value_that_no_line_can_hold_is_refused_between_runs() {
    let runs = Runs::new("FROM @BASE@\nRUN true\nARG LATE\nRUN false\n");
    let said = ended(&mut runs.build(&["--quiet", "--build-arg", "LATE=a\nb"])).failed(3);
    assert!(said.starts_with("error: the value of LATE cannot be handed to a backend: "), "{said}");
    assert!(said.contains("Dockerfile:4:1"), "{said}");
    let named = Runs::new("FROM @BASE@\nRUN true\nCOPY a?b /x\nRUN true\n");
    named.site.file("context/a[b", "");
    let said = ended(&mut named.build(&["--quiet"])).failed(3);
    assert!(
        said.starts_with("error: a file called \"a[b\" cannot be handed to a backend by itself\n"),
        "{said}"
    );
    assert_eq!(runs.jobs(), Vec::<String>::new());
}

/// Docker needs a daemon, which is not here: a script stands in for the program, so this shows what docker would
/// be called with and what is made of its words, not that docker does it.
#[test]
fn a_result_that_is_something_else_is_refused() {
    let runs = Runs::new("FROM @BASE@\nRUN true\n");
    let other = format!("{}/runs:other", runs.registry.host());
    let digest = Site::new("FROM scratch\nLABEL a=b\n").built(&["--push", "-t", &other]).digest().to_owned();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\ncase $1 in push) echo 'run-x: digest: {digest} size: 1' ;; esac\n",
        runs.site.name("calls")
    );
    runs.site.file("docker", script);
    set_mode(runs.site.path("docker"), 0o755);
    let program = runs.site.name("docker");
    let said = ended(&mut runs.build(&["--quiet", "--run", "docker", "--run-program", &program])).failed(6);
    let expected = format!(
        "error: docker gave {digest}, which is not what was asked for: it does not begin with the layers that the part \
         begins with\n --> context/Dockerfile:2:1\n"
    );
    assert!(said.starts_with(&expected), "{said}");
    let calls = fs::read_to_string(runs.site.path("calls")).unwrap();
    let [build, push, remove] = &calls.lines().collect::<Vec<_>>()[..] else { panic!("{calls}") };
    assert!(build.starts_with("build --progress plain --platform linux/amd64 --file "), "{build}");
    let tag = push.strip_prefix("push ").unwrap();
    assert!(build.contains(&format!(" --tag {tag} ")) && tag.contains("/runs:run-"), "{calls}");
    assert_eq!(*remove, format!("image rm {tag}"));
}

#[test]
fn a_program_that_is_missing_and_a_repository_that_is_missing_are_said() {
    let runs = Runs::new("FROM @BASE@\nRUN true\n");
    fs::remove_file(runs.site.path("buildah")).unwrap();
    let said = ended(&mut runs.build(&["--quiet"])).failed(3);
    assert!(said.starts_with("error[run-no-program]: there is no program "), "{said}");
    let said = runs.site.refused(2, &["--run", "buildah"]);
    assert!(said.contains("--run buildah needs a repository"), "{said}");
}

#[test]
fn an_interrupt_ends_the_command_and_leaves_nothing() {
    let runs = Runs::new("FROM @BASE@\nRUN touch /began && sleep 86399\n");
    let mut child = started(&mut runs.build(&[]));
    let sleeps = || {
        let output = Command::new(require("pgrep", "procps")).args(["-f", "sleep 86399"]).output().unwrap();
        let all = String::from_utf8(output.stdout).unwrap();
        all.lines()
            .filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.starts_with(b"sleep\086399")
            })
            .count()
    };
    until(&mut child, "the command runs", || sleeps() > 0);
    signal(&child, "INT");
    assert!(wait(child).failed(130).contains("interrupted by SIGINT"));
    assert_eq!(names(&runs.site.path("scratch")), [".keep"]);
    assert_eq!(sleeps(), 0);
    assert_eq!(tag_digest(&runs.registry, "app", "1"), None);
}

#[test]
fn both_platforms_end_in_one_index() {
    // Nothing here runs arm64 programs as if they were ours, so that stage has no RUN.
    let runs = Runs::new(
        "FROM @BASE@ AS run-amd64\nRUN touch /made\nFROM scratch AS run-arm64\nCOPY file /made\n\
         FROM run-$TARGETARCH AS chosen\nFROM scratch\nCOPY --from=chosen /made /made\n",
    );
    runs.site.file("context/file", "");
    let dockerfile = fs::read_to_string(runs.site.path("context/Dockerfile")).unwrap();
    runs.site.file("context/Dockerfile", format!("ARG TARGETARCH\n{dockerfile}"));
    ended(&mut runs.build(&["--platform", "linux/amd64,linux/arm64"])).done();
    assert_eq!(runs.jobs().len(), 1);
    assert_eq!(manifest(&runs.tag())["manifests"].as_array().unwrap().len(), 2);
    skopeo(&[
        "inspect",
        "--tls-verify=false",
        "--override-arch",
        "arm64",
        &format!("docker://{}", runs.tag()),
    ]);
}

#[test]
fn simple_runs_before_the_first_and_after_the_last_stay_here() {
    let runs = Runs::new(
        "FROM @BASE@\n\
         RUN mkdir -p /models && chmod 775 /models\n\
         COPY a /models/a\n\
         RUN echo made > /made && mkdir /g && chmod 2755 /g\n\
         COPY b /b\n\
         RUN chmod 700 /b && touch /made\n",
    );
    runs.site.file("context/a", "a").file("context/b", "b");
    ended(&mut runs.build(&["--native-run", "auto"])).done();
    let [job] = &runs.jobs()[..] else { panic!("one job: {:?}", runs.jobs()) };
    assert!(
        job.ends_with("RUN [\"/bin/sh\",\"-c\",\"echo made > /made && mkdir /g && chmod 2755 /g\"]\n"),
        "{job}"
    );
    assert_eq!(job.lines().count(), 2, "{job}");
    assert_consistent(&runs.config());
    let mode = |files: &std::path::Path, name: &str| {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(files.join(name)).unwrap().permissions())
            & 0o7777
    };
    let files = runs.files();
    assert_eq!(["models", "b", "g"].map(|name| mode(&files, name)), [0o775, 0o700, 0o2755]);
    assert_eq!(fs::read_to_string(files.join("made")).unwrap(), "made\n");

    // What the delegated part made speaks against one behind it: then that is delegated, too.
    let dockerfile = fs::read_to_string(runs.site.path("context/Dockerfile")).unwrap();
    runs.site.file("context/Dockerfile", dockerfile + "RUN chmod 755 /g\nRUN mkdir /g/last\n");
    ended(&mut runs.build(&["--native-run", "auto"])).done();
    let jobs = runs.jobs();
    assert_eq!(jobs.len(), 2, "the first part is what it was: {jobs:?}");
    let last = jobs.iter().find(|job| job.contains("chmod 755 /g")).unwrap();
    assert!(!last.contains("last") && !last.contains("/models") && last.contains("echo made"), "{last}");
    assert_consistent(&runs.config());
    let files = runs.files();
    assert_eq!(["b", "g", "g/last"].map(|name| mode(&files, name)), [0o700, 0o755, 0o755]);
}
