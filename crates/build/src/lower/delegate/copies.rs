//! COPY and ADD between RUNs.

use std::sync::Arc;

use ocib_dockerfile::{Span, Spanned};
use ocib_image::{NodeKind, RunDialect};
use serde_json::Value;

use super::{
    diff_ids,
    writer::{Writer, unwritable},
};
use crate::{
    Error, Problem,
    delegate::{Member, Piece, destination_path, flag, is_plain},
    files::{FilesLayer, Rootfs},
    lower::Part,
    path,
    plan::{Action, CopyPlan, SUPERUSER, Step},
};

/// What is copied is below a directory of this name in the directory of the copy.
const ROOT: &str = "x";

impl Writer<'_> {
    /// The files become a layer of the image of files, or a part of the context; the backend puts them to their
    /// place, as it alone knows what is there.
    pub(super) fn copy(&mut self, number: usize, step: &Step, copy: &CopyPlan) -> Result<(), Error> {
        let directory = format!("{}/{ROOT}", self.copies.len() + self.context.len());
        let top = path::clean(directory.as_bytes());
        // A wildcard that matches nothing copies nothing.
        let Some((layer, source)) = self.sources(step, copy, &directory)? else { return Ok(()) };
        let mut destination = copy.destination.clone();
        if source.ends_with('/') && !destination.ends_with('/') {
            destination.push('/');
        }
        let name = copy.chown.as_ref().filter(|owner| !is_numeric(&owner.value));
        let mut owner = match name {
            Some(owner) => Some(flag(&owner.value).ok_or_else(|| unwritable("--chown").at(owner.span))?),
            None => None,
        };
        let (mut word, mut source) = ("COPY", source);
        let mut owners = layer.owners_below(&top);
        if copy.chown.is_some() {
            // Directories that have to be made for it get that owner, too.
            owners.extend(layer.find(&top).map(|found| (found.node.uid, found.node.gid)));
        }
        let from = if self.is_by_context() {
            // What comes out of a context belongs to root, unless COPY says otherwise.
            let mut member = (layer, None);
            match (&owner, owners.len()) {
                (None, 0 | 1) => {
                    let other = owners.first().filter(|owner| **owner != (0, 0));
                    owner = other.map(|(uid, gid)| format!("{uid}:{gid}"));
                }
                (None, _) => {
                    let archive = format!("{}.tar", self.context.len());
                    member = (self.layer(step, copy, "/")?, Some(archive.clone()));
                    (word, source) = ("ADD", archive);
                }
                (Some(_), _) => {}
            }
            self.add_member(step, member.0, member.1)?;
            vec![Piece::Text(word.to_owned())]
        } else {
            if copy.chown.is_some() && owners.len() == 1 {
                owner = owner.or_else(|| owners.first().map(|(uid, gid)| format!("{uid}:{gid}")));
            }
            let part = self.lowering.part(step, Arc::new(layer))?;
            self.copies.push(part);
            source.insert(0, '/');
            vec![Piece::Text(format!("{word} --from=")), Piece::Image(self.files_image())]
        };
        let chown = owner.map(|owner| format!(" --chown={owner}")).unwrap_or_default();
        let paths = [Value::from(source).to_string(), destination_path(&destination)].join(",");
        let mut pieces = from;
        pieces.push(Piece::Text(format!("{chown} [{paths}]")));
        self.line(step.span, Some(number), pieces);
        Ok(())
    }

    /// The layer of what is copied, below `directory`, and what of it is copied from there: a file by its own name,
    /// for a destination that turns out to be a directory, or all that is in the directory.
    fn sources(
        &mut self,
        step: &Step,
        copy: &CopyPlan,
        directory: &str,
    ) -> Result<Option<(FilesLayer, String)>, Error> {
        let top = path::clean(directory.as_bytes());
        let all = format!("{directory}/");
        if !copy.destination.ends_with('/') {
            let layer = self.layer(step, copy, &format!("/{directory}"))?;
            match layer.find(&top) {
                None => return Ok(None),
                Some(found) if found.node.kind == NodeKind::Directory => return Ok(Some((layer, all))),
                Some(_) => {
                    let layer = self.layer(step, copy, &format!("/{all}"))?;
                    let name =
                        layer.names(&top).next().map(|name| String::from_utf8_lossy(name).into_owned());
                    let name = name.unwrap_or_default();
                    if !is_plain(&name) {
                        // buildah looks for what a wildcard matched as if that was a wildcard again.
                        return Err(Problem::UnwritableName { name }.at(step.span));
                    }
                    let source = format!("{all}{name}");
                    return Ok(Some((layer, source)));
                }
            }
        }
        let layer = self.layer(step, copy, &format!("/{all}"))?;
        Ok(layer.find(&top).is_some().then_some((layer, all)))
    }

    /// What WORKDIR makes is USER's, but with buildah: there an empty directory is copied to its place first, which
    /// leaves what is there as it is.
    pub(super) fn owned_directory(
        &mut self,
        number: usize,
        span: Span,
        path: &str,
        user: &str,
    ) -> Result<(), Error> {
        if self.dialect() != RunDialect::Buildah || SUPERUSER.contains(&user) {
            return Ok(());
        }
        let owner = flag(user).ok_or_else(|| unwritable("USER").at(span))?;
        let place = format!("/{}/{ROOT}/", self.copies.len());
        let action = Action::Directory { path: place.clone(), user: String::new() };
        let step = Step { created_by: format!("directory of WORKDIR {path}"), span, action };
        let layer = self.lowering.directory(&step, &place, None, &Rootfs::default())?;
        let part = self.lowering.part(&step, Arc::new(layer))?;
        self.copies.push(part);
        let paths = [Value::from(place).to_string(), destination_path(&format!("{path}/"))].join(",");
        let from = vec![
            Piece::Text("COPY --from=".to_owned()),
            Piece::Image(self.files_image()),
            Piece::Text(format!(" --chown={owner} [{paths}]")),
        ];
        self.line(span, Some(number), from);
        Ok(())
    }

    fn add_member(&mut self, step: &Step, layer: FilesLayer, archive: Option<String>) -> Result<(), Error> {
        let part = self.lowering.part(step, Arc::new(layer))?;
        let identity = diff_ids(self.lowering, std::slice::from_ref(&part))?[0].0;
        let Part::Made(make) = part else { return Ok(()) };
        self.context.push(Member { files: Arc::clone(&make.files), identity, archive });
        Ok(())
    }

    /// The layer that `copy` makes in an empty file system at `place`. An owner by name is left to whoever
    /// has the accounts.
    pub(super) fn layer(&mut self, step: &Step, copy: &CopyPlan, place: &str) -> Result<FilesLayer, Error> {
        let numeric = |owner: &Spanned<String>| is_numeric(&owner.value);
        let plan = CopyPlan {
            destination: place.to_owned(),
            chown: copy.chown.clone().filter(numeric),
            ..copy.clone()
        };
        self.lowering.copy(step.span, &plan, &Rootfs::default(), self.stages.files())
    }

    /// A layer for the image of files.
    pub(super) fn push_copy(&mut self, part: Part) {
        self.copies.push(part);
    }
}

fn is_numeric(owner: &str) -> bool {
    owner.split(':').all(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
}
