//! COPY: what one source becomes at its destination, exactly as BuildKit's file operation does it
//! (`solver/llbsolver/file` and fsutil's `copy`), but on headers instead of a mounted file system.

use std::{collections::HashMap, sync::Arc};

use ocib_dockerfile::{Matches, Patterns, glob};
use ocib_image::{EntryKind, LayerError, LinkGroup, NodeKind};

use super::{
    builder::{LayerBuilder, MakeError, entry_kind},
    content::{Attributes, Content, Group, Origin},
    mode::Mode,
    owner::Owner,
    rootfs::{Files, Found, follow_in},
};
use crate::path;

/// What a COPY or ADD does with each of its sources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy<'a> {
    /// Absolute; ends in a slash if it must be a directory.
    pub(crate) destination: &'a str,
    /// `--chown`, resolved.
    pub(crate) owner: Option<Owner>,
    /// `--chmod`.
    pub(crate) mode: &'a Mode,
    /// `--parents`: what is copied out of the source, paths kept.
    pub(crate) include: Option<&'a Patterns>,
    /// `--exclude`, relative to the source.
    pub(crate) exclude: Option<&'a Patterns>,
    /// Whether a source that is a link is followed; not so for heredocs.
    pub(crate) follows_links: bool,
}

/// Why a source could not be copied.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// There is no such source.
    NotFound(String),
    /// A wildcard that is none (Go: `syntax error in pattern`).
    BadPattern,
    /// What should be a directory at the destination is something else.
    NotADirectory(Vec<u8>),
    /// A file would take the place of a directory.
    OverDirectory(Vec<u8>),
    /// A directory would take the place of something else.
    OverFile(Vec<u8>),
    /// A source or a base could not be read.
    Layer(LayerError),
}

impl From<LayerError> for CopyError {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

impl From<MakeError> for CopyError {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::NotADirectory(path) => Self::NotADirectory(path),
            MakeError::Layer(error) => Self::Layer(error),
        }
    }
}

/// The sources that are there now: those that the pattern matches, in the order of a walk.
pub(crate) fn expand_wildcards(from: &dyn Files, written: &str) -> Result<Vec<Vec<u8>>, CopyError> {
    let source = path::clean(written.as_bytes());
    let parts: Vec<&[u8]> = source.split(|&b| b == b'/').collect();
    let Some(first) = parts.iter().position(glob::has_wildcard) else {
        return Ok(vec![source]);
    };
    let plain = follow_in(from, &parts[..first].join(&b'/'))?;
    let pattern = parts[first..].join(&b'/');
    glob::matches(&pattern, b"").map_err(|_| CopyError::BadPattern)?;
    let mut matches = Vec::new();
    let mut walk =
        WildcardWalk { from, pattern: &pattern, parts: &parts[first..], root: &plain, matches: &mut matches };
    walk.directory(&plain, 0)?;
    Ok(matches)
}

struct WildcardWalk<'a> {
    from: &'a dyn Files,
    pattern: &'a [u8],
    parts: &'a [&'a [u8]],
    root: &'a [u8],
    matches: &'a mut Vec<Vec<u8>>,
}

impl WildcardWalk<'_> {
    fn directory(&mut self, directory: &[u8], depth: usize) -> Result<(), CopyError> {
        // Only a bracket can match a slash, so without one a directory that does not match its
        // part of the pattern holds no match, and nothing below the last part does.
        let is_prunable = !self.pattern.contains(&b'[');
        if is_prunable && depth == self.parts.len() {
            return Ok(());
        }
        for name in self.from.names(directory)? {
            let path = path::join(directory, &name);
            let Some(found) = self.from.find(&path)? else { continue };
            let relative = path[self.root.len()..].strip_prefix(b"/").unwrap_or(&path[self.root.len()..]);
            if glob::matches(self.pattern, relative).unwrap_or(false) {
                self.matches.push(path);
            } else if found.node.kind == NodeKind::Directory {
                let fits = || glob::matches(self.parts[depth], &name).unwrap_or(false);
                if !is_prunable || fits() {
                    self.directory(&path, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

/// Copies the file or tree at `source`, a tree path (Go's `copy.Copy`): makes the destination's
/// directories, then what is in them.
pub(crate) fn copy(
    from: &dyn Files,
    into: &mut LayerBuilder<'_>,
    source: &[u8],
    request: &Copy<'_>,
) -> Result<(), CopyError> {
    let not_found = || CopyError::NotFound(format!("/{}", String::from_utf8_lossy(source)));
    let followed = if request.follows_links { follow_in(from, source)? } else { source.to_vec() };
    let root = match followed.is_empty() {
        true => None,
        false => Some(from.find(&followed)?.ok_or_else(not_found)?),
    };
    let is_directory = root.as_ref().is_none_or(|found| found.node.kind == NodeKind::Directory);

    let written = request.destination.as_bytes();
    let directory_part = &written[..=written.iter().rposition(|&b| b == b'/').unwrap_or(0)];
    let ensured = follow_in(into, &path::clean(directory_part))?;
    into.make_directories(&ensured, request.mode, request.owner)?;
    let mut destination = follow_in(into, &path::clean(written))?;
    let there = if destination.is_empty() { None } else { into.find(&destination)? };
    let there_is_directory =
        destination.is_empty() || there.as_ref().is_some_and(|found| found.node.kind == NodeKind::Directory);
    if !is_directory && there_is_directory {
        path::push(&mut destination, path::base(source));
    }
    let target = match is_directory && there.is_none() {
        true => destination.clone(),
        false => path::parent(&destination).to_vec(),
    };
    into.make_directories(&target, request.mode, request.owner)?;

    let tree = from
        .tree()
        .map(|tree| Arc::new(Origin { tree, root: followed.clone().into(), strip: destination.len() }));
    let mut copier = Copier { from, into, request, tree, inodes: HashMap::new(), parents: Vec::new() };
    match root {
        Some(found) if !is_directory => copier.put(&found, &destination),
        _ => copier.top_directory(&followed, &destination),
    }
}

/// Copies one source; hard links are kept within it.
struct Copier<'a, 'b> {
    from: &'a dyn Files,
    into: &'a mut LayerBuilder<'b>,
    request: &'a Copy<'a>,
    tree: Option<Arc<Origin>>,
    inodes: HashMap<LinkGroup, Group>,
    /// Directories on the way down that are made once something in them is included.
    parents: Vec<Parent>,
}

/// What the patterns said of the directory that is walked.
#[derive(Default)]
struct Matched {
    include: Matches,
    exclude: Matches,
}

struct Parent {
    source: Found,
    destination: Vec<u8>,
    is_made: bool,
}

impl Copier<'_, '_> {
    fn top_directory(&mut self, source: &[u8], destination: &[u8]) -> Result<(), CopyError> {
        let there = if destination.is_empty() { None } else { self.into.find(destination)? };
        if there.is_some_and(|found| found.node.kind != NodeKind::Directory) {
            return Err(CopyError::OverFile(destination.to_vec()));
        }
        self.names(source, &[], destination, &Matched::default())
    }

    fn names(
        &mut self,
        source: &[u8],
        relative: &[u8],
        destination: &[u8],
        matched: &Matched,
    ) -> Result<(), CopyError> {
        for name in self.from.names(source)? {
            let relative = path::join(relative, &name);
            let (source, destination) = (path::join(source, &name), path::join(destination, &name));
            let Some(found) = self.from.find(&source)? else { continue };
            self.node(found, &source, &relative, &destination, matched)?;
        }
        Ok(())
    }

    fn node(
        &mut self,
        found: Found,
        source: &[u8],
        relative: &[u8],
        destination: &[u8],
        above: &Matched,
    ) -> Result<(), CopyError> {
        let Copy { include, exclude, .. } = self.request;
        let check = |patterns: &Patterns, above| patterns.check(relative, above);
        let (is_meant, include_matches) =
            include.map_or((true, Matches::default()), |p| check(p, &above.include));
        let (is_excluded, exclude_matches) =
            exclude.map_or((false, Matches::default()), |p| check(p, &above.exclude));
        let is_included = is_meant && !is_excluded;
        if is_included {
            self.make_parents()?;
        }
        if found.node.kind != NodeKind::Directory {
            return if is_included { self.put(&found, destination) } else { Ok(()) };
        }
        let is_worth_a_look = is_included
            || (is_meant || include.is_some_and(|include| include.matches_below(relative)))
                && (!is_excluded || exclude.is_some_and(|exclude| exclude.exceptions_below(relative)));
        if !is_worth_a_look {
            return Ok(());
        }
        if is_included {
            self.put_directory(&found, destination)?;
        }
        self.parents.push(Parent { source: found, destination: destination.to_vec(), is_made: is_included });
        let matched = Matched { include: include_matches, exclude: exclude_matches };
        self.names(source, relative, destination, &matched)?;
        self.parents.pop();
        Ok(())
    }

    fn make_parents(&mut self) -> Result<(), CopyError> {
        for at in 0..self.parents.len() {
            if !self.parents[at].is_made {
                self.parents[at].is_made = true;
                let (found, destination) =
                    (self.parents[at].source.clone(), self.parents[at].destination.clone());
                // A directory that was there keeps its owner but gets the mode (`copyDirectoryOnly`).
                match self.into.find(&destination)? {
                    Some(there) if there.node.kind == NodeKind::Directory => {
                        let attributes = Attributes {
                            mode: found.node.mode,
                            uid: there.node.uid,
                            gid: there.node.gid,
                            mtime: there.node.mtime,
                            xattrs: there.xattrs,
                        };
                        self.into.put(&destination, EntryKind::Directory, attributes, Content::Nothing, None);
                    }
                    _ => self.put_directory(&found, &destination)?,
                }
            }
        }
        Ok(())
    }

    fn put_directory(&mut self, found: &Found, destination: &[u8]) -> Result<(), CopyError> {
        let there = self.into.find(destination)?;
        if there.is_some_and(|there| there.node.kind != NodeKind::Directory) {
            return Err(CopyError::OverFile(destination.to_vec()));
        }
        let attributes = self.attributes(found);
        self.into.put(destination, EntryKind::Directory, attributes, Content::Nothing, None);
        Ok(())
    }

    /// Puts anything but a directory.
    fn put(&mut self, found: &Found, destination: &[u8]) -> Result<(), CopyError> {
        if self.into.find(destination)?.is_some_and(|there| there.node.kind == NodeKind::Directory) {
            return Err(CopyError::OverDirectory(destination.to_vec()));
        }
        let Some(kind) = entry_kind(&found.node.kind) else { return Ok(()) };
        let is_file = matches!(kind, EntryKind::File { .. });
        let group = found.node.link_group.filter(|_| is_file).map(|inode| match self.inodes.get(&inode) {
            Some(group) => *group,
            None => {
                let group = self.into.group();
                self.inodes.insert(inode, group);
                group
            }
        });
        let content = match &self.tree {
            Some(origin) if is_file => Content::Tree(Arc::clone(origin)),
            _ => found.content.clone(),
        };
        let attributes = self.attributes(found);
        self.into.put(destination, kind, attributes, content, group);
        Ok(())
    }

    fn attributes(&self, found: &Found) -> Attributes {
        let node = &found.node;
        let owner = self.request.owner.unwrap_or_default();
        let mode = match node.kind {
            NodeKind::Symlink(_) => 0o777,
            _ => self.request.mode.apply(node.mode, node.kind == NodeKind::Directory),
        };
        Attributes {
            mode,
            uid: owner.uid.unwrap_or(node.uid),
            gid: owner.gid.unwrap_or(node.gid),
            mtime: node.mtime,
            xattrs: found.xattrs.clone(),
        }
    }
}
