//! COPY and ADD: what each source really names, and where it goes.

use std::{collections::BTreeMap, sync::Arc};

use ocib_dockerfile::{Patterns, Span, Spanned};
use ocib_image::{Fetched, LayerError, Remote};

use super::{Lowering, blame::Blame, owner};
use crate::{
    Error, Problem, Timestamps,
    context::Context,
    files::{
        Archive, Copy, CopyError, Files, FilesLayer, Found, InlineFile, LayerBuilder, Rootfs, copy,
        expand_wildcards, follow_in, unpack,
    },
    path,
    plan::{CopyPlan, Inline, Source},
    stages::Origin,
};

impl Lowering {
    pub(super) fn copy(
        &mut self,
        span: Span,
        plan: &CopyPlan,
        rootfs: &Rootfs,
        stages: &BTreeMap<usize, Rootfs>,
    ) -> Result<FilesLayer, Error> {
        let owned;
        let from: &dyn Files = match &plan.from {
            None => {
                let needs_context = plan.sources.iter().any(|source| matches!(source, Source::Path(_)));
                match &self.main {
                    Some(context) => &**context,
                    None if needs_context => return Err(Problem::NoContext.at(span)),
                    None => &Rootfs::default(),
                }
            }
            Some(Origin::Stage(index)) => &stages[index],
            Some(Origin::Tree(name)) => &*self.contexts[name],
            Some(Origin::Scratch) => &Rootfs::default(),
            Some(Origin::Image(key)) => {
                owned = self.image_files(key);
                &owned
            }
        };
        self.copy_from(span, plan, from, rootfs)
    }

    fn copy_from(
        &self,
        span: Span,
        plan: &CopyPlan,
        from: &dyn Files,
        rootfs: &Rootfs,
    ) -> Result<FilesLayer, Error> {
        // A linked layer is made as if nothing was below it.
        let nothing = Rootfs::default();
        let below = if plan.link { &nothing } else { rootfs };
        let owner = plan
            .chown
            .as_ref()
            .map(|written| owner(&written.value, (!plan.link).then_some(rootfs), written.span));
        let owner = owner.transpose()?;
        let exclude = patterns(&plan.exclude)?;
        let mut builder = LayerBuilder::new(below, self.made_time());
        let fixed_time = match self.request.timestamps {
            Timestamps::Fixed(time) => Some(time),
            Timestamps::Keep => None,
        };
        for source in &plan.sources {
            let request = Copy {
                destination: &plan.destination,
                owner,
                mode: &plan.chmod,
                include: None,
                exclude: (!exclude.is_empty()).then_some(&exclude),
                follows_links: true,
            };
            match source {
                Source::Path(path) => self.path(from, &mut builder, path, &request, plan)?,
                Source::Remote(remote) => self.remote(&mut builder, remote, &request, plan)?,
            }
        }
        for Inline { file: name, content, .. } in &plan.inline {
            let file = InlineFile::new(name, content, fixed_time.unwrap_or_else(|| self.made_time()));
            let request = Copy {
                destination: &plan.destination,
                owner,
                mode: &plan.chmod,
                include: None,
                exclude: None,
                follows_links: false,
            };
            let blame = Blame { step_span: span, from: None };
            copy(&file, &mut builder, name.as_bytes(), &request).map_err(|error| blame.copy(error))?;
        }
        Ok(builder.finish()?)
    }

    fn path(
        &self,
        from: &dyn Files,
        into: &mut LayerBuilder<'_>,
        source: &Spanned<String>,
        request: &Copy<'_>,
        plan: &CopyPlan,
    ) -> Result<(), Error> {
        let blame = Blame { step_span: source.span, from: Some((from, &source.value)) };
        if !plan.parents {
            let root = format!("/{}", source.value);
            return copy_all(from, into, &root, request, plan.unpack).map_err(|error| blame.copy(error));
        }
        let (root, include) = pivot(source)?;
        require_plain(from, &root, source).map_err(|error| blame.copy(error))?;
        let request = Copy { include: Some(&include), ..*request };
        copy_all(from, into, &root, &request, false).map_err(|error| blame.copy(error))
    }

    fn remote(
        &self,
        into: &mut LayerBuilder<'_>,
        remote: &Spanned<Remote>,
        request: &Copy<'_>,
        plan: &CopyPlan,
    ) -> Result<(), Error> {
        let Fetched { tree, file } = &self.remotes[&remote.value];
        // What a server says of times is part of what it serves, and a commit's is part of the commit.
        let from = Context::new(Arc::clone(tree), Patterns::default(), Timestamps::Keep);
        let blame = Blame { step_span: remote.span, from: None };
        let mut put = || -> Result<(), CopyError> {
            let place = file.as_deref().unwrap_or_default();
            let archive = if plan.unpack_remote && file.is_some() { archive(&from, place)? } else { None };
            match archive {
                Some(archive) => unpack(&Arc::new(archive), into, request.destination, request.owner),
                None => copy(&from, into, place, request),
            }
        };
        put().map_err(|error| blame.copy(error))
    }
}

fn patterns(written: &[Spanned<String>]) -> Result<Patterns, Error> {
    let Some(first) = written.first() else { return Ok(Patterns::default()) };
    let words = written.iter().map(|word| &word.value);
    Patterns::new(words).map_err(|error| Problem::BadPattern(error).at(first.span))
}

/// `--parents`: the directory before `/./` is the source, what follows is included.
fn pivot(source: &Spanned<String>) -> Result<(String, Patterns), Error> {
    let (root, pattern) = source.value.split_once("/./").unwrap_or(("", &source.value));
    let pattern = String::from_utf8_lossy(&path::clean(pattern.as_bytes())).into_owned();
    // The root itself as a pattern means all of it.
    let pattern = if pattern.is_empty() { "**".to_owned() } else { pattern };
    let include = Patterns::new([pattern]).map_err(|error| Problem::BadPattern(error).at(source.span))?;
    Ok((format!("/{root}"), include))
}

/// A source of `--parents` without a wildcard has to be there; links in it are not followed.
fn require_plain(from: &dyn Files, root: &str, source: &Spanned<String>) -> Result<(), CopyError> {
    let pattern = source.value.split_once("/./").map_or(&*source.value, |(_, pattern)| pattern);
    let clean = path::clean(pattern.as_bytes());
    if ocib_dockerfile::glob::has_wildcard(&clean) || clean.is_empty() {
        return Ok(());
    }
    for root in expand_wildcards(from, root)? {
        let place = path::join(&follow_in(from, &root)?, &clean);
        if from.find(&place)?.is_none() {
            return Err(CopyError::NotFound(format!("/{}", String::from_utf8_lossy(&place))));
        }
    }
    Ok(())
}

/// Copies all that `source` names; of archives, what is in them if `unpacks`. A wildcard that matches
/// nothing copies nothing, not even the destination.
fn copy_all(
    from: &dyn Files,
    into: &mut LayerBuilder<'_>,
    source: &str,
    request: &Copy<'_>,
    unpacks: bool,
) -> Result<(), CopyError> {
    for place in expand_wildcards(from, source)? {
        match if unpacks { archive(from, &place)? } else { None } {
            Some(archive) => unpack(&Arc::new(archive), into, request.destination, request.owner)?,
            None => copy(from, into, &place, request)?,
        }
    }
    Ok(())
}

fn archive(from: &dyn Files, place: &[u8]) -> Result<Option<Archive>, LayerError> {
    let is_file = |found: &Found| matches!(found.node.kind, ocib_image::NodeKind::File { .. });
    let place = follow_in(from, place)?;
    match (from.find(&place)?, from.tree()) {
        (Some(found), Some(tree)) if is_file(&found) => Archive::at(&tree, &place),
        _ => Ok(None),
    }
}
