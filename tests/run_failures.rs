//! RUN by a program of this host, where it does not end well: each end under its name, at its line, with nothing
//! left behind.

use std::{collections::BTreeSet, ffi::OsString, fs, process::Command};

use ocib::local::Cause;
use ocib_testkit::{checkout, require};

use crate::{
    program::{
        Ended, Site, as_nobody, ended, eventually, names, set_mode, signal, started, tag_digest, until, wait,
    },
    runs::Runs,
};

#[test]
fn a_command_that_fails_is_shown_at_its_line_with_its_last_words() {
    let runs = Runs::new(
        "FROM @BASE@\nENV A=b\nRUN echo one\nCOPY file /\nRUN echo last words; sleep 1; exit 7\nRUN true\n",
    );
    runs.site.file("context/file", "");
    let said = ended(&mut runs.build(&["--quiet"])).failed(1);
    assert!(
        said.starts_with("error[run-command-failed]: the command ended with exit code 7\n --> "),
        "{said}"
    );
    assert!(
        said.contains("Dockerfile:5:1") && said.contains("5 | RUN echo last words; sleep 1; exit 7"),
        "{said}"
    );
    assert!(said.contains("\n      last words\n"), "{said}");
    assert_eq!(tag_digest(&runs.registry, "app", "1"), None);
    assert_eq!(names(&runs.site.path("scratch")), [".keep"]);
}

#[test]
fn what_a_backend_lacks_is_refused_at_its_line() {
    for (flag, what) in [
        ("--network=none", "--network=none"),
        ("--security=insecure", "--security=insecure"),
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
    let variable = Runs::new("FROM @BASE@\nRUN true > /a\nENV é=1\nRUN false\n");
    let said = ended(&mut variable.build(&["--quiet"])).failed(3);
    assert!(said.starts_with("error: a variable called \"é\" cannot be handed to a backend\n"), "{said}");
    let named = Runs::new("FROM @BASE@\nRUN true\nCOPY a?b /x\nRUN true\n");
    named.site.file("context/a[b", "");
    let said = ended(&mut named.build(&["--quiet"])).failed(3);
    assert!(
        said.starts_with("error: a file called \"a[b\" cannot be handed to a backend by itself\n"),
        "{said}"
    );
    assert_eq!(runs.jobs(), Vec::<String>::new());
}

/// Buildah would take the Dockerfile for ended there, and say nothing.
#[test]
fn a_line_that_no_parser_takes_is_refused() {
    let script = "echo a line of a long script > /dev/null\n".repeat(1700);
    let runs = Runs::new(&format!("FROM @BASE@\nRUN <<EOF\n{script}EOF\n"));
    let said = ended(&mut runs.build(&["--quiet"])).failed(3);
    assert!(said.starts_with("error: this is a line of ") && said.contains("Dockerfile:2:1"), "{said}");
    assert_eq!(runs.jobs(), Vec::<String>::new());

    let value = "v".repeat(40_000);
    let dockerfile =
        format!("FROM @BASE@\nENV A={value}\nENV B={value}\nRUN echo \"$A$B\" | wc -c > /bytes\n");
    let runs = Runs::new(&dockerfile);
    runs.built();
    assert_eq!(fs::read_to_string(runs.files().join("bytes")).unwrap(), "80001\n");
    assert_eq!(runs.jobs()[0].lines().filter(|line| line.starts_with("ENV ")).count(), 2);
}

/// A script stands in for docker, which would not do that.
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
    // A number that no other run of this test has.
    let seconds = format!("86399{}", std::process::id());
    let runs = Runs::new(&format!("FROM @BASE@\nRUN touch /began && sleep {seconds}\n"));
    let mut child = started(&mut runs.build(&[]));
    let command = format!("sleep\0{seconds}\0");
    let sleeps = || {
        let pattern = ["-f", &format!("sleep {seconds}")];
        let output = Command::new(require("pgrep", "procps")).args(pattern).output().unwrap();
        let all = String::from_utf8(output.stdout).unwrap();
        let is_it =
            |pid: &str| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == command.as_bytes());
        all.lines().any(is_it)
    };
    until(&mut child, "the command runs", sleeps);
    signal(&child, "INT");
    assert!(wait(child).failed(130).contains("interrupted by SIGINT"));
    assert_eq!(names(&runs.site.path("scratch")), [".keep"]);
    // It is killed then; when it is gone is the kernel's to say.
    eventually("the command has ended", || !sleeps());
    assert_eq!(tag_digest(&runs.registry, "app", "1"), None);
}

/// What programs said when they were tried: docker 20.10 and 28.2, and buildah refused an image.
const WORDS: [(&str, &str, &str); 12] = [
    (
        "run-not-understood",
        "docker",
        "failed to solve with frontend dockerfile.v0: failed to create LLB definition: dockerfile parse error line 2: \
         unexpected key 'size' in 'size=1048576'",
    ),
    (
        "run-command-failed",
        "docker",
        "#6 ERROR: executor failed running [/bin/sh -c true]: exit code: 3\n------\n > [stage-0 2/2] RUN \
         [\"/bin/sh\",\"-c\",\"true\"]:\n------\nexecutor failed running [/bin/sh -c true]: exit code: 3",
    ),
    (
        "run-daemon-denied",
        "docker",
        "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: dial unix \
         /var/run/docker.sock: connect: permission denied",
    ),
    (
        "run-no-daemon",
        "docker",
        "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    ),
    (
        "run-no-buildkit",
        "docker",
        "ERROR: BuildKit is enabled but the buildx component is missing or broken.\n       Install the buildx \
         component to build images with BuildKit:\n       https://docs.docker.com/go/buildx/",
    ),
    (
        "run-registry-without-tls",
        "buildah",
        "STEP 1/2: FROM r.example/a\nError: creating build container: initializing source docker://r.example/a:latest: \
         pinging container registry r.example: Get \"https://r.example/v2/\": http: server gave HTTP response to HTTPS \
         client",
    ),
    (
        "run-input-missing",
        "buildah",
        "STEP 1/2: FROM r.example/a\nError: creating build container: initializing source docker://r.example/a:latest: \
         reading manifest latest in r.example/a: manifest unknown",
    ),
    ("run-build-failed", "buildah", "Error: something that nobody has seen yet"),
    (
        "run-command-failed",
        "buildah",
        "STEP 1/2: FROM a\nSTEP 2/2: RUN true\nError: no space left on device\nError: \
      building at STEP \"RUN true\": exit status 3",
    ),
    (
        "run-command-signal",
        "buildah",
        "STEP 2/2: RUN true\nError: building at STEP \"RUN true\": exit status 137",
    ),
    (
        "run-seal-busy",
        "buildah",
        "STEP 2/2: RUN true\nClose_Fd sealing memfd copy: Device or resource busy\nError: building at STEP \"RUN true\": \
         exit status 1",
    ),
    ("run-user-namespace", "buildah", "cannot clone: Operation not permitted\nError: cannot re-exec process"),
];

/// Builds with a program that says this and fails.
fn said_by(runs: &Runs, tool: &str, words: &str) -> Ended {
    runs.site.file("words", format!("{words}\n"));
    runs.site.file(tool, format!("#!/bin/sh\ncat {} >&2\nexit 1\n", runs.site.name("words")));
    set_mode(runs.site.path(tool), 0o755);
    ended(&mut runs.build(&["--quiet", "--run", tool, "--run-program", &runs.site.name(tool)]))
}

/// The exit code of a cause, as docs/errors.md has it.
fn exit_code(cause: &Cause) -> i32 {
    use ocib::image::RunErrorKind;
    match cause.kind {
        RunErrorKind::Command => 1,
        RunErrorKind::Input => 3,
        RunErrorKind::Denied => 4,
        RunErrorKind::Registry => 5,
        _ => 6,
    }
}

/// Runs `build` with a scratch directory that is a file system of its own, without room.
fn without_room(build: &Command, scratch: &str) -> Command {
    mounted(&format!("mount -t tmpfs -o size=1m none {scratch}"), build)
}

/// `build` in a mount namespace of its own, after this shell command.
fn mounted(script: &str, build: &Command) -> Command {
    let mut command = Command::new(require("unshare", "util-linux"));
    command.args(["--mount", "sh", "-c", &format!("{script} && exec \"$@\""), "sh"]);
    command.arg(build.get_program()).args(build.get_args());
    command.env_clear().current_dir(build.get_current_dir().unwrap());
    command.envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[test]
fn every_cause_comes_about_and_is_explained() {
    let mut seen = BTreeSet::new();
    let mut assert_cause = |id: &str, ended: Ended| {
        let cause = Cause::named(id).unwrap();
        let said = ended.failed(exit_code(cause));
        assert!(said.starts_with(&format!("error[{id}]: ")), "{id}: {said}");
        assert!(said.contains(&format!("help: {}", cause.remedy)), "{id}: {said}");
        let explained = Site::new("").done(&["explain", &said]);
        let text = String::from_utf8(explained.stdout).unwrap();
        assert!(text.starts_with(&format!("{id}: {}\n  {}\n", cause.title, cause.remedy)), "{text}");
        assert!(text.contains("/docs/run.md#when-it-does-not-end-well\n"), "{text}");
        seen.insert(id.to_owned());
    };
    // By real buildah.
    let runs = Runs::new("FROM @BASE@\nCOPY --chmod=755 junk /junk\nRUN true\n");
    runs.site.file("context/junk", b"\x7fELF and no more");
    let dockerfile = fs::read_to_string(runs.site.path("context/Dockerfile")).unwrap();
    let with = |run: &str, more: &[&str]| {
        runs.site.file("context/Dockerfile", dockerfile.replace("RUN true", run));
        ended(&mut runs.build(&[&["--quiet"], more].concat()))
    };
    assert_cause("run-command-failed", with("RUN exit 7", &[]));
    assert_cause("run-command-signal", with("RUN sh -c 'kill -9 $$'; exit $?", &[]));
    // Buildah ends without waiting for what relays the words of a command, its own among them, and so loses some on a
    // busy machine: it is asked until they are there.
    let heard = |run: &str| {
        let is_told = |ended: &Ended| !ended.stderr.starts_with("error[run-command-failed]");
        (0..50).map(|_| with(run, &[])).find(is_told).expect("buildah says why it cannot begin a command")
    };
    assert_cause("run-command-missing", heard("RUN [\"nope\"]"));
    assert_cause("run-foreign-program", heard("RUN [\"/junk\"]"));
    assert_cause("run-storage-driver", with("RUN true", &["--run-storage-driver", "nonsense"]));
    assert_cause("run-isolation", with("RUN true", &["--run-isolation", "nonsense"]));
    assert_cause("run-no-program", with("RUN true", &["--run", "buildah", "--run-program", "none"]));
    let file = runs.site.name("words");
    runs.site.file("words", "");
    assert_cause("run-program-not-started", with("RUN true", &["--run", "buildah", "--run-program", &file]));
    let mut build = runs.build(&["--quiet"]);
    let mut arguments: Vec<OsString> = build.get_args().map(ToOwned::to_owned).collect();
    let at = arguments.iter().position(|word| word == "--scratch-dir").unwrap();
    arguments[at + 1] = file.into();
    let mut elsewhere = Command::new(build.get_program());
    runs.site.clean(elsewhere.args(arguments));
    assert_cause("run-no-scratch", ended(&mut elsewhere));
    build = without_room(&build, &runs.site.name("scratch"));
    assert_cause("run-scratch-full", ended(&mut build));
    // By the words of programs.
    for (id, tool, words) in WORDS {
        assert_cause(id, said_by(&runs, tool, words));
        if !["run-input-missing", "run-build-failed", "run-command-failed", "run-command-signal"]
            .contains(&id)
        {
            let explained = Site::new("").done(&["explain", words]);
            assert!(explained.stdout.starts_with(id.as_bytes()), "{words}: {explained:?}");
        }
    }
    // The build ends well, the push does not, or says nothing.
    for (id, code) in [("run-push-failed", 1), ("run-no-manifest", 0)] {
        runs.site.file("docker", format!("#!/bin/sh\ncase $1 in push) exit {code} ;; esac\n"));
        let program = runs.site.name("docker");
        assert_cause(id, ended(&mut runs.build(&["--quiet", "--run", "docker", "--run-program", &program])));
    }
    assert_eq!(names(&runs.site.path("scratch")), [".keep"]);
    let all: BTreeSet<String> = Cause::all().map(|cause| cause.id.to_owned()).collect();
    assert_eq!(seen, all);
}

/// The kernel of a busy machine now and then does not let buildah seal the copy of itself that holds a command.
#[test]
fn a_command_that_could_not_be_begun_is_begun_again() {
    let runs = Runs::new("FROM @BASE@\nRUN echo a > /a\nRUN cat /a /a > /b\n");
    let script = format!(
        "#!/bin/sh\n\
         case \" $* \" in *\" build \"*)\n\
         echo >> {calls}\n\
         if [ $(wc -l < {calls}) -le 2 ]; then\n\
         echo 'STEP 2/3: RUN echo a > /a'\n\
         echo 'Close_Fd sealing memfd copy: Device or resource busy' >&2\n\
         echo 'Error: building at STEP \"RUN echo a > /a\": exit status 1' >&2\n\
         exit 1\n\
         fi\n\
         esac\n\
         exec {buildah} \"$@\"\n",
        calls = runs.site.name("calls"),
        buildah = require("buildah", "buildah").display(),
    );
    runs.site.file("buildah", script);
    let said = ended(&mut runs.build(&["--progress", "plain"])).done().stderr;
    assert_eq!(said.matches("buildah could not begin the command, and is called again").count(), 2, "{said}");
    assert_eq!(fs::read_to_string(runs.files().join("b")).unwrap(), "a\na\n");
}

/// A command that prints what buildah says of itself has run, and is not run again.
#[test]
fn a_command_that_speaks_of_seals_runs_once() {
    let runs = Runs::new(
        "FROM @BASE@\n\
         RUN echo it runs >&2; echo 'Close_Fd sealing memfd copy: Device or resource busy' >&2; exit 1\n",
    );
    let failed = ended(&mut runs.build(&["--progress", "plain"])).failed(1);
    assert!(failed.contains("it runs") && failed.contains("ended with exit code 1"), "{failed}");
    assert!(!failed.contains("is called again"), "{failed}");
}

/// A site that user 65534 can work in, with its build.
fn for_nobody(runs: &Runs) -> Command {
    set_mode(runs.site.path(""), 0o755);
    for name in ["scratch", "home"] {
        fs::create_dir_all(runs.site.path(name)).unwrap();
        std::os::unix::fs::chown(runs.site.path(name), Some(65534), Some(65534)).unwrap();
    }
    let program = require("buildah", "buildah");
    let mut build = runs.build(&["--quiet", "--run", "buildah", "--run-program", program.to_str().unwrap()]);
    build.env("HOME", runs.site.name("home"));
    build
}

/// `build` by user 65534, for whom /etc/subuid and /etc/subgid are this file.
fn by_nobody(build: &Command, ids: &str) -> Command {
    let mut nobody = as_nobody(build.get_program());
    nobody.args(build.get_args()).current_dir(build.get_current_dir().unwrap());
    nobody.envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
    mounted(&format!("mount --bind {ids} /etc/subuid && mount --bind {ids} /etc/subgid"), &nobody)
}

/// Who is not root needs ids of its own for what is in an image.
#[test]
fn a_user_without_ids_is_told_so_and_one_with_ids_runs() {
    require("newuidmap", "uidmap");
    let runs = Runs::new("FROM @BASE@\nRUN id -u > /id && mkdir -m 700 /other && chown 5:6 /other\n");
    let build = for_nobody(&runs);
    let said = ended(&mut by_nobody(&build, "/dev/null")).failed(6);
    assert!(said.starts_with("error[run-user-namespace]: "), "{said}");
    assert_eq!(names(&runs.site.path("scratch")), [".keep"]);
    // The storage is removed although it is full of other users' files.
    runs.site.file("ids", "nobody:100000:65536\n");
    set_mode(runs.site.path("ids"), 0o644);
    ended(&mut by_nobody(&build, &runs.site.name("ids"))).done();
    assert_eq!(fs::read_to_string(runs.files().join("id")).unwrap(), "0\n");
    assert_eq!(names(&runs.site.path("scratch")), [".keep"]);
}

/// The guide has every cause with its remedy, and no other.
#[test]
fn the_table_of_causes_in_the_guide_is_true() {
    let guide = fs::read_to_string(checkout().join("docs/run.md")).unwrap();
    let rows: Vec<&str> = guide.lines().filter(|line| line.starts_with("| `run-")).collect();
    let row = |cause: &Cause| {
        format!("| `{}` | {} | {} | {} |", cause.id, exit_code(cause), cause.title, cause.remedy)
    };
    let expected: Vec<String> = Cause::all().map(row).collect();
    assert_eq!(rows, expected, "write this:\n{}", expected.join("\n"));
}
