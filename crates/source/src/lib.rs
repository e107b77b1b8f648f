//! Where bytes *come from*: places that are read, not written, and that know no image.
//!
//! | | is |
//! |---|---|
//! | [`Directory`] | a directory of this machine, such as a build context |
//! | [`Archive`] | a context that came as a tar archive, from a file or a pipe |
//! | [`Web`] | brings what `ADD` names by a URL |
//!
//! All of them are seen as an [`ocib_image::Tree`], which can be read again and again. Object stores
//! and model hubs will stand beside them.
//!
//! Start with [`Directory`], the simplest, then [`Web`], whose trees are not on this machine.

mod archive;
mod directory;
mod error;
mod state;
mod web;

pub use archive::{Archive, Scratch};
pub use directory::Directory;
pub use error::Error;
pub use web::Web;
