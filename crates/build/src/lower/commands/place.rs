//! Where a path leads, as the kernel finds it.

use ocib_image::NodeKind;

use super::{Shell, Stop, doubt};
use crate::{
    files::{Files, Found},
    path,
};

/// Linux gives up after so many.
const LINKS_MAX: usize = 40;
/// What runtimes mount into every container; `etc` holds two of them.
const MOUNTED: [&[u8]; 6] = [b"proc", b"sys", b"dev", b"etc/hosts", b"etc/resolv.conf", b"etc/hostname"];

/// What is done with a link at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Last {
    /// It leads on.
    Followed,
    /// It is what is meant.
    Kept,
    /// There should be none.
    NoLink,
}

/// The end of a path whose parents are there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Without links.
    pub(super) path: Vec<u8>,
    /// What is there; nothing for the root, which no header describes.
    pub(super) found: Option<Found>,
}

impl Place {
    pub(super) fn is_directory(&self) -> bool {
        self.path.is_empty()
            || self.found.as_ref().is_some_and(|found| found.node.kind == NodeKind::Directory)
    }
}

impl Shell<'_> {
    /// Follows a path from the working directory; `None` if a parent is missing.
    pub(super) fn look(&self, written: &str, last: Last) -> Result<Option<Place>, Stop> {
        let mut out = if written.starts_with('/') { Vec::new() } else { self.here.clone() };
        let mut todo = parts(written.as_bytes());
        let mut links = 0;
        let wants_directory = written.ends_with('/') || written.ends_with("/.");
        let last = if wants_directory && last == Last::Kept { Last::Followed } else { last };
        while let Some(part) = todo.pop() {
            if part == b".." {
                out.truncate(path::parent(&out).len());
                continue;
            }
            let here = path::join(&out, &part);
            require_unmounted(&here)?;
            let found = self.builder.find(&here)?;
            match (&found, todo.is_empty()) {
                (Some(Found { node, .. }), is_last) if let NodeKind::Symlink(target) = &node.kind => {
                    if is_last && last == Last::NoLink {
                        return doubt(format!("{written} is a symbolic link"));
                    }
                    if is_last && last == Last::Kept {
                        return Ok(Some(Place { path: here, found }));
                    }
                    links += 1;
                    if links > LINKS_MAX {
                        return doubt(format!("{written} leads through too many links"));
                    }
                    if target.first() == Some(&b'/') {
                        out.clear();
                    }
                    // What has to be a directory for the link has to be one for whoever follows it.
                    if target.last() == Some(&b'/') && is_last {
                        return doubt(format!("{written} is a link to what has to be a directory"));
                    }
                    todo.extend(parts(target));
                }
                (_, true) => return Ok(Some(Place { path: here, found })),
                (None, false) => return Ok(None),
                (Some(found), false) if found.node.kind == NodeKind::Directory => out = here,
                (Some(_), false) => return doubt(format!("{written} leads through what is no directory")),
            }
        }
        let found = self.builder.find(&out)?;
        Ok(Some(Place { path: out, found }))
    }

    /// A place whose directory has to be there, and that is not the root.
    pub(super) fn existing_parent(&self, written: &str, last: Last) -> Result<Place, Stop> {
        match self.look(written, last)? {
            Some(place) if place.path.is_empty() => doubt("it is the root"),
            Some(place) if written.ends_with("/.") && !place.is_directory() => {
                doubt(format!("{written} is no directory"))
            }
            Some(place) => Ok(place),
            None => doubt(format!("the directory of {written} is not there")),
        }
    }

    /// What has to be there, and is not the root.
    pub(super) fn existing(&self, written: &str, last: Last) -> Result<Place, Stop> {
        let place = self.existing_parent(written, last)?;
        match &place.found {
            None => doubt(format!("{written} is not there")),
            Some(_) if written.ends_with('/') && !place.is_directory() => {
                doubt(format!("{written} is no directory"))
            }
            Some(_) => Ok(place),
        }
    }
}

/// The parts of a written path, the first one last.
fn parts(written: &[u8]) -> Vec<Vec<u8>> {
    let part = written.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".");
    let mut parts: Vec<_> = part.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

/// A place that in a container is not the image's.
pub(super) fn require_unmounted(path: &[u8]) -> Result<(), Stop> {
    match MOUNTED.iter().any(|mounted| is_within(path, mounted)) {
        true => doubt(format!("a container has something else at /{}", String::from_utf8_lossy(path))),
        false => Ok(()),
    }
}

/// Whether something is mounted at `path` or below.
pub(super) fn mounts_below(path: &[u8]) -> bool {
    path.is_empty() || MOUNTED.iter().any(|mounted| is_within(mounted, path))
}

/// Where the system's commands are, and what they are links to.
pub(super) fn is_system(path: &[u8]) -> bool {
    let first: Vec<&[u8]> = path.split(|&b| b == b'/').take(2).collect();
    let is_programs = |name: &[u8]| name == b"bin" || name == b"sbin" || name.starts_with(b"lib");
    match first[..] {
        [b"usr", second] => is_programs(second),
        [first, ..] => is_programs(first),
        [] => false,
    }
}

/// What commands may not work without, but for themselves, which are looked for each time.
pub(super) fn is_vital(path: &[u8]) -> bool {
    let is_libraries = |name: &[u8]| name.starts_with(b"lib");
    let parts: Vec<&[u8]> = path.split(|&b| b == b'/').take(3).collect();
    match parts[..] {
        [b"usr" | b"bin" | b"sbin"] | [b"usr", b"bin" | b"sbin"] => true,
        [b"usr", second, ..] => is_libraries(second),
        [b"etc", name, ..] => name.starts_with(b"ld"),
        [first, ..] => is_libraries(first) || path.is_empty(),
        [] => true,
    }
}

fn is_within(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
