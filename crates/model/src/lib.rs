//! Large models: what the files are, how they lie in layers, which manifests describe them.
//!
//! ```text
//!  Tree ── list ──▶ files ── layout ──▶ layers ──▶ a Sink ──▶ image (modelcar)
//!            │                            └ same blobs ─────▶ ModelPack manifest
//!         headers ──▶ Facts ── labels, annotations            Docker's model format
//! ```
//!
//! [`Model::open`] lists a source and divides its files into layers; [`publish`] makes an ordinary image of
//! them, one weight file a layer and small files together. Bytes flow from the source to the sink and are
//! kept nowhere. What the image that is there says of itself spares reading what did not change.
//! [`publish_artifact`] describes the same files for other readers, and [`pull()`] makes files of an image again;
//! [`open_image`] gives them as a tree, to package them anew.
//!
//! The crate knows no registry and no hub: it is given a [`Tree`](ocib_image::Tree) and a
//! [`Sink`](ocib_image::Sink). It must be used within a runtime of tokio.
//!
//! Start with [`Model`], then [`publish`].

mod artifact;
mod error;
mod facts;
mod files;
mod layer;
mod layout;
mod model;
mod publish;
mod pull;
mod shards;

pub use artifact::{Artifact, check_artifact, publish_artifact};
pub use error::Error;
pub use facts::Facts;
pub use files::{File, FileKind};
pub use model::{Model, ModelLayer, Options};
pub use publish::{Published, PublishedLayer, publish};
pub use pull::{
    FileInImage, InImage, LayerInImage, PullError, PullOptions, Pulled, Suitability, Way, check, open_image,
    pull, pull_index,
};
pub use shards::{MissingShards, missing_shards};

use model::plain;

/// The annotation of a layer that tells its content by the identities of the files in it: equal where the
/// bytes are.
pub const CONTENT_ANNOTATION: &str = "io.github.ocib.content";
/// The annotation of a compressed layer that holds its diff ID.
pub const DIFF_ID_ANNOTATION: &str = "io.github.ocib.diff-id";
/// The annotation of a manifest, and of a layer of known content, that holds [`Facts`] as JSON.
pub const FACTS_ANNOTATION: &str = "io.github.ocib.model";
/// The annotation of a layer of one file that holds its path (image-spec, "Pre-Defined Annotation Keys").
const TITLE_ANNOTATION: &str = "org.opencontainers.image.title";

/// Does blocking work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down, so nobody waits any more.
            Err(error) => {
                let story = ocib_image::PlaceError::new(ocib_image::PlaceErrorKind::Local, error);
                Err(Error::Place(story))
            }
        },
    }
}
