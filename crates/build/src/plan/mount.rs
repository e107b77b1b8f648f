//! `RUN --mount`: what each option means, as BuildKit reads it (`parseMount`, `dispatchRunMounts`).

use std::collections::BTreeSet;

use ocib_dockerfile::{Mount, Span, Spanned};
use ocib_image::RunSecret;

use super::{Dispatcher, history};
use crate::{Error, Problem, path, stages::Origin};

/// A `--mount`.
#[derive(Debug)]
pub(crate) struct MountPlan {
    /// Its options with their values expanded, as they were written otherwise.
    pub(crate) text: String,
    pub(crate) kind: MountKind,
    /// Where its files come from.
    pub(crate) source: MountSource,
    /// Absolute; where it is while the command runs. A secret that is a variable need not have one.
    pub(crate) target: Option<String>,
    pub(crate) span: Span,
}

/// What is mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum MountKind {
    /// Files; what is written to them is lost.
    Bind { is_writable: bool },
    /// A directory that lasts.
    Cache {
        id: Option<String>,
        /// `shared`, `private` or `locked`.
        sharing: Option<String>,
        is_writable: bool,
        owner: Owner,
    },
    /// Memory.
    Tmpfs { bytes: Option<u64> },
    /// A file or a variable that the builder is given.
    Secret {
        id: String,
        is_required: bool,
        /// The variable that shows it.
        variable: Option<String>,
        owner: Owner,
    },
    /// A socket of an agent that the builder is given.
    Ssh { id: String, is_required: bool, owner: Owner },
}

/// Whose a mount is; what is not said is the superuser's, with the kind's own mode.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mode: Option<u32>,
}

/// Where a mount's files come from, and which of them.
#[derive(Debug)]
pub(crate) enum MountSource {
    /// Nowhere: caches, memory, secrets and sockets.
    Nothing,
    /// The main context; the path is absolute.
    Context(String),
    /// A stage, an image or a named context; the path is absolute.
    From(Origin, String),
}

impl MountKind {
    /// As `type` names it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "bind",
            Self::Cache { .. } => "cache",
            Self::Tmpfs { .. } => "tmpfs",
            Self::Secret { .. } => "secret",
            Self::Ssh { .. } => "ssh",
        }
    }
}

impl MountPlan {
    /// What a builder has to be given for it: the id, and whether the command is not to run without.
    pub(crate) fn asks_for(&self) -> Option<(&str, bool)> {
        match &self.kind {
            MountKind::Secret { id, is_required, .. } | MountKind::Ssh { id, is_required, .. } => {
                Some((id, *is_required))
            }
            _ => None,
        }
    }

    /// Which of `secrets` it is.
    pub(crate) fn given<'s>(&self, secrets: &'s [RunSecret]) -> Option<&'s RunSecret> {
        let (id, _) = self.asks_for()?;
        let is_agent = matches!(self.kind, MountKind::Ssh { .. });
        secrets.iter().rfind(|secret| secret.id == id && secret.is_agent() == is_agent)
    }
}

impl Dispatcher<'_> {
    pub(super) fn mount(&self, mount: &Mount) -> Result<MountPlan, Error> {
        let span = mount.text.span;
        let mut options = Vec::with_capacity(mount.options.len());
        for option in &mount.options {
            let value = match &option.value {
                // A name, which never expands.
                Some(value) if option.name == "from" => Some(value.clone()),
                Some(value) => Some(self.expand(&Spanned::new(value.clone(), span))?),
                None => None,
            };
            options.push((&*option.name, value));
        }
        let written = Written::read(&options).map_err(|problem| problem.at(span))?;
        let shown = options.iter().map(|(name, value)| match value {
            Some(value) => history::pair(name, value),
            None => (*name).to_owned(),
        });
        let text = shown.collect::<Vec<_>>().join(",");
        let from = written.from.clone();
        let source_path = absolute("/", written.source.as_deref().unwrap_or_default());
        let working_dir = &self.state.config.runtime.working_dir;
        let target = written.target.as_ref().map(|target| absolute(working_dir, target));
        let kind = written.kind().map_err(|problem| problem.at(span))?;
        let source = match (&kind, from.as_deref()) {
            (MountKind::Bind { .. } | MountKind::Cache { .. }, Some(from)) => MountSource::From(
                self.stages.mount_origin(self.index, &Spanned::new(from.to_owned(), span))?,
                source_path,
            ),
            (MountKind::Bind { .. }, None) => MountSource::Context(source_path),
            _ => MountSource::Nothing,
        };
        let target = match (&kind, target) {
            (MountKind::Secret { variable: Some(_), .. }, target) => target,
            (MountKind::Secret { id, .. }, None) => {
                let name = id.rsplit('/').next().unwrap_or(id);
                Some(format!("/run/secrets/{name}"))
            }
            (MountKind::Ssh { .. }, target) => target,
            (_, target) => match target.unwrap_or_else(|| absolute(working_dir, "")) {
                root if root == "/" => return Err(bad("it needs a target other than the root").at(span)),
                target => Some(target),
            },
        };
        Ok(MountPlan { text, kind, source, target, span })
    }
}

/// The options of a mount by what they mean, whatever kind it is.
#[derive(Default)]
struct Written {
    kind: String,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    is_writable: Option<bool>,
    is_required: bool,
    id: Option<String>,
    sharing: Option<String>,
    bytes: Option<u64>,
    variable: Option<String>,
    owner: Owner,
    /// Those that not every kind has.
    special: BTreeSet<&'static str>,
}

impl Written {
    fn read(options: &[(&str, Option<String>)]) -> Result<Self, Problem> {
        let mut read = Self { kind: "bind".to_owned(), ..Self::default() };
        for (name, value) in options {
            match value {
                Some(value) => read.set(name, value)?,
                None => read.switch(name)?,
            }
        }
        Ok(read)
    }

    /// An option without a value.
    fn switch(&mut self, name: &str) -> Result<(), Problem> {
        match name {
            "readonly" | "ro" | "readwrite" | "rw" | "required" => self.set(name, "true"),
            name => Err(bad(format!("{name} must have a value"))),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        let boolean = || {
            let known = match value {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
                _ => None,
            };
            known.ok_or_else(|| bad(format!("{name} must be true or false, not {value:?}")))
        };
        let number = |radix| {
            let wanted = if radix == 8 { "an octal number" } else { "a number" };
            u32::from_str_radix(value, radix)
                .map_err(|_| bad(format!("{name} must be {wanted}, not {value:?}")))
        };
        let text = || Some(value.to_owned()).filter(|text| !text.is_empty());
        match name {
            "type" => self.kind = value.to_lowercase(),
            "from" => self.from = text(),
            "source" | "src" => self.source = text(),
            "target" | "dst" | "destination" => self.target = text(),
            "readonly" | "ro" => self.is_writable = Some(!boolean()?),
            "readwrite" | "rw" => self.is_writable = Some(boolean()?),
            "required" => {
                self.is_required = boolean()?;
                self.special.insert("required");
            }
            "id" => self.id = text(),
            "sharing" => {
                let sharing = value.to_lowercase();
                if !["shared", "private", "locked"].contains(&&*sharing) {
                    return Err(bad(format!("sharing must be shared, private or locked, not {value:?}")));
                }
                self.sharing = Some(sharing);
                self.special.insert("sharing");
            }
            "size" => {
                self.bytes = Some(size(value).ok_or_else(|| bad(format!("{value:?} is no size")))?);
                self.special.insert("size");
            }
            "env" => {
                self.variable = text();
                self.special.insert("env");
            }
            "mode" => {
                self.owner.mode = Some(number(8)?);
                self.special.insert("mode");
            }
            "uid" => {
                self.owner.uid = Some(number(10)?);
                self.special.insert("uid");
            }
            "gid" => {
                self.owner.gid = Some(number(10)?);
                self.special.insert("gid");
            }
            name => return Err(bad(format!("there is no option {name:?}"))),
        }
        Ok(())
    }

    fn kind(self) -> Result<MountKind, Problem> {
        let Self { is_required, owner, sharing, .. } = self;
        let (kind, allowed): (_, &[&str]) = match &*self.kind {
            "bind" => (MountKind::Bind { is_writable: self.is_writable == Some(true) }, &[]),
            "cache" => {
                let is_writable = self.is_writable != Some(false);
                let kind = MountKind::Cache { id: self.id, sharing, is_writable, owner };
                (kind, &["sharing", "mode", "uid", "gid"])
            }
            "tmpfs" => (MountKind::Tmpfs { bytes: self.bytes }, &["size"]),
            "secret" => {
                if self.from.is_some() {
                    return Err(bad("a secret comes from nowhere else"));
                }
                if self.source.is_some() && self.id.is_some() {
                    return Err(bad("source is another word for id: both cannot be set"));
                }
                let of_target = || self.target.as_deref()?.rsplit('/').next().map(str::to_owned);
                let id = self.source.clone().or_else(|| self.id.clone()).or_else(of_target);
                let id = id.ok_or_else(|| bad("a secret needs an id or a target"))?;
                let kind = MountKind::Secret { id, is_required, variable: self.variable, owner };
                (kind, &["required", "env", "mode", "uid", "gid"])
            }
            "ssh" => {
                let id = self.id.unwrap_or_else(|| "default".to_owned());
                (MountKind::Ssh { id, is_required, owner }, &["required", "mode", "uid", "gid"])
            }
            kind => return Err(Problem::BadMount { kind: kind.to_owned() }),
        };
        match self.special.iter().find(|name| !allowed.contains(name)) {
            Some(name) => Err(bad(format!("a mount of type {} has no option {name:?}", kind.name()))),
            None => Ok(kind),
        }
    }
}

fn bad(why: impl Into<String>) -> Problem {
    Problem::BadMountOption { why: why.into() }
}

/// `path` from `directory` on, without dots and without a slash at its end.
fn absolute(directory: &str, path: &str) -> String {
    let absolute = path::absolute(directory, path);
    match absolute.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

/// `64m`, `1.5GiB`: bytes, in powers of 1024 (docker's `units.RAMInBytes`).
fn size(text: &str) -> Option<u64> {
    let lower = text.to_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.trim_start();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let power = match unit {
        "" => 0,
        unit => 1 + ["k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?,
    };
    let bytes = number.parse::<f64>().ok()? * 1024_f64.powi(i32::try_from(power).ok()?);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range, and no digit is negative"
    )]
    (bytes < 9e18).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<MountKind, String> {
        let options: Vec<_> = text
            .split(',')
            .map(|option| match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (option, None),
            })
            .collect();
        Written::read(&options).and_then(Written::kind).map_err(|problem| problem.to_string())
    }

    #[test]
    fn options_by_kind() {
        let owner = Owner { uid: Some(1), gid: Some(2), mode: Some(0o640) };
        let (id, plain) = ("x".to_owned(), Owner::default());
        for (text, kind) in [
            ("target=/x", MountKind::Bind { is_writable: false }),
            ("target=/x,rw,ro=false", MountKind::Bind { is_writable: true }),
            ("type=bind,dst=/x,readwrite=0", MountKind::Bind { is_writable: false }),
            ("type=TMPFS,target=/x,size=1.5k", MountKind::Tmpfs { bytes: Some(1536) }),
            ("type=tmpfs,target=/x,size=2MiB", MountKind::Tmpfs { bytes: Some(2 << 20) }),
            (
                "type=cache,target=/x,ro,sharing=Locked,mode=0640,uid=1,gid=2",
                MountKind::Cache { id: None, sharing: Some("locked".to_owned()), is_writable: false, owner },
            ),
            (
                "type=secret,target=/y/x,required",
                MountKind::Secret { id: id.clone(), is_required: true, variable: None, owner: plain },
            ),
            (
                "type=secret,src=x,env=X,required=false",
                MountKind::Secret {
                    id: id.clone(),
                    is_required: false,
                    variable: Some("X".to_owned()),
                    owner: plain,
                },
            ),
            ("type=ssh", MountKind::Ssh { id: "default".to_owned(), is_required: false, owner: plain }),
            ("type=ssh,id=x,mode=640,uid=1,gid=2", MountKind::Ssh { id, is_required: false, owner }),
        ] {
            assert_eq!(read(text), Ok(kind), "{text}");
        }
        for (text, why) in [
            ("type=nope", "unsupported mount type \"nope\""),
            ("target", "target must have a value"),
            ("target=/x,required", "a mount of type bind has no option \"required\""),
            ("type=bind,mode=755", "a mount of type bind has no option \"mode\""),
            ("type=tmpfs,sharing=shared", "a mount of type tmpfs has no option \"sharing\""),
            ("type=cache,size=1", "a mount of type cache has no option \"size\""),
            ("type=cache,sharing=mine", "sharing must be shared, private or locked, not \"mine\""),
            ("type=cache,mode=888", "mode must be an octal number, not \"888\""),
            ("type=cache,uid=root", "uid must be a number, not \"root\""),
            ("type=tmpfs,size=big", "\"big\" is no size"),
            ("type=secret", "a secret needs an id or a target"),
            ("type=secret,id=a,source=b", "source is another word for id: both cannot be set"),
            ("type=secret,id=a,from=b", "a secret comes from nowhere else"),
            ("ro=maybe", "ro must be true or false, not \"maybe\""),
            ("type=ssh,sauce=x", "there is no option \"sauce\""),
        ] {
            let expected = if text == "type=nope" { why.to_owned() } else { format!("bad mount: {why}") };
            assert_eq!(read(text), Err(expected), "{text}");
        }
    }
}
