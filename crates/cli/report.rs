//! What is said when all is done: references, metadata file, image id.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::Path,
    sync::OnceLock,
};

use ocib_build::{LayerOrigin, Published, PublishedImage};
use ocib_image::{Descriptor, Outcome, Sealing};
use serde_json::json;

use crate::{
    args,
    diagnostic::{Exit, Failure},
};

/// Why a result did not get to stdout, as on a full disk.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Prints one result to stdout. That it could not is told by [`complete`]: what is left to do, such as writing the metadata
/// file of what was pushed, is done all the same.
pub(crate) fn result(line: &str) {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => {}
        // Whoever reads has seen enough, as `head` does: no reason to fail.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        // The first reason is told.
        Err(error) => drop(LOST.set(error)),
    }
}

/// Fails if a result did not get to stdout: scripts would take what they have for all of it.
pub(crate) fn complete() -> Result<(), Failure> {
    match LOST.get() {
        None => Ok(()),
        Some(error) => Err(Failure::new(Exit::Failed, format!("cannot write to stdout: {error}"))
            .help("the command did what it should; only what it says is lost")),
    }
}

/// Prints each digest-pinned reference once: tags of one repository share theirs.
pub(crate) fn references(published: &[Published]) {
    distinct(published.iter().flat_map(|published| &published.references).map(String::as_str));
}

/// Prints each of these references once.
pub(crate) fn distinct<'a>(references: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    references.filter(|reference| seen.insert(*reference)).for_each(result);
}

/// `ocib version`: needs no home, no network, no configuration.
#[expect(clippy::unnecessary_wraps, reason = "every command gives a result")]
pub(crate) fn version() -> Result<(), Failure> {
    result(&format!(
        "ocib {} ({} {})",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    ));
    Ok(())
}

/// Writes the files that scripts ask for, under buildx's names.
pub(crate) fn files(build: &args::Build, published: &Published) -> Result<(), Failure> {
    let root = published.root.descriptor();
    let config = match &published.images[..] {
        [only] => Some(only.config.digest),
        _ => None,
    };
    if let Some(path) = &build.iidfile {
        write(path, &config.unwrap_or(root.digest).to_string())?;
    }
    if let Some(path) = &build.image.metadata_file {
        let names = build.image.names();
        let mut metadata = json!({
            "containerimage.digest": root.digest,
            "containerimage.descriptor": root,
        });
        if let Some(config) = config {
            metadata["containerimage.config.digest"] = json!(config);
        }
        metadata["ocib.layers"] = published.images.iter().map(layers).collect();
        if !names.is_empty() {
            metadata["image.name"] = json!(names.join(","));
        }
        write(path, &format!("{metadata:#}\n"))?;
    }
    Ok(())
}

/// How each layer of an image came to be where it is.
fn layers(image: &PublishedImage) -> serde_json::Value {
    let layers = image.layers.iter().map(|layer| {
        let (made, stored, why) = match &layer.origin {
            LayerOrigin::Made(sealing, outcome) => {
                let (made, why) = match sealing {
                    Sealing::Foreknown => ("remembered", None),
                    Sealing::HashedFirst(why) => ("hashed-first", Some(why.to_string())),
                    _ => ("streamed", None),
                };
                let stored = match outcome {
                    Outcome::Present => "present",
                    Outcome::Mounted => "mounted",
                    _ => "stored",
                };
                (made, Some(stored), why)
            }
            LayerOrigin::Ran => ("run", None, None),
            _ => ("base", None, None),
        };
        let Descriptor { digest, size, .. } = &layer.descriptor;
        let title = &layer.title;
        json!({"digest": digest, "size": size, "title": title, "made": made, "stored": stored, "why": why})
    });
    let platform = image.manifest.platform.as_ref().map(ToString::to_string);
    json!({"platform": platform, "layers": layers.collect::<Vec<_>>()})
}

/// Writes a file that scripts asked for.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| {
        let message = format!("cannot write {}: {error}; the image itself is complete", path.display());
        Failure::new(Exit::Failed, message)
    })
}
