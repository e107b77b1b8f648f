//! RUN by a program of this host: real buildah, called for what needs a container and for nothing else.

use std::{fs, fs::File, process::Command};

use ocib_testkit::{Buildah, is_full, require, skopeo};
use serde_json::Value;

use crate::{
    program::{config, ended, manifest, names, stored_blob, tag_digest},
    runs::{Runs, assert_consistent, listing},
};

/// Compares files and config with those of the same Dockerfile built by buildah alone.
fn assert_as_by_buildah_alone(runs: &Runs, more: &[&str]) {
    let whole = format!("{}/whole:1", runs.registry.host());
    let storage = runs.site.name("storage");
    let buildah = |arguments: &[&str]| {
        let global = ["--root", &storage, "--runroot", &storage, "--storage-driver", "vfs"];
        Buildah::run(Command::new(require("buildah", "buildah")).args(global).args(arguments));
    };
    let context = runs.site.name("context");
    let build = ["build", "--isolation", "chroot", "--layers", "--tls-verify=false", "-t", &whole];
    buildah(&[&build[..], more, &[&context]].concat());
    buildah(&["push", "--tls-verify=false", &whole]);
    let ours = listing(&runs.files());
    let theirs = listing(&runs.site.unpacked(&format!("docker://{whole}"), "amd64"));
    assert_eq!(ours, theirs);
    let theirs = config(&format!("docker://{whole}"));
    for key in ["Env", "User", "Cmd", "Entrypoint", "WorkingDir", "Labels", "ExposedPorts", "Volumes"] {
        let (mut ours, mut theirs) = (runs.config()["config"][key].clone(), theirs["config"][key].clone());
        // Buildah puts what is set again to the end, BuildKit leaves it where it is.
        for variables in [&mut ours, &mut theirs].into_iter().filter(|_| key == "Env") {
            variables.as_array_mut().unwrap().sort_by_key(ToString::to_string);
        }
        // Buildah signs what it makes.
        if let Some(labels) = theirs.as_object_mut().filter(|_| key == "Labels") {
            labels.remove("io.buildah.version");
        }
        // The root is where a container starts that is told nothing.
        let is_nothing = |value: &Value| {
            value.is_null() || *value == "/" || value.as_object().is_some_and(serde_json::Map::is_empty)
        };
        assert!(ours == theirs || is_nothing(&ours) && is_nothing(&theirs), "{key}: {ours} {theirs}");
    }
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

    assert_as_by_buildah_alone(&runs, &[]);

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

/// Two parts that are begun at the same time, on images that differ and share a large layer.
#[test]
fn what_two_parts_begin_with_is_sent_once() {
    let runs = Runs::new(
        "FROM @BASE@ AS common\n\
         COPY big /big\n\
         FROM common AS a\n\
         COPY one /one\n\
         RUN cat /one /big > /a\n\
         FROM common AS b\n\
         COPY two /two\n\
         RUN cat /two /big > /b\n\
         FROM @BASE@\n\
         COPY --from=a /a /\n\
         COPY --from=b /b /\n",
    );
    for (name, content) in [("big", vec![7; 8 << 20]), ("one", b"1".to_vec()), ("two", b"2".to_vec())] {
        runs.site.file(format!("context/{name}"), content);
    }
    runs.built();
    let requests = runs.registry.requests();
    let mut sent = requests.completed();
    let count = sent.len();
    sent.dedup();
    assert_eq!(sent.len(), count, "a blob was sent twice");
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

/// A base's triggers are carried out here, and what it calls a volume is a directory like any other until a
/// container starts: the backend is not told of either.
#[test]
fn what_a_base_says_of_later_builds_is_done_once() {
    let runs = Runs::new("FROM @BASE@\nVOLUME /data\nONBUILD RUN echo triggered >> /triggered\n");
    let base = format!("{}/with-triggers:1", runs.registry.host());
    runs.site.built(&["--push", "-t", &base]);
    let dockerfile = format!("FROM {base}\nRUN mkdir /data && echo kept > /data/file\n");
    runs.site.file("context/Dockerfile", dockerfile);
    runs.built();
    let read = |name: &str| fs::read_to_string(runs.files().join(name)).unwrap();
    assert_eq!([read("triggered"), read("data/file")], ["triggered\n", "kept\n"]);
    assert_eq!(runs.config()["config"]["Volumes"], serde_json::json!({ "/data": {} }));
    assert_consistent(&runs.config());
}

#[test]
fn directories_that_have_to_be_made_have_their_owner_between_runs_too() {
    let copies = "COPY --chown=5:6 file /new/deep/file\nCOPY --chown=7 dir /new-tree\nCOPY --chown=8:9 empty /new-empty\n\
                  USER app\nWORKDIR /new-app/deep\nUSER 1000\nWORKDIR /new-1000\nUSER 0\n";
    let made = |dockerfile: String| {
        let runs = Runs::new(&dockerfile);
        runs.site.file("context/file", "").file("context/dir/leaf", "");
        fs::create_dir(runs.site.path("context/empty")).unwrap();
        runs.built();
        let mut made = listing(&runs.files());
        made.retain(|line| line.starts_with("./new"));
        made
    };
    let between = made(format!("FROM @BASE@\nRUN touch /first\n{copies}RUN touch /last\n"));
    assert_eq!(between, made(format!("FROM @BASE@\n{copies}")));
    assert_eq!(between.len(), 9, "{between:?}");
}

/// Proxies need no ARG, and are nobody's business afterwards.
#[test]
fn proxies_are_there_while_commands_run_and_nowhere_else() {
    let runs = Runs::new("FROM @BASE@\nRUN echo \"$http_proxy $HTTP_PROXY\" | wc -c > /bytes\n");
    let proxy = |password: &str| format!("http_proxy=http://u:{password}$x@proxy");
    ended(&mut runs.build(&["--build-arg", &proxy("planted-4714")])).done();
    let bytes = fs::read_to_string(runs.files().join("bytes")).unwrap();
    assert_eq!(bytes.trim(), (2 * "http://u:planted-4714$x@proxy ".len()).to_string());
    let stored =
        Command::new("grep").args(["-rlF", "planted-4714"]).arg(runs.registry.storage()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stored.stdout), "", "a proxy is in the registry");
    ended(&mut runs.build(&["--build-arg", &proxy("another")])).done();
    assert_eq!(runs.jobs().len(), 1, "proxies are no part of the key");
}

/// Stages that begin with delegated ones, on scratch; words, users and directories across the cuts.
#[test]
fn odd_splits_give_what_buildah_gives() {
    let runs = Runs::new(
        "ARG GLOBAL=g\n\
         FROM @BASE@ AS one\n\
         ARG GLOBAL\n\
         ARG V=1\n\
         ENV A=\"a $V $GLOBAL\" PATH=/opt:$PATH\n\
         RUN mkdir -p /out/deep && echo \"$A $V\" > /out/deep/f && chmod 2750 /out/deep && mkdir -m 1777 /tmp\n\
         ENV B=${A}x\n\
         WORKDIR /tmp/w\n\
         USER 1001\n\
         ARG V=2\n\
         RUN echo \"$B $V $(id -u) $(pwd)\" > /tmp/by-user\n\
         FROM one AS two\n\
         USER 0\n\
         COPY f /out/deep/\n\
         RUN pwd >> /out/deep/f && ln /out/deep/f /out/hard\n\
         FROM scratch AS bare\n\
         COPY --from=two /bin /bin\n\
         COPY --from=two --chown=7:8 /out /o\n\
         SHELL [\"/bin/sh\", \"-ec\"]\n\
         RUN false; echo never > /o/never\n\
         FROM two\n\
         COPY --from=0 /out /zero\n\
         LABEL l=\"$B\"\n\
         EXPOSE 80\n\
         WORKDIR rel\n\
         RUN echo \"$A|$B|$PATH\" > here && touch /out/deep/late\n\
         ENTRYPOINT [\"/bin/sh\"]\n\
         COPY f sub/\n\
         USER 1001:1002\n\
         CMD [\"-c\", \"id\"]\n",
    );
    runs.site.file("context/f", "f\n");
    runs.built();
    assert_consistent(&runs.config());
    assert_as_by_buildah_alone(&runs, &[]);
    let jobs = runs.jobs();
    assert_eq!(jobs.len(), 3, "one, two and the last; bare is not needed: {jobs:#?}");

    // On scratch, with a shell that ends at the first error.
    let said = ended(&mut runs.build(&["--quiet", "--target", "bare"])).failed(1);
    assert!(said.contains("| RUN false; echo never > /o/never\n"), "{said}");
    let dockerfile = fs::read_to_string(runs.site.path("context/Dockerfile")).unwrap();
    runs.site.file("context/Dockerfile", dockerfile.replace("RUN false;", "RUN true;"));
    ended(&mut runs.build(&["--target", "bare"])).done();
    assert_as_by_buildah_alone(&runs, &["--target", "bare"]);
}

/// The same part by podman, which is the same code under another name, by each isolation that works here.
#[test]
fn podman_does_what_buildah_does() {
    let runs = Runs::new(
        "FROM @BASE@\n\
         RUN --mount=type=secret,id=a --mount=type=tmpfs,target=/t,size=1m wc -c < /run/secrets/a > /bytes && id -u > /id\n\
         COPY f /f\n\
         RUN cat /f /bytes /id > /all\n",
    );
    runs.site.file("context/f", "f\n").file("a", "12345678");
    let secret = ["--secret", "id=a,src=a"];
    ended(&mut runs.build(&secret)).done();
    let files = listing(&runs.files());
    assert_eq!(fs::read_to_string(runs.files().join("all")).unwrap(), "f\n8\n0\n");
    let podman = ["--run", "podman", "--no-cache"];
    for isolation in ["chroot", "oci"] {
        let done =
            ended(&mut runs.build(&[&podman[..], &secret, &["--run-isolation", isolation]].concat())).done();
        assert!(done.stderr.contains("STEP 2/4: RUN "), "{}", done.stderr);
        assert_eq!(listing(&runs.files()), files, "{isolation}");
        assert_eq!(names(&runs.site.path("scratch")), [".keep"]);
    }
    assert_eq!(runs.jobs().len(), 1, "the others were podman's");
}
