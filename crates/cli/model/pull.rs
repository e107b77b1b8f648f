//! `ocib model pull`: the files of a model, out of an image into a directory.

use std::path::PathBuf;

use clap::Args;
use ocib_image::{Budget, Event, ImageSource, PlaceErrorKind, Platform};
use ocib_model::{PullError, PullOptions, pull};
use ocib_store::Images;

use super::source;
use crate::{
    args::Shared,
    copy::AS_IT_IS,
    diagnostic::{Exit, Failure, with_causes},
    places, progress, registries, report, wiring,
};

/// What a connection takes with what waits behind it, in bytes.
const CONNECTION_BYTES: u64 = 4 << 20;
/// What the decoder of a compressed layer takes, in bytes: zstd's window at the levels that are in use.
const DECODER_BYTES: u64 = 10 << 20;

#[derive(Args, Debug)]
#[command(after_help = "\
IMAGE is as for `ocib copy`, or oci://REGISTRY/… as KServe writes it: an ordinary image (a modelcar), a CNCF
ModelPack artifact, a model of Docker Model Runner, or what oras pushed. Interrupted at any moment, the same
command goes on where it was; one that finds all files in place moves no byte of them. What it remembers is in DIR/.ocib-pull.json.
The digest-pinned reference goes to stdout, all else to stderr.

Exit codes: 0 done, 1 a file could not be written, 2 usage, 3 an image that holds no such files or such as
must not be written, 4 authentication or permission, 5 registry or network, 130 interrupted.")]
pub(crate) struct Pull {
    /// The image or artifact.
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Where the files go; made if it is missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// The part of an ordinary image that is wanted; artifacts are pulled whole.
    #[arg(long, visible_alias = "prefix", value_name = "PATH", default_value = "/models")]
    path: String,

    /// The platform to pick out of an index [default: linux/amd64].
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Remove what earlier pulls put into DIR and the image has no more.
    #[arg(long)]
    delete: bool,

    /// Read files that are in place again, though nothing changed them since they were verified.
    #[arg(long)]
    verify: bool,

    #[command(flatten)]
    shared: Shared,
}

/// Runs the command.
pub(crate) fn run(arguments: &Pull) -> Result<(), Failure> {
    let name = source::image_name(&arguments.image)?;
    let events = progress::watch(arguments.shared.progress, arguments.shared.quiet);
    let budget = wiring::sealer(&arguments.shared, AS_IT_IS)?.budget();
    let options = options(arguments, budget);
    let images = Images {
        registries: registries::registries(
            &arguments.shared,
            &wiring::http(&arguments.shared)?,
            events.clone(),
        )?,
    };
    let platform = arguments.platform.clone().unwrap_or_else(Platform::linux_amd64);
    let directory = arguments.directory.clone();
    let pulled = wiring::run(async move {
        let image = images.resolve(&name, &platform).await.map_err(|error| places::unread(&name, &error))?;
        let pulled = pull(&image, &directory, &options, &events).await.map_err(|error| failure(&error))?;
        let (placed, kept, removed) = (pulled.placed, pulled.kept, pulled.removed);
        events.emit(Event::Note(&format!(
            "{placed} files put into place, {kept} were there, {removed} removed"
        )));
        Ok(pulled)
    })?;
    report::result(&pulled.image);
    Ok(())
}

fn options(arguments: &Pull, budget: Budget) -> PullOptions {
    PullOptions {
        path: arguments.path.clone(),
        connections: budget.layers_of(CONNECTION_BYTES),
        decoders: budget.layers_of(DECODER_BYTES),
        delete: arguments.delete,
        verify: arguments.verify,
    }
}

/// An error of a pull with its exit code.
pub(super) fn failure(error: &PullError) -> Failure {
    let exit = match error {
        PullError::Place(error) if error.kind != PlaceErrorKind::Input => return Failure::of_place(error),
        PullError::WrongDigest { .. } => Exit::Remote,
        PullError::Place(_)
        | PullError::Archive { .. }
        | PullError::Hostile { .. }
        | PullError::UnknownLayer { .. }
        | PullError::NothingThere { .. } => Exit::Input,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, with_causes(error));
    match error.remedy() {
        Some(help) => failure.help(help),
        None => failure,
    }
}
