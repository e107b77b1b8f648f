//! What can go wrong in a place, and what it means for whoever asked.

mod meaning;
mod said;

use std::{io, path::PathBuf, time::Duration};

use ocib_image::{Digest, LayerError, PlaceError, Platform};
use ocib_net::{Method, Redacted, StatusCode};

pub use self::said::RegistryCode;
use self::said::{Actions, After, Images, Said};
use crate::ConfigProblem;

/// Errors of places. Secrets are in none of them; what a registry said is bounded and escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A registry, or its token endpoint, answered with a status that means failure.
    #[error("{method} {url} answered {}{}", status.as_u16(), Said(codes))]
    Registry {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// The status.
        status: StatusCode,
        /// What the registry said (distribution-spec, "Error Codes").
        codes: Vec<RegistryCode>,
        /// How long the registry wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The connection failed, or must not be made.
    #[error(transparent)]
    Http(#[from] ocib_net::Error),
    /// A registry's answer lacks something that every registry sends.
    #[error("{method} {url} answered without {what}")]
    Incomplete {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: Redacted,
        /// What is missing.
        what: &'static str,
    },
    /// Content that is not what its digest promised.
    #[error("{what} has digest {actual}, expected {expected}")]
    WrongDigest {
        /// What was read or stored.
        what: String,
        /// The digest that it should have.
        expected: Digest,
        /// The digest that it has.
        actual: Digest,
    },
    /// Content that is longer or shorter than its descriptor says.
    #[error("{what} has {actual} bytes, expected {expected}")]
    WrongSize {
        /// What was read.
        what: String,
        /// Its size in bytes, by its descriptor.
        expected: u64,
        /// How many bytes came, at least.
        actual: u64,
    },
    /// Content that is larger than the place, or ocib, takes.
    #[error("{what} has {bytes} bytes, expected at most {limit}")]
    TooLarge {
        /// What should have been moved.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A layer whose parts are too large for the memory budget.
    #[error("{what} goes in parts that need a memory budget of {least} bytes, found {bytes}")]
    PartsNeedMemory {
        /// The layer.
        what: String,
        /// The budget in bytes.
        bytes: u64,
        /// What it takes, in bytes.
        least: u64,
    },
    /// A token for less than was asked for.
    #[error("the token for {repository} grants {}, expected pull and push", Actions(granted))]
    NotGranted {
        /// The repository, with its registry.
        repository: String,
        /// What the token allows there.
        granted: Vec<String>,
    },
    /// An image with more layers than the registry takes.
    #[error("the image for {platform} has {count} layers, {registry} takes at most {limit}")]
    TooManyLayers {
        /// What the image is for.
        platform: Box<Platform>,
        /// How many layers it has.
        count: usize,
        /// The registry's host.
        registry: String,
        /// How many it takes.
        limit: usize,
    },
    /// A tag that the registry does not take.
    #[error("the tag {tag} has {count} characters, {registry} takes at most {limit}")]
    TagTooLong {
        /// The tag.
        tag: String,
        /// How many characters it has.
        count: usize,
        /// The registry's host.
        registry: String,
        /// How many it takes.
        limit: usize,
    },
    /// A tag that names another image and stays with it.
    #[error("{repository}:{tag} names {there} and cannot be moved to {wanted}: the tag is immutable")]
    TagTaken {
        /// The repository with its registry.
        repository: String,
        /// The tag.
        tag: String,
        /// What it names.
        there: Digest,
        /// What it should name.
        wanted: Digest,
    },
    /// A repository that a push would not create.
    #[error("the repository with name '{name}' does not exist in the registry {registry}")]
    NoRepository {
        /// The repository.
        name: String,
        /// The registry's host.
        registry: String,
    },
    /// A repository of ECR Public that a push would not create.
    #[error("the repository with name '{name}' does not exist in ECR Public, asked for at {registry}")]
    NoPublicRepository {
        /// The repository, without the alias.
        name: String,
        /// The registry's host.
        registry: String,
    },
    /// A manifest, index or config that cannot be read.
    #[error("{name}: {source}")]
    Document {
        /// Which one.
        name: String,
        /// What is wrong with it.
        source: ocib_image::Error,
    },
    /// An index that has nothing for the wanted platform.
    #[error("{name} has no image for {wanted}, only for {}", if have.is_empty() { "none" } else { have })]
    NoPlatform {
        /// The image.
        name: String,
        /// The wanted platform.
        wanted: String,
        /// The platforms that there are.
        have: String,
    },
    /// A layer that only its foreign URLs have, which are not asked.
    #[error("{name} is kept outside of its registry, expected a layer that the registry holds")]
    ForeignLayer {
        /// The layer.
        name: String,
    },
    /// A name of another kind than the place has.
    #[error("{name} is not in a registry, expected registry/repository[:tag][@digest]")]
    NoRegistryName {
        /// The name.
        name: String,
    },
    /// A token endpoint that must not see the credentials of a registry.
    #[error("{registry} wants its credentials sent to {realm}, which is not of the same domain")]
    ForeignRealm {
        /// The registry.
        registry: String,
        /// Its token endpoint.
        realm: Redacted,
    },
    /// A token endpoint whose name is no URL.
    #[error("{registry} names a token endpoint that is no URL")]
    BadRealm {
        /// The registry.
        registry: String,
    },
    /// A credential of a kind that the registry does not take.
    #[error("{registry} wants a user and a password, found an identity token")]
    NeedsPassword {
        /// The registry.
        registry: String,
    },
    /// A file of credentials that cannot be read.
    #[error("cannot use the credentials file {}: {why}", path.display())]
    CredentialFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without its content.
        why: String,
    },
    /// A credential helper that cannot be asked.
    #[error("credential helper {helper:?}, named in {}: {why}", file.display())]
    CredentialHelper {
        /// The program.
        helper: String,
        /// The file that names it.
        file: PathBuf,
        /// What went wrong, without its output.
        why: String,
    },
    /// A credential helper that is not installed.
    #[error("credential helper {helper:?}, named in {}: there is no such program in PATH", file.display())]
    NoHelper {
        /// The program.
        helper: String,
        /// The file that names it.
        file: PathBuf,
    },
    /// An API of AWS refused what was asked of it.
    #[error("{action} failed{}", After(code, message))]
    Aws {
        /// What was asked, by the name of its permission, such as `ecr:CreateRepository`.
        action: &'static str,
        /// AWS's code, such as `AccessDeniedException`; empty if it sent none.
        code: String,
        /// AWS's words.
        message: String,
    },
    /// A file that configures registries and cannot be understood.
    #[error("{0}")]
    RegistryConfig(Box<ConfigProblem>),
    /// A name that the configuration of registries forbids.
    #[error("{name} is blocked by {place}, with the prefix {prefix}")]
    Blocked {
        /// The name.
        name: String,
        /// The rule's prefix.
        prefix: String,
        /// File and line of the rule.
        place: String,
    },
    /// A location in the configuration of registries that makes no name out of a name.
    #[error(
        "{place} makes {rewritten} of {name}, expected HOST[:PORT]/PATH with a dot or a port in the host"
    )]
    BadLocation {
        /// The name.
        name: String,
        /// What the rule makes of it.
        rewritten: String,
        /// File and line of the rule.
        place: String,
    },
    /// A certificate for one host, or its key, that cannot be used.
    #[error("cannot use {}: {why}", path.display())]
    HostCertificate {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, without its content.
        why: String,
    },
    /// The place itself failed after its mirrors did.
    #[error("{source}; before that {} failed too: {}", if failed.len() == 1 { "its mirror" } else { "its mirrors" }, failed.join("; "))]
    Mirrors {
        /// What each mirror said.
        failed: Vec<String>,
        /// Why the place itself failed.
        source: Box<Error>,
    },
    /// A local file or directory that cannot be read or written.
    #[error("cannot {verb} {}: {source}", path.display())]
    File {
        /// What was to be done with it, such as `write`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory that is no OCI layout.
    #[error("{} is not an OCI layout: {why}", directory.display())]
    BadLayout {
        /// The directory.
        directory: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// An image that a layout does not have, or not without saying more.
    #[error("{} has {}, expected {wanted}", directory.display(), Images(there))]
    NotInLayout {
        /// The directory.
        directory: PathBuf,
        /// What was asked for.
        wanted: String,
        /// The images that are there, by name or digest.
        there: Vec<String>,
    },
    /// A file that is no archive of images.
    #[error("{} is not an archive of images: {why}", path.display())]
    BadArchive {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// A blob that an archive does not have.
    #[error("{} has no blob {digest}", path.display())]
    NotInArchive {
        /// The file.
        path: PathBuf,
        /// The blob.
        digest: Digest,
    },
    /// A name that cannot stand in a docker archive.
    #[error("{name:?} cannot name an image in a docker archive, expected REPOSITORY[:TAG]")]
    BadArchiveName {
        /// The name.
        name: String,
    },
    /// An image for several platforms in a docker archive.
    #[error(
        "a docker archive holds one image, not one for each platform: choose one platform, or write type=oci"
    )]
    ManyPlatforms,
    /// Something put into an archive after its end was written.
    #[error("{name} is finished, nothing can be added to it")]
    ArchiveFinished {
        /// The archive.
        name: String,
    },
    /// An archive on a pipe: what went wrong before cannot be taken back.
    #[error("{name} was broken off by an earlier failure")]
    ArchiveBroken {
        /// The archive.
        name: String,
    },
    /// A layer that could not be made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Another place failed.
    #[error(transparent)]
    Place(#[from] PlaceError),
}
