//! What the child processes do, each as its environment says, and with the emulator at `HOST`.

use std::{collections::BTreeMap, env, process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use ocib_image::{
    Annotations, Blob, ContainerConfig, Credential, Credentials, DiffId, Digest, Document, Manifest,
    MediaType, Platform, Progress, Sink,
};
use ocib_net::{Backoff, Http, HttpOptions, aws::Aws};
use ocib_store::{
    DockerAuth, EcrAuth, EcrHost, EcrRegistry, Encryption, HashFirst, IamDenial, Known, Login, Logins,
    NewRepository, PushOptions, Registries, RegistriesOptions, RegistrySink,
};
use ocib_testkit::sealer;

use crate::REPOSITORY;

const LIFECYCLE: &str = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged",
    "countType":"imageCountMoreThan","countNumber":9},"action":{"type":"expire"}}]}"#;

/// Names the case in the processes that the tests start.
const CASE: &str = "OCIB_TEST_CASE";

/// `case` as a process without an environment: this test program again, with [`a_case_is_a_process`] alone.
pub(crate) fn process(case: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "cases::a_case_is_a_process", "--nocapture"]).env_clear().env(CASE, case);
    command
}

/// Where a case is named, this is its process. A name of none must not pass for a case that has nothing to say.
#[test]
fn a_case_is_a_process() {
    let Ok(case) = env::var(CASE) else {
        let output = process("misspelt").output().unwrap();
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success() && printed.contains("no case is called misspelt"), "{printed}");
        return;
    };
    match case.as_str() {
        "push" => push(),
        "repositories" => repositories(),
        "create" => create(),
        "judged" => judged(),
        "unknown" => unknown(),
        "parts" => parts(),
        "public" => public(),
        _ => panic!("no case is called {case}"),
    }
}

#[expect(clippy::print_stdout, reason = "its parent reads this")]
fn says(text: &str) {
    println!("SAYS {text}");
}

fn host() -> String {
    env::var("HOST").unwrap()
}

fn ecr_host() -> EcrHost {
    "123456789012/eu-west-1".parse().unwrap()
}

fn http() -> Arc<Http> {
    Arc::new(Http::new(HttpOptions::default()))
}

fn auth() -> EcrAuth {
    EcrAuth::new(Aws::new(http()), http(), BTreeMap::from([(host(), ecr_host())]))
}

async fn api() -> EcrRegistry {
    EcrRegistry::open(&Aws::new(http()), &ecr_host()).await
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

fn denied(denial: &IamDenial) -> String {
    format!("{} to {}", denial.action, denial.identity.as_deref().unwrap_or("somebody"))
}

#[expect(clippy::print_stdout, reason = "its parent looks for secrets in it")]
fn push() {
    let tell = |login: &Login| says(&format!("LOGIN {}", login.identity.clone().unwrap().name.unwrap()));
    let files = DockerAuth::from_environment(&|_| None);
    let credentials = Arc::new(Logins::new(files, vec![Arc::new(auth())], Arc::new(tell)));
    let backoff = Backoff { first: Duration::from_millis(1), ..Backoff::default() };
    let registries =
        Registries::new(RegistriesOptions { credentials, backoff, ..RegistriesOptions::default() });
    let sink = RegistrySink::new(PushOptions {
        registries,
        repository: format!("{}/{REPOSITORY}", host()).parse().unwrap(),
        tags: vec!["1".to_owned()],
        sealer: sealer(),
        hash_first: HashFirst::Auto,
        cache_from: Vec::new(),
    });
    match wait(push_to(&sink)) {
        Ok(()) => says("PUSHED"),
        Err(error) => {
            println!("{error:?}");
            match IamDenial::parse(&error.to_string()) {
                Some(denial) => says(&format!("DENIED {}", denied(&denial))),
                None => says(&format!("FAILED {error}")),
            }
        }
    }
}

async fn push_to(sink: &RegistrySink) -> Result<(), ocib_image::PlaceError> {
    let layer = Blob::in_memory(MediaType::LayerTar, vec![7; 100_000].into());
    let mut config = ContainerConfig::scratch(&Platform::linux_amd64());
    config.diff_ids = vec![DiffId(layer.descriptor.digest)];
    let config = Blob::in_memory(MediaType::Config, config.to_bytes());
    for blob in [&layer, &config] {
        sink.put_blob(blob, &Progress::unwatched()).await?;
    }
    let descriptors = (config.descriptor.clone(), vec![layer.descriptor.clone()]);
    let manifest = Document::Manifest(Manifest::new(descriptors.0, descriptors.1, Annotations::new()));
    sink.finish(&manifest).await.map(drop)
}

fn repositories() {
    wait(async {
        let api = api().await;
        says(&format!("BEFORE {:?}", api.repository("new").await.unwrap()));
        let new = NewRepository {
            scan_on_push: true,
            encryption: Encryption::Kms(None),
            immutable_tags: true,
            lifecycle_policy: Some(LIFECYCLE.to_owned()),
        };
        api.create("new", &new).await.unwrap();
        let shown = |repository: &ocib_store::EcrRepository| {
            format!("{:?} {:?} {}", repository.tags, repository.encryption, repository.scan_on_push)
        };
        let Known::Known(Some(found)) = api.repository("new").await.unwrap() else { panic!("it is there") };
        says(&format!("AFTER {}", shown(&found)));
        says(&format!("MOUNTS {:?}", api.mounts_blobs().await.unwrap()));
    });
}

fn create() {
    wait(async {
        let new = NewRepository { lifecycle_policy: Some(LIFECYCLE.to_owned()), ..NewRepository::default() };
        match api().await.create("new", &new).await {
            Ok(()) => says("CREATED"),
            Err(ocib_store::Error::Aws { code, .. }) => says(&code),
            Err(error) => says(&error.to_string()),
        }
    });
}

/// What others' servers can judge, too.
fn judged() {
    wait(async {
        let aws = Aws::new(http());
        let session = aws.session("eu-west-1").await.unwrap();
        let caller = aws.identity("eu-west-1", &session).await;
        says(&format!("CALLER {}", caller.name.unwrap()));
        let reference = format!("{}/{REPOSITORY}", host()).parse().unwrap();
        match auth().find(&reference).await.unwrap() {
            Some(Credential::Session { user, .. }) => says(&format!("TOKEN {user}")),
            _ => says("TOKEN of nobody"),
        }
        let api = api().await;
        says(&format!("BEFORE {:?}", api.repository("new").await.unwrap()));
        let key = Some("arn:aws:kms:eu-west-1:123456789012:key/k".to_owned());
        let new = NewRepository {
            scan_on_push: true,
            encryption: Encryption::Kms(key),
            immutable_tags: true,
            lifecycle_policy: Some(LIFECYCLE.to_owned()),
        };
        let shown = |repository: &ocib_store::EcrRepository| {
            format!("{:?} {:?} {}", repository.tags, repository.encryption, repository.scan_on_push)
        };
        api.create("new", &new).await.unwrap();
        let Known::Known(Some(found)) = api.repository("new").await.unwrap() else { panic!("it is there") };
        says(&format!("AFTER {}", shown(&found)));
        match api.create("new", &new).await.unwrap_err() {
            ocib_store::Error::Aws { code, .. } => says(&format!("AGAIN {code}")),
            error => says(&format!("AGAIN {error}")),
        }
    });
}

fn unknown() {
    wait(async {
        let api = api().await;
        let Known::Unknown(denial) = api.repository(REPOSITORY).await.unwrap() else {
            panic!("it is denied")
        };
        says(&format!("UNKNOWN {}", denied(&denial)));
        let Known::Unknown(denial) = api.mounts_blobs().await.unwrap() else { panic!("it is denied") };
        says(&format!("UNKNOWN {}", denied(&denial)));
    });
}

fn parts() {
    wait(async {
        let api = api().await;
        let layer = Bytes::from(vec![7; (5 << 20) + 10]);
        let (first, last) = (layer.slice(..5 << 20), layer.slice(5 << 20..));
        let mut upload = api.start_upload(REPOSITORY).await.unwrap();
        says(&format!("{:?}", upload.send(first).await.unwrap()));
        // Another process that knows less.
        let mut upload = api.resume_upload(REPOSITORY, upload.id(), upload.part_bytes(), 1);
        says(&format!("{:?}", upload.send(last.clone()).await.unwrap()));
        says(&format!("{:?}", upload.send(last).await.unwrap()));
        let digest = Digest::of(&layer);
        upload.complete(digest).await.unwrap();
        says("COMPLETE");
        let missing = api.missing(REPOSITORY, &[digest, Digest::of(b"other")]).await.unwrap();
        says(&format!("MISSING {}", missing.len()));
    });
}

fn public() {
    let found = wait(async { auth().find(&"public.ecr.aws/a/b".parse().unwrap()).await });
    match found.unwrap() {
        Some(Credential::Session { user, .. }) => says(&format!("FOUND {user}")),
        _ => says("FOUND nobody"),
    }
}
