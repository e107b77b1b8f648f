//! Files on their way into layers: where their bytes are, what an image's file system looks like
//! without unpacking it, and what COPY makes of both.

mod base;
mod builder;
mod changes;
mod content;
mod copy;
mod headers;
mod inline;
mod known;
mod layer;
mod mode;
mod owner;
mod rootfs;
mod unpack;

pub(crate) use base::Base;
pub(crate) use builder::{LayerBuilder, MakeError};
pub(crate) use content::{Attributes, Content, Origin};
pub(crate) use copy::{Copy, CopyError, copy, expand_wildcards};
pub(crate) use inline::InlineFile;
pub(crate) use layer::{FilesLayer, Keys};
pub(crate) use mode::Mode;
pub(crate) use owner::{Owner, OwnerError, account, resolve_owner};
pub(crate) use rootfs::{Files, Found, Rootfs, follow_in};
pub(crate) use unpack::{Archive, unpack};
