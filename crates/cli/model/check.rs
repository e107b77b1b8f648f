//! `ocib model check`: whether KServe can use an image.

use clap::{Args, ValueEnum};
use ocib_image::{ImageName, ImageSource, Platform};
use ocib_model::{Suitability, Way, check};
use ocib_store::Images;
use serde_json::json;

use super::source;
use crate::{
    args::Shared,
    diagnostic::{Exit, Failure},
    places, progress, registries, report, terminal, wiring,
};

#[derive(Args, Debug)]
#[command(after_help = "\
IMAGE is as for `ocib copy`, or oci://REGISTRY/… as KServe writes it. Of plain layers only headers
are read. The findings go to stdout.

Exit codes: 0 every way works, 1 one does not, 2 usage, 3 a layout, archive or layer that cannot be read,
4 authentication or permission, 5 registry or network, 130 interrupted.")]
pub(crate) struct Check {
    /// The image to look at.
    #[arg(value_name = "IMAGE")]
    image: String,

    /// The ways that matter [default: all].
    #[arg(long = "way", value_enum, value_delimiter = ',')]
    ways: Vec<Name>,

    /// The platform to pick out of an index [default: linux/amd64].
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Write a JSON object.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    shared: Shared,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    /// oci://, a container beside the server.
    Sidecar,
    /// oci+native://, an image volume.
    Volume,
    /// oci+fetch://, unpacked before the server starts.
    Fetch,
}

/// Runs the command.
pub(crate) fn run(arguments: &Check) -> Result<(), Failure> {
    let name = source::image_name(&arguments.image)?;
    let events = progress::watch(arguments.shared.progress, arguments.shared.quiet);
    let images = Images {
        registries: registries::registries(&arguments.shared, &wiring::http(&arguments.shared)?, events)?,
    };
    let platform = arguments.platform.clone().unwrap_or_else(Platform::linux_amd64);
    let ways = ways(&arguments.ways);
    let (pinned, found) = wiring::run(async move {
        let image = images.resolve(&name, &platform).await.map_err(|error| places::unread(&name, &error))?;
        let found = check(&image, tag(&name), &ways).await.map_err(|error| super::pull::failure(&error))?;
        Ok((image.pinned, found))
    })?;
    match arguments.json {
        true => report::result(&format!("{:#}", as_json(&pinned, &found))),
        false => found.iter().flat_map(lines).for_each(|line| report::result(&line)),
    }
    match found.iter().filter(|way| !way.wrong.is_empty()).count() {
        0 => Ok(()),
        wrong => {
            let message = format!("{wrong} of {} ways to {} do not work", found.len(), arguments.image);
            Err(Failure::new(Exit::Failed, message).help("docs/models-pull.md says what each way needs"))
        }
    }
}

fn ways(names: &[Name]) -> Vec<Way> {
    let way = |name: &Name| match name {
        Name::Sidecar => Way::Sidecar,
        Name::Volume => Way::Volume,
        Name::Fetch => Way::Fetch,
    };
    if names.is_empty() { Way::ALL.to_vec() } else { names.iter().map(way).collect() }
}

/// What would be written in a URI of KServe. A digest makes the tag mean nothing.
fn tag(name: &ImageName) -> Option<&str> {
    match name {
        ImageName::Registry(reference) if reference.digest().is_none() => reference.tag(),
        _ => None,
    }
}

fn lines(found: &Suitability) -> Vec<String> {
    let scheme = found.way.scheme();
    let state = if found.wrong.is_empty() { "ok" } else { "wrong" };
    let mut lines = vec![format!("{state:<6} {scheme}")];
    lines.extend(found.wrong.iter().map(|wrong| format!("       {}", terminal::printable(wrong))));
    lines.extend(found.notes.iter().map(|note| format!("       note: {}", terminal::printable(note))));
    lines
}

fn as_json(pinned: &str, found: &[Suitability]) -> serde_json::Value {
    let ways = found.iter().map(|found| {
        json!({
            "scheme": found.way.scheme(),
            "ok": found.wrong.is_empty(),
            "wrong": found.wrong,
            "notes": found.notes,
        })
    });
    json!({"image": pinned, "ways": ways.collect::<Vec<_>>()})
}
