//! `ocib tag`: more names for an image in its registry.

use std::collections::BTreeMap;

use ocib_image::{Origin, Reference, Sink};
use ocib_store::{Documents, Registries, copy_image};

use crate::{args, copy::AS_IT_IS, diagnostic::Failure, places, progress, registries, report, wiring};

/// The tags that each repository gets.
type Tags = BTreeMap<String, (Reference, Vec<String>)>;

/// Runs the command.
pub(crate) fn run(tag: &args::Tag) -> Result<(), Failure> {
    let source = places::reference(&tag.source)?;
    let mut tags = Tags::new();
    for text in &tag.tags {
        let name = new_name(&source, text)?;
        let new = name.tag().unwrap_or("latest").to_owned();
        tags.entry(name.name()).or_insert_with(|| (name, Vec::new())).1.push(new);
    }
    let events = progress::watch(tag.shared.progress, tag.shared.quiet);
    let sealer = wiring::sealer(&tag.shared, AS_IT_IS)?;
    let registries = registries::registries(&tag.shared, wiring::http(&tag.shared)?, events.clone())?;
    let references = wiring::run(async move {
        let origin = std::sync::Arc::new(open(&registries, &source));
        let failed = |error| Failure::of_place(&error);
        let mut references = Vec::new();
        for (repository, tags) in tags.into_values() {
            let sink = places::push(&registries, &repository, tags, &sealer);
            references.extend(match repository.repository() == source.repository() {
                true => sink.finish(&origin.root().await.map_err(failed)?).await.map_err(failed)?,
                false => {
                    let image = Documents::read(origin.clone(), &[]).await.map_err(failed)?;
                    copy_image(&image, &sink, &events).await.map_err(failed)?
                }
            });
        }
        Ok(references)
    })?;
    report::distinct(references.iter().map(String::as_str));
    Ok(())
}

fn open(registries: &Registries, source: &Reference) -> impl Origin + use<> {
    registries.open(source)
}

/// A tag alone is one of the image's own repository.
fn new_name(source: &Reference, text: &str) -> Result<Reference, Failure> {
    let text = match text.contains(['/', ':', '@']) {
        true => text.to_owned(),
        false => format!("{}:{text}", source.name()),
    };
    let name: Reference =
        text.parse().map_err(|error: ocib_image::Error| Failure::usage(error.to_string()))?;
    if name.registry() != source.registry() {
        let message = format!("{name} is in another registry than {source}");
        return Err(Failure::usage(message).help(format!("ocib copy {source} {name}")));
    }
    match name.digest() {
        Some(_) => Err(Failure::usage(format!("{name} is no tag")).help("leave @… out")),
        None => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_names_of_the_same_registry() {
        let source: Reference = "r.example/a:1".parse().unwrap();
        for (text, expected) in [
            ("2", Some("r.example/a:2")),
            ("r.example/b/c:2", Some("r.example/b/c:2")),
            ("b:2", None),
            ("-", None),
        ] {
            let name = new_name(&source, text).ok().map(|name| name.to_string());
            assert_eq!(name.as_deref(), expected, "{text}");
        }
    }
}
