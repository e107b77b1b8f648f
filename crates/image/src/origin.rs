//! Origins: where one image is read as it is, document by document and blob by blob.

use std::fmt;

use futures_core::future::BoxFuture;

use crate::{Blob, Descriptor, Digest, Document, PlaceError};

/// One repository, layout or archive, opened to read the image that a name means there.
///
/// [`crate::ImageSource::resolve`] gives one platform's image, ready to be built upon; an origin gives
/// every byte as it is stored: what copies, inspects or verifies an image needs all of them.
pub trait Origin: Send + Sync + fmt::Debug {
    /// What the image is called in messages, as it was asked for.
    fn name(&self) -> String;

    /// The name with `digest` in the place of a tag: the form that always means the same bytes.
    fn pinned(&self, digest: Digest) -> String;

    /// The manifest or index that the name means. Verified against the digest that the name has, if
    /// it has one, and size-capped; [`crate::PlaceErrorKind::NotFound`] if there is none.
    fn root(&self) -> BoxFuture<'_, Result<Document, PlaceError>>;

    /// The manifest or index behind `descriptor`, whose digest and size are verified. What is too
    /// large, or no document, is [`crate::PlaceErrorKind::Corrupt`].
    fn document<'a>(&'a self, descriptor: &'a Descriptor) -> BoxFuture<'a, Result<Document, PlaceError>>;

    /// The blob behind `descriptor`, unread. Whether it is there turns out when it is opened.
    fn blob(&self, descriptor: &Descriptor) -> Blob;
}
