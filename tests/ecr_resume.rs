//! Layers through ECR's own API whose bytes come from a server: a push that was killed downloads only the rest.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use ocib_testkit::{
    AccessKey, AwsAction, BucketServer, EcrEmulator, EcrFault, EcrOptions, FaultProxy, HubContent, HubFault,
    HubServer, Noise, Policy, RequestKind,
};

use crate::program::{Site, ended, names, signal, started, until, wait};

const REPOSITORY: &str = "team/model";
/// ECR's smallest part, which ocib sends.
const PART: u64 = 5 << 20;
/// So much of what ECR has is downloaded again at most: from the last checkpoint on, of which there is one a MiB, and
/// files are passed on in pieces of a quarter of that.
const AGAIN_MAX: u64 = (1 << 20) + (256 << 10);
const FILE: u64 = 24 << 20;

/// A push to ECR of what a server has.
struct Push<'a> {
    emulator: EcrEmulator,
    key: AccessKey,
    site: Site,
    arguments: Vec<&'a str>,
    /// Where the server is.
    environment: Vec<(&'a str, String)>,
    /// Bytes of files that it has sent.
    served: &'a dyn Fn() -> u64,
}

/// What packages the model.
const MODEL: &[&str] = &["model", "build", "hf://org/model"];
const IMAGE: &[&str] = &["build", "context", "--compression", "none"];

fn hub(files: &[(&str, HubContent)]) -> HubServer {
    let hub = HubServer::start();
    hub.publish("org/model", files);
    hub
}

/// A Hub with a model of one file.
fn hub_of_one() -> HubServer {
    hub(&[("pytorch_model.bin", HubContent::Made { seed: 1, bytes: FILE })])
}

impl<'a> Push<'a> {
    fn new(arguments: &[&'a str], environment: Vec<(&'a str, String)>, served: &'a dyn Fn() -> u64) -> Self {
        let emulator = EcrEmulator::start(EcrOptions::default());
        for repository in [REPOSITORY, "team/other"] {
            emulator.create(repository);
        }
        let key = emulator.user("ci", Policy::all());
        let site = Site::new("FROM scratch\nADD hf://org/model /models/\n");
        Self { emulator, key, site, arguments: arguments.to_vec(), environment, served }
    }

    fn push(&self, repository: &str, flags: &[&str]) -> Command {
        let host = self.emulator.host();
        let (tag, ecr_host) = (format!("{host}/{repository}:1"), format!("{host}=123456789012/eu-west-1"));
        let mut command = self.site.ocib(&self.arguments);
        command.args(["--ecr-host", &ecr_host, "--push", "-t", &tag]).args(flags);
        command.envs(self.emulator.environment(&self.key)).envs(self.environment.clone());
        command.env("XDG_CACHE_HOME", self.site.path(format!("cache of {}", repository.replace('/', " "))));
        command
    }

    /// A push that is killed while the part of that number is on its way.
    fn killed(&self, part: usize) {
        // The mark that a push began is the first upload.
        self.killed_at(AwsAction::UploadLayerPart, 1 + part);
        assert_eq!(self.emulator.tags(REPOSITORY), []);
    }

    /// A push that is killed while ECR is asked so for the `nth` time.
    fn killed_at(&self, action: AwsAction, nth: usize) {
        let before = self.emulator.happened();
        self.emulator.inject(action, nth, EcrFault::Stall { after_bytes: 10 });
        let mut child = started(&mut self.push(REPOSITORY, &["--ecr-layer-api"]));
        until(&mut child, "ECR stalls", || self.emulator.happened() > before);
        signal(&child, "KILL");
        wait(child);
    }

    fn journal(&self) -> PathBuf {
        let directory = self.site.path("cache of team model/ocib");
        let names = names(&directory);
        let uploads: Vec<_> = names.iter().filter(|name| name.ends_with(".upload")).collect();
        let [name] = &uploads[..] else { panic!("one upload is noted: {names:?}") };
        directory.join(name)
    }

    /// Pushes what was killed; gives the digest and how many bytes were downloaded and sent as parts for it.
    fn pushed(&self) -> (String, u64, u64) {
        let (downloaded, sent) = ((self.served)(), self.sent());
        let done = ended(&mut self.push(REPOSITORY, &["--ecr-layer-api"])).done();
        for secret in self.emulator.secrets() {
            assert!(!done.stderr.contains(&secret), "{}", done.stderr);
        }
        let [(tag, digest)] = &self.emulator.tags(REPOSITORY)[..] else { panic!("there is one tag") };
        assert_eq!((&**tag, &*digest.to_string()), ("1", done.digest()));
        let left = names(&self.site.path("cache of team model/ocib"));
        assert!(left.iter().all(|name| !name.ends_with(".upload")), "{left:?}");
        (done.digest().to_owned(), (self.served)() - downloaded, self.sent() - sent)
    }

    /// Bytes of layers that ECR took by its API.
    fn sent(&self) -> u64 {
        let calls = self.emulator.calls().into_iter();
        let parts = calls.filter(|call| {
            call.action == Some(AwsAction::UploadLayerPart)
                && call.request.path == "/"
                && call.request.status == 200
        });
        // In base64, with little around it.
        parts.map(|call| call.body_bytes / 4 * 3).sum()
    }

    /// The digest of the same image without parts, journal and interruption.
    fn whole(&self) -> String {
        ended(&mut self.push("team/other", &[])).done().digest().to_owned()
    }
}

#[test]
fn a_killed_push_from_the_hub_downloads_only_the_rest() {
    let many: &[(&str, HubContent)] = &[
        ("README.md", HubContent::Plain(b"# A model\n".to_vec())),
        ("a.bin", HubContent::Made { seed: 1, bytes: 12 << 20 }),
        ("b/inline.bin", HubContent::Plain(Noise::bytes(2, 6 << 20))),
        ("b/rest.bin", HubContent::Made { seed: 3, bytes: 6 << 20 }),
    ];
    let one: &[(&str, HubContent)] = &[("pytorch_model.bin", HubContent::Made { seed: 1, bytes: FILE })];
    // In the middle of a file that LFS keeps, and of one of git's own.
    for (arguments, files, parts) in [(MODEL, one, 2), (IMAGE, many, 2), (IMAGE, many, 3)] {
        let server = hub(files);
        let served = || server.body_bytes();
        let push = Push::new(arguments, vec![("HF_ENDPOINT", server.endpoint())], &served);
        push.killed(parts + 1);
        let journal = push.journal();
        let text = fs::read_to_string(&journal).unwrap();
        let received = PART * parts as u64;
        assert!(text.ends_with(&format!("\"received\":{received}}}")), "{text}");
        assert_eq!(fs::metadata(&journal).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(text.len() < 1500, "{text}");
        assert!(push.emulator.secrets().iter().all(|secret| !text.contains(secret)), "{text}");

        let (digest, downloaded, sent) = push.pushed();
        println!("{arguments:?}: {received} bytes were there, {downloaded} downloaded, {sent} sent");
        assert_eq!(digest, push.whole());
        let (rest, headers) = (FILE - received, 64 << 10);
        assert!(
            (rest - headers..=rest + AGAIN_MAX + headers).contains(&downloaded),
            "{downloaded} of {rest}"
        );
        assert!((rest..=rest + headers).contains(&sent), "{sent} of {rest}");
    }
}

/// A bucket, and a file behind a URL that has a strong entity tag: nobody says what their content is, only that it is
/// the same.
#[test]
fn other_servers_that_say_what_is_the_same_are_gone_on_with_too() {
    let bucket = BucketServer::start("models", &[("m/pytorch_model.bin", 1, FILE)]);
    let proxy = FaultProxy::start(bucket.endpoint().strip_prefix("http://").unwrap());
    let served = || proxy.received(RequestKind::Other);
    let environment = || {
        let endpoint = format!("http://{}", proxy.host());
        vec![("AWS_ENDPOINT_URL_S3", endpoint), ("AWS_EC2_METADATA_DISABLED", "true".to_owned())]
    };
    let url = format!("http://{}/models/m/pytorch_model.bin", proxy.host());
    for source in ["s3://models/m", &url] {
        let push = Push::new(&["model", "build", source], environment(), &served);
        push.killed(3);
        let text = fs::read_to_string(push.journal()).unwrap();
        assert!(text.contains("\"checkpoint\":\""), "{source}: {text}");
        let (digest, downloaded, sent) = push.pushed();
        assert_eq!(digest, push.whole(), "{source}");
        let rest = FILE - 2 * PART;
        assert!((rest..=rest + (64 << 10)).contains(&sent), "{source}: {sent} of {rest}");
        // Whoever looks for the file behind a URL begins to read it.
        if source != url {
            assert!(downloaded <= rest + AGAIN_MAX + (64 << 10), "{source}: {downloaded} of {rest}");
        }
    }
}

/// Files as they are, layers of a ModelPack artifact, have no recipe.
#[test]
fn a_raw_layer_goes_on_too() {
    let server = hub_of_one();
    let served = || server.body_bytes();
    let arguments = [MODEL, &["--modelpack=raw"]].concat();
    let push = Push::new(&arguments, vec![("HF_ENDPOINT", server.endpoint())], &served);
    // The image's layer has five parts, and each of its two platforms a config.
    push.killed_at(AwsAction::UploadLayerPart, 1 + 5 + 2 + 3);
    let text = fs::read_to_string(push.journal()).unwrap();
    assert!(text.ends_with(&format!("\"received\":{}}}", 2 * PART)), "{text}");
    let (downloaded, sent) = (served(), push.sent());
    ended(&mut push.push(REPOSITORY, &["--ecr-layer-api"])).done();
    let (downloaded, sent) = (served() - downloaded, push.sent() - sent);
    let rest = FILE - 2 * PART;
    assert!((rest..=rest + AGAIN_MAX).contains(&downloaded), "{downloaded} of {rest}");
    assert!((rest..=rest + (64 << 10)).contains(&sent), "{sent} of {rest}");
}

/// Whatever is wrong with the journal, the image is right.
#[test]
fn what_the_journal_says_wrongly_ends_in_no_image() {
    let altered = |text: &str, word: usize, at: usize| {
        let mut journal: serde_json::Value = serde_json::from_str(text).unwrap();
        let said = journal["made"]["checkpoint"].as_str().unwrap().to_owned();
        let mut words: Vec<String> = said.split(' ').map(str::to_owned).collect();
        let digit = if &words[word][at..=at] == "1" { "2" } else { "1" };
        words[word].replace_range(at..=at, digit);
        journal["made"]["checkpoint"] = words.join(" ").into();
        journal.to_string()
    };
    let other_identity = |text: &str| {
        let mut journal: serde_json::Value = serde_json::from_str(text).unwrap();
        journal["made"]["identity"] = format!("sha256:{:064}", 0).into();
        journal.to_string()
    };
    let no_check = |text: &str| {
        let (before, after) = (text.rfind(' ').unwrap(), text.rfind("\"},").unwrap());
        format!("{} {}", &text[..before], &text[after..])
    };
    type Alter<'a> = &'a dyn Fn(&str) -> String;
    // Without a checkpoint the mark in the repository says that a push began, so the layer is hashed before it is sent.
    let twice = 2 * FILE..=2 * FILE + AGAIN_MAX;
    // The rest, which ends badly, and then all of it.
    let rest_and_all = 2 * FILE - 2 * PART..=2 * FILE - 2 * PART + AGAIN_MAX;
    let cases: [(&str, Alter<'_>, _); 9] = [
        ("it ends too early", &|text| text[..text.len() / 2].to_owned(), &twice),
        ("it is of other content, or of another version of ocib", &other_identity, &twice),
        (
            "a checkpoint that is none",
            &|text| text.replace("\"checkpoint\":\"", "\"checkpoint\":\"x"),
            &twice,
        ),
        // Behind eight bytes that count, the state of the layer's digest: ECR finds that the layer is another.
        ("another digest of the layer", &|text| altered(text, 2, 20), &rest_and_all),
        ("another length of the layer", &|text| altered(text, 2, 0), &rest_and_all),
        // The same of the file: it is not what the Hub says that it is.
        ("another digest of the file", &|text| altered(text, 3, 20), &rest_and_all),
        ("no digest of the file", &no_check, &(FILE..=FILE + AGAIN_MAX)),
        ("another place in the file", &|text| altered(text, 1, 0), &(FILE..=2 * FILE + AGAIN_MAX)),
        ("another segment of the tar", &|text| altered(text, 0, 0), &(FILE..=2 * FILE + AGAIN_MAX)),
    ];
    let server = hub_of_one();
    let served = || server.body_bytes();
    let mut whole = None;
    for (what, alter, downloads) in cases {
        let push = Push::new(MODEL, vec![("HF_ENDPOINT", server.endpoint())], &served);
        let whole = whole.get_or_insert_with(|| push.whole()).clone();
        push.killed(3);
        let journal = push.journal();
        let text = fs::read_to_string(&journal).unwrap();
        let wrong = alter(&text);
        assert_ne!(wrong, text, "{what}");
        fs::write(&journal, wrong).unwrap();
        let (digest, downloaded, _) = push.pushed();
        assert_eq!(digest, whole, "{what}");
        assert!(downloads.contains(&downloaded), "{what}: {downloaded}");
    }
}

/// The check of a file does not end with the process: what came wrong before is found when the file has ended.
#[test]
fn a_wrong_byte_before_the_kill_is_found_after_it() {
    let server = hub_of_one();
    let served = || server.body_bytes();
    let push = Push::new(MODEL, vec![("HF_ENDPOINT", server.endpoint())], &served);
    server.fail(HubFault::WrongByte);
    push.killed(3);
    assert_eq!(server.faults_left(), 0);
    let (digest, downloaded, _) = push.pushed();
    assert_eq!(digest, push.whole());
    assert!(downloaded >= 2 * FILE - 2 * PART, "{downloaded}: it was made again");
}

/// An upload that ECR has dropped begins anew; one that was completed before the end of the process is found.
#[test]
fn an_upload_that_is_gone_is_sent_again_unless_the_layer_is_there() {
    let server = hub_of_one();
    let served = || server.body_bytes();
    let push = Push::new(MODEL, vec![("HF_ENDPOINT", server.endpoint())], &served);
    push.killed(3);
    let (journal, text) = (push.journal(), fs::read_to_string(push.journal()).unwrap());
    fs::write(journal, text.replace("{\"upload\":\"", "{\"upload\":\"gone-")).unwrap();
    let (digest, downloaded, sent) = push.pushed();
    assert!(downloaded >= 2 * FILE - 2 * PART && sent >= FILE, "{downloaded} {sent}");
    assert_eq!(digest, push.whole());

    let push = Push::new(MODEL, vec![("HF_ENDPOINT", server.endpoint())], &served);
    push.killed(3);
    let (journal, text) = (push.journal(), fs::read_to_string(push.journal()).unwrap());
    push.killed_at(AwsAction::PutImage, 1);
    // As if that process had been killed when the layer was there, and before it could forget the upload.
    assert!(!journal.exists());
    fs::remove_dir_all(journal.parent().unwrap()).unwrap();
    fs::create_dir(journal.parent().unwrap()).unwrap();
    fs::write(&journal, text).unwrap();
    let (digest, downloaded, sent) = push.pushed();
    assert_eq!((digest, sent), (push.whole(), 0));
    // Once to be sent, and once for the digest.
    assert!(downloaded <= 2 * (FILE - 2 * PART + AGAIN_MAX), "{downloaded}");
}
