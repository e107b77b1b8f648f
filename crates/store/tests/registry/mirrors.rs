//! Mirrors: which are asked, in which order, and who ocib is to them.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use ocib_image::{ImageSource, MediaType, PlaceErrorKind, Platform, Progress, Sink};
use ocib_store::{DockerAuth, Documents, Images, Registries, RegistriesOptions, RegistryConfig};
use ocib_testkit::closed_host;

use crate::{
    SmallImage, options,
    scripted::{Received, Reply, Server},
    sink_to, small_image,
};

/// How a registry wants to know who asks.
#[derive(Clone, Copy)]
enum Wants {
    Nothing,
    Password,
    Token,
}

/// A registry that has `image`, if any, under every name and tag.
fn registry(image: Option<&SmallImage>, wants: Wants) -> Server {
    let blobs = image.map(|image| {
        let bytes = |blob: &ocib_image::Blob| {
            let mut bytes = Vec::new();
            blob.source.read().unwrap().read_to_end(&mut bytes).unwrap();
            (blob.descriptor.digest.to_string(), bytes)
        };
        (image.raw().to_vec(), [bytes(&image.config), bytes(&image.layer)])
    });
    Server::start(move |request, host| {
        if request.target.starts_with("/token") {
            return Reply::status(200).body(r#"{"token":"of-the-mirror"}"#);
        }
        let challenge = match wants {
            _ if request.header("authorization").is_some() => None,
            Wants::Nothing => None,
            Wants::Password => Some("Basic realm=x".to_owned()),
            Wants::Token => Some(format!(r#"Bearer realm="http://{host}/token",service="m""#)),
        };
        match (challenge, &blobs) {
            (Some(challenge), _) => Reply::status(401).header("WWW-Authenticate", &challenge),
            (None, Some((raw, _))) if request.is("GET", "/manifests/") => {
                Reply::status(200).header("Content-Type", &MediaType::Manifest).body(raw.clone())
            }
            (None, Some((_, blobs))) if request.is("GET", "/blobs/") => {
                let found = blobs.iter().find(|(digest, _)| request.target.ends_with(digest.as_str()));
                found.map_or(Reply::status(404), |(_, bytes)| Reply::status(200).body(bytes.clone()))
            }
            _ => Reply::status(404),
        }
    })
}

fn configured(text: &str) -> RegistriesOptions {
    let config = RegistryConfig::parse("registries.conf".as_ref(), text).unwrap();
    RegistriesOptions { config: Arc::new(config), ..options() }
}

/// Images of `primary`, by the name `registry.test`, with these mirrors.
fn mirrored(primary: &str, mirrors: &[&str]) -> RegistriesOptions {
    let mirror = |host: &&str| format!("[[registry.mirror]]\nlocation = '{host}/m'\n");
    let mirrors: String = mirrors.iter().map(mirror).collect();
    configured(&format!("[[registry]]\nprefix = 'registry.test'\nlocation = '{primary}'\n{mirrors}"))
}

async fn resolve(
    options: RegistriesOptions,
    name: &str,
) -> Result<(String, Vec<u8>), (PlaceErrorKind, String)> {
    resolved(&Registries::new(options), name).await
}

async fn resolved(
    registries: &Registries,
    name: &str,
) -> Result<(String, Vec<u8>), (PlaceErrorKind, String)> {
    let image = registries.resolve(&name.parse().unwrap(), &Platform::linux_amd64()).await;
    let image = image.map_err(|error| (error.kind, error.to_string()))?;
    let mut layer = Vec::new();
    let mut read = image.layers[0].source.read().unwrap();
    tokio::task::block_in_place(|| read.read_to_end(&mut layer)).unwrap();
    Ok((image.pinned, layer))
}

fn authorizations(server: &Server) -> Vec<String> {
    let received = server.received();
    let mut all: Vec<_> = received.iter().filter_map(|request| request.header("authorization")).collect();
    all.dedup();
    all.into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_mirror_that_has_the_image() {
    let (own, theirs) = (small_image(b"own".to_vec()), small_image(b"theirs".to_vec()));
    let (primary, empty) = (registry(Some(&own), Wants::Nothing), registry(None, Wants::Nothing));
    let mirror = registry(Some(&theirs), Wants::Nothing);
    let mirrors = [&closed_host()[..], &empty.host(), &mirror.host()];

    // A tag may name something else there: that is what mirrors of tags are.
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let options = RegistriesOptions {
        on_mirror_failure: Arc::new(move |failure| tell.lock().unwrap().push(failure.to_string())),
        ..mirrored(&primary.host(), &mirrors)
    };
    let registries = Registries::new(options);
    let found = resolved(&registries, "registry.test/a:1").await.unwrap();
    assert_eq!(resolved(&registries, "registry.test/a:1").await.unwrap(), found);
    let not_taken = |host: &str, why: &str| {
        format!("registry.test/a:1 is not taken from the mirror {host}/m/a:1: GET http://{host}/v2/{why}")
    };
    let expected = [
        not_taken(mirrors[0], " failed: Connection refused (os error 111)"),
        not_taken(mirrors[1], "m/a/manifests/1 answered 404"),
    ];
    assert_eq!(*told.lock().unwrap(), expected);
    let digest = theirs.descriptor().digest;
    assert_eq!(found, (format!("registry.test/a@{digest}"), b"theirs".to_vec()));
    assert_eq!(empty.lines(), ["GET /v2/m/a/manifests/1"; 2]);
    let (config, layer) = (theirs.config.descriptor.digest, theirs.layer.descriptor.digest);
    let expected = [
        "GET /v2/m/a/manifests/1".to_owned(),
        format!("GET /v2/m/a/blobs/{config}"),
        format!("GET /v2/m/a/blobs/{layer}"),
    ];
    assert_eq!(mirror.lines(), [&expected[..], &expected].concat());
    assert_eq!(primary.lines(), Vec::<String>::new());

    // What is pinned is verified, so a mirror with other bytes is passed over.
    let digest = own.descriptor().digest;
    let found =
        resolve(mirrored(&primary.host(), &mirrors), &format!("registry.test/a@{digest}")).await.unwrap();
    assert_eq!(found, (format!("registry.test/a@{digest}"), b"own".to_vec()));
    assert_eq!(mirror.lines()[6..], [format!("GET /v2/m/a/manifests/{digest}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_names_the_place_and_its_mirrors() {
    let (primary, empty) = (registry(None, Wants::Nothing), registry(None, Wants::Nothing));
    let down = closed_host();
    let error =
        resolve(mirrored(&primary.host(), &[&down, &empty.host()]), "registry.test/a:1").await.unwrap_err();
    let expected = format!(
        "GET http://{}/v2/a/manifests/1 answered 404; before that its mirrors failed too: GET http://{down}/v2/ \
         failed: Connection refused (os error 111); GET http://{}/v2/m/a/manifests/1 answered 404",
        primary.host(),
        empty.host()
    );
    assert_eq!(error, (PlaceErrorKind::NotFound, expected));
}

/// Logins for these hosts, as `docker login` writes them. `bWU6` is `me:` in base64.
fn logins(dir: &Path, hosts: &[(&str, &str)]) -> Arc<DockerAuth> {
    let entry =
        |(host, password): &(&str, &str)| format!(r#""{host}":{{"username":"me","password":"{password}"}}"#);
    let entries: Vec<_> = hosts.iter().map(entry).collect();
    let file = dir.join("auth.json");
    fs::write(&file, format!(r#"{{"auths":{{{}}}}}"#, entries.join(","))).unwrap();
    let file = file.display().to_string();
    Arc::new(DockerAuth::from_environment(&|name| (name == "REGISTRY_AUTH_FILE").then(|| file.clone())))
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_registry_never_reach_its_mirrors() {
    let dir = tempfile::tempdir().unwrap();
    let image = small_image(b"own".to_vec());
    for wants in [Wants::Password, Wants::Token] {
        let (primary, mirror) = (registry(Some(&image), wants), registry(Some(&image), wants));
        let unknown = registry(None, Wants::Password);
        let hosts =
            [("registry.test", "planted"), (&primary.host(), "of-primary"), (&mirror.host(), "of-mirror")];
        let credentials = logins(dir.path(), &hosts);
        let mirrors = [&unknown.host()[..], &mirror.host()];
        let options = RegistriesOptions { credentials, ..mirrored(&primary.host(), &mirrors) };
        let registries = Registries::new(options.clone());
        resolved(&registries, "registry.test/a:1").await.unwrap();
        let images = Images { registries };
        let name = "registry.test/a:1".parse().unwrap();
        let documents = images.read(&name, |origin| Documents::read(origin, &[])).await.unwrap();
        assert_eq!(documents.root().descriptor().digest, image.descriptor().digest);
        assert_eq!(authorizations(&unknown), Vec::<String>::new());
        // `me:of-mirror`, and what the mirror's token endpoint gave for it.
        let token = matches!(wants, Wants::Token).then(|| "Bearer of-the-mirror".to_owned());
        let expected: Vec<_> = ["Basic bWU6b2YtbWlycm9y".to_owned()].into_iter().chain(token).collect();
        assert_eq!(authorizations(&mirror), expected);
        assert_eq!(primary.received(), []);

        // A push is the name's own, and so are its credentials.
        let sink = sink_to(Registries::new(options), &format!("{}/a", primary.host()), &[]);
        let before = mirror.received().len();
        sink.put_blob(&image.layer, &Progress::unwatched()).await.unwrap_err();
        assert_eq!(authorizations(&primary)[0], "Basic bWU6b2YtcHJpbWFyeQ==");
        assert_eq!(mirror.received().len(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_names_are_not_asked_for() {
    let image = small_image(b"own".to_vec());
    let server = registry(Some(&image), Wants::Nothing);
    let host = server.host();
    let text = format!("\n[[registry]]\nlocation = '{host}/a'\nblocked = true\n");
    let expected = format!("{host}/a/b is blocked by registries.conf:2, with the prefix {host}/a");
    let error = resolve(configured(&text), &format!("{host}/a/b:1")).await.unwrap_err();
    assert_eq!(error, (PlaceErrorKind::Refused, expected.clone()));
    let sink = sink_to(Registries::new(configured(&text)), &format!("{host}/a/b"), &["1"]);
    let error = sink.put_blob(&image.layer, &Progress::unwatched()).await.unwrap_err();
    assert_eq!((error.kind, error.to_string()), (PlaceErrorKind::Refused, expected));
    assert_eq!(server.received(), Vec::<Received>::new());
}
