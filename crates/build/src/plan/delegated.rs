//! RUN, and what stands between the first and the last of a stage: what a backend has to do.
//!
//! Nothing is run here and nothing is known of backends. A part holds what is needed to write a small
//! Dockerfile of its own: the state that it starts in, each instruction with its words expanded, and
//! where its copies and mounts take their files from.

use std::collections::BTreeMap;

use ocib_dockerfile::{CommandLine, Instruction, Run, Span, Spanned, redacted_instruction};
use ocib_image::Platform;

use super::{Dispatcher, MountPlan, MountSource, SimpleRun, Step, history};
use crate::{Error, NativeRun, stages::Origin};

/// The directory in which a script with a `#!` line is found while it runs.
const SCRIPTS: &str = "/dev/pipes/";

/// A stage from its first RUN to its last.
#[derive(Debug)]
pub(crate) struct Delegated {
    /// The state before the first RUN.
    pub(crate) start: Start,
    /// The first and the last one are RUNs.
    pub(crate) instructions: Vec<Within>,
}

/// What a RUN finds besides files.
#[derive(Debug)]
pub(crate) struct Start {
    /// What it runs on: the stage's platform, which may be another than the target's.
    pub(crate) platform: Platform,
    /// All variables, of ENV and ARG.
    pub(crate) variables: BTreeMap<String, String>,
    /// Those of them (or without a value) that ARG declared, in order.
    pub(crate) args: Vec<String>,
    /// As USER says it; empty for the superuser.
    pub(crate) user: String,
    /// Absolute, or empty for the root.
    pub(crate) working_dir: String,
    /// What shell-form commands are put behind.
    pub(crate) shell: Vec<String>,
}

/// What a command finds around it that instructions before it may have changed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Around {
    /// As [`Start::variables`].
    pub(crate) variables: BTreeMap<String, String>,
    /// As [`Start::user`].
    pub(crate) user: String,
    /// As [`Start::working_dir`].
    pub(crate) working_dir: String,
}

/// An instruction and what it does.
#[derive(Debug)]
pub(crate) struct Within {
    pub(crate) span: Span,
    /// As it was written, in one line and without secrets: for people.
    pub(crate) text: String,
    pub(crate) act: Act,
    /// Its line of history, by number, if it leaves one.
    pub(crate) history: Option<usize>,
}

impl Within {
    /// Whether it should make a layer.
    pub(crate) fn makes_layer(&self) -> bool {
        matches!(self.act, Act::Run(_) | Act::Layer(_))
    }

    /// Everything that it takes files from, but for the context and the network.
    pub(crate) fn origins(&self) -> Vec<&Origin> {
        match &self.act {
            Act::Config(_) => Vec::new(),
            Act::Layer(step) => step.origin().into_iter().collect(),
            Act::Run(run) => run
                .mounts
                .iter()
                .filter_map(|mount| match &mount.source {
                    MountSource::From(origin, _) => Some(origin),
                    MountSource::Context(_) | MountSource::Nothing => None,
                })
                .collect(),
        }
    }
}

/// What an instruction does.
#[derive(Debug)]
pub(crate) enum Act {
    /// It needs a container, or might be simple.
    Run(RunPlan),
    /// It makes a layer.
    Layer(Step),
    /// It changes the config; its line of history, if it leaves one, has the words expanded.
    Config(Option<String>),
}

/// A RUN.
#[derive(Debug)]
pub(crate) struct RunPlan {
    /// As history shows it.
    pub(crate) created_by: String,
    /// The same without a container, if there is such a thing.
    pub(crate) simple: Option<Box<SimpleRun>>,
    /// Why it is not simple, although it looks so.
    pub(crate) doubt: Option<String>,
    pub(crate) around: Around,
    /// The program and its arguments, with the shell if there is one.
    pub(crate) command: Vec<String>,
    /// A file that is there while the command runs: the script of a heredoc that begins with `#!`.
    pub(crate) script: Option<Script>,
    pub(crate) mounts: Vec<MountPlan>,
    /// `none` or `host`; a container's own by default.
    pub(crate) network: Option<String>,
    /// `insecure`; sandboxed by default.
    pub(crate) security: Option<String>,
    pub(crate) devices: Vec<String>,
}

/// An executable file.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) path: String,
    pub(crate) content: String,
}

impl Act {
    /// Whether it is a RUN that is not simple.
    pub(super) fn needs_container(&self) -> bool {
        matches!(self, Self::Run(RunPlan { simple: None, .. }))
    }
}

impl Delegated {
    /// From the first RUN to the end of the last.
    pub(crate) fn span(&self) -> Span {
        let last = self.instructions.last().map_or(Span::default(), |last| last.span);
        self.first_span().to(last)
    }

    /// Why the first RUN is not simple, if it looks so.
    pub(crate) fn doubt(&self) -> Option<&str> {
        match &self.instructions.first()?.act {
            Act::Run(run) => run.doubt.as_deref(),
            Act::Layer(_) | Act::Config(_) => None,
        }
    }

    /// Where the first RUN stands.
    pub(crate) fn first_span(&self) -> Span {
        self.instructions.first().map_or(Span::default(), |first| first.span)
    }

    /// What stands between the RUNs and makes layers natively.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.instructions.iter().filter_map(|within| match &within.act {
            Act::Layer(step) => Some(step),
            Act::Run(_) | Act::Config(_) => None,
        })
    }
}

impl Dispatcher<'_> {
    /// What a RUN would find now.
    pub(super) fn start(&self) -> Start {
        let runtime = &self.state.config.runtime;
        Start {
            platform: self.stages.bases[self.index].1.clone(),
            variables: self.state.variables.clone(),
            args: self.state.args.clone(),
            user: runtime.user.clone(),
            working_dir: runtime.working_dir.clone(),
            shell: self.default_shell(),
        }
    }

    fn around(&self) -> Around {
        let runtime = &self.state.config.runtime;
        Around {
            variables: self.state.variables.clone(),
            user: runtime.user.clone(),
            working_dir: runtime.working_dir.clone(),
        }
    }

    /// A RUN changes nothing of the config but the history (BuildKit, `dispatchRun`).
    pub(super) fn run(&mut self, run: &Run, instruction: &Instruction) -> Result<Act, Error> {
        let (command, script) = self.run_command(run);
        let mounts = run.mounts.iter().map(|mount| self.mount(mount)).collect::<Result<_, _>>()?;
        let shown = self.shown_args().into_iter().chain(command.iter().cloned());
        let created_by = format!("RUN {} # buildkit", shown.collect::<Vec<_>>().join(" "));
        self.commit(created_by.clone(), true);
        let text = |word: &Spanned<String>| word.value.clone();
        let mut plan = RunPlan {
            created_by,
            simple: None,
            doubt: self.doubts.get(&instruction.span).cloned(),
            around: self.around(),
            command,
            script,
            mounts,
            network: run.network.as_ref().map(text),
            security: run.security.as_ref().map(text),
            devices: run.devices.iter().map(text).collect(),
        };
        if plan.doubt.is_none() && self.stages.request.native_run == NativeRun::Auto {
            plan.simple =
                SimpleRun::read(&plan, &self.start(), &redacted_instruction(instruction)).map(Box::new);
        }
        Ok(Act::Run(plan))
    }

    /// Heredocs belong to the shell, but for one that is the whole command: that is the command.
    fn run_command(&self, run: &Run) -> (Vec<String>, Option<Script>) {
        let CommandLine::Shell(text) = &run.command else {
            return (self.command_line(&run.command), None);
        };
        match run.script() {
            Some(heredoc) if heredoc.content.starts_with("#!") && !self.is_windows() => {
                let script =
                    Script { path: format!("{SCRIPTS}{}", heredoc.name), content: heredoc.chomped() };
                (self.in_shell(script.path.clone()), Some(script))
            }
            Some(heredoc) => (self.in_shell(heredoc.chomped()), None),
            None => {
                let mut full = text.clone();
                for heredoc in &run.heredocs {
                    full.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
                }
                (self.in_shell(full), None)
            }
        }
    }

    /// The ARGs so far as history shows them before a command: their number, then each with its value
    /// (BuildKit, `runCommandString`).
    fn shown_args(&self) -> Vec<String> {
        let value = |name: &String| self.state.variables.get(name).map_or("", String::as_str);
        let pairs: Vec<String> =
            self.state.args.iter().map(|name| history::pair(name, value(name))).collect();
        let count = (!pairs.is_empty()).then(|| format!("|{}", pairs.len()));
        count.into_iter().chain(pairs).collect()
    }
}
