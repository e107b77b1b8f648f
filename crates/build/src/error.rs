//! What can go wrong between a Dockerfile and an image.

use std::collections::BTreeSet;

use ocib_dockerfile::{ExpandError, Span};
use ocib_image::{Digest, LayerError, PlaceError, PlaceErrorKind, Platform, RunError};

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Dockerfile or an ignore file cannot be read as one.
    #[error(transparent)]
    Syntax(#[from] ocib_dockerfile::Error),
    /// An instruction cannot be carried out.
    #[error("{problem}")]
    Instruction {
        /// Where it stands in the Dockerfile.
        span: Span,
        /// What is wrong.
        problem: Box<Problem>,
    },
    /// `--target` names no stage.
    #[error("target stage {name:?} could not be found")]
    UnknownTarget {
        /// What was asked for.
        name: String,
        /// The stages that there are.
        stages: Vec<String>,
    },
    /// A registry, layout or archive failed.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A file could not be read or stored.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A value or document is unusable.
    #[error(transparent)]
    Image(#[from] ocib_image::Error),
}

/// What is wrong with an instruction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A word does not expand.
    #[error(transparent)]
    Expand(ExpandError),
    /// FROM names nothing.
    #[error("base name ({written}) should not be blank")]
    BlankBase {
        /// The name before expansion.
        written: String,
    },
    /// FROM or `--from` names something that is no image reference.
    #[error(transparent)]
    BadReference(ocib_image::Error),
    /// `--platform` of FROM.
    #[error("{written:?} gives no platform: {why}")]
    BadPlatform {
        /// The value before expansion.
        written: String,
        /// What came of it.
        why: String,
    },
    /// A base could not be had.
    #[error("cannot resolve {name} for {platform}: {source}")]
    Base {
        /// The image.
        name: String,
        /// The platform that it was asked for.
        platform: Platform,
        /// What the place said.
        source: PlaceError,
    },
    /// The base is an artifact: it has no file system and no config to go on from.
    #[error("{name} is an artifact of type {media_type}, not a container image")]
    NotAnImage {
        /// The image.
        name: String,
        /// The type of its config.
        media_type: String,
    },
    /// `--from` names a stage that comes later, or its own.
    #[error("cannot copy from stage {name:?}, it needs to be defined before the current stage")]
    StageNotBefore {
        /// The stage.
        name: String,
    },
    /// `--from` with a number that no stage has.
    #[error("invalid stage index {index}, there are {count} stages")]
    StageIndex {
        /// The number.
        index: i64,
        /// How many stages there are.
        count: usize,
    },
    /// `--from` with a variable: it does not expand.
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
    )]
    VariableInFrom,
    /// RUN needs a container.
    #[error(
        "RUN needs a container, and no backend that could run it is configured{}",
        why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    Run {
        /// Why it is not carried out without one, although it looks as if it could be.
        why: Option<String>,
    },
    /// RUN in shell form where no shell is.
    #[error("there is no /bin/sh here that could run it: exec: \"/bin/sh\": no such file or directory")]
    NoShell,
    /// The backend could not carry out a RUN, or what it needs.
    #[error(transparent)]
    Backend(RunError),
    /// The backend gave an image that cannot be what was asked for.
    #[error("{backend} gave {digest}, which is not what was asked for: {why}")]
    BadResult {
        /// The backend.
        backend: &'static str,
        /// The manifest that it pushed.
        digest: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// RUN with something that the backend lacks.
    #[error("RUN {what} cannot be carried out by {backend}")]
    Unsupported {
        /// The backend.
        backend: &'static str,
        /// The flag.
        what: String,
    },
    /// A heredoc of RUN with a `#!` line that names no interpreter that is known.
    #[error("a script for an interpreter that cannot be given it as an argument")]
    Script,
    /// A value between RUNs that no line of a Dockerfile can hold.
    #[error(
        "the value of {name} cannot be handed to a backend: it has a line break or a quote there, or is too long"
    )]
    Unwritable {
        /// The variable, flag or instruction.
        name: String,
    },
    /// An instruction that becomes a longer line of the backend's Dockerfile than parsers take.
    #[error("this is a line of {bytes} bytes to a backend, which takes {most} at most")]
    LongLine {
        /// How many bytes.
        bytes: usize,
        /// How many are taken.
        most: usize,
    },
    /// A variable between RUNs with a name that no line of a Dockerfile can hold.
    #[error("a variable called {name:?} cannot be handed to a backend")]
    UnwritableVariable {
        /// Its name.
        name: String,
    },
    /// What a bind mount shows would be taken for a pattern where it is sent.
    #[error("what is called {name:?} cannot be mounted: as a file to send that is a pattern")]
    PatternMounted {
        /// Its path.
        name: String,
    },
    /// A file with a name between RUNs that backends would take for a pattern.
    #[error("a file called {name:?} cannot be handed to a backend by itself")]
    UnwritableName {
        /// Its name.
        name: String,
    },
    /// `--mount` of RUN with a type that there is not.
    #[error("unsupported mount type {kind:?}")]
    BadMount {
        /// What was written, expanded.
        kind: String,
    },
    /// `--mount` of RUN with options that mean nothing together.
    #[error("bad mount: {why}")]
    BadMountOption {
        /// What is wrong with them.
        why: String,
    },
    /// A RUN that is not to run without a secret or an agent, and none is given.
    #[error("{what} {id:?} is required, and none is given")]
    MissingSecret {
        /// `the secret` or `the ssh agent`.
        what: &'static str,
        /// What it is called.
        id: String,
    },
    /// ADD of something that cannot be fetched.
    #[error("cannot fetch: {source}")]
    Fetch {
        /// What the server said.
        source: PlaceError,
    },
    /// ADD of a URL, but nothing is there that could fetch it.
    #[error("there is nothing here that could fetch a URL or repository")]
    NoFetch,
    /// A heredoc of COPY or ADD whose name is no name of a file.
    #[error("the heredoc <<{name} cannot become a file: open /{path}: {why}")]
    HeredocName {
        /// The delimiter.
        name: String,
        /// Where it leads, from the root that BuildKit writes it into.
        path: String,
        /// What is in its way there.
        why: &'static str,
    },
    /// COPY of a URL.
    #[error("source can't be a URL for COPY")]
    CopiedUrl,
    /// COPY of a repository.
    #[error("source can't be a git ref for COPY")]
    CopiedGit,
    /// A repository with options that cannot be followed.
    #[error(transparent)]
    BadGitReference(ocib_image::Error),
    /// `--keep-git-dir` and the same option of a URL say different things.
    #[error("inconsistent keep-git-dir configuration")]
    KeepGitDirConflict,
    /// `--checksum` and the same option of a URL say different things.
    #[error("checksum mismatch {flag:?} != {option:?}")]
    ChecksumConflict {
        /// The flag's value.
        flag: String,
        /// The option's.
        option: String,
    },
    /// `--checksum` of several sources.
    #[error("checksum can't be specified for multiple sources")]
    ManyChecksummed,
    /// `--checksum` that is no digest.
    #[error(transparent)]
    BadChecksum(ocib_image::Error),
    /// `--checksum` of a file that is at hand.
    #[error("checksum requires HTTP(S) or Git sources")]
    LocalChecksum,
    /// COPY from the context, but there is none.
    #[error("there is no build context to copy from")]
    NoContext,
    /// A source does not exist.
    #[error("{path}: not found{}", if *.is_ignored { " (the ignore file excludes it)" } else { "" })]
    NotFound {
        /// The source, from the root of where it was looked for.
        path: String,
        /// Whether it is there, but ignored.
        is_ignored: bool,
        /// Names that are there and look alike.
        similar: Vec<String>,
    },
    /// A wildcard that cannot be understood.
    #[error("{pattern:?} is not a valid wildcard: syntax error in pattern")]
    BadWildcard {
        /// The source.
        pattern: String,
    },
    /// A pattern of `--exclude` or `--parents`.
    #[error(transparent)]
    BadPattern(ocib_dockerfile::Error),
    /// The destination or one of its parents is no directory.
    #[error("/{path} is not a directory")]
    NotADirectory {
        /// Which path.
        path: String,
    },
    /// A file would take the place of a directory.
    #[error("cannot replace directory /{path} with a file")]
    OverDirectory {
        /// Which path.
        path: String,
    },
    /// A directory would take the place of something else.
    #[error("cannot copy a directory to /{path}, which is not a directory")]
    OverFile {
        /// Which path.
        path: String,
    },
    /// `--chmod`.
    #[error("invalid chmod parameter {value:?}: it should be an octal number up to 07777 or a symbolic mode")]
    BadMode {
        /// Its value.
        value: String,
    },
    /// An owner by name where no accounts are.
    #[error("cannot find {owner:?} by name: there is no /etc/passwd to look into here")]
    NoAccounts {
        /// What was written.
        owner: String,
    },
    /// EXPOSE.
    #[error("{0}")]
    BadPort(String),
    /// STOPSIGNAL.
    #[error("invalid signal: {0}")]
    BadSignal(String),
    /// VOLUME that expands to nothing.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// A trigger of the base image.
    #[error("the base image's trigger {trigger:?} cannot be used: {source}")]
    BadTrigger {
        /// Its text.
        trigger: String,
        /// Why.
        source: ocib_dockerfile::Error,
    },
    /// A file could not be read, or was not what it had been, when its layer was made.
    #[error(transparent)]
    Source(PlaceError),
    /// A file that is to be copied cannot be read or stored.
    #[error(transparent)]
    Layer(LayerError),
}

impl Problem {
    pub(crate) fn at(self, span: Span) -> Error {
        Error::Instruction { span, problem: Box::new(self) }
    }

    /// What to do next.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Run { .. } => Some(
                "this stage would be delegated from its first RUN to its last, as `ocib plan` shows; allow it with \
                 --run kaniko, buildah, podman or docker, or choose a stage without RUN by --target"
                    .to_owned(),
            ),
            Self::NoShell => Some(
                "begin with an image that has a shell; scratch has none, and there WORKDIR makes a directory and COPY \
                 takes files with --chown and --chmod"
                    .to_owned(),
            ),
            Self::Backend(error) => Some(error.remedy.clone()),
            Self::BadResult { .. } => {
                Some("a backend pushes to the run repository, and must not squash or replace layers; see how it is configured".to_owned())
            }
            Self::Unsupported { what, .. } if what.starts_with("--mount=type=s") => Some(
                "choose --run buildah, podman or docker; without --secret or --ssh for it nothing is mounted".to_owned(),
            ),
            Self::Unsupported { .. } => Some(
                "leave it out, or choose another --run; files that a bind mount shows can be copied before the RUN"
                    .to_owned(),
            ),
            Self::LongLine { .. } => Some("put the script into a file, COPY it before the RUN, and run that".to_owned()),
            Self::UnwritableName { .. } => Some(
                "end the destination with a slash, or copy the file before the first RUN or after the last".to_owned(),
            ),
            Self::UnwritableVariable { .. } => {
                Some("give it a name of letters of ASCII, digits and underscores, or set it after the last RUN".to_owned())
            }
            Self::PatternMounted { .. } => {
                Some("mount its directory, give it another name, or COPY it before the RUN".to_owned())
            }
            Self::Script => Some(
                "COPY the script before the RUN, or leave out the #! line to have the shell run it; sh, bash, dash, ash, \
                 ksh, zsh, python, python3 and perl are known"
                    .to_owned(),
            ),
            Self::Unwritable { .. } => Some(
                "set it before the first RUN of the stage, or give it a value without line breaks".to_owned(),
            ),
            Self::HeredocName { .. } => {
                Some("a heredoc is a file of that name; say in the destination which directory it is for".to_owned())
            }
            Self::CopiedUrl => Some("ADD fetches it".to_owned()),
            Self::CopiedGit => {
                Some("ADD fetches it; if it is a file, begin its name with ./".to_owned())
            }
            Self::Fetch { source } if source.kind == PlaceErrorKind::Denied => Some(
                "give a user and password in the URL, or for git a token in GIT_AUTH_TOKEN or a header in \
                 GIT_AUTH_HEADER"
                    .to_owned(),
            ),
            Self::BadMount { .. } => {
                Some("the types are bind, cache, tmpfs, secret and ssh; bind is the default".to_owned())
            }
            Self::MissingSecret { what: "the secret", id } => {
                Some(format!("give it with --secret id={id},src=FILE or --secret id={id},env=VARIABLE"))
            }
            Self::MissingSecret { id, .. } => {
                Some(format!("give it with --ssh {id} (the agent of SSH_AUTH_SOCK) or --ssh {id}=SOCKET_OR_KEY"))
            }
            Self::NoFetch => Some("download it into the context first, then COPY it".to_owned()),
            Self::NotFound { is_ignored: true, .. } => {
                Some("let it in by a line that begins with ! at the end of the ignore file".to_owned())
            }
            Self::NotFound { similar, .. } if !similar.is_empty() => {
                Some(format!("did you mean {}?", similar.join(" or ")))
            }
            Self::NotFound { .. } => Some("sources are relative to the build context's root".to_owned()),
            Self::NoAccounts { .. } => {
                Some("give the owner by number, as in --chown=1000:1000".to_owned())
            }
            Self::StageNotBefore { .. } => Some("move that stage up".to_owned()),
            Self::BadPlatform { .. } => Some("write OS/ARCH, as in linux/arm64".to_owned()),
            Self::Expand(error) if matches!(error.reason, ocib_dockerfile::ExpandReason::Required { .. }) => {
                Some("give it a value with --build-arg".to_owned())
            }
            _ => None,
        }
    }
}

impl Error {
    /// The place in the Dockerfile, if it is to blame.
    pub fn span(&self) -> Option<Span> {
        match self {
            Self::Syntax(error) => error.span(),
            Self::Instruction { span, .. } => Some(*span),
            _ => None,
        }
    }

    /// What to do next.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Syntax(error) => error.help(),
            Self::Instruction { problem, .. } => problem.help(),
            Self::UnknownTarget { stages, .. } => Some(match stages.is_empty() {
                true => "no stage of the Dockerfile has a name; name one with FROM … AS name".to_owned(),
                false => format!("the stages are {}", stages.join(", ")),
            }),
            _ => None,
        }
    }
}

/// Names of `known` that a slip of the finger may have turned into `wanted`, best first.
pub(crate) fn similar<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let length = wanted.chars().count();
    // Two letters in the wrong order are two edits; a name replaced altogether is no slip.
    let limit = (length / 3).clamp(2, 3).min(length.saturating_sub(1));
    let near: BTreeSet<(usize, &str)> = known
        .into_iter()
        .map(|name| (ocib_dockerfile::edit_distance(&wanted.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    near.into_iter().take(2).map(|(_, name)| name.to_owned()).collect()
}
