use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    process::{Output, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use super::*;
use crate::{Registry, RegistryOptions, process::run, skopeo};

/// A pod's worth of files, and a registry.
struct Life {
    root: TempDir,
    registry: Registry,
}

/// What an executor left behind.
#[derive(Debug, PartialEq, Eq)]
struct End {
    code: Option<i32>,
    /// Its last line, but for the usage.
    said: String,
    digest: String,
}

impl Life {
    fn new(dockerfile: &str) -> Self {
        let life = Self {
            root: TempDir::with_prefix("ocib-executor-").expect("a temporary directory"),
            registry: Registry::start(RegistryOptions::default()),
        };
        // What the pod brings: busybox as a base, and the job.
        fs::create_dir_all(life.root.path().join("kaniko/job")).expect("a directory");
        fs::create_dir_all(life.root.path().join("kaniko/base")).expect("a directory");
        fs::copy(require("busybox", "busybox-static"), life.root.path().join("kaniko/base/busybox"))
            .expect("busybox");
        life.file("base/Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/busybox\n");
        let base =
            life.run(&["--context=dir:///kaniko/base", &format!("--destination={}", life.name("base:1"))]);
        assert_eq!(base.status.code(), Some(0), "{base:?}");
        life.file("job/Dockerfile", dockerfile.replace("BASE", &life.name("base:1")));
        life
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.root.path().join("kaniko").join(name), content).expect("a file is written");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Executor::new().command(self.root.path());
        command.args(arguments).stdin(Stdio::null()).output().expect("the executor starts")
    }

    /// Runs the job as a dispatcher would; the context is the job's directory.
    fn job(&self, arguments: &[&str]) -> End {
        let destination = format!("--destination={}", self.name("out:1"));
        let all = ["--dockerfile=/kaniko/job/Dockerfile", "--context=dir:///kaniko/job", &destination];
        self.end(&self.run(&[&all, FLAGS, arguments].concat()))
    }

    fn end(&self, output: &Output) -> End {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let usage = stderr.lines().find(|line| line.starts_with("Error: "));
        let said = usage.or(stdout.lines().last()).unwrap_or_default().to_owned();
        let digest = fs::read_to_string(self.root.path().join("dev/termination-log")).unwrap_or_default();
        End { code: output.status.code(), said, digest }
    }
}

/// What every job says.
const FLAGS: &[&str] = &[
    "--digest-file=/dev/termination-log",
    "--custom-platform=linux/amd64",
    "--force",
    "--log-format=text",
    "--compressed-caching=false",
    "--push-retry=0",
    "--image-download-retry=3",
    "--image-fs-extract-retry=3",
];

const FAILED: &str =
    "error building image: error building stage: failed to execute command: waiting for process to exit:";

#[test]
fn what_was_run_is_pushed_under_the_digest_that_it_leaves() {
    let life = Life::new("FROM BASE\nRUN busybox mkdir /made && echo 'some words'\n");
    let end = life.job(&["--cache=false"]);
    assert_eq!((end.code, &*end.said), (Some(0), "some words"));
    let pushed = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{}", life.name("out:1"))]);
    let pushed: serde_json::Value = serde_json::from_str(&pushed).expect("skopeo writes JSON");
    assert_eq!(pushed["Digest"], end.digest);
}

#[test]
fn ends_are_those_of_kaniko() {
    for (dockerfile, code, said) in [
        ("FROM BASE\nRUN exit 42\n", 42, format!("{FAILED} exit status 42")),
        ("FROM BASE\nRUN kill -9 $$\n", 255, format!("{FAILED} signal: killed")),
        // What it splits at the colon before it takes the quotes off.
        (
            "FROM BASE\nUSER \"1:2\"\nRUN true\n",
            1,
            "error building image: error building stage: failed to execute command: unexpected end of statement \
             while looking for matching double-quote"
                .to_owned(),
        ),
    ] {
        let expected = End { code: Some(code), said, digest: String::new() };
        assert_eq!(Life::new(dockerfile).job(&[]), expected, "{dockerfile}");
    }
    let end = Life::new("FROM BASE-missing\nRUN true\n").job(&[]);
    let expected =
        "error building image: getting stage builder for stage 0: MANIFEST_UNKNOWN: manifest unknown;";
    assert!(end.said.starts_with(expected) && end.code == Some(1), "{end:?}");
}

#[test]
fn a_digest_may_lie_there_although_nothing_was_pushed() {
    let life = Life::new("FROM BASE\nRUN true\n");
    let end = life.job(&["--destination=127.0.0.1:1/nobody/listens:1"]);
    let expected = "error pushing image: failed to push to destination 127.0.0.1:1/nobody/listens:1: ";
    assert!(end.said.starts_with(expected) && end.code == Some(1), "{end:?}");
    assert!(end.digest.starts_with("sha256:"), "{end:?}");

    // With a cache each of its layers leaves one.
    let life = Life::new("FROM BASE\nRUN true\nRUN exit 3\n");
    let end = life.job(&["--cache=true", &format!("--cache-repo={}", life.name("cache"))]);
    assert_eq!((end.code, &*end.said), (Some(3), &*format!("{FAILED} exit status 3")));
    assert!(end.digest.starts_with("sha256:"), "{end:?}");
}

#[test]
fn flags_that_it_does_not_know_are_refused_like_kaniko_s() {
    let life = Life::new("FROM BASE\n");
    for (arguments, said) in [
        (&["--nope"][..], "Error: unknown flag: --nope"),
        (&["-x"], "Error: unknown shorthand flag: 'x' in -x"),
        (
            &["--force=maybe"],
            "Error: invalid argument \"maybe\" for \"--force\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        (&["--target"], "Error: flag needs an argument: --target"),
        (
            &["--dockerfile=/kaniko/nope"],
            "Error: error resolving dockerfile path: please provide a valid path to a Dockerfile within the build context with --dockerfile",
        ),
        (
            &["--context=tar://stdin"],
            "Error: error resolving source context: no data found.. don't forget to add the '--interactive, -i' flag",
        ),
    ] {
        let end = life.job(arguments);
        assert_eq!((end.code, &*end.said), (Some(1), said), "{arguments:?}");
    }
    let end = life.end(&life.run(&["--context=dir:///kaniko/job"]));
    assert_eq!(end.said, "Error: you must provide --destination, or use --no-push");
}

#[test]
fn a_context_on_its_input_is_a_whole_gzip_of_a_tar() {
    let life = Life::new("");
    let path = |name: &str| life.root.path().join(name).display().to_string();
    life.file("base/noise", crate::Noise::bytes(7, 200_000));
    run("tar", "tar", &["-cf", &path("plain"), "-C", &path("kaniko/base"), "."]);
    run("tar", "tar", &["-czf", &path("whole"), "-C", &path("kaniko/base"), "."]);
    let whole = fs::read(path("whole")).expect("an archive");
    fs::write(path("cut"), &whole[..whole.len() / 2]).expect("a file is written");
    let destination = format!("--destination={}", life.name("from-input:1"));
    for (input, code, said) in [
        ("plain", 1, "Error: error resolving source context: gzip: invalid header"),
        ("cut", 1, "Error: error resolving source context: unexpected EOF"),
        ("whole", 0, ""),
    ] {
        let mut command = Executor::new().command(life.root.path());
        command.args(["--context=tar://stdin", &destination, "--digest-file=/dev/termination-log"]);
        let input_file = File::open(path(input)).expect("an archive");
        let end = life.end(&command.stdin(input_file).output().expect("the executor starts"));
        assert_eq!((end.code, &*end.said), (Some(code), said), "{input}");
        assert_eq!(end.digest.is_empty(), code != 0, "{input}");
    }
}

#[test]
fn whoever_ends_it_ends_what_it_runs() {
    let life = Life::new("FROM BASE\nRUN echo here && exec sleep 987654\n");
    let mut command = Executor::new().command(life.root.path());
    let destination = format!("--destination={}", life.name("out:1"));
    command.args(["--dockerfile=/kaniko/job/Dockerfile", "--context=/kaniko/job", &destination]);
    let output = life.root.path().join("output");
    command.stdin(Stdio::null()).stdout(File::create(&output).expect("a file")).stderr(Stdio::null());
    let mut child = command.process_group(0).spawn().expect("the executor starts");
    while !fs::read_to_string(&output).expect("the output").contains("here") {
        assert_eq!(child.try_wait().expect("a status"), None, "the executor ended");
        thread::sleep(Duration::from_millis(10));
    }
    run("kill", "procps", &["-TERM", &child.id().to_string()]);
    assert_eq!(child.wait().expect("a status").code(), Some(143));
    let of_group = |status: &str| {
        status.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2).map(str::to_owned))
    };
    let is_left = || {
        let processes = fs::read_dir("/proc").expect("the list of processes").flatten();
        let groups =
            processes.filter_map(|process| of_group(&fs::read_to_string(process.path().join("stat")).ok()?));
        groups.into_iter().any(|group| group == child.id().to_string())
    };
    while is_left() {
        thread::sleep(Duration::from_millis(10));
    }
}
