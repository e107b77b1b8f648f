//! OCI image layouts: a directory with an image's blobs and an `index.json` (image-spec,
//! "image-layout").

mod blob;
mod directory;
mod index_file;
mod name;
mod origin;
mod sink;

pub(crate) use blob::{FileBlob, Part, Verified, source_error};
pub(crate) use directory::Partial;
pub(crate) use index_file::IndexFile;
pub(crate) use name::Name;
pub(crate) use origin::{Files, LayoutOrigin};
pub use origin::{LayoutSelector, resolve_in_layout};
pub use sink::LayoutSink;

/// The file that marks a layout, and all that is in it.
pub(crate) const MARKER: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
/// The file that lists a layout's images.
pub(crate) const INDEX: &str = "index.json";
/// Where blobs are, under their hex digest.
pub(crate) const BLOBS: &str = "blobs/sha256";

#[cfg(test)]
mod tests;
