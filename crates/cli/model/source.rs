//! Where a model's files are.

use std::{path::Path, sync::Arc};

use ocib_image::Tree;

use crate::{diagnostic::Failure, dockerfile};

/// A model's files, and where they come from, if that can be said to others.
pub(super) struct Source {
    pub(super) tree: Arc<dyn Tree>,
    pub(super) url: Option<String>,
    pub(super) revision: Option<String>,
}

/// Opens what `text` names.
pub(super) fn open(text: &str) -> Result<Source, Failure> {
    let tree = dockerfile::open_directory(Path::new(text))?;
    Ok(Source { tree, url: None, revision: None })
}
