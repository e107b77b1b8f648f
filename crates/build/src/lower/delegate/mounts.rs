//! What a RUN asks for besides its command: mounts, networks, privileges.

use std::sync::Arc;

use ocib_dockerfile::{Span, Spanned};
use ocib_image::{ImageName, RunFiles};

use super::{
    super::{Backend, Lowering},
    diff_ids, made,
    writer::{Writer, unwritable},
};
use crate::{
    Error, Problem,
    delegate::{Input, Piece, flag},
    files::Mode,
    plan::{Act, Action, Around, CopyPlan, Delegated, MountPlan, MountSource, RunPlan, Source, Step},
    stages::Origin,
};

impl Writer<'_> {
    pub(super) fn mount(&mut self, mount: &MountPlan, pieces: &mut Vec<Piece>) -> Result<(), Error> {
        if is_left_out(mount) {
            return Ok(());
        }
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

    pub(super) fn flags(run: &RunPlan, pieces: &mut Vec<Piece>) {
        for (name, value) in flags(run) {
            pieces.push(Piece::Text(format!(" --{name}={value}")));
        }
    }
}

/// The flags of a RUN that ask for something else than the default.
fn flags(run: &RunPlan) -> impl Iterator<Item = (&'static str, &str)> {
    let flags = [("network", &run.network, "default"), ("security", &run.security, "sandbox")];
    flags.into_iter().filter_map(|(name, value, default)| {
        Some((name, value.as_deref().filter(|value| *value != default)?))
    })
}

/// No secret and no agent is given, and then BuildKit mounts nothing.
fn is_left_out(mount: &MountPlan) -> bool {
    let is_required = mount.option(&["required"]).is_some_and(|value| !matches!(value, "false" | "0"));
    matches!(&*mount.kind, "secret" | "ssh") && !is_required
}

impl Lowering {
    /// An error if the backend, where it is known, lacks what the part needs. This depends on no result, so
    /// that nothing has run when it is refused.
    pub(in crate::lower) fn require_features(&self, part: &Delegated) -> Result<(), Error> {
        for within in &part.instructions {
            let Act::Run(run) = &within.act else { continue };
            for mount in run.mounts.iter().filter(|mount| !is_left_out(mount)) {
                let can = |backend: Backend| backend.features.mounts.contains(&&*mount.kind);
                self.require(can, || format!("--mount=type={}", mount.kind), mount.span)?;
                let is_context =
                    matches!(mount.source, MountSource::Context | MountSource::From(Origin::Tree(_)));
                let can = |backend: Backend| !is_context || backend.files == RunFiles::Registry;
                self.require(can, || "--mount=type=bind of a context".to_owned(), mount.span)?;
            }
            for (name, value) in flags(run) {
                let can = |backend: Backend| match name {
                    "network" => backend.features.network,
                    _ => backend.features.security,
                };
                self.require(can, || format!("--{name}={value}"), within.span)?;
            }
            if let Some(device) = run.devices.first() {
                self.require(|_| false, || format!("--device={device}"), within.span)?;
            }
        }
        Ok(())
    }

    fn require(
        &self,
        can: impl FnOnce(Backend) -> bool,
        what: impl FnOnce() -> String,
        span: Span,
    ) -> Result<(), Error> {
        match self.backend {
            Some(backend) if !can(backend) => {
                Err(Problem::Unsupported { backend: backend.name, what: what() }.at(span))
            }
            _ => Ok(()),
        }
    }
}
