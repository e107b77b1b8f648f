//! Where a model's files are.

use std::{path::Path, sync::Arc};

use ocib_image::Tree;
use ocib_net::{Backoff, HttpOptions};
use ocib_source::{BucketLocation, HubFiles, HubLocation, ReadAhead};

use crate::{diagnostic::Failure, dockerfile, sources};

/// A model's files, and where they come from, if that can be said to others.
pub(super) struct Source {
    pub(super) tree: Arc<dyn Tree>,
    pub(super) url: Option<String>,
    pub(super) revision: Option<String>,
}

/// What sources are opened with.
pub(super) struct Sources {
    pub(super) http: HttpOptions,
    pub(super) ahead: ReadAhead,
    pub(super) files: HubFiles,
    /// In place of what the location says.
    pub(super) revision: Option<String>,
}

impl Sources {
    /// Opens what `text` names. Of a hub, the files are listed.
    pub(super) async fn open(self, text: &str) -> Result<Source, Failure> {
        if HubLocation::is_meant(text) {
            return self.hub(text).await;
        }
        if BucketLocation::is_meant(text) {
            return self.bucket(text).await;
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Failure::usage(format!("{scheme}:// is no source of models"))
                .help("expected a directory, hf://ORG/NAME[@REVISION][/PATH], s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"));
        }
        let tree = dockerfile::open_directory(Path::new(text))?;
        Ok(Source { tree, url: None, revision: self.revision })
    }

    async fn hub(self, text: &str) -> Result<Source, Failure> {
        let location: Result<HubLocation, _> = text.parse();
        let mut location = location.map_err(|error| Failure::usage(error.to_string()))?;
        if let Some(revision) = self.revision {
            location.revision = revision;
        }
        let hub = sources::hub(self.http, Backoff::default(), self.ahead)?;
        let snapshot = hub.open(&location, &self.files).await.map_err(|error| Failure::of_place(&error))?;
        // The same model from a mirror is the same model.
        let url = format!("https://huggingface.co/{}", location.repository());
        Ok(Source { tree: snapshot.tree, url: Some(url), revision: Some(snapshot.commit) })
    }

    async fn bucket(self, text: &str) -> Result<Source, Failure> {
        let location: Result<BucketLocation, _> = text.parse();
        let location = location.map_err(|error| Failure::usage(error.to_string()))?;
        let buckets = sources::buckets(self.http, Backoff::default(), self.ahead)?;
        let snapshot = buckets.open(&location).await.map_err(|error| Failure::of_place(&error))?;
        Ok(Source { tree: snapshot.tree, url: Some(location.to_string()), revision: self.revision })
    }
}
