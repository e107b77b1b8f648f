//! `ocib inspect`: what an image is made of.

mod json;
mod text;

use std::{io::Write, sync::Arc};

use ocib_image::{Annotations, Config, Descriptor, Document, Index, Manifest, Origin, PlaceError, Platform};
use ocib_store::{Documents, Images};

use crate::{
    args,
    diagnostic::{Exit, Failure},
    places, progress, registries, wiring,
};

/// An image as it is shown: the root, and what stands in the config if the root is one manifest.
struct Shown<'a> {
    /// As it was asked for.
    name: &'a str,
    /// With the digest.
    pinned: String,
    image: &'a Documents,
    config: Option<Config>,
}

/// Runs the command.
pub(crate) fn run(inspect: &args::Inspect) -> Result<(), Failure> {
    let name = places::name(&inspect.image)?;
    let events = progress::watch(inspect.shared.progress, inspect.shared.quiet);
    let images = Images {
        registries: registries::registries(&inspect.shared, &wiring::http(&inspect.shared)?, events)?,
    };
    let platforms = inspect.platform.clone().into_iter().collect::<Vec<_>>();
    let what = What::of(inspect);
    let text = inspect.image.clone();
    let bytes = wiring::run(async move {
        let read = images.read(&name, |origin| read(origin, &platforms, &what)).await;
        let (image, config) = read.map_err(|error| places::unread(&name, &error))?;
        let config = match (config, image.root()) {
            (Inner::Bytes(config), _) => return Ok(config),
            (Inner::Config(config), _) => Some(*config),
            (Inner::Unread, root) if matches!(what, What::Raw) => return Ok(root.raw().to_vec()),
            (Inner::Unread, Document::Index(index)) if matches!(what, What::Config) => {
                return Err(no_config(&text, index));
            }
            (Inner::Unread, _) => None,
        };
        let pinned = image.origin().pinned(image.root().descriptor().digest);
        let shown = Shown { name: &text, pinned, image: &image, config };
        Ok(match what {
            What::Json => json::of(&shown),
            _ => text::of(&shown),
        }
        .into_bytes())
    })?;
    write(&bytes)
}

/// The config of an image, as far as it has one and is asked for it.
enum Inner {
    Unread,
    Bytes(Vec<u8>),
    Config(Box<Config>),
}

/// Reads all that will be shown out of one place: a mirror that has not all of it is passed over.
async fn read(
    origin: Arc<dyn Origin>,
    platforms: &[Platform],
    what: &What,
) -> Result<(Documents, Inner), PlaceError> {
    let image = Documents::read(origin, platforms).await?;
    let config = match (what, image.root()) {
        (What::Raw, _) | (_, Document::Index(_)) => Inner::Unread,
        (What::Config, Document::Manifest(manifest)) => {
            Inner::Bytes(image.config_bytes(manifest).await?.to_vec())
        }
        (_, Document::Manifest(manifest)) => Inner::Config(Box::new(image.config(manifest).await?)),
    };
    Ok((image, config))
}

/// What is asked for.
enum What {
    Text,
    Json,
    Raw,
    Config,
}

impl What {
    fn of(inspect: &args::Inspect) -> Self {
        match (inspect.json, inspect.raw, inspect.config) {
            (true, _, _) => Self::Json,
            (_, true, _) => Self::Raw,
            (_, _, true) => Self::Config,
            _ => Self::Text,
        }
    }
}

fn no_config(name: &str, index: &Index) -> Failure {
    let have: Vec<String> = index.platforms().map(ToString::to_string).collect();
    let message = format!("{name} is an index, and each of its manifests has a config of its own");
    Failure::usage(message).help(format!("choose one with --platform: {}", have.join(", ")))
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::new(Exit::Failed, format!("cannot write to stdout: {error}")))
}

/// The entry of a manifest in an index, and what it leads to.
struct Entry<'a> {
    descriptor: &'a Descriptor,
    document: Option<&'a Document>,
}

impl Shown<'_> {
    fn entries<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = Entry<'a>> {
        index.manifests().iter().map(|descriptor| {
            let leads = |document: &&Document| document.descriptor().digest == descriptor.digest;
            Entry { descriptor, document: self.image.all().iter().find(leads) }
        })
    }
}

fn annotations(document: &Document) -> &Annotations {
    match document {
        Document::Manifest(manifest) => manifest.annotations(),
        Document::Index(index) => index.annotations(),
    }
}

/// The sum of the layers' sizes as they are stored.
fn layer_bytes(manifest: &Manifest) -> u64 {
    manifest.layers().iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
}

/// The instruction that made each layer, as far as the history says.
fn instructions<'a>(config: Option<&'a Config>, manifest: &Manifest) -> Vec<Option<&'a str>> {
    let none = vec![None; manifest.layers().len()];
    let Some(Config::Container(config)) = config else { return none };
    let made: Vec<_> = config.history.iter().filter(|entry| !entry.empty_layer).collect();
    match made.len() == none.len() {
        true => made.iter().map(|entry| Some(&*entry.created_by)).collect(),
        false => none,
    }
}
