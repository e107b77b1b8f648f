//! Where bytes *come from*: places that are read, not written, and that know no image.
//!
//! [`Directory`] is a directory of this machine as a [`ocib_image::Tree`], such as a build context;
//! [`Web`] brings what `ADD` names by a URL. Object stores and model hubs will stand beside them.

mod directory;
mod error;
mod web;

pub use directory::Directory;
pub use error::Error;
pub use web::Web;
