//! What a RUN asks for besides its command: mounts, networks, privileges.

use std::sync::Arc;

use ocib_dockerfile::{Span, Spanned, glob::has_wildcard};
use ocib_image::{ImageName, RunDialect, RunFiles, RunSecret};

use super::{
    super::{Backend, Lowering},
    diff_ids, made,
    writer::{Writer, unwritable},
};
use crate::{
    Error, Problem,
    delegate::{Input, Piece, flag},
    files::Mode,
    plan::{
        Act, Action, Around, CopyPlan, Delegated, MountKind, MountPlan, MountSource, Owner, RunPlan, Source,
        Step,
    },
    stages::Origin,
};

/// Of a secret's file, unless its mount says otherwise (BuildKit, `llb.AddSecret`).
const SECRET_MODE: u32 = 0o400;
/// Of an agent's socket (BuildKit, `llb.AddSSHSocket`).
const AGENT_MODE: u32 = 0o600;

impl Writer<'_> {
    pub(super) fn mount(&mut self, mount: &MountPlan, pieces: &mut Vec<Piece>) -> Result<(), Error> {
        let given = mount.given(&self.lowering.request.secrets).cloned();
        if is_left_out(mount, given.as_ref()) {
            return Ok(());
        }
        self.secrets.extend(given);
        let dialect = self.dialect();
        // Buildah keeps what is written to it in the image, where later commands would find it.
        let is_kept = mount.kind == MountKind::Bind { is_writable: true } && dialect == RunDialect::Buildah;
        let (from, source) = match &mount.source {
            MountSource::Nothing => (None, None),
            MountSource::Context(path) => self.mounted_files(mount, None, path, is_kept)?,
            MountSource::From(origin, path) if is_kept || matches!(origin, Origin::Tree(_)) => {
                self.mounted_files(mount, Some(origin.clone()), path, is_kept)?
            }
            MountSource::From(origin, path) => {
                (self.mounted_image(origin)?, Some(path.clone()).filter(|path| path != "/"))
            }
        };
        pieces.push(Piece::Text(format!(" --mount=type={}", mount.kind.name())));
        if let Some(image) = from {
            pieces.extend([Piece::Text(",from=".to_owned()), Piece::Image(image)]);
        }
        let places = [("source", source), ("target", mount.target.clone())];
        let places = places.into_iter().filter_map(|(name, path)| Some((name, Some(path?))));
        let mut text = String::new();
        for (name, value) in places.chain(options(&mount.kind, dialect)) {
            let option = value.map_or_else(|| name.to_owned(), |value| format!("{name}={value}"));
            let option = flag(&option).filter(|option| !option.contains(','));
            text += ",";
            text += &option.ok_or_else(|| unwritable("--mount").at(mount.span))?;
        }
        pieces.push(Piece::Text(text));
        Ok(())
    }

    /// Files that are mounted out of a context: those below `path` alone are sent. If they are `apart`, no other
    /// mount and no copy has the same layer.
    fn mounted_files(
        &mut self,
        mount: &MountPlan,
        from: Option<Origin>,
        path: &str,
        apart: bool,
    ) -> Result<(Option<usize>, Option<String>), Error> {
        if has_wildcard(path) {
            // It would be one here, and is none to BuildKit.
            return Err(Problem::PatternMounted { name: path.to_owned() }.at(mount.span));
        }
        let plan = CopyPlan {
            from,
            unpack: false,
            unpack_remote: false,
            sources: vec![Source::Path(Spanned::new(path.to_owned(), mount.span))],
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
        let place = match apart {
            true => format!("/apart-{}/x", self.next_image()),
            false => format!("/{}/x", self.copies.len()),
        };
        let layer = Arc::new(self.layer(&step, &plan, &place)?);
        let part = self.lowering.part(&step, layer)?;
        let image = match apart {
            true => self.image_apart(part)?,
            false => {
                self.push_copy(part);
                self.files_image()
            }
        };
        Ok((Some(image), Some(place)))
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

/// BuildKit mounts nothing where no secret or agent is given, unless one is required.
fn is_left_out(mount: &MountPlan, given: Option<&RunSecret>) -> bool {
    given.is_none() && matches!(mount.asks_for(), Some((_, false)))
}

/// What else a mount says. Whoever reads it may have other defaults, so modes are always said.
fn options(kind: &MountKind, dialect: RunDialect) -> Vec<(&'static str, Option<String>)> {
    let is_buildah = dialect == RunDialect::Buildah;
    let owned = |owner: &Owner, mode: Option<u32>| {
        let mode = owner.mode.or(mode).map(|mode| format!("0{mode:o}"));
        let [uid, gid] = [owner.uid, owner.gid].map(|id| id.map(|id| id.to_string()));
        [("mode", mode), ("uid", uid), ("gid", gid)]
    };
    let valued: Vec<(&'static str, Option<String>)> = match kind {
        MountKind::Bind { is_writable } => return is_writable.then_some(("rw", None)).into_iter().collect(),
        MountKind::Cache { id, sharing, is_writable, owner } => {
            let sharing = sharing.clone().filter(|_| !is_buildah);
            let mut options = vec![("id", id.clone()), ("sharing", sharing)];
            options.extend(owned(owner, None));
            let read_only = (!is_writable).then_some(("ro", None));
            return given(options).chain(read_only).collect();
        }
        MountKind::Tmpfs { bytes } => {
            let name = if is_buildah { "tmpfs-size" } else { "size" };
            vec![(name, bytes.map(|bytes| bytes.to_string()))]
        }
        MountKind::Secret { id, variable, owner, .. } => {
            let mut options = vec![("id", Some(id.clone())), ("env", variable.clone())];
            options.extend(owned(owner, Some(SECRET_MODE)));
            options
        }
        MountKind::Ssh { id, owner, .. } => {
            let mut options = vec![("id", Some(id.clone()))];
            options.extend(owned(owner, Some(AGENT_MODE)));
            options
        }
    };
    given(valued).collect()
}

/// Options that have a value.
fn given(
    options: Vec<(&'static str, Option<String>)>,
) -> impl Iterator<Item = (&'static str, Option<String>)> {
    options.into_iter().filter(|(_, value)| value.is_some())
}

impl Lowering {
    /// An error if the backend, where it is known, lacks what the part needs. This depends on no result, so
    /// that nothing has run when it is refused.
    pub(in crate::lower) fn require_features(&self, part: &Delegated) -> Result<(), Error> {
        for within in &part.instructions {
            let Act::Run(run) = &within.act else { continue };
            for mount in &run.mounts {
                let given = mount.given(&self.request.secrets);
                if is_left_out(mount, given) {
                    continue;
                }
                let kind = mount.kind.name();
                let can = |backend: Backend| backend.features.mounts.contains(&kind);
                self.require(can, || format!("--mount=type={kind}"), mount.span)?;
                if let MountKind::Secret { variable: Some(name), .. } = &mount.kind {
                    let can = |backend: Backend| backend.features.dialect == RunDialect::BuildKit;
                    self.require(can, || format!("--mount=type=secret,env={name}"), mount.span)?;
                }
                if let (Some((id, _)), None, Some(_)) = (mount.asks_for(), given, self.backend) {
                    let what = if kind == "ssh" { "the ssh agent" } else { "the secret" };
                    return Err(Problem::MissingSecret { what, id: id.to_owned() }.at(mount.span));
                }
                let is_context =
                    matches!(mount.source, MountSource::Context(_) | MountSource::From(Origin::Tree(_), _));
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
