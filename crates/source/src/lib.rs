//! Where bytes *come from*: places that are read, not written, and that know no image.
//!
//! So far there is one, [`Directory`]: a directory of this machine as a [`ocib_image::Tree`], such as
//! a build context. Archives, HTTP, git, object stores and model hubs will stand beside it.

mod directory;

pub use directory::Directory;
