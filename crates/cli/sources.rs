//! Where models come from: who asks, and where, as the environment says.

use std::{fs, path::PathBuf, sync::Arc};

use ocib_dockerfile::{Command, Dockerfile};
use ocib_image::{Fetch, Remote, Secret, Tree};
#[cfg(any(feature = "s3", feature = "gcs"))]
use ocib_net::Http;
use ocib_net::{Backoff, HttpOptions, Url, header::HeaderValue};
use ocib_source::{
    BucketLocation, BucketOptions, Buckets, Fetcher, Git, Hub, HubLocation, HubOptions, ReadAhead, Web,
};
use tokio::runtime::Runtime;

use crate::{diagnostic::Failure, environment::variable, git, wiring};

/// The variables that hold a token, the first of which counts (`huggingface_hub`, `get_token`).
const TOKENS: [&str; 2] = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];

/// The Hugging Face Hub, or the mirror that `HF_ENDPOINT` names, as whoever the environment says.
pub(crate) fn hub(http: HttpOptions, backoff: Backoff, ahead: ReadAhead) -> Result<Hub, Failure> {
    let defaults = HubOptions::default();
    let endpoint = match set("HF_ENDPOINT") {
        None => defaults.endpoint,
        Some(text) => endpoint("HF_ENDPOINT", &text)?,
    };
    Ok(Hub::new(HubOptions { http, backoff, ahead, endpoint, token: token()? }))
}

/// What a context names that is no directory of this machine: a repository, a bucket, a model.
pub(crate) fn remote(context: &str) -> Result<Option<Remote>, Failure> {
    if HubLocation::is_meant(context) || BucketLocation::is_meant(context) {
        return Ok(Some(Remote::Url { url: context.to_owned(), digest: None }));
    }
    Ok(git::reference(context)?.map(Remote::Git))
}

/// Whoever brings what is elsewhere.
pub(crate) fn fetcher(
    http: &HttpOptions,
    backoff: Backoff,
    ahead: ReadAhead,
    git: Git,
) -> Result<Fetcher, Failure> {
    Ok(Fetcher {
        hub: hub(http.clone(), backoff, ahead)?,
        buckets: buckets(http.clone(), backoff, ahead)?,
        web: Web::new(http.clone(), backoff),
        git,
    })
}

/// The files of a context that is elsewhere; the runtime brings them as long as they are read.
pub(crate) fn tree(runtime: &Runtime, fetcher: &Fetcher, remote: &Remote) -> Result<Arc<dyn Tree>, Failure> {
    wiring::wait(runtime, async {
        let fetched = fetcher.fetch(remote).await.map_err(|error| match remote {
            Remote::Git(_) => Failure::of_git(&error),
            Remote::Url { .. } => Failure::of_place(&error),
        })?;
        match (remote, &fetched.file) {
            (Remote::Url { url, .. }, Some(_)) => {
                Err(Failure::input(format!("{url} is a file, expected a directory for a context"))
                    .help("name the prefix that it is below"))
            }
            _ => Ok(fetched.tree),
        }
    })
}

/// Whether a Dockerfile may add what is kept elsewhere: a variable can hold anything.
pub(crate) fn are_distant(dockerfile: &Dockerfile) -> bool {
    let instructions = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    let mut adds = instructions.filter_map(|instruction| match &instruction.command {
        Command::Add(transfer) => Some(transfer),
        _ => None,
    });
    adds.any(|add| {
        add.sources.iter().any(|source| source.value.contains("://") || source.value.contains('$'))
    })
}

/// Buckets, as whoever the environment says: AWS's and Google's own programs look at the same.
pub(crate) fn buckets(http: HttpOptions, backoff: Backoff, ahead: ReadAhead) -> Result<Buckets, Failure> {
    let named = |name: &'static str| set(name).map(|text| endpoint(name, &text)).transpose();
    let s3_endpoint = match named("AWS_ENDPOINT_URL_S3")? {
        Some(endpoint) => Some(endpoint),
        None => named("AWS_ENDPOINT_URL")?,
    };
    // As Google's client libraries take it, a host or a URL.
    let gcs_endpoint = set("STORAGE_EMULATOR_HOST").map(|host| match host.contains("://") {
        true => host,
        false => format!("http://{host}"),
    });
    let gcs_endpoint = gcs_endpoint.map(|url| endpoint("STORAGE_EMULATOR_HOST", &url)).transpose()?;
    #[cfg(any(feature = "s3", feature = "gcs"))]
    let identity = Arc::new(Http::new(http.clone()));
    Ok(Buckets::new(BucketOptions {
        http,
        backoff,
        ahead,
        s3_endpoint,
        gcs_endpoint,
        s3_requester_pays: pays("AWS_REQUEST_PAYER", set("AWS_REQUEST_PAYER").as_deref())?,
        gcs_user_project: set("GS_USER_PROJECT").map(|project| project_header(&project)).transpose()?,
        #[cfg(feature = "s3")]
        aws: Some(ocib_net::aws::Aws::new(Arc::clone(&identity))),
        #[cfg(feature = "gcs")]
        google: Some(Arc::new(ocib_net::google::Google::from_environment(identity, Arc::new(variable)))),
    }))
}

/// As GDAL takes it, which has the word of Amazon's own header, and as `object_store` does.
fn pays(name: &str, text: Option<&str>) -> Result<bool, Failure> {
    match text.map(str::to_ascii_lowercase).as_deref() {
        Some("requester" | "true" | "1") => Ok(true),
        None | Some("false" | "0") => Ok(false),
        Some(_) => Err(Failure::usage(format!("{name} says of nobody that they pay, expected requester"))),
    }
}

/// A name, or a number, of a project at Google.
fn project_header(project: &str) -> Result<HeaderValue, Failure> {
    let is_name = project.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte));
    HeaderValue::from_str(project).ok().filter(|_| is_name).ok_or_else(|| {
        Failure::usage("GS_USER_PROJECT names no project, expected its id, such as my-project".to_owned())
    })
}

fn endpoint(name: &str, text: &str) -> Result<Url, Failure> {
    let url = text.parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let has_login = |url: &Url| !url.username().is_empty() || url.password().is_some();
    url.filter(|url| !has_login(url)).ok_or_else(|| {
        Failure::usage(format!("{name} names no server, expected a URL such as https://huggingface.co"))
    })
}

/// The token out of a variable, or of the file that `hf auth login` leaves.
fn token() -> Result<Option<Secret>, Failure> {
    // As `huggingface_hub` does (`_clean_token`): files end lines.
    let secret = |text: &str| {
        let text = text.replace(['\r', '\n'], "");
        Some(text.trim()).filter(|text| !text.is_empty()).map(Secret::new)
    };
    if let Some(token) = TOKENS.iter().find_map(|name| secret(&set(name)?)) {
        return Ok(Some(token));
    }
    let (path, is_named) = match (set("HF_TOKEN_PATH"), set("HF_HOME")) {
        (Some(path), _) => (PathBuf::from(path), true),
        (None, Some(home)) => (PathBuf::from(home).join("token"), false),
        (None, None) => match cache() {
            Some(cache) => (cache.join("huggingface/token"), false),
            None => return Ok(None),
        },
    };
    match fs::read_to_string(&path) {
        Ok(text) => Ok(secret(&text)),
        // A home of somebody else, or none.
        Err(_) if !is_named => Ok(None),
        Err(error) => Err(Failure::input(format!("cannot read the token in {}: {error}", path.display()))
            .help("give a token in HF_TOKEN, or name its file in HF_TOKEN_PATH")),
    }
}

/// Where the Hub's client keeps what it keeps.
fn cache() -> Option<PathBuf> {
    set("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")))
}

fn set(name: &str) -> Option<String> {
    variable(name).filter(|value| !value.is_empty())
}
