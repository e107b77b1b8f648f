//! Plans as text, for tests and for those who debug.

use std::fmt::{Display, Formatter, Result};

use ocib_image::Remote;

use super::{
    Act, Action, CopyPlan, Delegated, Inline, MountSource, Plan, RunPlan, Source, StagePart, StagePlan,
    Start, Step,
};
use crate::stages::Origin;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "platform {}", self.platform)?;
        self.stages.iter().try_for_each(|stage| stage.fmt(f))?;
        let Some(last) = self.stages.last() else { return Ok(()) };
        writeln!(f, "history")?;
        for line in &last.config.history {
            let mark = if line.empty_layer { "-" } else { "+" };
            writeln!(f, "  {mark} {}", indented(&line.created_by, "    "))?;
        }
        let mut config = last.config.clone();
        config.history.clear();
        writeln!(f, "config {}", String::from_utf8_lossy(&config.to_bytes()))?;
        self.warnings.iter().try_for_each(|found| writeln!(f, "warning {}: {}", found.rule, found.message))
    }
}

impl Display for StagePlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let name = self.name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
        writeln!(f, "stage {}{name} from {}", self.index, self.base)?;
        self.parts.iter().try_for_each(|part| match part {
            StagePart::Native(steps) => {
                writeln!(f, "  native")?;
                steps.iter().try_for_each(|step| step.fmt(f))
            }
            StagePart::Delegated(delegated) => delegated.fmt(f),
        })
    }
}

impl Display for Delegated {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "  delegated")?;
        self.start.fmt(f)?;
        self.instructions.iter().try_for_each(|within| match &within.act {
            Act::Run(run) => {
                writeln!(f, "    {}", within.text)?;
                run.fmt(f)
            }
            Act::Layer(step) => step.fmt(f),
            Act::Config(shown) => writeln!(f, "    {}", shown.as_ref().unwrap_or(&within.text)),
        })
    }
}

impl Display for Start {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let user = if self.user.is_empty() { "root" } else { &self.user };
        let directory = if self.working_dir.is_empty() { "/" } else { &self.working_dir };
        writeln!(f, "    : on {} as {user} in {directory} by {:?}", self.platform, self.shell)?;
        self.variables.iter().try_for_each(|(name, value)| {
            let origin = if self.args.contains(name) { "arg" } else { "env" };
            writeln!(f, "    : {origin} {name}={value}")
        })
    }
}

impl Display for RunPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "      runs {:?}", self.command)?;
        if let Some(script) = &self.script {
            writeln!(f, "      script {} {:?}", script.path, script.content)?;
        }
        for mount in &self.mounts {
            match &mount.source {
                MountSource::Nothing => writeln!(f, "      mount {}", mount.text)?,
                MountSource::Context(_) => writeln!(f, "      mount {} out of the context", mount.text)?,
                MountSource::From(origin, _) => writeln!(f, "      mount {} out of {origin}", mount.text)?,
            }
        }
        self.network.iter().try_for_each(|network| writeln!(f, "      network {network}"))?;
        self.security.iter().try_for_each(|security| writeln!(f, "      security {security}"))?;
        self.devices.iter().try_for_each(|device| writeln!(f, "      device {device}"))
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "    {}", self.title())?;
        match &self.action {
            Action::Directory { path, user } => {
                let owner = if user.is_empty() { String::new() } else { format!(" of {user}") };
                writeln!(f, "      directory {path}{owner}")
            }
            Action::Copy(copy) => copy.fmt(f),
            Action::Run(simple) => {
                let shell = if simple.has_shell { "by a shell " } else { "" };
                writeln!(f, "      without a container, {shell}in {}", simple.working_dir)?;
                simple.commands.iter().try_for_each(|called| writeln!(f, "      : {}", called.text))
            }
        }
    }
}

impl Display for CopyPlan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let from = match &self.from {
            None => "the context".to_owned(),
            Some(origin) => origin.to_string(),
        };
        for source in &self.sources {
            match source {
                Source::Path(path) => writeln!(f, "      {} out of {from}", path.value)?,
                // The address may hold a secret; history shows it without.
                Source::Remote(remote) => {
                    let what = match &remote.value {
                        Remote::Url { digest: None, .. } => "a file from the network".to_owned(),
                        Remote::Url { digest: Some(digest), .. } => {
                            format!("a file from the network with {digest}")
                        }
                        Remote::Git(_) => "a git repository".to_owned(),
                    };
                    writeln!(f, "      {what}")?;
                }
            }
        }
        for Inline { name, content, .. } in &self.inline {
            writeln!(f, "      {name} {content:?}")?;
        }
        let flags = [
            (self.link, "linked"),
            (self.parents, "with parents"),
            (self.unpack, "archives unpacked"),
            (self.unpack_remote, "fetched archives too"),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| format!(", {name}"));
        write!(f, "      to {}{}", self.destination, flags.collect::<String>())?;
        self.chown.iter().try_for_each(|owner| write!(f, ", of {}", owner.value))?;
        self.exclude.iter().try_for_each(|pattern| write!(f, ", without {}", pattern.value))?;
        writeln!(f)
    }
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Scratch => f.write_str("scratch"),
            Self::Stage(index) => write!(f, "stage {index}"),
            Self::Image(key) => write!(f, "{} for {}", key.0, key.1),
            Self::Tree(name) => write!(f, "build context {name}"),
        }
    }
}

/// Text of several lines, those after the first moved to the right.
fn indented(text: &str, by: &str) -> String {
    text.trim_end().replace('\n', &format!("\n{by}"))
}
