//! A plan as text, for people.

use std::fmt::Write;

use ocib_build::{
    BaseOutline, DelegatedOutline, FilesFrom, InputOutline, JobOutline, LayerOutline, PartOutline,
    StageOutline, StepOutline, StepSize, TargetOutline,
};
use ocib_image::ArchiveFormat;

use super::{
    Shown, codec, delegated,
    fate::{At, LayerFate, Parts, Place},
    runtime_config, shown_value,
};
use crate::terminal::printable;

/// The whole plan, without a line feed at its end.
pub(super) fn plan(shown: &Shown) -> String {
    let mut out = String::new();
    for one in &shown.outline.targets {
        target(&mut out, shown, one);
    }
    heading(&mut out, "outputs");
    for one in &shown.places {
        place_of(&mut out, shown, one);
    }
    if shown.outline.targets.len() > 1 {
        item(&mut out, 1, "layers that platforms share are made and sent once");
    }
    if !shown.is_buildable() {
        item(&mut out, 1, "not with these flags: RUN needs a backend, which --run names");
    }
    printable(out.trim_end())
}

fn target(out: &mut String, shown: &Shown, target: &TargetOutline) {
    heading(out, &format!("platform {}", target.platform));
    for one in &target.bases {
        base(out, one);
    }
    for one in &target.stages {
        stage(out, shown, one);
    }
    heading(out, "layers");
    for (number, one) in target.layers.iter().enumerate() {
        let line = format!("{}  {}", number + 1, layer(shown, target, one));
        item(out, 1, &line);
    }
    if target.layers.is_empty() {
        item(out, 1, "none");
    }
    item(out, 1, &total(target));
    heading(out, "config");
    for line in format!("{:#}", runtime_config(&target.config)).lines() {
        item(out, 1, line);
    }
}

fn base(out: &mut String, base: &BaseOutline) {
    item(out, 1, &format!("base {} for {}", base.name, base.platform));
    item(out, 2, &format!("pinned {}", base.pinned));
    item(out, 2, &format!("manifest {}", base.manifest));
    let bytes: u64 = base.layers.iter().map(|layer| layer.size).sum();
    item(out, 2, &format!("{}, {} as stored", counted(base.layers.len() as u64, "layer"), bytes_of(bytes)));
}

fn stage(out: &mut String, shown: &Shown, stage: &StageOutline) {
    let name = stage.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    heading(out, &format!("stage {}{name} from {}", stage.index, files_from(&stage.base)));
    for part in &stage.parts {
        match part {
            PartOutline::Native(steps) => steps.iter().for_each(|one| step(out, shown, one)),
            PartOutline::Delegated(part) => delegated_part(out, shown, part),
        }
    }
    if stage.parts.is_empty() {
        item(out, 1, "nothing makes a layer");
    }
}

fn step(out: &mut String, shown: &Shown, step: &StepOutline) {
    item(out, 1, &format!("{}: {}", place(shown.lines(step.span)), step.text));
    let sources = sources(&step.sources);
    item(out, 2, &format!("{sources}{}", size(step.size)));
}

fn delegated_part(out: &mut String, shown: &Shown, part: &DelegatedOutline) {
    let user = if part.user.is_empty() { "root" } else { &part.user };
    let directory = if part.working_dir.is_empty() { "/" } else { &part.working_dir };
    let lines = place(shown.part_lines(part));
    item(out, 1, &format!("delegated, {lines}: on {} as {user} in {directory}", part.platform));
    for (name, value) in &part.variables {
        item(out, 2, &format!("with {name}={}", shown_value(name, value)));
    }
    for instruction in &part.instructions {
        item(out, 2, &format!("{}: {}", place(shown.lines(instruction.span)), instruction.text));
        if !instruction.sources.is_empty() {
            item(out, 3, sources(&instruction.sources).trim_end_matches(": "));
        }
    }
    match &part.job {
        Some(job) => job_of(out, shown, job),
        None => item(out, 2, "as a Dockerfile of its own once other parts are carried out"),
    }
}

fn job_of(out: &mut String, shown: &Shown, job: &JobOutline) {
    item(out, 2, "as a Dockerfile of its own:");
    job.dockerfile.iter().for_each(|line| item(out, 3, line));
    for input in &job.inputs {
        let InputOutline { name, made_layers, tar_bytes, base_layers, base_bytes, .. } = input;
        let made = format!("{} made here, {} as tar", counted(*made_layers, "layer"), bytes_of(*tar_bytes));
        let bases = format!("{} of bases, {}", counted(*base_layers, "layer"), bytes_of(*base_bytes));
        item(out, 2, &format!("to the run repository, unless it is there: {name}, {made}; {bases}"));
    }
    if let Some(bytes) = job.context_bytes {
        item(
            out,
            2,
            &format!("to the pod by {}: {} as tar, before compression", shown.files_by, bytes_of(bytes)),
        );
    }
}

fn layer(shown: &Shown, target: &TargetOutline, layer: &LayerOutline) -> String {
    match layer {
        LayerOutline::Base(blob, _) => {
            format!("base {}, {} as stored", blob.descriptor.digest, bytes_of(blob.descriptor.size))
        }
        LayerOutline::Made(stage, step) => {
            let lines = place(shown.lines(step.span));
            format!("made by stage {stage}, {lines}: {}, {}", size(step.size), codec(step.compression))
        }
        LayerOutline::Delegated(stage) => {
            let part = delegated(target).find(|(index, _)| index == stage);
            let lines =
                part.map(|(_, part)| format!(", {}", place(shown.part_lines(part)))).unwrap_or_default();
            format!("delegated by stage {stage}{lines}: as many layers as it makes")
        }
    }
}

/// What there is to send, as far as anybody can know.
fn total(target: &TargetOutline) -> String {
    let (mut made, mut tar_bytes, mut base, mut base_bytes) = (0, 0, 0, 0);
    let mut is_known = true;
    for layer in &target.layers {
        match layer {
            LayerOutline::Base(blob, _) => {
                (base, base_bytes) = (base + 1, base_bytes + blob.descriptor.size);
            }
            LayerOutline::Made(_, StepOutline { size, .. }) => {
                made += 1;
                let (bytes, is_all) = match size {
                    StepSize::Known(size) => (size.tar_bytes, true),
                    StepSize::Files { content_bytes, .. } => (*content_bytes, false),
                    StepSize::Unknown { .. } => (0, false),
                };
                tar_bytes += bytes;
                is_known &= is_all;
            }
            LayerOutline::Delegated(_) => is_known = false,
        }
    }
    let least = if is_known { "" } else { "at least " };
    format!(
        "to send: {} made here, {least}{} before compression; {} of bases, {} unless they are there",
        counted(made, "layer"),
        bytes_of(tar_bytes),
        counted(base, "layer"),
        bytes_of(base_bytes)
    )
}

fn size(size: StepSize) -> String {
    match size {
        StepSize::Known(size) => format!(
            "{} in {}, {} as tar",
            bytes_of(size.content_bytes),
            counted(size.files, "file"),
            bytes_of(size.tar_bytes)
        ),
        StepSize::Files { files, content_bytes, after } => format!(
            "{} in {}; the rest depends on what stage {after} delegates",
            bytes_of(content_bytes),
            counted(files, "file")
        ),
        StepSize::Unknown { after } => format!("depends on what stage {after} delegates"),
    }
}

/// `from A and B: `, or nothing.
fn sources(all: &[FilesFrom]) -> String {
    let names: Vec<String> = all.iter().map(files_from).collect();
    if names.is_empty() { String::new() } else { format!("from {}: ", names.join(" and ")) }
}

fn files_from(from: &FilesFrom) -> String {
    match from {
        FilesFrom::Nothing => "scratch".to_owned(),
        FilesFrom::Context => "the context".to_owned(),
        FilesFrom::Stage(index) => format!("stage {index}"),
        FilesFrom::Image(name) => name.to_string(),
        FilesFrom::NamedContext(name) => format!("the context {name}"),
        FilesFrom::Network => "the network".to_owned(),
        FilesFrom::Heredoc(name) => format!("the heredoc {name}"),
    }
}

/// Where the image goes, and what becomes of its layers there.
fn place_of(out: &mut String, shown: &Shown, place: &Place) {
    item(out, 1, &destination(shown, &place.at));
    if let At::Repository { parts: Some(Parts { most, bytes, layer_bytes_max }), .. } = &place.at {
        let limit = format!("so a layer of at most {}", bytes_of(*layer_bytes_max));
        item(out, 2, &format!("layers in at most {most} parts of up to {}, {limit}", bytes_of(*bytes)));
    }
    if let Some(why) = &place.unknown {
        item(out, 2, &format!("what is there is unknown: {why}"));
    }
    for (target, layers) in shown.outline.targets.iter().zip(&place.images) {
        if shown.outline.targets.len() > 1 {
            item(out, 2, &format!("for {}", target.platform));
        }
        for (number, layer) in layers.iter().enumerate() {
            item(out, 2, &format!("{}  {}", number + 1, fate(layer)));
        }
    }
}

fn destination(shown: &Shown, at: &At) -> String {
    let names = match &shown.names[..] {
        [] => String::new(),
        names => format!(", as {}", names.join(" and ")),
    };
    match at {
        At::Repository { name, tags, .. } => format!("push to {name}, as {}", tags.join(" and ")),
        At::Layout(directory) => format!("OCI layout in {}{names}", directory.display()),
        At::Archive(format, path) => {
            let kind = match format {
                ArchiveFormat::Oci => "OCI archive",
                ArchiveFormat::Docker => "docker archive",
            };
            let path = path.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
            format!("{kind} {path}{names}")
        }
    }
}

fn fate(layer: &LayerFate) -> String {
    let LayerFate { made, stored, why, from } = layer;
    let stored = match (*stored, from) {
        ("present", _) => "is there".to_owned(),
        ("mounted", Some(from)) => format!("mounted from {from} if the registry agrees, else sent"),
        ("stored-if-missing", _) => "sent unless it is there".to_owned(),
        ("stored", _) => "sent".to_owned(),
        (other, _) => other.to_owned(),
    };
    let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match *made {
        "unknown" => format!("unknown{why}"),
        "hashed-first" => format!("hashed first, {stored}{why}"),
        made => format!("{made}, {stored}{why}"),
    }
}

fn place((first, last): (usize, usize)) -> String {
    if first == last { format!("line {first}") } else { format!("lines {first} to {last}") }
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn bytes_of(bytes: u64) -> String {
    counted(bytes, "byte")
}

/// A line at the margin, after an empty one if it is not the first.
fn heading(out: &mut String, text: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    item(out, 0, text);
}

fn item(out: &mut String, depth: usize, text: &str) {
    // Names and words may hold line feeds, which must not look like lines of the plan.
    let text = text.replace('\n', "\\n");
    writeln!(out, "{:1$}{text}", "", depth * 2).expect("a string takes all that is written to it");
}
