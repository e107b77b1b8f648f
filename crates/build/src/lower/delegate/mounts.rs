//! What a RUN asks for besides its command: mounts, networks, privileges.

use std::sync::Arc;

use ocib_dockerfile::{Span, Spanned};
use ocib_image::ImageName;

use super::{
    diff_ids, made,
    writer::{Writer, unwritable},
};
use crate::{
    Error, Problem,
    delegate::{Input, Piece, flag},
    files::Mode,
    plan::{Action, Around, CopyPlan, MountPlan, MountSource, RunPlan, Source, Step},
    stages::Origin,
};

impl Writer<'_> {
    pub(super) fn mount(&mut self, mount: &MountPlan, pieces: &mut Vec<Piece>) -> Result<(), Error> {
        let is_required = mount.option(&["required"]).is_some_and(|value| !matches!(value, "false" | "0"));
        if matches!(&*mount.kind, "secret" | "ssh") && !is_required {
            // None is given, and then BuildKit mounts nothing.
            return Ok(());
        }
        self.require_mount(&mount.kind, mount.span)?;
        let mut options: Vec<(String, Option<String>)> = mount.options.clone();
        let from = match &mount.source {
            MountSource::Nothing => None,
            MountSource::Context => Some(self.mounted_files(mount, None, &mut options)?),
            MountSource::From(origin @ Origin::Tree(_)) => {
                Some(self.mounted_files(mount, Some(origin.clone()), &mut options)?)
            }
            MountSource::From(origin) => self.mounted_image(origin)?,
        };
        options.retain(|(name, _)| name != "from");
        pieces.push(Piece::Text(" --mount=".to_owned()));
        if let Some(image) = from {
            pieces.extend([
                Piece::Text("from=".to_owned()),
                Piece::Image(image),
                Piece::Text(",".to_owned()),
            ]);
        }
        let mut texts = Vec::new();
        for (name, value) in options {
            let text = value.map_or_else(|| name.clone(), |value| format!("{name}={value}"));
            let text = flag(&text).filter(|text| !text.contains(','));
            texts.push(text.ok_or_else(|| unwritable("--mount").at(mount.span))?);
        }
        pieces.push(Piece::Text(texts.join(",")));
        Ok(())
    }

    /// Files that are mounted out of a context: those below its source alone are sent.
    fn mounted_files(
        &mut self,
        mount: &MountPlan,
        from: Option<Origin>,
        options: &mut Vec<(String, Option<String>)>,
    ) -> Result<usize, Error> {
        if self.is_by_context() {
            return Err(self.cannot("--mount=type=bind of a context").at(mount.span));
        }
        let source = mount.option(&["source", "src"]).unwrap_or("/").to_owned();
        let plan = CopyPlan {
            from,
            unpack: false,
            unpack_remote: false,
            sources: vec![Source::Path(Spanned::new(source, mount.span))],
            inline: Vec::new(),
            destination: String::new(),
            chown: None,
            chmod: Mode::Keep,
            link: false,
            parents: false,
            exclude: Vec::new(),
        };
        let created_by = format!("files of --mount={}", mount.text);
        let step = Step { created_by, span: mount.span, action: Action::Copy(plan.clone()) };
        let place = format!("/{}/x", self.copies.len());
        let layer = Arc::new(self.layer(&step, &plan, &place)?);
        let part = self.lowering.part(&step, layer)?;
        self.push_copy(part);
        options.retain(|(name, _)| !matches!(&**name, "source" | "src"));
        options.push(("source".to_owned(), Some(place)));
        Ok(self.files_image())
    }

    /// An image or a stage that is mounted: the backend takes out of it what it needs.
    fn mounted_image(&mut self, origin: &Origin) -> Result<Option<usize>, Error> {
        let input = match origin {
            Origin::Scratch | Origin::Tree(_) => return Ok(None),
            Origin::Stage(index) => {
                let stage = self.stages.complete(*index).expect("a part waits for the stages that it mounts");
                let diff_ids = diff_ids(self.lowering, &stage.parts)?;
                let config = self.config(&diff_ids, &Around::default());
                made(self.part, &stage.parts, config, &diff_ids)
            }
            Origin::Image(key) => {
                let image = &self.lowering.images[&**key];
                match &key.0 {
                    ImageName::Registry(name) => {
                        let digest = image.manifest.descriptor().digest;
                        Input::There(name.pinned(digest), digest)
                    }
                    _ => {
                        let parts = self.lowering.base_parts(origin)?;
                        let diff_ids = diff_ids(self.lowering, &parts)?;
                        let config = self.config(&diff_ids, &Around::default());
                        made(self.part, &parts, config, &diff_ids)
                    }
                }
            }
        };
        Ok(Some(self.image(input)))
    }

    pub(super) fn flags(&mut self, span: Span, run: &RunPlan, pieces: &mut Vec<Piece>) -> Result<(), Error> {
        let features = self.lowering.backend.map(|backend| backend.features);
        let flags = [
            ("network", &run.network, "default", features.is_none_or(|features| features.network)),
            ("security", &run.security, "sandbox", features.is_none_or(|features| features.security)),
        ];
        for (name, value, default, is_possible) in flags {
            let Some(value) = value.as_ref().filter(|value| **value != default) else { continue };
            if !is_possible {
                return Err(self.cannot(&format!("--{name}={value}")).at(span));
            }
            pieces.push(Piece::Text(format!(" --{name}={value}")));
        }
        match run.devices.first() {
            Some(device) => Err(self.cannot(&format!("--device={device}")).at(span)),
            None => Ok(()),
        }
    }

    fn require_mount(&self, kind: &str, span: Span) -> Result<(), Error> {
        let can = self.lowering.backend.is_none_or(|backend| backend.features.mounts.contains(&kind));
        if can { Ok(()) } else { Err(self.cannot(&format!("--mount=type={kind}")).at(span)) }
    }

    fn cannot(&self, what: &str) -> Problem {
        let backend = self.lowering.backend.map_or("none", |backend| backend.name);
        Problem::Unsupported { backend, what: what.to_owned() }
    }
}
