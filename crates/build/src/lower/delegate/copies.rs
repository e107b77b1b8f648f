//! COPY and ADD between RUNs.

use std::sync::Arc;

use ocib_dockerfile::Spanned;
use ocib_image::NodeKind;

use super::writer::{Writer, unwritable};
use crate::{
    Error,
    delegate::{Piece, copied_path, flag},
    files::{FilesLayer, Rootfs},
    lower::Part,
    path,
    plan::{Action, CopyPlan, Step},
};

/// What is copied is below a directory of this name in the directory of the copy.
const ROOT: &str = "x";

impl Writer<'_> {
    /// The files become a layer of the image of files; the backend puts them to their place, as it alone
    /// knows what is there.
    pub(super) fn copy(&mut self, number: usize, step: &Step, copy: &CopyPlan) -> Result<(), Error> {
        let name = copy.chown.as_ref().filter(|owner| !is_numeric(&owner.value));
        let place = format!("/{}/{ROOT}", self.copies.len());
        let mut layer = self.layer(step, copy, &place)?;
        let top = path::clean(place.as_bytes());
        let is_file =
            |layer: &FilesLayer| layer.find(&top).is_some_and(|found| found.node.kind != NodeKind::Directory);
        let source = match layer.find(&top) {
            // A wildcard that matches nothing copies nothing.
            None => return Ok(()),
            Some(_) if is_file(&layer) => {
                // Where the destination turns out to be a directory, the file keeps its name in it.
                let directory = format!("{place}/");
                layer = self.layer(step, copy, &directory)?;
                let names = layer.names(&top).next().map(|name| String::from_utf8_lossy(name).into_owned());
                format!("{directory}{}", names.unwrap_or_default())
            }
            Some(_) => format!("{place}/"),
        };
        let mut destination = copy.destination.clone();
        if source.ends_with('/') && !destination.ends_with('/') {
            destination.push('/');
        }
        let part = self.lowering.part(step, Arc::new(layer))?;
        self.copies.push(part);
        let image = self.files_image();
        let chown = match name {
            Some(owner) => {
                let owner = flag(&owner.value).ok_or_else(|| unwritable("--chown").at(owner.span))?;
                format!(" --chown={owner}")
            }
            None => String::new(),
        };
        let paths = [copied_path(&source, true), copied_path(&destination, false)].join(",");
        let pieces = vec![
            Piece::Text("COPY --from=".to_owned()),
            Piece::Image(image),
            Piece::Text(format!("{chown} [{paths}]")),
        ];
        self.line(step.span, Some(number), pieces);
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
        let step = Step { created_by: step.created_by.clone(), span: step.span, action: Action::Copy(plan) };
        self.lowering.step(&step, &Rootfs::default(), self.stages.files())
    }

    /// A layer for the image of files.
    pub(super) fn push_copy(&mut self, part: Part) {
        self.copies.push(part);
    }
}

fn is_numeric(owner: &str) -> bool {
    owner.split(':').all(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
}
