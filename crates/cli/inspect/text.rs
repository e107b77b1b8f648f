//! An image as a table for people. What stands in it was written by others, so it is escaped.

use std::fmt::Write;

use bytesize::ByteSize;
use ocib_image::{Annotations, Config, ContainerConfig, Document, Index, Manifest, MediaType};

use super::{Entry, Shown, annotations, instructions, layer_bytes};
use crate::terminal::line;

/// Values are cut to this many characters; `--json` has all of them.
const VALUE_WIDTH: usize = 300;
const INSTRUCTION_WIDTH: usize = 80;

/// The table.
pub(super) fn of(shown: &Shown<'_>) -> String {
    let mut table = Table(String::new());
    let root = shown.image.root();
    let descriptor = root.descriptor();
    table.row("name", shown.name);
    table.row("digest", &descriptor.digest.to_string());
    table.row("type", descriptor.media_type.as_str());
    match root {
        Document::Index(index) => {
            table.pairs("annotations", annotations(root));
            table.title("manifests");
            manifests(&mut table, shown, index, 1);
        }
        Document::Manifest(manifest) => {
            image(&mut table, shown, manifest);
            table.pairs("annotations", annotations(root));
            layers(&mut table, shown, manifest);
        }
    }
    table.0
}

struct Table(String);

impl Table {
    fn row(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.push(0, &format!("{key:<12} {}", line(value, VALUE_WIDTH)));
        }
    }

    fn title(&mut self, text: &str) {
        self.push(0, text);
    }

    fn pairs(&mut self, title: &str, pairs: &Annotations) {
        if !pairs.is_empty() {
            self.title(title);
            pairs.iter().for_each(|(key, value)| self.push(1, &line(&format!("{key}={value}"), VALUE_WIDTH)));
        }
    }

    /// A line whose text was escaped.
    fn push(&mut self, depth: usize, text: &str) {
        let text = text.trim_end();
        let _ = writeln!(self.0, "{:width$}{text}", "", width = depth * 2);
    }
}

fn manifests(table: &mut Table, shown: &Shown<'_>, index: &Index, depth: usize) {
    for entry in shown.entries(index) {
        table.push(depth, &manifest(&entry));
        if let Some(Document::Index(inner)) = entry.document {
            manifests(table, shown, inner, depth + 1);
        }
    }
}

fn manifest(entry: &Entry<'_>) -> String {
    let platform = entry.descriptor.platform.as_ref().map(ToString::to_string).unwrap_or_default();
    let what = match entry.document {
        Some(Document::Index(index)) => format!("index of {}", index.manifests().len()),
        Some(Document::Manifest(manifest)) => {
            let (count, bytes) = (manifest.layers().len(), size(layer_bytes(manifest)));
            let kind = manifest.artifact_type().map(|kind| format!("  {kind}")).unwrap_or_default();
            format!("{count} layers, {bytes}{kind}")
        }
        None => String::new(),
    };
    line(&format!("{platform:<16} {}  {what}", entry.descriptor.digest), VALUE_WIDTH)
}

fn image(table: &mut Table, shown: &Shown<'_>, manifest: &Manifest) {
    table.row("artifact", manifest.artifact_type().unwrap_or_default());
    if let Some(subject) = manifest.subject() {
        table.row("subject", &subject.digest.to_string());
    }
    if let Some(Config::Container(config)) = &shown.config {
        runtime(table, config);
    }
    table.row("config", &manifest.config().digest.to_string());
}

fn runtime(table: &mut Table, config: &ContainerConfig) {
    let list = |list: Option<&Vec<String>>| list.map(|list| serde_json::json!(list).to_string());
    let runtime = &config.runtime;
    table.row("platform", &config.platform().map(|platform| platform.to_string()).unwrap_or_default());
    table.row("created", &config.created().unwrap_or_default());
    table.row("user", &runtime.user);
    table.row("entrypoint", &list(runtime.entrypoint.as_ref()).unwrap_or_default());
    table.row("cmd", &list(runtime.cmd.as_ref()).unwrap_or_default());
    table.row("workdir", &runtime.working_dir);
    let ports: Vec<&str> = runtime.exposed_ports.iter().map(String::as_str).collect();
    table.row("ports", &ports.join(", "));
    let volumes: Vec<&str> = runtime.volumes.iter().map(String::as_str).collect();
    table.row("volumes", &volumes.join(", "));
    table.row("stop signal", &runtime.stop_signal);
    if !runtime.env.is_empty() {
        table.title("env");
        runtime.env.iter().for_each(|variable| table.push(1, &line(variable, VALUE_WIDTH)));
    }
    table.pairs("labels", &runtime.labels);
}

fn layers(table: &mut Table, shown: &Shown<'_>, manifest: &Manifest) {
    let count = manifest.layers().len();
    table.title(&format!("layers ({count}, {})", size(layer_bytes(manifest))));
    let instructions = instructions(shown.config.as_ref(), manifest);
    for (layer, instruction) in manifest.layers().iter().zip(instructions) {
        let made = instruction.map(|text| line(text, INSTRUCTION_WIDTH)).unwrap_or_default();
        let kind = line(kind(&layer.media_type), INSTRUCTION_WIDTH);
        table.push(1, &format!("{} {:>10}  {kind:<5} {made}", layer.digest, size(layer.size)));
        for (key, value) in &layer.annotations {
            table.push(2, &line(&format!("{key}={value}"), VALUE_WIDTH));
        }
    }
}

/// How a layer is stored, in a word where there is one.
fn kind(media_type: &MediaType) -> &str {
    match media_type {
        MediaType::LayerTar | MediaType::DockerLayerTar => "plain",
        MediaType::LayerGzip | MediaType::DockerLayerGzip => "gzip",
        MediaType::LayerZstd => "zstd",
        other => other.as_str(),
    }
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}
