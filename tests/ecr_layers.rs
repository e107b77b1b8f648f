//! Layers through ECR's own API: a push that was killed goes on at its last part.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use ocib_testkit::{AccessKey, AwsAction, EcrEmulator, EcrFault, EcrOptions, Noise, Policy, sparse_file};

use crate::program::{Ended, Site, ended, names, signal, started, until, wait};

const REPOSITORY: &str = "team/app";
/// ECR's smallest part, which ocib sends.
const PART: u64 = 5 << 20;

struct Ecr {
    emulator: EcrEmulator,
    key: AccessKey,
    site: Site,
}

impl Ecr {
    fn new(policy: Policy) -> Self {
        let emulator = EcrEmulator::start(EcrOptions::default());
        emulator.create(REPOSITORY);
        let key = emulator.user("ci", policy);
        let site = Site::new("FROM scratch\nCOPY model /models/\n");
        site.file("context/model", Noise::bytes(1, 24 << 20));
        Self { emulator, key, site }
    }

    fn push(&self) -> Command {
        let host = self.emulator.host();
        let tag = format!("{host}/{REPOSITORY}:1");
        let ecr_host = format!("{host}=123456789012/eu-west-1");
        let flags =
            ["--ecr-layer-api", "--ecr-host", &ecr_host, "--compression", "none", "--push", "-t", &tag];
        let mut command = self.site.build(&flags);
        command.envs(self.emulator.environment(&self.key)).env("XDG_CACHE_HOME", self.site.path("cache"));
        command
    }

    /// A push that is killed while its third part is on its way.
    fn killed(&self) {
        // The mark that a push began is the first upload.
        self.emulator.inject(AwsAction::UploadLayerPart, 1 + 3, EcrFault::Stall { after_bytes: 1000 });
        let mut child = started(&mut self.push());
        until(&mut child, "the third part stalls", || self.emulator.happened() == 1);
        signal(&child, "KILL");
        wait(child);
        assert_eq!(self.emulator.tags(REPOSITORY), []);
    }

    fn pushed(&self) -> Ended {
        let done = ended(&mut self.push()).done();
        for secret in self.emulator.secrets() {
            assert!(!done.stderr.contains(&secret), "{}", done.stderr);
        }
        let [(tag, digest)] = &self.emulator.tags(REPOSITORY)[..] else { panic!("there is one tag") };
        assert_eq!((&**tag, &*digest.to_string()), ("1", done.digest()));
        done
    }

    fn parts(&self) -> usize {
        self.emulator.count(AwsAction::UploadLayerPart)
    }
}

#[test]
fn a_killed_push_goes_on_at_its_last_part() {
    let ecr = Ecr::new(Policy::all());
    ecr.killed();
    let journal = ecr.site.path("cache/ocib");
    let [name] = &names(&journal)[..] else { panic!("one upload is noted: {:?}", names(&journal)) };
    let path = journal.join(name);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.ends_with(&format!("\"received\":{}}}", 2 * PART)), "{text}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(ecr.emulator.secrets().iter().all(|secret| !text.contains(secret)), "{text}");

    let before = ecr.parts();
    ecr.pushed();
    // 24 MiB are five parts, two of which were there. The config is no layer of the API.
    let api = |call: &ocib_testkit::EcrCall| {
        call.action == Some(AwsAction::UploadLayerPart) && call.request.path == "/"
    };
    assert_eq!(ecr.emulator.calls().iter().filter(|call| api(call)).count(), 2 + 3);
    assert!(ecr.parts() > before);
    assert!(names(&journal).iter().all(|name| !name.ends_with(".upload")), "{:?}", names(&journal));
}

#[test]
fn without_a_journal_or_with_other_content_the_upload_begins_anew() {
    let forget = |site: &Site| fs::remove_dir_all(site.path("cache")).unwrap();
    let change = |site: &Site| {
        site.file("context/model", Noise::bytes(2, 24 << 20));
    };
    for (change, parts) in [(&forget as &dyn Fn(&Site), 2 + 5), (&change, 2 + 3 + 5)] {
        let ecr = Ecr::new(Policy::all());
        ecr.killed();
        change(&ecr.site);
        ecr.pushed();
        let calls = ecr.emulator.calls();
        let api = calls.iter().filter(|call| call.action == Some(AwsAction::UploadLayerPart));
        assert_eq!(api.filter(|call| call.request.path == "/").count(), parts);
    }
}

#[test]
fn other_registries_have_no_such_api() {
    let site = Site::new("FROM scratch\n");
    let said = site.refused(2, &["--quiet", "--ecr-layer-api", "--push", "-t", "127.0.0.1:1/a:1"]);
    let expected = "error: --ecr-layer-api: 127.0.0.1:1 is no private registry of ECR\n |\nhelp: leave the flag out, or \
                    say which registry it is with --ecr-host HOST=ACCOUNT/REGION\n";
    assert_eq!(said, expected);
}

#[test]
fn parts_stay_within_the_memory_budget() {
    let ecr = Ecr::new(Policy::all());
    let copies: String = (0..4).map(|number| format!("COPY {number} /models/\n")).collect();
    ecr.site.file("context/Dockerfile", format!("FROM scratch\n{copies}"));
    for number in 0..4 {
        ecr.site.file(format!("context/{number}"), Noise::bytes(number, 24 << 20));
    }
    let push = ecr.push();
    let mut timed = Command::new(ocib_testkit::require("time", "time"));
    timed.args(["-f", "%M", "-o", &ecr.site.name("peak")]).arg(push.get_program()).args(push.get_args());
    ecr.site.clean(&mut timed);
    timed.envs(ecr.emulator.environment(&ecr.key)).env("XDG_CACHE_HOME", ecr.site.path("cache"));
    ended(&mut timed).done();
    let peak_kib: u64 = fs::read_to_string(ecr.site.path("peak")).unwrap().trim().parse().unwrap();
    assert!(peak_kib <= 64 << 10, "{peak_kib} KiB");
}

/// Layers above 20 GiB need larger parts than the smallest ones. The file has no content on the disk, and
/// the push is given up when enough parts have shown what they take.
#[test]
fn larger_parts_take_what_the_guide_says() {
    let ecr = Ecr::new(Policy::all());
    sparse_file(&ecr.site.path("context/model"), 40 << 30);
    // One part is in memory several times. What does not fit is said before anything is sent.
    let said = ended(&mut ecr.push()).failed(1);
    let expected =
        "error[memory-budget]: COPY model /models/ goes in parts that need a memory budget of 9480";
    assert!(said.contains(expected) && said.contains(" bytes, found 67108864\n"), "{said}");
    assert_eq!(ecr.emulator.sessions().len(), 0);
    let mut plan = Command::new(env!("CARGO_BIN_EXE_ocib"));
    let host = ecr.emulator.host();
    let (tag, ecr_host) = (format!("{host}/{REPOSITORY}:1"), format!("{host}=123456789012/eu-west-1"));
    plan.args([
        "plan",
        "context",
        "--compression=none",
        "--push",
        "--ecr-layer-api",
        "--ecr-host",
        &ecr_host,
    ]);
    ecr.site.clean(plan.args(["-t", &tag]).envs(ecr.emulator.environment(&ecr.key)));
    let mut enough = Command::new(plan.get_program());
    enough.args(plan.get_args()).args(["--memory", "96MiB"]);
    ecr.site.clean(&mut enough);
    assert!(ended(&mut plan).failed(1).contains(expected));
    // What gains nothing by compression is as large, and a little more.
    let mut compressed = Command::new(plan.get_program());
    let arguments = plan.get_args().map(|argument| match argument == "--compression=none" {
        true => "--compression=gzip".as_ref(),
        false => argument,
    });
    ecr.site.clean(compressed.args(arguments));
    let said = ended(compressed.envs(ecr.emulator.environment(&ecr.key))).failed(1);
    let expected = "error[memory-budget]: COPY model /models/ goes in parts that need a memory budget of 948";
    assert!(said.contains(expected), "{said}");
    let planned = ended(enough.envs(ecr.emulator.environment(&ecr.key))).done();
    let planned = String::from_utf8(planned.stdout).unwrap();
    let parts =
        "layers in at most 4200 parts of up to 10485760 bytes, so a layer of at most 44040192000 bytes\n";
    assert!(planned.contains(parts), "{planned}");
    sparse_file(&ecr.site.path("context/model"), 42 << 30);
    let mut enough = Command::new(enough.get_program());
    enough.args(plan.get_args()).args(["--memory", "96MiB"]);
    ecr.site.clean(&mut enough);
    let said = ended(enough.envs(ecr.emulator.environment(&ecr.key))).failed(5);
    assert!(
        said.contains("error[layer-too-large]: ") && said.contains("expected at most 44040192000"),
        "{said}"
    );

    sparse_file(&ecr.site.path("context/model"), 40 << 30);
    let mut command = ecr.push();
    let mut child = started(command.args(["--memory", "96MiB"]));
    until(&mut child, "some parts are there", || ecr.parts() > 30);
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    signal(&child, "KILL");
    wait(child);
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    println!("{peak}");
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib <= 96 << 10, "{peak}");
    // 40 GiB in 4,200 parts.
    let calls = ecr.emulator.calls();
    let part =
        calls.iter().find(|call| call.action == Some(AwsAction::UploadLayerPart) && call.request.path == "/");
    let encoded = (40_u64 << 30).div_ceil(4200) * 4 / 3;
    assert!(part.unwrap().body_bytes > encoded, "{part:?}");
}

/// What `ocib build` does for ECR, `ocib model build` does too.
#[test]
fn a_model_goes_there_in_parts_into_a_repository_that_is_made() {
    let emulator = EcrEmulator::start(EcrOptions::default());
    let key = emulator.user("ci", Policy::all());
    let site = Site::new("");
    site.file("model/model.bin", Noise::bytes(1, 12 << 20)).file("model/config.json", "{}");
    let (tag, ecr_host) =
        (format!("{}/models/a:1", emulator.host()), format!("{}=123456789012/eu-west-1", emulator.host()));
    let to = ["model", "build", "model", "--push", "-t", &tag, "--ecr-host", &ecr_host];
    let build = |flags: &[&str]| {
        let mut command = site.ocib(&[&to[..], flags].concat());
        ended(command.envs(emulator.environment(&key)).env("XDG_CACHE_HOME", site.path("cache")))
    };
    let said = build(&[]).failed(5);
    assert!(said.contains("error[ecr-repository-missing]: "), "{said}");
    let policy =
        String::from_utf8(build(&["--print-iam-policy", "--ecr-create-repository"]).done().stdout).unwrap();
    assert!(policy.contains("ecr:CreateRepository") && policy.contains("repository/models/a"), "{policy}");
    assert_eq!(emulator.count(AwsAction::CreateRepository), 0, "a policy is only printed");
    let done = build(&["--ecr-create-repository=scan,immutable", "--ecr-layer-api", "--modelpack"]).done();
    assert_eq!(emulator.count(AwsAction::CreateRepository), 1);
    let mut tags = emulator.tags("models/a");
    tags.sort();
    let names: Vec<&str> = tags.iter().map(|(tag, _)| &**tag).collect();
    assert_eq!(names, ["1", "1-modelpack"]);
    assert!(done.references().iter().any(|reference| reference.ends_with(&tags[0].1.to_string())));
    let parts = emulator.count(AwsAction::UploadLayerPart);
    assert!(parts >= 3, "{parts} parts");
}

#[test]
fn a_file_that_no_layer_of_the_registry_holds_is_refused_before_it_is_read() {
    let emulator = EcrEmulator::start(EcrOptions::default());
    emulator.create("models/a");
    let key = emulator.user("ci", Policy::all());
    let site = Site::new("");
    fs::create_dir(site.path("model")).unwrap();
    sparse_file(&site.path("model/model.bin"), 52_001 << 20);
    // Its header is no safetensors header: nobody gets to look.
    fs::rename(site.path("model/model.bin"), site.path("model/model.safetensors")).unwrap();
    let host = format!("{}=123456789012/eu-west-1", emulator.host());
    let tag = format!("{}/models/a:1", emulator.host());
    let mut build = site.ocib(&["model", "build", "model", "--push", "-t", &tag, "--ecr-host", &host]);
    let said = ended(build.envs(emulator.environment(&key))).failed(5);
    assert!(said.contains("error[layer-too-large]: model.safetensors, a layer for "), "{said}");
    assert!(said.contains("save_pretrained(max_shard_size="), "{said}");
    assert_eq!(emulator.bytes_received(), 0);

    // Layers of several files keep below it whatever is asked for.
    fs::remove_file(site.path("model/model.safetensors")).unwrap();
    site.file("model/a.bin", Noise::bytes(1, 1 << 20)).file("model/b.bin", Noise::bytes(2, 1 << 20));
    let flags =
        ["model", "build", "model", "--push", "-t", &tag, "--ecr-host", &host, "--layer-size", "100GB"];
    let done = ended(site.ocib(&flags).envs(emulator.environment(&key))).done();
    assert!(
        done.stderr.contains("--layer-size: layers grow up to 54312960000 bytes, as "),
        "{}",
        done.stderr
    );
}

/// ECR has completed the layer and its answer is lost: it is not sent again.
#[test]
fn a_completion_whose_answer_got_lost_is_one() {
    let ecr = Ecr::new(Policy::all());
    // The first completion is that of the mark, by the registry; the second the layer's.
    ecr.emulator.inject(AwsAction::CompleteLayerUpload, 2, EcrFault::LoseAnswer);
    ecr.pushed();
    assert_eq!(ecr.emulator.happened(), 1);
    let calls = ecr.emulator.calls();
    let api = calls.iter().filter(|call| call.action == Some(AwsAction::UploadLayerPart));
    assert_eq!(api.filter(|call| call.request.path == "/").count(), 5);
}

/// A registry that asks for the first part for ever is given up.
#[test]
fn parts_that_are_asked_for_again_and_again_have_an_end() {
    let ecr = Ecr::new(Policy::all());
    for nth in 1..=40 {
        ecr.emulator.inject(AwsAction::UploadLayerPart, 1 + nth, EcrFault::Rewind);
    }
    let said = ended(&mut ecr.push()).failed(5);
    assert!(said.contains("it asks again and again for parts that it was sent"), "{said}");
    assert!(ecr.parts() < 20, "{}", ecr.parts());
}
