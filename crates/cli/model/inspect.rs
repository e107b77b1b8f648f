//! `ocib model inspect`: what a model is, from headers or from what its image says.

use std::{fmt::Write, sync::Arc};

use bytesize::ByteSize;
use ocib_image::{Descriptor, Document, Event, Events, Manifest, Platform};
use ocib_model::{
    FACTS_ANNOTATION, Facts, FileInImage, FileKind, Model, Options, missing_shards, pull_index,
};
use ocib_net::Backoff;
use ocib_source::WebLocation;
use ocib_store::Images;
use serde_json::{Value, json};

use super::{
    flags::Inspect,
    source::{self, Sources},
};
use crate::{diagnostic::Failure, places, progress, registries::Clients, report, terminal, wiring};

/// Runs the command.
pub(super) fn run(inspect: &Inspect) -> Result<(), Failure> {
    let events = progress::watch(inspect.shared.progress, inspect.shared.quiet);
    let http = wiring::http(&inspect.shared)?;
    let clients = Clients::new(&inspect.shared, &http, Backoff::default(), Arc::clone(&events))?;
    let (images, platform) = (Images { registries: clients.registries.clone() }, inspect.platform.clone());
    let found = match source::is_tree(&inspect.model) {
        true => {
            let (ahead, selection) = (wiring::read_ahead(&inspect.shared), inspect.selection.clone());
            let platform = platform.unwrap_or_else(Platform::linux_amd64);
            let sources = Sources { http, ahead, images, events, platform, selection };
            let text = inspect.model.clone();
            wiring::run(async move { of_source(sources, &text).await })?
        }
        false => {
            let name = source::image_name(&inspect.model)?;
            let path = inspect.selection.path.clone();
            wiring::run(async move {
                let found = of_image(&images, &name, platform, (&path, &*events)).await;
                found.map_err(|failure| clients.explained(failure))
            })?
        }
    };
    match inspect.json {
        true => report::result(&format!("{:#}", found.json())),
        false => report::result(found.table().trim_end()),
    }
    Ok(())
}

/// Reading through so many bytes takes long enough to say why.
const NOTED_BYTES: u64 = 256 << 20;

/// Files that are named. Of more the rest is counted: nobody reads a hundred thousand lines.
const NAMED_MAX: usize = 200;

/// What is shown of a model.
struct Found {
    name: String,
    revision: Option<String>,
    facts: Facts,
    /// Sets of files that are not whole.
    missing: Vec<String>,
    /// Of an image that says nothing of itself.
    files: Option<Files>,
    /// Titles, kinds, sizes and digests of its layers.
    layers: Vec<(String, Option<&'static str>, u64, Option<String>)>,
}

/// Files that were found in layers: weights first, then in the order of names.
struct Files {
    named: Vec<FileInImage>,
    /// Those that are not, and their bytes.
    others: (usize, u64),
}

async fn of_source(sources: Sources, text: &str) -> Result<Found, Failure> {
    let options = Options { selection: sources.selection.files(), ..Options::default() };
    let source = sources.open(&[text.to_owned()]).await?;
    // A URL may have a password, or be signed.
    let name = source.url.clone().filter(|_| WebLocation::is_meant(text)).unwrap_or_else(|| text.to_owned());
    let model = Model::open(source.tree, options).await.map_err(|error| Failure::of_model(&error))?;
    let facts = model.facts().await.map_err(|error| Failure::of_model(&error))?;
    let layer = |layer: &ocib_model::ModelLayer| {
        let bytes = layer.files.iter().map(|number| model.files()[*number].bytes).sum();
        (layer.title.clone(), Some(FileKind::as_str(layer.kind)), bytes, None)
    };
    let layers = model.layers().iter().map(layer).collect();
    let missing = missing(model.files().iter().map(|file| &*file.path));
    Ok(Found { name, revision: source.revision, facts, missing, files: None, layers })
}

async fn of_image(
    images: &Images,
    name: &ocib_image::ImageName,
    platform: Option<ocib_image::Platform>,
    otherwise: (&str, &dyn Events),
) -> Result<Found, Failure> {
    let platforms: Vec<_> = platform.into_iter().collect();
    let image = places::documents(images, name, &platforms).await?;
    let manifest = image.all().iter().find_map(|document| match document {
        Document::Manifest(manifest) if manifest.annotations().contains_key(FACTS_ANNOTATION) => {
            Some(manifest)
        }
        _ => None,
    });
    let Some(manifest) = manifest else { return of_layers(&image, name, otherwise).await };
    let text = &manifest.annotations()[FACTS_ANNOTATION];
    let facts = serde_json::from_str(text)
        .map_err(|error| Failure::input(format!("{name} says of itself what makes no sense: {error}")))?;
    Ok(found(name, manifest, facts, None))
}

/// An image of another builder: the headers in its layers tell which files there are below a path.
async fn of_layers(
    image: &ocib_store::Documents,
    name: &ocib_image::ImageName,
    (path, events): (&str, &dyn Events),
) -> Result<Found, Failure> {
    let manifest = image.manifests().next().ok_or_else(|| Failure::input(format!("{name} has no image")))?;
    let is_compressed =
        |layer: &&Descriptor| ["gzip", "zstd"].iter().any(|end| layer.media_type.as_str().ends_with(end));
    let bytes: u64 = manifest
        .layers()
        .iter()
        .filter(is_compressed)
        .fold(0, |all: u64, layer| all.saturating_add(layer.size));
    if bytes >= NOTED_BYTES {
        let text = format!(
            "{bytes} bytes of compressed layers are read through: only that shows which files are in them"
        );
        events.emit(Event::Note(&text));
    }
    let mut facts = Facts::default();
    let files = pull_index(&**image.origin(), manifest, path).await;
    let files = files.map_err(|error| super::pull::failure(&error))?;
    for file in &files {
        facts.files += 1;
        facts.bytes = facts.bytes.saturating_add(file.bytes);
        if FileKind::of(&file.path) == FileKind::Weight {
            facts.weight_bytes = facts.weight_bytes.saturating_add(file.bytes);
            let path = String::from_utf8_lossy(&file.path).to_lowercase();
            facts.format = path.rsplit_once('.').map(|(_, end)| end.to_owned());
        }
    }
    let missing = missing(files.iter().map(|file| &*file.path));
    Ok(Found { missing, ..found(name, manifest, facts, Some(Files::of(files))) })
}

fn found(name: &ocib_image::ImageName, manifest: &Manifest, facts: Facts, files: Option<Files>) -> Found {
    let layers = manifest.layers().iter().map(|layer| {
        let titles = ["org.opencontainers.image.title", "org.cncf.model.filepath"];
        let title = titles.iter().find_map(|key| layer.annotations.get(*key)).cloned();
        (title.unwrap_or_default(), None, layer.size, Some(layer.digest.to_string()))
    });
    let revision = manifest.annotations().get("org.opencontainers.image.revision").cloned();
    let missing = Vec::new();
    Found { name: name.to_string(), revision, facts, missing, files, layers: layers.collect() }
}

fn missing<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    missing_shards(paths).iter().map(ToString::to_string).collect()
}

impl Files {
    fn of(mut files: Vec<FileInImage>) -> Self {
        files.sort_by_key(|file| FileKind::of(&file.path) != FileKind::Weight);
        let others = files.split_off(files.len().min(NAMED_MAX));
        let bytes = others.iter().fold(0, |all: u64, file| all.saturating_add(file.bytes));
        Self { named: files, others: (others.len(), bytes) }
    }

    /// Paths, kinds and sizes.
    fn rows(&self) -> impl Iterator<Item = (String, &'static str, u64)> {
        let row = |file: &FileInImage| {
            let path = String::from_utf8_lossy(&file.path).into_owned();
            (path, FileKind::of(&file.path).as_str(), file.bytes)
        };
        self.named.iter().map(row)
    }
}

impl Found {
    fn json(&self) -> Value {
        let layers = self.layers.iter().map(|(title, kind, bytes, digest)| {
            json!({"title": title, "kind": kind, "bytes": bytes, "digest": digest})
        });
        let mut json = json!({
            "name": self.name,
            "revision": self.revision,
            "model": self.facts,
            "missing": self.missing,
            "layers": layers.collect::<Vec<_>>(),
        });
        if let Some(files) = &self.files {
            let rows =
                files.rows().map(|(path, kind, bytes)| json!({"path": path, "kind": kind, "bytes": bytes}));
            json["files"] = rows.collect();
            let (others, bytes) = files.others;
            json["otherFiles"] = json!({"files": others, "bytes": bytes});
        }
        json
    }

    /// What stands in it was written by others, so it is escaped.
    fn table(&self) -> String {
        let facts = &self.facts;
        let size = |bytes: u64| ByteSize::b(bytes).display().iec().to_string();
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let elements = facts.elements.iter().map(|(dtype, count)| format!("{dtype} {count}"));
        let elements: Vec<String> = elements.collect();
        let parameters = facts.parameters.map(|count| match facts.size_label() {
            Some(label) => format!("{label} ({count})"),
            None => count.to_string(),
        });
        let rows = [
            ("name", Some(self.name.clone())),
            ("revision", self.revision.clone()),
            ("format", facts.format.clone()),
            ("architecture", facts.architecture.clone()),
            ("family", facts.model_type.clone()),
            ("parameters", parameters),
            ("tensors", number(facts.tensors)),
            ("elements", (!elements.is_empty()).then(|| elements.join(", "))),
            ("precision", facts.precision()),
            ("quantization", facts.quantization.clone()),
            ("context", number(facts.context_length)),
            ("license", facts.license.clone()),
            ("base model", facts.base_model.clone()),
            ("task", facts.task.clone()),
            (
                "files",
                Some(format!("{}, {}, weights {}", facts.files, size(facts.bytes), size(facts.weight_bytes))),
            ),
        ];
        let mut table = String::new();
        let missing = self.missing.iter().map(|missing| ("missing", Some(missing.clone())));
        for (key, value) in rows.into_iter().chain(missing).filter_map(|(key, value)| Some((key, value?))) {
            let _ = writeln!(table, "{key:<13} {}", terminal::line(&value, 200));
        }
        let row = |bytes: u64, kind: &str, text: &str| {
            format!("  {:>10}  {kind:<7} {text}", size(bytes)).trim_end().to_owned() + "\n"
        };
        if let Some(files) = &self.files {
            table.push_str("files below the path\n");
            let rows = files.rows().map(|(path, kind, bytes)| row(bytes, kind, &terminal::line(&path, 100)));
            table.extend(rows);
            if let (others @ 1.., bytes) = files.others {
                table.push_str(&row(bytes, "", &format!("in {others} more files")));
            }
        }
        table.push_str("layers\n");
        for (title, kind, bytes, digest) in &self.layers {
            let digest = digest.as_deref().map_or("", |digest| &digest[..19.min(digest.len())]);
            let text = format!("{digest} {}", terminal::line(title, 100));
            table.push_str(&row(*bytes, kind.unwrap_or(""), &text));
        }
        table
    }
}
