//! `ocib copy`: an image from one place to another, byte for byte.

use std::sync::Arc;

use ocib_image::{Codec, Compression, Event, Events, MediaType};
use ocib_store::{Documents, Images, copy_image};

use crate::{
    args,
    diagnostic::Failure,
    places::{self, Target},
    progress, registries, report, wiring,
};

/// Nothing is compressed, so no memory is set aside for it.
pub(crate) const AS_IT_IS: Compression = Compression::Fixed(Codec::Plain);

/// Runs the command.
pub(crate) fn run(copy: &args::Copy) -> Result<(), Failure> {
    let (source, target) = (places::name(&copy.source)?, Target::parse(&copy.target)?);
    let events = progress::watch(copy.shared.progress, copy.shared.quiet);
    let sealer = wiring::sealer(&copy.shared, AS_IT_IS)?;
    let registries = registries::registries(&copy.shared, &wiring::http(&copy.shared)?, events.clone())?;
    let (images, platforms) = (Images { registries }, copy.platforms.clone());
    let prints = !target.is_stdout();
    let references = wiring::run(async move {
        let image = match target.is_beside(&source) {
            true => {
                let origin = images.open(&source).await.map_err(|error| places::unread(&source, &error))?;
                Documents::read(origin, &platforms).await.map_err(|error| places::unread(&source, &error))?
            }
            false => places::documents(&images, &source, &platforms).await?,
        };
        target.check(&image)?;
        announce(&image, &target, &events);
        let sink = target.sink(&images.registries, &sealer)?;
        copy_image(&image, &*sink, &events).await.map_err(|error| Failure::of_place(&error))
    })?;
    if prints {
        report::distinct(references.iter().map(String::as_str));
    }
    Ok(())
}

/// Says what is not as somebody could expect.
fn announce(image: &Documents, target: &Target, events: &Arc<dyn Events>) {
    let root = image.root().descriptor();
    if root.digest != image.found() {
        let text = format!("what was picked has digest {}, all of it {}", root.digest, image.found());
        events.emit(Event::Note(&text));
    }
    let is_docker = matches!(root.media_type, MediaType::DockerManifest | MediaType::DockerList);
    if is_docker && target.is_layout() {
        let text =
            "the image keeps Docker's media types, and so its digest; some readers of layouts want OCI's";
        events.emit(Event::Note(text));
    }
}
