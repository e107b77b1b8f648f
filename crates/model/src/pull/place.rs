//! Giving files their names, once all of them are there and right.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::{
    Member, MemberKind, Prefix, Pulled,
    fetch::{Fetched, to_path},
    write_error,
};
use crate::Error;

/// Names that remove what lower layers have (image-spec, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

pub(super) struct Placing {
    pub(super) directory: PathBuf,
    pub(super) prefix: Prefix,
}

/// What will be at a path of the target.
struct Final {
    kind: MemberKind,
    mode: u32,
    place: PathBuf,
    is_in_place: bool,
}

impl Placing {
    /// Applies the layers, base first, and moves what is left to its place. Blocks.
    pub(super) fn place(&self, layers: Vec<Fetched>, name: &str) -> Result<Pulled, Error> {
        let mut all: BTreeMap<Vec<u8>, Final> = BTreeMap::new();
        let mut pulled = Pulled { files: 0, bytes: 0, present_bytes: 0 };
        for Fetched { members, places, is_in_place, bytes } in layers {
            pulled.present_bytes += if is_in_place { bytes } else { 0 };
            for (member, place) in members.into_iter().zip(places) {
                self.apply(&mut all, member, place, is_in_place);
            }
        }
        for path in all.keys() {
            let is_below_file = ancestors(path)
                .any(|above| all.get(above).is_some_and(|found| found.kind != MemberKind::Directory));
            if is_below_file {
                return Err(self.refused(path, "something above it is no directory"));
            }
        }
        for (path, found) in &all {
            if let MemberKind::File { bytes, .. } = found.kind {
                pulled.files += 1;
                pulled.bytes += bytes;
                self.move_file(path, found)?;
            }
        }
        if pulled.files == 0 {
            let why = "it has no file of a model; --prefix says where the image keeps them".to_owned();
            return Err(Error::Unpack { name: name.to_owned(), why });
        }
        for (path, found) in &all {
            match &found.kind {
                MemberKind::File { .. } => {}
                MemberKind::Directory => self.directories(path, true)?,
                MemberKind::Symlink(target) => self.link(path, target)?,
                MemberKind::Hardlink(target) => self.hard_link(path, target, &all)?,
            }
        }
        Ok(pulled)
    }

    fn apply(&self, all: &mut BTreeMap<Vec<u8>, Final>, member: Member, place: PathBuf, is_in_place: bool) {
        let Some(path) = self.prefix.strip(&member.path) else { return };
        let slash = path.iter().rposition(|&b| b == b'/');
        let (parent, name) = path.split_at(slash.map_or(0, |slash| slash + 1));
        if name == OPAQUE {
            all.retain(|known, _| !known.starts_with(parent));
        } else if let Some(removed) = name.strip_prefix(WHITEOUT) {
            let removed = [parent, removed].concat();
            all.retain(|known, _| *known != removed && !known.starts_with(&[&removed[..], b"/"].concat()));
        } else {
            let found = Final { kind: member.kind, mode: member.mode, place, is_in_place };
            all.insert(path.to_vec(), found);
        }
    }

    fn move_file(&self, path: &[u8], found: &Final) -> Result<(), Error> {
        let target = self.directory.join(to_path(path));
        if found.is_in_place {
            return Ok(());
        }
        self.directories(path, false)?;
        // Of the mode only what a file of one user needs: the owner is whoever unpacks.
        let mode = 0o644 | (found.mode & 0o111);
        let place = || {
            fs::set_permissions(&found.place, fs::Permissions::from_mode(mode))?;
            fs::rename(&found.place, &target)
        };
        place().map_err(write_error(&target))
    }

    /// Makes the directories above `path`, and itself if it `is_one`. None of them may be a link: it could
    /// lead anywhere.
    fn directories(&self, path: &[u8], is_one: bool) -> Result<(), Error> {
        let itself = is_one.then_some(path);
        for directory in ancestors(path).chain(itself).filter(|directory| !directory.is_empty()) {
            let place = self.directory.join(to_path(directory));
            match fs::symlink_metadata(&place) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => return Err(self.refused(path, "something above it is no directory")),
                Err(_) => fs::create_dir(&place).map_err(write_error(&place))?,
            }
        }
        Ok(())
    }

    fn link(&self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        let mut depth = ancestors(path).count();
        for name in target.split(|&b| b == b'/') {
            match name {
                b"" | b"." => {}
                b".." if depth == 0 => {
                    return Err(self.refused(path, "it is a link that leads out of the directory"));
                }
                b".." => depth -= 1,
                _ => depth += 1,
            }
        }
        if target.starts_with(b"/") {
            return Err(self.refused(path, "it is a link that leads out of the directory"));
        }
        self.directories(path, false)?;
        let place = self.directory.join(to_path(path));
        self.replace(&place, |place| symlink(to_path(target), place))
    }

    fn hard_link(&self, path: &[u8], target: &[u8], all: &BTreeMap<Vec<u8>, Final>) -> Result<(), Error> {
        let from = self.prefix.strip(target);
        let is_file =
            |path: &&[u8]| all.get(*path).is_some_and(|found| matches!(found.kind, MemberKind::File { .. }));
        let from = from
            .filter(is_file)
            .ok_or_else(|| self.refused(path, "it is a hard link to no file of the model"))?;
        self.directories(path, false)?;
        let from = self.directory.join(to_path(from));
        self.replace(&self.directory.join(to_path(path)), |place| fs::hard_link(&from, place))
    }

    /// Makes something anew at `place`, where an earlier run may have made it.
    fn replace(&self, place: &Path, make: impl Fn(&Path) -> io::Result<()>) -> Result<(), Error> {
        match fs::remove_file(place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write_error(place)(error)),
            _ => {}
        }
        make(place).map_err(write_error(place))
    }

    fn refused(&self, path: &[u8], why: &str) -> Error {
        Error::Unpack { name: String::from_utf8_lossy(path).into_owned(), why: why.to_owned() }
    }
}

/// The directories above a path, the outermost first.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}
