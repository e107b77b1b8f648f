//! `ocib verify --context`: whether an image is what a build of a context gives.
//!
//! The build's layers are made for their digests alone; of the image only manifests and configs are
//! read. Equal digests prove equal bytes, so nothing is downloaded that is larger than a config.

use std::{collections::BTreeSet, ffi::OsString, sync::Arc};

use clap::Parser;
use ocib_build::{LayerOrigin, Published, PublishedImage};
use ocib_image::{Config, Descriptor, Document, Platform, Sink};
use ocib_store::{Documents, Images, NullSink};
use serde_json::Value;

use crate::{
    args,
    build::publish_into,
    diagnostic::{Exit, Failure},
    places, progress, registries, report, wiring,
};

/// The flags of a build, read as its own command line would be.
#[derive(Parser, Debug)]
struct BuildLine {
    #[command(flatten)]
    build: args::Build,
}

/// One platform of the image.
struct Built {
    platform: Option<Platform>,
    manifest: Descriptor,
    config: Descriptor,
    config_bytes: Vec<u8>,
    layers: Vec<Descriptor>,
}

/// Runs the command.
pub(super) fn run(verify: &args::Verify, context: &str) -> Result<(), Failure> {
    let (root, images) = read(verify)?;
    let mut build = build(context, &verify.build_flags)?;
    // Where registries are and whom to trust is the same for both.
    build.shared = build.shared.within(&verify.shared);
    if build.image.platforms.is_empty() {
        build.image.platforms = images.iter().filter_map(|image| image.platform.clone()).collect();
    }
    let mut null = None;
    let events = progress::watch(verify.shared.progress, verify.shared.quiet);
    let published = publish_into(&build, events, |wired| {
        let sink = Arc::new(NullSink::new(wired.sealer(&build)?));
        null = Some(Arc::clone(&sink));
        Ok(vec![sink as Arc<dyn Sink>])
    })?;
    let ([published], Some(null)) = (&published[..], &null) else {
        return Err(Failure::new(Exit::Failed, "nothing was built"));
    };
    let differences = compare(&images, published, null);
    differences.iter().for_each(|line| report::result(line));
    let made = published.root.descriptor().digest;
    match differences.is_empty() && is_same(root, &images, published) {
        true => {
            report::result(&format!("ok     {root} is what {context} gives"));
            Ok(())
        }
        false => {
            let message = format!("{} is {root}, but {context} gives {made}", verify.image);
            let is_stored_otherwise = differences.iter().any(|line| line.ends_with(STORED_OTHERWISE));
            Err(Failure::new(Exit::Failed, message).help(if has_other_base(&images, published) {
                "the base is not the one that the image was built on; name that one after --, such as -- \
                 --build-context BASE:TAG=docker-image://BASE@DIGEST"
            } else if is_stored_otherwise {
                "give the --compression that the image was built with after --"
            } else {
                "give the flags that the image was built with after --, such as -- --build-arg A=b"
            }))
        }
    }
}

/// Whether the image is the built one: all of it, or the platform that was picked out of it.
fn is_same(root: ocib_image::Digest, images: &[Built], published: &Published) -> bool {
    let made = published.root.descriptor().digest;
    made == root
        || matches!((images, &published.images[..]), ([one], [built]) if one.manifest.digest == built.manifest.digest)
}

fn build(context: &str, flags: &[OsString]) -> Result<args::Build, Failure> {
    let line = [OsString::from("ocib build"), context.into()].into_iter().chain(flags.iter().cloned());
    let parsed = BuildLine::try_parse_from(line);
    let build =
        parsed.map_err(|error| Failure::usage(format!("after --: {}", error.render()).trim().to_owned()))?;
    Ok(build.build)
}

/// The image's digest, and what its manifests and configs say.
fn read(verify: &args::Verify) -> Result<(ocib_image::Digest, Vec<Built>), Failure> {
    let name = places::name(&verify.image)?;
    let events = progress::watch(verify.shared.progress, verify.shared.quiet);
    let images = Images {
        registries: registries::registries(&verify.shared, &wiring::http(&verify.shared)?, events)?,
    };
    let platforms: Vec<Platform> = verify.platform.iter().cloned().collect();
    wiring::run(async move {
        let documents = places::documents(&images, &name, &platforms).await?;
        let mut built = Vec::new();
        for manifest in documents.manifests() {
            let unread = |error| places::unread(&name, &error);
            // What is no image, such as an attestation, is no build's.
            let Config::Container(config) = documents.config(manifest).await.map_err(unread)? else {
                continue;
            };
            let said = platform_in(&documents, &manifest.descriptor());
            built.push(Built {
                platform: said.or_else(|| config.platform()),
                manifest: manifest.descriptor(),
                config: manifest.config().clone(),
                config_bytes: documents.config_bytes(manifest).await.map_err(unread)?.to_vec(),
                layers: manifest.layers().to_vec(),
            });
        }
        Ok((documents.root().descriptor().digest, built))
    })
}

/// The platform that the index names for a manifest.
fn platform_in(documents: &Documents, manifest: &Descriptor) -> Option<Platform> {
    let Document::Index(index) = documents.root() else { return None };
    index.manifests().iter().find(|entry| entry.digest == manifest.digest)?.platform.clone()
}

/// Whether an image begins with other layers than the build, which its base made.
fn has_other_base(images: &[Built], published: &Published) -> bool {
    published.images.iter().any(|built| {
        let image = images.iter().find(|image| image.platform == built.manifest.platform);
        let mut there = image.into_iter().flat_map(|image| &image.layers);
        let mut base = built.layers.iter().filter(|layer| layer.origin == LayerOrigin::Base);
        image.is_some()
            && base.any(|layer| there.next().map(|there| there.digest) != Some(layer.descriptor.digest))
    })
}

/// What is different, a line each.
fn compare(images: &[Built], published: &Published, null: &NullSink) -> Vec<String> {
    let mut lines = Vec::new();
    for built in &published.images {
        let wanted = built.manifest.platform.as_ref();
        let Some(image) = images.iter().find(|image| image.platform.as_ref() == wanted) else {
            let platform = wanted.map(ToString::to_string).unwrap_or_default();
            lines.push(format!("differs platform {platform} is not in the image"));
            continue;
        };
        let config = null.config(built.config.digest).unwrap_or_default();
        lines.extend(layers(image, built, &config));
        if image.config.digest != built.config.digest {
            lines.push(format!(
                "differs config {} is {} of the build: {}",
                image.config.digest,
                built.config.digest,
                fields(&image.config_bytes, &config)
            ));
        }
    }
    lines
}

fn layers(image: &Built, built: &PublishedImage, config: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let [there, made] = [&image.config_bytes[..], config].map(diff_ids);
    // A base with more or fewer layers than it had moves those above it.
    let (have, want) = (image.layers.len(), built.layers.len());
    let bases = built.layers.iter().filter(|layer| layer.origin == LayerOrigin::Base).count();
    let moved = |number: usize| match number < bases {
        true => Some(number),
        false => (number + have).checked_sub(want),
    };
    for (number, layer) in built.layers.iter().enumerate() {
        let at = moved(number);
        let digest = at.and_then(|at| image.layers.get(at)).map(|layer| layer.digest);
        if digest != Some(layer.descriptor.digest) {
            let is = digest.map_or_else(|| "not there".to_owned(), |digest| digest.to_string());
            // Its config vouches for that, whose diff IDs are what the build's layers were found to hold.
            let is_stored_otherwise =
                at.and_then(|at| there.get(at)).is_some_and(|diff_id| made.get(number) == Some(diff_id));
            let why = if is_stored_otherwise { STORED_OTHERWISE } else { "" };
            lines.push(format!(
                "differs layer {} ({}) is {is}, the build's {}{why}",
                number + 1,
                layer.title,
                layer.descriptor.digest
            ));
        }
    }
    if have != want {
        lines.push(format!("differs the image has {have} layers, the build {want}"));
    }
    lines
}

/// What is said of a layer whose bytes differ and whose content, by the image's config, does not.
const STORED_OTHERWISE: &str = ": the same content by its config, compressed otherwise";

/// The diff IDs that a config names, base first.
fn diff_ids(config: &[u8]) -> Vec<String> {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let all = config["rootfs"]["diff_ids"].as_array().into_iter().flatten();
    all.filter_map(|diff_id| Some(diff_id.as_str()?.to_owned())).collect()
}

/// The fields in which two configs differ, as paths.
fn fields(one: &[u8], two: &[u8]) -> String {
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let mut paths = BTreeSet::new();
    differences(&parse(one), &parse(two), "", &mut paths);
    paths.into_iter().collect::<Vec<_>>().join(", ")
}

fn differences(one: &Value, two: &Value, path: &str, paths: &mut BTreeSet<String>) {
    match (one, two) {
        (Value::Object(first), Value::Object(second)) => {
            for key in first.keys().chain(second.keys()).collect::<BTreeSet<_>>() {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                differences(
                    first.get(key).unwrap_or(&Value::Null),
                    second.get(key).unwrap_or(&Value::Null),
                    &below,
                    paths,
                );
            }
        }
        (one, two) if one != two => drop(paths.insert(path.to_owned())),
        _ => {}
    }
}
