//! A plan as JSON, for programs. docs/plan.md has the fields; none changes its name or meaning without
//! another `schemaVersion`.

use ocib_build::{
    BaseOutline, DelegatedOutline, FilesFrom, InputOutline, InstructionOutline, JobOutline, LayerOutline,
    PartOutline, StageOutline, StepOutline, StepSize, TargetOutline,
};
use ocib_image::ArchiveFormat;
use serde_json::{Map, Value, json};

use super::{
    Shown, codec,
    fate::{At, LayerFate, Parts, Place},
    runtime_config, shown_value,
};

const SCHEMA_VERSION: u32 = 1;

/// The whole plan.
pub(super) fn object(shown: &Shown) -> String {
    let object = json!({
        "schemaVersion": SCHEMA_VERSION,
        "dockerfile": shown.name,
        "buildable": shown.is_buildable(),
        "compression": codec(shown.outline.compression),
        "targets": shown.outline.targets.iter().map(|one| target(shown, one)).collect::<Value>(),
        "outputs": shown.places.iter().map(|place| output(shown, place)).collect::<Value>(),
    });
    format!("{object:#}")
}

fn target(shown: &Shown, target: &TargetOutline) -> Value {
    json!({
        "platform": target.platform.to_string(),
        "bases": target.bases.iter().map(base).collect::<Value>(),
        "stages": target.stages.iter().map(|one| stage(shown, one)).collect::<Value>(),
        "layers": target.layers.iter().map(|one| layer(shown, one)).collect::<Value>(),
        "config": runtime_config(&target.config),
    })
}

fn base(base: &BaseOutline) -> Value {
    json!({
        "name": base.name.to_string(),
        "platform": base.platform.to_string(),
        "pinned": base.pinned,
        "manifest": base.manifest,
        "layers": base.layers,
    })
}

fn stage(shown: &Shown, stage: &StageOutline) -> Value {
    let part = |part: &PartOutline| match part {
        PartOutline::Native(steps) => json!({
            "kind": "native",
            "steps": steps.iter().map(|one| step(shown, one)).collect::<Value>(),
        }),
        PartOutline::Delegated(part) => delegated(shown, part),
    };
    json!({
        "index": stage.index,
        "name": stage.name,
        "from": files_from(&stage.base),
        "parts": stage.parts.iter().map(part).collect::<Value>(),
    })
}

fn step(shown: &Shown, step: &StepOutline) -> Value {
    let (line, end_line) = shown.lines(step.span);
    json!({
        "line": line,
        "endLine": end_line,
        "text": step.text,
        "sources": step.sources.iter().map(files_from).collect::<Value>(),
        "size": size(step.size),
    })
}

fn delegated(shown: &Shown, part: &DelegatedOutline) -> Value {
    let (line, end_line) = shown.part_lines(part);
    let variable = |(name, value): (&String, &String)| (name.clone(), shown_value(name, value).into());
    let instruction = |instruction: &InstructionOutline| {
        let (line, end_line) = shown.lines(instruction.span);
        json!({
            "line": line,
            "endLine": end_line,
            "text": instruction.text,
            "sources": instruction.sources.iter().map(files_from).collect::<Value>(),
        })
    };
    json!({
        "kind": "delegated",
        "line": line,
        "endLine": end_line,
        "platform": part.platform.to_string(),
        "user": part.user,
        "workingDir": part.working_dir,
        "shell": part.shell,
        "variables": part.variables.iter().map(variable).collect::<Map<_, _>>(),
        "instructions": part.instructions.iter().map(instruction).collect::<Value>(),
        "job": part.job.as_ref().map(job),
    })
}

fn job(job: &JobOutline) -> Value {
    let input = |input: &InputOutline| {
        json!({
            "name": input.name,
            "madeLayers": input.made_layers,
            "tarBytes": input.tar_bytes,
            "baseLayers": input.base_layers,
            "baseBytes": input.base_bytes,
        })
    };
    let inputs = job.inputs.iter().map(input).collect::<Value>();
    json!({"dockerfile": job.dockerfile, "inputs": inputs, "contextBytes": job.context_bytes})
}

fn layer(shown: &Shown, layer: &LayerOutline) -> Value {
    match layer {
        LayerOutline::Base(blob, diff_id) => json!({
            "kind": "base",
            "mediaType": blob.descriptor.media_type,
            "digest": blob.descriptor.digest,
            "diffId": diff_id,
            "size": blob.descriptor.size,
        }),
        LayerOutline::Made(stage, step) => json!({
            "kind": "made",
            "stage": stage,
            "line": shown.lines(step.span).0,
            "text": step.text,
            "codec": codec(step.compression),
            "size": size(step.size),
        }),
        LayerOutline::Delegated(stage) => json!({"kind": "delegated", "stage": stage}),
    }
}

fn size(size: StepSize) -> Value {
    match size {
        StepSize::Known(size) => json!({
            "kind": "known",
            "entries": size.entries,
            "files": size.files,
            "contentBytes": size.content_bytes,
            "tarBytes": size.tar_bytes,
        }),
        StepSize::Files { files, content_bytes, after } => {
            json!({"kind": "files", "files": files, "contentBytes": content_bytes, "afterStage": after})
        }
        StepSize::Unknown { after } => json!({"kind": "unknown", "afterStage": after}),
    }
}

fn files_from(from: &FilesFrom) -> Value {
    match from {
        FilesFrom::Nothing => json!({"kind": "scratch"}),
        FilesFrom::Context => json!({"kind": "context"}),
        FilesFrom::Stage(index) => json!({"kind": "stage", "stage": index}),
        FilesFrom::Image(name) => json!({"kind": "image", "name": name.to_string()}),
        FilesFrom::NamedContext(name) => json!({"kind": "namedContext", "name": name}),
        FilesFrom::Network => json!({"kind": "network"}),
        FilesFrom::Heredoc(name) => json!({"kind": "heredoc", "name": name}),
    }
}

/// A repository, a layout or an archive, and what becomes of the layers there.
fn output(shown: &Shown, place: &Place) -> Value {
    let mut object = match &place.at {
        At::Repository { name, tags, parts } => {
            json!({"kind": "registry", "repository": name, "tags": tags, "parts": parts.map(parts_of)})
        }
        At::Layout(directory) => json!({"kind": "layout", "path": directory, "names": shown.names}),
        At::Archive(format, path) => json!({
            "kind": "archive",
            "format": format_name(*format),
            "path": path,
            "names": shown.names,
        }),
    };
    object["unknown"] = json!(place.unknown);
    object["images"] = shown.outline.targets.iter().zip(&place.images).map(image).collect();
    object
}

fn parts_of(parts: Parts) -> Value {
    json!({"most": parts.most, "bytes": parts.bytes, "layerBytesMax": parts.layer_bytes_max})
}

fn image((target, layers): (&TargetOutline, &Vec<LayerFate>)) -> Value {
    let layers = layers.iter().map(
        |layer| json!({"made": layer.made, "stored": layer.stored, "why": layer.why, "from": layer.from}),
    );
    json!({"platform": target.platform.to_string(), "layers": layers.collect::<Value>()})
}

fn format_name(format: ArchiveFormat) -> &'static str {
    match format {
        ArchiveFormat::Oci => "oci",
        ArchiveFormat::Docker => "docker",
    }
}
