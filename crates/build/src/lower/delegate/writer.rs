//! Writes the Dockerfile of one part, and collects what it names.

use std::collections::BTreeMap;

use ocib_dockerfile::Span;
use ocib_image::{Config, ContainerConfig, DiffId, History, ImageName, RunDialect, RunFiles, RunSecret};

use super::{diff_ids, made, part_bytes, script};
use crate::{
    Error, Problem,
    delegate::{Input, LINE_BYTES_MAX, Line, Member, Piece, Template, environment, flag, word},
    lower::{
        Lowering, Part,
        stages::{Stage, Stages},
    },
    plan::{Act, Action, Around, Delegated, RunPlan, StagePlan, Step, Within},
    stages::Origin,
};

const ENV: &str = "ENV";

pub(super) struct Writer<'a> {
    pub(super) lowering: &'a mut Lowering,
    pub(super) stages: &'a Stages,
    pub(super) part: &'a Delegated,
    images: Vec<Option<Input>>,
    /// The number of the image of copied files, once there is one.
    files: Option<usize>,
    pub(super) copies: Vec<Part>,
    /// How much is in images of their own.
    apart_bytes: u64,
    /// The same for a backend that wants files by its context.
    pub(super) context: Vec<Member>,
    /// What its mounts are lent by the user.
    pub(super) secrets: Vec<RunSecret>,
    dockerfile: Template,
    /// What the next command would find.
    around: Around,
}

/// What a part asks for.
pub(super) struct Written {
    /// By number.
    pub(super) images: Vec<Input>,
    /// Names them.
    pub(super) dockerfile: Template,
    pub(super) context: Vec<Member>,
    pub(super) secrets: Vec<RunSecret>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(lowering: &'a mut Lowering, stages: &'a Stages, part: &'a Delegated) -> Self {
        Self {
            lowering,
            stages,
            part,
            images: Vec::new(),
            files: None,
            copies: Vec::new(),
            apart_bytes: 0,
            context: Vec::new(),
            secrets: Vec::new(),
            dockerfile: Template::default(),
            around: Around::default(),
        }
    }

    /// How much of the context and of other stages is copied or mounted.
    pub(super) fn copied_bytes(&self) -> u64 {
        let by_context = self.context.iter().map(|member| member.files.size().tar_bytes);
        self.apart_bytes + self.copies.iter().map(part_bytes).chain(by_context).sum::<u64>()
    }

    /// In which words it is written.
    pub(super) fn dialect(&self) -> RunDialect {
        self.lowering.backend.map(|backend| backend.features.dialect).unwrap_or_default()
    }

    /// Whether files reach the backend by its context.
    pub(super) fn is_by_context(&self) -> bool {
        self.lowering.backend.is_some_and(|backend| backend.files == RunFiles::Context)
    }

    /// All that was collected.
    pub(super) fn finish(mut self) -> Result<Written, Error> {
        if let Some(files) = self.files {
            let diff_ids = diff_ids(self.lowering, &self.copies)?;
            let config = self.config(&diff_ids, &Around::default());
            self.images[files] = Some(made(self.part, &self.copies, config, &diff_ids));
        }
        if let Some((span, bytes)) = self.dockerfile.too_long() {
            return Err(Problem::LongLine { bytes, most: LINE_BYTES_MAX }.at(span));
        }
        self.secrets.sort_by(|one, other| one.id.cmp(&other.id));
        self.secrets.dedup();
        Ok(Written {
            images: self.images.into_iter().flatten().collect(),
            dockerfile: self.dockerfile,
            context: self.context,
            secrets: self.secrets,
        })
    }

    /// The image of copied files, which is made at the end.
    pub(super) fn files_image(&mut self) -> usize {
        *self.files.get_or_insert_with(|| {
            self.images.push(None);
            self.images.len() - 1
        })
    }

    /// FROM: the base itself if nothing was put on it and lines can say the rest, else what was made so
    /// far with all that is known. Gives the number of lines of history there.
    pub(super) fn from(
        &mut self,
        plan: &StagePlan,
        stage: &Stage,
        before: &[DiffId],
    ) -> Result<usize, Error> {
        let start = &self.part.start;
        let span = self.part.first_span();
        let wanted = Around {
            variables: start.variables.clone(),
            user: start.user.clone(),
            working_dir: start.working_dir.clone(),
        };
        let (pieces, lines) = match self.base(plan, stage) {
            Some((input, around, lines)) => {
                self.around = around;
                (input.map(|input| self.image(input)), lines)
            }
            None => {
                let config = self.config(before, &wanted);
                self.around = wanted;
                let lines = config.history.len();
                let input = made(self.part, &stage.parts, config, before);
                (Some(self.image(input)), lines)
            }
        };
        let name = pieces.map_or_else(|| Piece::Text("scratch".to_owned()), Piece::Image);
        self.line(span, None, vec![Piece::Text("FROM ".to_owned()), name]);
        Ok(lines)
    }

    /// The base as it is, with what it sets and its number of lines of history; `None` if more is to be said.
    fn base(&self, plan: &StagePlan, stage: &Stage) -> Option<(Option<Input>, Around, usize)> {
        let start = &self.part.start;
        if start.variables.iter().any(|(name, value)| environment(name, value).is_none()) {
            return None;
        }
        match &plan.base {
            Origin::Scratch if stage.parts.is_empty() => {
                let nothing = Around { working_dir: "/".to_owned(), ..Around::default() };
                Some((None, nothing, 0))
            }
            Origin::Image(key) => {
                let ImageName::Registry(name) = &key.0 else { return None };
                let image = &self.lowering.images[&**key];
                let Config::Container(config) = &image.config else { return None };
                if config.diff_ids.len() != stage.parts.len() || interferes(config) {
                    return None;
                }
                let digest = image.manifest.descriptor().digest;
                let pairs = config.runtime.env.iter().filter_map(|pair| pair.split_once('='));
                let around = Around {
                    variables: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                    user: config.runtime.user.clone(),
                    working_dir: config.runtime.working_dir.clone(),
                };
                Some((Some(Input::There(name.pinned(digest), digest)), around, config.history.len()))
            }
            _ => None,
        }
    }

    /// A config that says only what commands find, so that nothing else is part of the key.
    pub(super) fn config(&self, diff_ids: &[DiffId], around: &Around) -> ContainerConfig {
        let mut config = ContainerConfig::scratch(&self.part.start.platform);
        config.runtime.env = around.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        config.runtime.user.clone_from(&around.user);
        config.runtime.working_dir.clone_from(&around.working_dir);
        let line = |_| {
            let mut line = History::default();
            "ocib".clone_into(&mut line.created_by);
            line
        };
        config.history = diff_ids.iter().map(line).collect();
        config
    }

    pub(super) fn image(&mut self, input: Input) -> usize {
        self.images.push(Some(input));
        self.images.len() - 1
    }

    /// An image of `part` alone.
    pub(super) fn image_apart(&mut self, part: Part) -> Result<usize, Error> {
        self.apart_bytes += part_bytes(&part);
        let parts = [part];
        let diff_ids = diff_ids(self.lowering, &parts)?;
        let config = self.config(&diff_ids, &Around::default());
        Ok(self.image(made(self.part, &parts, config, &diff_ids)))
    }

    /// A number that no image has yet.
    pub(super) fn next_image(&self) -> usize {
        self.images.len()
    }

    pub(super) fn line(&mut self, span: Span, of: Option<usize>, pieces: Vec<Piece>) {
        self.dockerfile.push(Line { pieces, span, of, shown: None });
    }

    fn text(&mut self, span: Span, of: Option<usize>, text: String) {
        self.line(span, of, vec![Piece::Text(text)]);
    }

    pub(super) fn instruction(&mut self, number: usize, within: &Within) -> Result<(), Error> {
        let span = within.span;
        match &within.act {
            Act::Config(_) => Ok(()),
            Act::Run(run) => self.run(number, span, run),
            Act::Layer(Step { action: Action::Directory { path, user }, .. }) => {
                self.user(span, user)?;
                self.owned_directory(number, span, path, user)?;
                self.working_dir(span, Some(number), path)
            }
            Act::Layer(step @ Step { action: Action::Copy(copy), .. }) => self.copy(number, step, copy),
            Act::Layer(Step { action: Action::Run(_), .. }) => {
                unreachable!("a RUN becomes a native step only where it is not delegated")
            }
        }
    }

    fn user(&mut self, span: Span, user: &str) -> Result<(), Error> {
        if self.around.user == user {
            return Ok(());
        }
        user.clone_into(&mut self.around.user);
        let name = if user.is_empty() { "0" } else { user };
        // Kaniko splits it at the colon first, so quotes would be torn apart.
        let name = flag(name).or_else(|| word(name)).ok_or_else(|| unwritable("USER").at(span))?;
        self.text(span, None, format!("USER {name}"));
        Ok(())
    }

    fn working_dir(&mut self, span: Span, of: Option<usize>, path: &str) -> Result<(), Error> {
        let path = if path.is_empty() { "/" } else { path };
        let current = if self.around.working_dir.is_empty() { "/" } else { &self.around.working_dir };
        if current == path && of.is_none() {
            return Ok(());
        }
        path.clone_into(&mut self.around.working_dir);
        let path = word(path).ok_or_else(|| unwritable("WORKDIR").at(span))?;
        self.text(span, of, format!("WORKDIR {path}"));
        Ok(())
    }

    /// ENV for what has changed: ARGs too, as the config of the result is not looked at.
    fn environment(&mut self, span: Span, variables: &BTreeMap<String, String>) -> Result<(), Error> {
        let known = std::mem::replace(&mut self.around.variables, variables.clone());
        let (mut text, mut shown) = (ENV.to_owned(), ENV.to_owned());
        for (name, value) in variables.iter().filter(|(name, value)| known.get(*name) != Some(value)) {
            let pair = environment(name, value).ok_or_else(|| match environment(name, "") {
                Some(_) => unwritable(name).at(span),
                None => Problem::UnwritableVariable { name: name.clone() }.at(span),
            })?;
            if text.len() + " ".len() + pair.len() > LINE_BYTES_MAX {
                self.push_environment(span, std::mem::replace(&mut text, ENV.to_owned()), &mut shown);
            }
            shown += &match ocib_dockerfile::is_secret(name, value) {
                true => format!(" {name}=*******"),
                false => format!(" {pair}"),
            };
            text += &format!(" {pair}");
        }
        if text != ENV {
            self.push_environment(span, text, &mut shown);
        }
        Ok(())
    }

    /// A line of ENV. Begins with the next one that is shown.
    fn push_environment(&mut self, span: Span, text: String, shown: &mut String) {
        let shown = Some(std::mem::replace(shown, ENV.to_owned()));
        self.dockerfile.push(Line { pieces: vec![Piece::Text(text)], span, of: None, shown });
    }

    fn run(&mut self, number: usize, span: Span, run: &RunPlan) -> Result<(), Error> {
        self.environment(span, &run.around.variables)?;
        self.user(span, &run.around.user)?;
        self.working_dir(span, None, &run.around.working_dir)?;
        let mut pieces = vec![Piece::Text("RUN".to_owned())];
        for mount in &run.mounts {
            self.mount(mount, &mut pieces)?;
        }
        Self::flags(run, &mut pieces);
        let command = match &run.script {
            None => run.command.clone(),
            Some(script) => script::command(script).ok_or_else(|| Problem::Script.at(span))?,
        };
        let command = serde_json::Value::from(command);
        pieces.push(Piece::Text(format!(" {command}")));
        self.line(span, Some(number), pieces);
        Ok(())
    }
}

/// Whether what a base says would change a part or keep a backend from it: triggers are carried out here already,
/// buildah forgets what a RUN writes to a volume, and Kaniko fails at a variable without a value.
fn interferes(base: &ContainerConfig) -> bool {
    let has_no_value = |pair: &String| !pair.contains('=');
    let runtime = &base.runtime;
    !runtime.on_build.is_empty() || !runtime.volumes.is_empty() || runtime.env.iter().any(has_no_value)
}

pub(super) fn unwritable(name: &str) -> Problem {
    Problem::Unwritable { name: name.to_owned() }
}
