//! Whether KServe would find a model in an image, in each of its ways.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use ocib_image::{Blob, Config, ContainerConfig, EntryKind, MediaType, Origin, Platform, TarReader, decode};

use super::{
    Member, MemberKind, Packing, clean,
    index::{index, member},
    manifest, packing, unpack_error,
};
use crate::{Error, blocking};

/// What keeps KServe from finding the model, for each of its ways; nothing where it would.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Ways {
    /// `oci://`: a sidecar runs the image's `sh`, links /models to where the server looks, and sleeps.
    pub sidecar: Vec<String>,
    /// `oci+native://`: the image is a volume.
    pub volume: Vec<String>,
    /// `oci+fetch://`: /models is extracted.
    pub fetch: Vec<String>,
}

impl Ways {
    /// All of them with their names.
    pub fn all(&self) -> [(&'static str, &[String]); 3] {
        [
            ("oci:// (sidecar)", &self.sidecar),
            ("oci+native:// (image volume)", &self.volume),
            ("oci+fetch:// (extraction)", &self.fetch),
        ]
    }
}

/// Where KServe looks.
const MODELS: &[u8] = b"models";
/// What the sidecar's command line runs, and where shells look for it.
const PROGRAMS: [&str; 3] = ["sh", "ln", "sleep"];
const DIRECTORIES: [&str; 4] = ["bin", "usr/bin", "sbin", "usr/sbin"];
/// The user of KServe's sidecar (`uidModelcar`), whose group may be any: what is looked at is what all may do.
const READABLE: u32 = 0o004;
const SEARCHABLE: u32 = 0o005;

/// Looks at the paths of the image that `origin` names: plain layers by their headers, others whole.
pub async fn check(origin: &dyn Origin, platform: &Platform) -> Result<Ways, Error> {
    let manifest = manifest(origin, platform).await?;
    let mut ways = Ways::default();
    let is_image = manifest.config().media_type.to_oci() == MediaType::Config;
    let has_layers = manifest.layers().iter().all(|layer| layer.media_type.as_str().contains(".image."));
    if !is_image || !has_layers {
        let why = "it is no container image, and runtimes mount no other layers".to_owned();
        return Ok(Ways { sidecar: vec![why.clone()], volume: vec![why.clone()], fetch: vec![why] });
    }
    let mut paths: BTreeMap<Vec<u8>, Member> = BTreeMap::new();
    for (number, descriptor) in manifest.layers().iter().enumerate() {
        for member in members(origin.blob(descriptor), packing(&manifest, number)).await? {
            apply(&mut paths, member);
        }
    }
    let files = of_files(&paths);
    ways.volume.clone_from(&files);
    ways.fetch.clone_from(&files);
    ways.sidecar = files;
    ways.sidecar.extend(of_programs(&paths));
    if let Some(problem) = of_platform(origin, manifest.config(), platform).await? {
        ways.sidecar.push(problem);
    }
    Ok(ways)
}

fn of_files(paths: &BTreeMap<Vec<u8>, Member>) -> Vec<String> {
    let below = |path: &[u8]| path.starts_with(b"models/");
    let files =
        paths.iter().filter(|(path, member)| below(path) && matches!(member.kind, MemberKind::File { .. }));
    let mut problems = Vec::new();
    if files.clone().next().is_none() {
        problems.push("it has no file below /models".to_owned());
    }
    let unreadable = files.filter(|(_, member)| member.mode & READABLE == 0);
    let closed = paths.iter().filter(|(path, member)| {
        (below(path) || *path == MODELS)
            && member.kind == MemberKind::Directory
            && member.mode & SEARCHABLE != SEARCHABLE
    });
    let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    problems.extend(unreadable.map(|(path, _)| format!("/{} cannot be read by every user", shown(path))));
    problems.extend(closed.map(|(path, _)| format!("/{} cannot be entered by every user", shown(path))));
    problems
}

fn of_programs(paths: &BTreeMap<Vec<u8>, Member>) -> Option<String> {
    // /bin may itself be a link to usr/bin, whose programs are looked at anyway.
    let has = |program: &&str| {
        let mut places = DIRECTORIES.iter().map(|directory| format!("{directory}/{program}"));
        places.any(|place| paths.contains_key(place.as_bytes()))
    };
    let missing: Vec<&str> = PROGRAMS.iter().copied().filter(|program| !has(program)).collect();
    (!missing.is_empty()).then(|| format!("it has no {}", missing.join(", no ")))
}

async fn of_platform(
    origin: &dyn Origin,
    config: &ocib_image::Descriptor,
    platform: &Platform,
) -> Result<Option<String>, Error> {
    let pieces: Vec<_> = origin.blob(config).source.stream(0).await?.try_collect().await?;
    let config = ContainerConfig::parse(&pieces.concat());
    let have = config.ok().map(|config| Config::Container(Box::new(config)));
    let have = have.and_then(|config| match config {
        Config::Container(config) => config.platform(),
        Config::Artifact(..) => None,
    });
    Ok(match have {
        Some(have) if have.serves(platform).is_some() => None,
        Some(have) => Some(format!("it is for {have}, not for {platform}")),
        None => Some("its config names no platform".to_owned()),
    })
}

fn apply(paths: &mut BTreeMap<Vec<u8>, Member>, member: Member) {
    let slash = member.path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let (parent, name) = member.path.split_at(slash);
    if name == b".wh..wh..opq" {
        paths.retain(|known, _| !known.starts_with(parent));
    } else if let Some(removed) = name.strip_prefix(b".wh.") {
        let removed = [parent, removed].concat();
        paths.retain(|known, _| *known != removed && !known.starts_with(&[&removed[..], b"/"].concat()));
    } else {
        paths.insert(member.path.clone(), member);
    }
}

/// The members of a layer, whatever it is.
async fn members(blob: Blob, packing: Packing) -> Result<Vec<Member>, Error> {
    let media_type = match packing {
        Packing::Raw(_) => return Ok(Vec::new()),
        Packing::Plain => match index(&blob).await? {
            Some(index) => return Ok(index.members),
            None => MediaType::LayerTar,
        },
        Packing::Compressed(media_type) => media_type,
    };
    let read = move || {
        let broken = |error: ocib_image::Error| unpack_error(&blob, error.to_string());
        let stream = decode(&media_type, blob.source.read()?).map_err(broken)?;
        let mut archive = TarReader::new(std::io::BufReader::with_capacity(256 << 10, stream));
        let mut members = Vec::new();
        while let Some(found) = archive.next_entry().map_err(broken)? {
            // Bases have links that climb out of where they are, and devices; only names matter here.
            let target = match &found.entry.kind {
                EntryKind::Hardlink(_) => Some(MemberKind::Symlink(Vec::new())),
                _ => None,
            };
            match target {
                Some(kind) => {
                    members.push(Member { path: clean(&found.entry.name)?, kind, mode: found.entry.mode });
                }
                None => members.extend(member(&found, 0)?),
            }
        }
        Ok(members)
    };
    blocking(read).await
}

/// A file of a model in an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileInImage {
    /// Its path below the prefix.
    pub path: Vec<u8>,
    /// Size in bytes.
    pub bytes: u64,
}

/// The files of the model in an image's plain and raw layers; compressed ones are not looked into.
pub async fn pull_index(
    origin: &dyn Origin,
    manifest: &ocib_image::Manifest,
    prefix: &str,
) -> Result<Vec<FileInImage>, Error> {
    let prefix = super::prefix(manifest, prefix);
    let mut files = Vec::new();
    for (number, descriptor) in manifest.layers().iter().enumerate() {
        let members = match packing(manifest, number) {
            Packing::Raw(name) => {
                let kind = MemberKind::File { bytes: descriptor.size, offset: 0 };
                vec![Member { path: clean(name.as_bytes())?, kind, mode: 0o644 }]
            }
            Packing::Plain => {
                index(&origin.blob(descriptor)).await?.map(|index| index.members).unwrap_or_default()
            }
            Packing::Compressed(_) => Vec::new(),
        };
        for member in members {
            if let (Some(path), MemberKind::File { bytes, .. }) = (prefix.strip(&member.path), &member.kind) {
                files.push(FileInImage { path: path.to_vec(), bytes: *bytes });
            }
        }
    }
    Ok(files)
}
