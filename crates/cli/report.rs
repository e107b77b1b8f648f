//! What is said when all is done: references, metadata file, image id.

use std::{collections::BTreeSet, fs, path::Path};

use ocib_build::Published;
use ocib_image::Reference;
use serde_json::json;

use crate::{
    args,
    diagnostic::{Exit, Failure},
};

/// Prints one result to stdout.
pub(crate) fn result(line: &str) {
    #[expect(clippy::print_stdout, reason = "results are what stdout is for")]
    {
        println!("{line}");
    }
}

/// Prints each digest-pinned reference once: tags of one repository share theirs.
pub(crate) fn references(published: &[Published]) {
    let mut seen = BTreeSet::new();
    let all = published.iter().flat_map(|published| &published.references);
    all.filter(|reference| seen.insert(*reference)).for_each(|reference| result(reference));
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
    if let Some(path) = &build.metadata_file {
        let names: Vec<String> =
            build.tags.iter().cloned().map(Reference::or_latest).map(|tag| tag.to_string()).collect();
        let mut metadata = json!({
            "containerimage.digest": root.digest,
            "containerimage.descriptor": root,
        });
        if let Some(config) = config {
            metadata["containerimage.config.digest"] = json!(config);
        }
        if !names.is_empty() {
            metadata["image.name"] = json!(names.join(","));
        }
        write(path, &format!("{metadata:#}\n"))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| {
        let message = format!("cannot write {}: {error}; the image itself is complete", path.display());
        Failure::new(Exit::Failed, message)
    })
}
