//! Simple RUNs carried out on headers: what the image's own shell and commands would make, or why that
//! is not certain.
//!
//! Whatever differs between GNU's commands and busybox's, between shells or between kernels is a doubt,
//! and so is every error: the real shell tells those better.

mod owners;
mod place;

use std::{cell::OnceCell, collections::HashMap};

use ocib_dockerfile::simple::{Called, Command, NewMode, Owner};
use ocib_image::{EntryKind, LayerError, LinkGroup, NodeKind, Timestamp};

use super::Rootfs;
use crate::{
    files::{Attributes, Files, FilesLayer, Found, LayerBuilder},
    path,
    plan::{SimpleRun, mode_after},
};
use place::{Last, is_vital, mounts_below};

/// The umask of every builder's containers.
const UMASK: u32 = 0o022;
const SETGID: u32 = 0o2000;
/// Where the system's own commands are; a command found elsewhere may be anything.
const SYSTEM: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Why a RUN was not carried out.
#[derive(Debug)]
pub(super) enum Stop {
    /// A container has to tell.
    Doubt(String),
    /// There is no shell, so there is nothing to tell.
    NoShell,
    /// A base could not be read.
    Layer(LayerError),
}

impl From<LayerError> for Stop {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

fn doubt<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Doubt(why.into()))
}

/// The layer that `run` makes on `below`; what it makes is from `made_time`.
pub(super) fn carry_out(run: &SimpleRun, below: &Rootfs, made_time: Timestamp) -> Result<FilesLayer, Stop> {
    let mut shell = Shell {
        run,
        below,
        builder: LayerBuilder::new(below, made_time),
        made_time,
        here: Vec::new(),
        links: OnceCell::new(),
    };
    shell.start()?;
    for called in &run.commands {
        shell.call(called).map_err(|stop| match stop {
            Stop::Doubt(why) => Stop::Doubt(format!("{}: {why}", called.text)),
            other => other,
        })?;
    }
    Ok(shell.builder.finish_changes()?)
}

/// A RUN while it is carried out.
struct Shell<'a> {
    run: &'a SimpleRun,
    below: &'a Rootfs,
    builder: LayerBuilder<'a>,
    made_time: Timestamp,
    /// The working directory, a tree path without links.
    here: Vec<u8>,
    /// How many paths each file of `below` has, counted when it is first asked.
    links: OnceCell<HashMap<LinkGroup, u32>>,
}

impl Shell<'_> {
    fn start(&mut self) -> Result<(), Stop> {
        if self.run.has_shell {
            match self.look("/bin/sh", Last::Followed)?.and_then(|place| place.found) {
                None => return Err(Stop::NoShell),
                Some(found) if is_program(&found) => {}
                Some(_) => return doubt("/bin/sh is no program"),
            }
        }
        if self.look("/etc/ld.so.preload", Last::Kept)?.is_some_and(|place| place.found.is_some()) {
            return doubt("/etc/ld.so.preload changes what commands do");
        }
        self.require_superuser(&self.run.user)?;
        let directory = &self.run.working_dir;
        match self.look(directory, Last::Followed)? {
            Some(place) if place.is_directory() => self.here = place.path,
            _ => return doubt(format!("the working directory {directory} is not there")),
        }
        Ok(())
    }

    fn call(&mut self, called: &Called) -> Result<(), Stop> {
        if let Some(program) = &called.program {
            self.require_program(program)?;
        }
        match &called.command {
            Command::Nothing => Ok(()),
            Command::MakeDirectories { paths, parents: false, mode } => {
                paths.iter().try_for_each(|path| self.make_new_directory(path, *mode))
            }
            Command::MakeDirectories { paths, parents: true, mode } => {
                paths.iter().try_for_each(|path| self.make_directories(path, *mode))
            }
            Command::ChangeMode { mode, paths, recursive } => {
                paths.iter().try_for_each(|path| self.change_mode(path, mode, *recursive))
            }
            Command::ChangeOwner { owner, paths, recursive } => {
                paths.iter().try_for_each(|path| self.change_owner(path, owner, *recursive))
            }
            Command::Link { target, link, force, no_dereference } => {
                self.link(target, link, *force, *no_dereference)
            }
            Command::Touch { paths } => paths.iter().try_for_each(|path| self.touch(path)),
            Command::Remove { paths, force, recursive } => {
                paths.iter().try_for_each(|path| self.remove(path, *force, *recursive))
            }
        }
    }

    /// The first program of that name has to be one of the system's own.
    fn require_program(&self, program: &str) -> Result<(), Stop> {
        let candidates: Vec<(&str, String)> = match program.rsplit_once('/') {
            Some((directory, _)) => vec![(directory, program.to_owned())],
            None => {
                let directories = self.run.search.split(':');
                directories.map(|directory| (directory, format!("{directory}/{program}"))).collect()
            }
        };
        for (directory, candidate) in candidates {
            if !directory.starts_with('/') {
                return doubt(format!("PATH has {directory:?}, which is no absolute path"));
            }
            let Some(place) = self.look(&candidate, Last::Followed)? else { continue };
            let Some(found) = &place.found else { continue };
            let is_own = SYSTEM.contains(&directory.trim_end_matches('/'));
            if !is_program(found) || !is_own || !place::is_system(&place.path) {
                return doubt(format!("{candidate} may be anything"));
            }
            return Ok(());
        }
        doubt(format!("{program} is not in the image"))
    }

    fn make_new_directory(&mut self, written: &str, mode: Option<u32>) -> Result<(), Stop> {
        // A slash behind a link does not make the kernel follow it here.
        let place = self.existing_parent(written.trim_end_matches('/'), Last::Kept)?;
        match place.found {
            None => self.make_directory(&place.path, mode),
            Some(_) => doubt(format!("{written} is there already")),
        }
    }

    fn make_directories(&mut self, written: &str, mode: Option<u32>) -> Result<(), Stop> {
        if mode.is_some() && written.ends_with("/.") {
            // Some give the mode to the directory, some to nothing, as its dot is there by then.
            return doubt(format!("whose mode is meant by {written} differs between commands"));
        }
        let mut directory = if written.starts_with('/') { Vec::new() } else { self.here.clone() };
        let parts = written.split('/').filter(|part| !part.is_empty() && *part != ".");
        let mut parts = parts.peekable();
        while let Some(part) = parts.next() {
            if part == ".." {
                return doubt("it goes up");
            }
            let here = path::join(&directory, part.as_bytes());
            place::require_unmounted(&here)?;
            let is_last = parts.peek().is_none();
            match self.builder.find(&here)? {
                None => {
                    self.make_directory(&here, mode.filter(|_| is_last))?;
                    directory = here;
                }
                Some(found) => {
                    let absolute = format!("/{}", String::from_utf8_lossy(&here));
                    match self.look(&absolute, Last::Followed)? {
                        Some(place) if place.is_directory() => directory = place.path,
                        _ => return doubt(format!("{absolute} is no directory")),
                    }
                    // Not every version leaves it alone.
                    if is_last && mode.is_some_and(|mode| mode != found.node.mode) {
                        return doubt(format!("{absolute} is there with another mode"));
                    }
                }
            }
        }
        Ok(())
    }

    fn make_directory(&mut self, path: &[u8], mode: Option<u32>) -> Result<(), Stop> {
        let inherited = self.group_in(path)?;
        if mode.is_some() && inherited.is_some() {
            return doubt("the directory above hands its group on");
        }
        let attributes = Attributes {
            mode: mode.unwrap_or(0o777 & !UMASK) | inherited.map_or(0, |_| SETGID),
            gid: inherited.unwrap_or(0),
            ..self.plain_attributes()
        };
        self.builder.make(path, EntryKind::Directory, attributes);
        Ok(())
    }

    /// The group that what is made at `path` gets from the directory above, if that has the bit for it.
    fn group_in(&self, path: &[u8]) -> Result<Option<u32>, Stop> {
        let Some(parent) = self.builder.find(path::parent(path))? else { return Ok(None) };
        if parent.xattrs.is_some_and(|xattrs| !xattrs.is_empty()) {
            return doubt("the directory above has extended attributes");
        }
        Ok((parent.node.mode & SETGID != 0).then_some(parent.node.gid))
    }

    fn plain_attributes(&self) -> Attributes {
        Attributes { mode: 0, uid: 0, gid: 0, mtime: self.made_time, xattrs: None }
    }

    fn change_mode(&mut self, written: &str, mode: &NewMode, recursive: bool) -> Result<(), Stop> {
        // Of a link that is named, some go on to what it points to, and some do not.
        let last = if recursive { Last::NoLink } else { Last::Followed };
        let top = self.existing(written, last)?.path;
        self.each(&top, recursive, |shell, path, found| {
            let mut changed = found.clone();
            if matches!(found.node.kind, NodeKind::Symlink(_)) {
                return Ok(());
            }
            let is_directory = found.node.kind == NodeKind::Directory;
            match mode_after(mode, found.node.mode, is_directory) {
                Some(mode) => changed.node.mode = mode,
                None => return doubt(format!("{mode} of {:o} differs between commands", found.node.mode)),
            }
            shell.change(path, found, &changed)
        })
    }

    fn change_owner(&mut self, written: &str, owner: &Owner, recursive: bool) -> Result<(), Stop> {
        let (uid, gid) = self.ids_of(owner)?;
        let last = if recursive { Last::NoLink } else { Last::Followed };
        let top = self.existing(written, last)?.path;
        self.each(&top, recursive, |shell, path, found| {
            let mut changed = found.clone();
            changed.node.uid = uid.unwrap_or(found.node.uid);
            changed.node.gid = gid.unwrap_or(found.node.gid);
            if matches!(found.node.kind, NodeKind::File { .. }) {
                // Linux takes them away whoever asks, also if the owner stays the same.
                let group_executes = found.node.mode & 0o010 != 0;
                changed.node.mode &= if group_executes { !0o6000 } else { !0o4000 };
            }
            shell.change(path, found, &changed)
        })
    }

    /// Calls `act` for what is at `path`, and if `recursive` for all below it.
    fn each(
        &mut self,
        top: &[u8],
        recursive: bool,
        mut act: impl FnMut(&mut Self, &[u8], &Found) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if recursive && mounts_below(top) {
            return doubt("other file systems are mounted below");
        }
        let mut todo = vec![top.to_vec()];
        while let Some(path) = todo.pop() {
            let Some(found) = self.builder.find(&path)? else { continue };
            act(self, &path, &found)?;
            if recursive && found.node.kind == NodeKind::Directory {
                todo.extend(self.builder.names(&path)?.iter().map(|name| path::join(&path, name)));
            }
        }
        Ok(())
    }

    fn change(&mut self, path: &[u8], found: &Found, changed: &Found) -> Result<(), Stop> {
        if found.node == changed.node {
            return Ok(());
        }
        self.require_own(path, found)?;
        self.builder.put_found(path, changed, None);
        Ok(())
    }

    /// What is changed in a container is a copy: other names of a file may keep what they had, and
    /// attributes that grant rights may be lost.
    fn require_own(&self, path: &[u8], found: &Found) -> Result<(), Stop> {
        let shown = String::from_utf8_lossy(path);
        // An access list among them would change with the mode.
        if found.xattrs.as_ref().is_some_and(|xattrs| !xattrs.is_empty()) {
            return doubt(format!("/{shown} has extended attributes"));
        }
        match found.node.kind {
            NodeKind::Directory | NodeKind::Symlink(_) => return Ok(()),
            NodeKind::File { .. } => {}
            _ => return doubt(format!("/{shown} is a special file")),
        }
        let Some(group) = found.node.link_group else { return Ok(()) };
        if self.links.get().is_none() {
            let _ = self.links.set(count_links(self.below)?);
        }
        match self.links.get().and_then(|links| links.get(&group)) {
            Some(&count) if count > 1 => doubt(format!("/{shown} has hard links")),
            _ => Ok(()),
        }
    }

    fn link(&mut self, target: &str, written: &str, force: bool, no_dereference: bool) -> Result<(), Stop> {
        let mut place = self.existing_parent(written, Last::Kept)?;
        let is_link = matches!(&place.found, Some(found) if matches!(found.node.kind, NodeKind::Symlink(_)));
        let followed = match is_link && !no_dereference {
            true => self.look(written, Last::Followed)?.filter(place::Place::is_directory),
            false => None,
        };
        if let Some(directory) = followed.or_else(|| place.is_directory().then(|| place.clone())) {
            let name = target.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            if matches!(name, "" | "." | "..") {
                return doubt(format!("{target} has no name"));
            }
            let inside = path::join(&directory.path, name.as_bytes());
            place::require_unmounted(&inside)?;
            place = place::Place { found: self.builder.find(&inside)?, path: inside };
        } else if written.ends_with('/') || target == written {
            return doubt(format!("{written} is no directory"));
        }
        match &place.found {
            None => {}
            Some(_) if place.is_directory() || !force => return doubt(format!("{written} is there already")),
            Some(_) if is_vital(&place.path) => return doubt("commands may need what it replaces"),
            Some(_) => self.builder.erase(&place.path)?,
        }
        let attributes = Attributes {
            mode: 0o777,
            gid: self.group_in(&place.path)?.unwrap_or(0),
            ..self.plain_attributes()
        };
        self.builder.make(&place.path, EntryKind::Symlink(target.as_bytes().into()), attributes);
        Ok(())
    }

    fn touch(&mut self, written: &str) -> Result<(), Stop> {
        let place = self.existing_parent(written, Last::Followed)?;
        let Some(found) = place.found else {
            if written.ends_with('/') {
                return doubt(format!("{written} is no directory"));
            }
            let gid = self.group_in(&place.path)?.unwrap_or(0);
            let attributes = Attributes { mode: 0o666 & !UMASK, gid, ..self.plain_attributes() };
            self.builder.make(&place.path, EntryKind::File { size: 0 }, attributes);
            return Ok(());
        };
        if found.node.kind == NodeKind::Directory {
            // The time of a directory alone is no change to any builder.
            return Ok(());
        }
        if written.ends_with('/') {
            return doubt(format!("{written} is no directory"));
        }
        self.require_own(&place.path, &found)?;
        let mut touched = found;
        touched.node.mtime = self.made_time;
        self.builder.put_found(&place.path, &touched, None);
        self.builder.mark_fresh(&place.path);
        Ok(())
    }

    fn remove(&mut self, written: &str, force: bool, recursive: bool) -> Result<(), Stop> {
        if matches!(written.trim_end_matches('/').rsplit('/').next(), Some("." | "..")) {
            return doubt("it names no entry of a directory");
        }
        let bare = written.trim_end_matches('/');
        if bare.is_empty() {
            return doubt("it is the root");
        }
        // A slash behind a link: busybox removes the link, GNU empties what it leads to.
        let place = self.look(bare, Last::Kept)?;
        if place.as_ref().is_some_and(|place| place.path.is_empty()) {
            return doubt("it is the root");
        }
        let Some((place, found)) = place.and_then(|place| Some((place.clone(), place.found?))) else {
            return if force { Ok(()) } else { doubt(format!("{written} is not there")) };
        };
        let is_directory = found.node.kind == NodeKind::Directory;
        if written.ends_with('/') && !is_directory || is_directory && !recursive {
            return doubt(format!("{written} is of another type"));
        }
        if mounts_below(&place.path) || is_vital(&place.path) {
            return doubt("other file systems are mounted there, or commands need it");
        }
        if self.here == place.path || path::ancestors(&self.here).any(|above| above == place.path) {
            return doubt("it is the working directory or above it");
        }
        self.builder.erase(&place.path)?;
        Ok(())
    }
}

fn is_program(found: &Found) -> bool {
    matches!(found.node.kind, NodeKind::File { .. }) && found.node.mode & 0o111 != 0
}

fn count_links(files: &Rootfs) -> Result<HashMap<LinkGroup, u32>, LayerError> {
    let mut counts = HashMap::new();
    let mut todo = vec![Vec::new()];
    while let Some(directory) = todo.pop() {
        for name in files.names(&directory)? {
            let path = path::join(&directory, &name);
            let Some(found) = files.find(&path)? else { continue };
            match (found.node.kind, found.node.link_group) {
                (NodeKind::Directory, _) => todo.push(path),
                (_, Some(group)) => *counts.entry(group).or_default() += 1,
                _ => {}
            }
        }
    }
    Ok(counts)
}
