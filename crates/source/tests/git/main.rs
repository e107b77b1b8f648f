//! Repositories made by git and served by git, read by ocib and compared with git's own checkout.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod git_dir;
mod references;
mod site;
mod submodules;
mod trust;
