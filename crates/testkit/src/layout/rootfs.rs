//! The files of an image, as a container would see them.

use std::{
    collections::BTreeMap,
    fmt,
    io::Read,
    path::{Component, Path},
};

use super::{Image, hex_digest, images, list, open_layer};

/// What a path is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileType {
    /// A regular file, under each of its names.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character or block device or a named pipe.
    Special,
}

/// One path of an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootfsFile {
    /// What it is.
    pub file_type: FileType,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Size of a file in bytes.
    pub size: u64,
    /// Hex SHA-256 of a file's content.
    pub sha256: Option<String>,
    /// Target of a symbolic link; for a hard link, the path that it was made from.
    pub link: Option<String>,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl fmt::Display for RootfsFile {
    /// `f 0644 0:0 12` and the link's target: what most tests compare.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.file_type {
            FileType::File => 'f',
            FileType::Directory => 'd',
            FileType::Symlink => 'l',
            FileType::Special => 's',
        };
        write!(f, "{letter} {:04o} {}:{} {}", self.mode, self.uid, self.gid, self.size)?;
        self.link.iter().try_for_each(|link| write!(f, " -> {link}"))
    }
}

/// The files of the layout's image for `platform` (`os/architecture[/variant]`), by path without a
/// leading slash; the root itself is the empty path. Layers are applied in order, with whiteouts and opaque directories (image-spec,
/// "layer"). A directory that no layer names is not there. Panics unless exactly one image of the
/// layout, whatever its names, is for the platform.
pub fn rootfs(dir: &Path, platform: &str) -> BTreeMap<String, RootfsFile> {
    let mut all = images(dir);
    let there = all.iter().map(Image::platform).collect::<Vec<_>>();
    all.retain(|image| image.platform() == platform);
    all.dedup_by(|a, b| a.manifest == b.manifest);
    let [image] = &all[..] else {
        panic!("{} has {} images for {platform}; it has {there:?}", dir.display(), all.len())
    };
    let mut files = BTreeMap::new();
    for descriptor in image.layers() {
        apply(&mut files, open_layer(dir, descriptor));
    }
    files
}

/// Each layer of the layout's only image with the line of history that made it, base first: every path of the
/// layer itself, whiteouts under their own names.
pub fn layers_with_history(dir: &Path) -> Vec<(String, BTreeMap<String, RootfsFile>)> {
    let all = images(dir);
    let [image] = &all[..] else { panic!("{} has {} images", dir.display(), all.len()) };
    let history = list(&image.config["history"]).iter();
    let made = history.filter(|line| line["empty_layer"] != true);
    let lines: Vec<&str> = made.map(|line| line["created_by"].as_str().unwrap_or_default()).collect();
    assert_eq!(lines.len(), image.layers().len(), "history and layers of {}", dir.display());
    let files = |descriptor| {
        let mut archive = tar::Archive::new(open_layer(dir, descriptor));
        let mut files = BTreeMap::new();
        for entry in archive.entries().expect("a layer is a tar") {
            let mut entry = entry.expect("a layer's tar can be read to its end");
            let path = plain_path(&entry.path().expect("a path"));
            let file = describe(&mut entry, |target| files.get(target).cloned());
            files.insert(path, file);
        }
        files
    };
    lines.into_iter().map(str::to_owned).zip(image.layers().iter().map(files)).collect()
}

/// Whiteouts hide what *lower* layers have, wherever they stand in their own layer.
fn apply(files: &mut BTreeMap<String, RootfsFile>, layer: Box<dyn Read>) {
    let mut archive = tar::Archive::new(layer);
    let mut added: BTreeMap<String, RootfsFile> = BTreeMap::new();
    for entry in archive.entries().expect("a layer is a tar") {
        let mut entry = entry.expect("a layer's tar can be read to its end");
        let path = plain_path(&entry.path().expect("a path"));
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let beneath = |folder: &str, path: &str| {
            folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        };
        if name == ".wh..wh..opq" {
            files.retain(|path, _| !beneath(parent, path));
        } else if let Some(hidden) = name.strip_prefix(".wh.") {
            let hidden = if parent.is_empty() { hidden.to_owned() } else { format!("{parent}/{hidden}") };
            files.retain(|path, _| *path != hidden && !beneath(&hidden, path));
        } else {
            let file =
                describe(&mut entry, |target| added.get(target).or_else(|| files.get(target)).cloned());
            if file.file_type != FileType::Directory {
                files.retain(|other, _| !beneath(&path, other));
            }
            added.insert(path, file);
        }
    }
    files.extend(added);
}

fn describe(
    entry: &mut tar::Entry<'_, Box<dyn Read>>,
    file_at: impl Fn(&str) -> Option<RootfsFile>,
) -> RootfsFile {
    let link = entry.link_name().expect("a link name").map(std::borrow::Cow::into_owned);
    if entry.header().entry_type().is_hard_link() {
        let target = plain_path(&link.expect("a hard link has a target"));
        let file = file_at(&target).unwrap_or_else(|| panic!("a hard link to {target}, which is not there"));
        return RootfsFile { link: Some(target), ..file };
    }
    let header = entry.header().clone();
    let file_type = match header.entry_type() {
        tar::EntryType::Regular => FileType::File,
        tar::EntryType::Directory => FileType::Directory,
        tar::EntryType::Symlink => FileType::Symlink,
        _ => FileType::Special,
    };
    let xattrs = xattrs(entry);
    let is_file = file_type == FileType::File;
    let content = is_file.then(|| hex_digest(entry));
    RootfsFile {
        file_type,
        mode: header.mode().expect("a mode"),
        uid: entry_number(header.uid()),
        gid: entry_number(header.gid()),
        mtime: entry_number(header.mtime()),
        size: content.as_ref().map_or(0, |(_, bytes)| *bytes),
        sha256: content.map(|(hex, _)| hex),
        link: link.map(|link| link.display().to_string()),
        xattrs,
    }
}

fn entry_number(number: std::io::Result<u64>) -> u64 {
    number.expect("a number in a tar header")
}

fn xattrs(entry: &mut tar::Entry<'_, Box<dyn Read>>) -> BTreeMap<String, Vec<u8>> {
    let records = entry.pax_extensions().expect("PAX records").into_iter().flatten();
    let records = records.map(|record| record.expect("a PAX record"));
    let named = records.filter_map(|record| {
        let name = record.key().ok()?.strip_prefix("SCHILY.xattr.")?.to_owned();
        Some((name, record.value_bytes().to_vec()))
    });
    named.collect()
}

/// Refuses what no layer may hold: absolute paths and `..`.
fn plain_path(path: &Path) -> String {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let names = parts.map(|part| match part {
        Component::Normal(name) => name.to_string_lossy().into_owned(),
        _ => panic!("a layer holds the path {}", path.display()),
    });
    names.collect::<Vec<_>>().join("/")
}
