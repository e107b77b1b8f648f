//! Where a model's files are.

use std::{path::Path, sync::Arc};

use ocib_image::{Events, ImageName, ImageSource, LayerError, Platform, Tree};
use ocib_model::{InImage, LayerInImage, open_image};
use ocib_net::{Backoff, HttpOptions};
use ocib_source::{BucketLocation, Directory, HubCache, HubFiles, HubLocation, ReadAhead, Web, WebLocation};
use ocib_store::Images;

use super::{flags::Selection, pull};
use crate::{diagnostic::Failure, places, sources};

/// A model's files, and where they come from, if that can be said to others.
pub(super) struct Source {
    pub(super) tree: Arc<dyn Tree>,
    pub(super) url: Option<String>,
    pub(super) revision: Option<String>,
    /// Layers of one file each that hold the tree's files in an image.
    pub(super) layers: Vec<LayerInImage>,
    /// Whether its files are best read one after another.
    pub(super) is_sequential: bool,
}

/// What sources are opened with.
pub(super) struct Sources {
    pub(super) http: HttpOptions,
    pub(super) ahead: ReadAhead,
    pub(super) images: Images,
    pub(super) events: Arc<dyn Events>,
    /// Which of an image's platforms.
    pub(super) platform: Platform,
    pub(super) selection: Selection,
}

const EXPECTED: &str = "expected a directory, hf://ORG/NAME[@REVISION][/PATH], s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, \
                        https://HOST/FILE or oci://REGISTRY/REPOSITORY[:TAG]";

/// Whether the text of a source means something that is not on this machine, or not as files.
pub(super) fn is_distant(text: &str) -> bool {
    text.contains("://")
}

/// Whether `text` names files that a model can be made of; else it is an image.
pub(super) fn is_tree(text: &str) -> bool {
    HubLocation::is_meant(text)
        || BucketLocation::is_meant(text)
        || WebLocation::is_meant(text)
        || Path::new(text).is_dir()
}

/// The image that `text` names, with or without the scheme that KServe has for those in registries.
pub(super) fn image_name(text: &str) -> Result<ImageName, Failure> {
    image(text)?.map_or_else(|| places::name(text), Ok)
}

/// The image that a source is, if it is one: in registries by the scheme that KServe has for them.
pub(super) fn image(text: &str) -> Result<Option<ImageName>, Failure> {
    const LOCAL: [&str; 4] = ["oci-layout://", "oci-archive://", "docker-archive://", "docker-image://"];
    match text.strip_prefix("oci://") {
        Some(reference) => Ok(Some(ImageName::Registry(places::reference(reference)?.or_latest()))),
        None if LOCAL.iter().any(|scheme| text.starts_with(scheme)) => places::name(text).map(Some),
        None => Ok(None),
    }
}

impl Sources {
    /// Opens what `texts` name: one source, or several files by their URLs. What a hub or bucket has is listed.
    pub(super) async fn open(self, texts: &[String]) -> Result<Source, Failure> {
        if texts.iter().all(|text| WebLocation::is_meant(text)) {
            return self.web(texts).await;
        }
        let [text] = texts else {
            return Err(Failure::usage(format!(
                "{} sources are given, but only URLs of files may be several",
                texts.len()
            ))
            .help("package each by itself, or put the files into one directory or bucket"));
        };
        if HubLocation::is_meant(text) {
            return self.hub(text).await;
        }
        if BucketLocation::is_meant(text) {
            return self.bucket(text).await;
        }
        if let Some(name) = image(text)? {
            return self.image(name).await;
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Failure::usage(format!("{scheme}:// is no source of models")).help(EXPECTED));
        }
        self.directory(Path::new(text))
    }

    fn directory(self, path: &Path) -> Result<Source, Failure> {
        let failed = |error: LayerError| Failure::input(error.to_string()).help(EXPECTED);
        if let Some(cache) = HubCache::open(path).map_err(failed)? {
            let url = hub_url(cache.repository());
            let revision = self.selection.revision.clone().or(Some(cache.commit().to_owned()));
            return Ok(Source { revision, ..self.source(Arc::new(cache), Some(url)) });
        }
        let directory = Directory::open(path).map_err(failed)?;
        Ok(self.source(Arc::new(directory), None))
    }

    fn source(self, tree: Arc<dyn Tree>, url: Option<String>) -> Source {
        Source { tree, url, revision: self.selection.revision, layers: Vec::new(), is_sequential: false }
    }

    async fn hub(self, text: &str) -> Result<Source, Failure> {
        let location: Result<HubLocation, _> = text.parse();
        let mut location = location.map_err(|error| Failure::usage(error.to_string()))?;
        // Patterns see paths below what is named, as in all sources; the Hub knows whole ones.
        let files = match location.path.is_empty() {
            true => self.selection.files(),
            false => HubFiles::default(),
        };
        if let Some(revision) = self.selection.revision {
            location.revision = revision;
        }
        let hub = sources::hub(self.http, Backoff::default(), self.ahead)?;
        let snapshot = hub.open(&location, &files).await.map_err(|error| Failure::of_place(&error))?;
        let url = hub_url(location.repository());
        let (tree, revision) = (snapshot.tree, Some(snapshot.commit));
        Ok(Source { tree, url: Some(url), revision, layers: Vec::new(), is_sequential: false })
    }

    async fn bucket(self, text: &str) -> Result<Source, Failure> {
        let location: Result<BucketLocation, _> = text.parse();
        let location = location.map_err(|error| Failure::usage(error.to_string()))?;
        let buckets = sources::buckets(self.http.clone(), Backoff::default(), self.ahead)?;
        let snapshot = buckets.open(&location).await.map_err(|error| Failure::of_place(&error))?;
        Ok(self.source(snapshot.tree, Some(location.to_string())))
    }

    async fn web(self, texts: &[String]) -> Result<Source, Failure> {
        if let Some((text, location)) = texts.iter().find_map(|text| Some((text, hub_location(text)?))) {
            let page = text.split(['?', '#']).next().unwrap_or_default();
            return Err(Failure::usage(format!(
                "{page} is of the Hugging Face Hub, whose files have names of their own"
            ))
            .help(format!("write {location}: that is pinned to a commit, verified, and not read again")));
        }
        let locations: Result<Vec<WebLocation>, _> = texts.iter().map(|text| text.parse()).collect();
        let locations = locations.map_err(|error| Failure::usage(error.to_string()))?;
        let web = Web::new(self.http.clone(), Backoff::default()).with_read_ahead(self.ahead);
        let tree = web.open(&locations).await.map_err(|error| Failure::of_place(&error))?;
        let url = match &locations[..] {
            [only] => Some(only.to_string()),
            all => WebLocation::common(all),
        };
        Ok(self.source(tree, url))
    }

    /// What made the image may have said where the model is from; else it is from the image.
    async fn image(self, name: ImageName) -> Result<Source, Failure> {
        let image = self.images.resolve(&name, &self.platform).await;
        let image = image.map_err(|error| places::unread(&name, &error))?;
        let found = open_image(&image, &self.selection.path, &self.events)
            .await
            .map_err(|error| pull::failure(&error))?;
        let said = |key: &str| image.manifest.annotations().get(key).cloned();
        let (url, revision) = match said("org.opencontainers.image.source") {
            Some(url) => (Some(url), said("org.opencontainers.image.revision")),
            None => match &name {
                ImageName::Registry(reference) => {
                    let digest = image.pinned.rsplit_once('@').map(|(_, digest)| digest.to_owned());
                    (Some(format!("oci://{}", reference.name())), digest)
                }
                _ => (None, None),
            },
        };
        let revision = self.selection.revision.or(revision);
        let InImage { tree, layers, is_sequential } = found;
        Ok(Source { tree, url, revision, layers, is_sequential })
    }
}

/// The same model from a mirror is the same model.
fn hub_url(repository: &str) -> String {
    format!("https://huggingface.co/{repository}")
}

/// How the Hub's own name is for what its pages show at `text`.
fn hub_location(text: &str) -> Option<String> {
    let path = text.strip_prefix("https://huggingface.co/")?.split(['?', '#']).next()?;
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    match parts[..] {
        ["datasets" | "spaces" | "api", ..] => None,
        [org, name] => Some(format!("hf://{org}/{name}")),
        [org, name, "tree" | "blob" | "resolve" | "raw", revision, ref path @ ..] => {
            let path = path.iter().map(|part| format!("/{part}")).collect::<String>();
            Some(format!("hf://{org}/{name}@{revision}{path}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_the_hub() {
        for (url, expected) in [
            ("https://huggingface.co/org/name", Some("hf://org/name")),
            ("https://huggingface.co/org/name/", Some("hf://org/name")),
            ("https://huggingface.co/org/name/tree/main", Some("hf://org/name@main")),
            (
                "https://huggingface.co/org/name/resolve/v1/a/b.gguf?download=true",
                Some("hf://org/name@v1/a/b.gguf"),
            ),
            ("https://huggingface.co/datasets/org/name", None),
            ("https://huggingface.co/org", None),
            ("https://example.org/org/name", None),
        ] {
            assert_eq!(hub_location(url).as_deref(), expected, "{url}");
        }
    }
}
