//! Commands about images that are there.

use clap::Args;
use ocib_image::Platform;

use super::Shared;

#[derive(Args, Debug)]
#[command(after_help = "\
IMAGE is REGISTRY/REPOSITORY[:TAG][@DIGEST], oci-layout://DIR[:TAG], oci-archive://FILE[:TAG] or
docker-archive://FILE[:REPOSITORY:TAG]; a target archive called - is stdout.
Bytes and digests stay as they are, and all platforms are copied unless --platform picks some.
The digest-pinned reference of the copy goes to stdout, all else to stderr.

Exit codes: 0 done, 1 a file could not be written, 2 usage, 3 a layout or archive that cannot be read,
4 authentication or permission, 5 registry or network, 130 interrupted.")]
pub(crate) struct Copy {
    /// The image to copy.
    #[arg(value_name = "IMAGE")]
    pub(crate) source: String,

    /// Where it goes.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,

    /// Platforms to pick out of an index: one gives its manifest alone, several give a new index
    /// [default: all, as they are].
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platforms: Vec<Platform>,

    #[command(flatten)]
    pub(crate) shared: Shared,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Within a repository only the manifest's bytes are sent; another repository of the same registry mounts
the layers. The digest-pinned references go to stdout.

Exit codes: 0 done, also if the tag was there already; 2 usage; 4 authentication or permission;
5 registry or network; 130 interrupted.")]
pub(crate) struct Tag {
    /// The image, REGISTRY/REPOSITORY[:TAG][@DIGEST].
    #[arg(value_name = "IMAGE")]
    pub(crate) source: String,

    /// New tags of its repository, or REGISTRY/REPOSITORY:TAG of the same registry.
    #[arg(value_name = "TAG", required = true)]
    pub(crate) tags: Vec<String>,

    #[command(flatten)]
    pub(crate) shared: Shared,
}

#[derive(Args, Debug)]
#[command(after_help = "\
IMAGE is as for `ocib copy`. No layer is read.

Exit codes: 0 done, 2 usage, 3 a layout or archive that cannot be read, 4 authentication or permission,
5 registry or network, 130 interrupted.")]
pub(crate) struct Inspect {
    /// The image to look at.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    /// The platform to pick out of an index.
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,

    /// Write a JSON object.
    #[arg(long, conflicts_with_all = ["raw", "config"])]
    pub(crate) json: bool,

    /// Write the bytes of the manifest or index, exactly as they are.
    #[arg(long, conflicts_with = "config")]
    pub(crate) raw: bool,

    /// Write the bytes of the config, exactly as they are.
    #[arg(long)]
    pub(crate) config: bool,

    #[command(flatten)]
    pub(crate) shared: Shared,
}

#[derive(Args, Debug)]
#[command(after_help = "\
IMAGE is as for `ocib copy`. Every byte of it is read once, and nothing is written. What was looked at
goes to stdout, a line each.

Exit codes: 0 all is what it should be, 1 something is not, 2 usage, 3 a layout or archive that cannot
be read, 4 authentication or permission, 5 registry or network, 130 interrupted.")]
pub(crate) struct Verify {
    /// The image to verify.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,

    /// The platform to pick out of an index [default: all of them].
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,

    /// Whether the image is what a build of this context gives, without its layers being downloaded.
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,

    #[command(flatten)]
    pub(crate) shared: Shared,

    /// With --context: the flags of `ocib build` that the image was built with.
    #[arg(last = true, value_name = "BUILD FLAGS", requires = "context")]
    pub(crate) build_flags: Vec<std::ffi::OsString>,
}
