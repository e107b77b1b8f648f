//! Instructions that only change the config.

use std::time::Duration;

use ocib_dockerfile::{ArgPair, CommandLine, Healthcheck, Pair, Span, Spanned};

use super::{Action, Dispatcher, Step, expose, history};
use crate::{Error, Problem, path};

/// The shell of shell-form instructions where neither SHELL nor the base names one.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];
const DEFAULT_SHELL_WINDOWS: [&str; 2] = ["cmd", "/S /C"];

/// `requested` from `current`, absolute, without a trailing slash (BuildKit, `NormalizeWorkdir`).
pub(super) fn working_dir(current: &str, requested: &str) -> String {
    let absolute = path::absolute(current, requested);
    match absolute.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

impl Dispatcher<'_> {
    pub(super) fn workdir(&mut self, written: &Spanned<String>, span: Span) -> Result<Option<Step>, Error> {
        let requested = self.expand(written)?;
        let runtime = &mut self.state.config.runtime;
        let path = working_dir(&runtime.working_dir, &requested);
        runtime.working_dir = path.clone();
        let created_by = format!("WORKDIR {path}");
        let user = runtime.user.clone();
        let makes_layer = path != "/";
        self.commit(created_by.clone(), makes_layer);
        Ok(makes_layer.then_some(Step { created_by, span, action: Action::Directory { path, user } }))
    }

    /// Each name sees those before it; a value given by the user is taken as it is.
    pub(super) fn arg(&mut self, args: &[ArgPair]) -> Result<(), Error> {
        let mut shown = Vec::new();
        for arg in args {
            let key = &arg.key.value;
            let given = self.stages.request.build_args.get(key);
            let value = match (given, &arg.value) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.stages.globals.get(key).cloned(),
            };
            shown.push(value.as_ref().map_or_else(|| key.clone(), |value| history::pair(key, value)));
            if let Some(value) = value {
                self.state.variables.insert(key.clone(), value);
            }
            if !self.state.args.contains(key) {
                self.state.args.push(key.clone());
            }
        }
        self.commit(format!("ARG {}", shown.join(" ")), false);
        Ok(())
    }

    /// All words are expanded before any name is set, so pairs of one line do not see each other.
    fn pairs(&self, pairs: &[Pair]) -> Result<Vec<(String, String)>, Error> {
        pairs.iter().map(|pair| Ok((self.expand(&pair.key)?, self.expand(&pair.value)?))).collect()
    }

    pub(super) fn env(&mut self, pairs: &[Pair]) -> Result<(), Error> {
        let mut shown = String::from("ENV");
        for (key, value) in self.pairs(pairs)? {
            let pair = history::pair(&key, &value);
            shown.push_str(&format!(" {pair}"));
            let env = &mut self.state.config.runtime.env;
            let is_same = |known: &&mut String| known.split('=').next() == Some(&key);
            match env.iter_mut().find(is_same) {
                Some(known) => *known = pair,
                None => env.push(pair),
            }
            self.state.variables.insert(key, value);
        }
        self.commit(shown, false);
        Ok(())
    }

    pub(super) fn label(&mut self, pairs: &[Pair]) -> Result<(), Error> {
        let mut shown = String::from("LABEL");
        for (key, value) in self.pairs(pairs)? {
            shown.push_str(&format!(" {}", history::pair(&key, &value)));
            self.state.config.runtime.labels.insert(key, value);
        }
        self.commit(shown, false);
        Ok(())
    }

    pub(super) fn command_line(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(words) => words.clone(),
            CommandLine::Shell(text) => self.in_shell(text.clone()),
        }
    }

    /// A command with the shell that runs it (BuildKit, `withShell`).
    pub(super) fn in_shell(&self, command: String) -> Vec<String> {
        let mut words = self.default_shell();
        words.push(command);
        words
    }

    /// The shell of shell-form instructions.
    pub(super) fn default_shell(&self) -> Vec<String> {
        let own = &self.state.config.runtime.shell;
        if !own.is_empty() {
            return own.clone();
        }
        let default = if self.is_windows() { DEFAULT_SHELL_WINDOWS } else { DEFAULT_SHELL };
        default.map(str::to_owned).to_vec()
    }

    pub(super) fn is_windows(&self) -> bool {
        self.state.config.platform().is_some_and(|platform| platform.os == "windows")
    }

    pub(super) fn cmd(&mut self, command: &CommandLine) -> Result<(), Error> {
        let words = self.command_line(command);
        self.has_cmd = true;
        let shown = format!("CMD {}", history::quoted(&words));
        let runtime = &mut self.state.config.runtime;
        runtime.args_escaped = true;
        runtime.cmd = (!words.is_empty()).then_some(words);
        self.commit(shown, false);
        Ok(())
    }

    pub(super) fn entrypoint(&mut self, command: &CommandLine) -> Result<(), Error> {
        let words = self.command_line(command);
        let shown = format!("ENTRYPOINT {}", history::quoted(&words));
        let runtime = &mut self.state.config.runtime;
        runtime.entrypoint = (!words.is_empty()).then_some(words);
        if !self.has_cmd {
            runtime.cmd = None;
        }
        self.commit(shown, false);
        Ok(())
    }

    pub(super) fn expose(&mut self, written: &[Spanned<String>]) -> Result<(), Error> {
        let mut all = Vec::new();
        for word in written {
            let words = self.expander.words(&word.value, &self.state.variables);
            for port in words.map_err(|error| Problem::Expand(error).at(word.span))? {
                all.extend(expose::ports(&port).map_err(|why| Problem::BadPort(why).at(word.span))?);
            }
        }
        let shown = format!("EXPOSE {}", history::listed(&all));
        self.state.config.runtime.exposed_ports.extend(all);
        self.commit(shown, false);
        Ok(())
    }

    pub(super) fn healthcheck(&mut self, check: &Healthcheck) -> Result<(), Error> {
        let nanoseconds = |duration: &Option<Duration>| {
            duration.map_or(0, |duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
        };
        let check = match check {
            Healthcheck::None => {
                ocib_image::Healthcheck { test: vec!["NONE".to_owned()], ..Default::default() }
            }
            Healthcheck::Check { test, interval, timeout, start_period, start_interval, retries } => {
                ocib_image::Healthcheck {
                    test: test.clone(),
                    interval: nanoseconds(interval),
                    timeout: nanoseconds(timeout),
                    start_period: nanoseconds(start_period),
                    start_interval: nanoseconds(start_interval),
                    retries: retries.unwrap_or(0).into(),
                }
            }
        };
        let shown = history::healthcheck(&check);
        self.state.config.runtime.healthcheck = Some(check);
        self.commit(shown, false);
        Ok(())
    }

    pub(super) fn maintainer(&mut self, author: &str) -> Result<(), Error> {
        self.state.config.set_author(author);
        self.commit(format!("MAINTAINER {author}"), false);
        Ok(())
    }

    pub(super) fn on_build(&mut self, trigger: &str) -> Result<(), Error> {
        self.state.config.runtime.on_build.push(trigger.to_owned());
        Ok(())
    }

    pub(super) fn shell(&mut self, words: &[String]) -> Result<(), Error> {
        self.state.config.runtime.shell = words.to_vec();
        self.commit(format!("SHELL {}", history::listed(words)), false);
        Ok(())
    }

    pub(super) fn stop_signal(&mut self, written: &Spanned<String>) -> Result<(), Error> {
        let signal = self.expand(written)?;
        if !is_signal(&signal) {
            return Err(Problem::BadSignal(signal).at(written.span));
        }
        self.state.config.runtime.stop_signal = signal.clone();
        self.commit(format!("STOPSIGNAL {signal}"), false);
        Ok(())
    }

    pub(super) fn user(&mut self, written: &Spanned<String>) -> Result<(), Error> {
        let user = self.expand(written)?;
        self.state.config.runtime.user = user.clone();
        self.commit(format!("USER {user}"), false);
        Ok(())
    }

    pub(super) fn volume(&mut self, written: &[Spanned<String>]) -> Result<(), Error> {
        let mut volumes = Vec::new();
        for word in written {
            let volume = self.expand(word)?;
            if volume.is_empty() {
                return Err(Problem::EmptyVolume.at(word.span));
            }
            volumes.push(volume);
        }
        let shown = format!("VOLUME {}", history::listed(&volumes));
        self.state.config.runtime.volumes.extend(volumes);
        self.commit(shown, false);
        Ok(())
    }
}

/// Linux's signals by name (moby/sys/signal), in any case, with or without SIG.
const SIGNALS: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN",
];

fn is_signal(written: &str) -> bool {
    if let Ok(number) = written.parse::<i32>() {
        return number != 0;
    }
    let upper = written.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, most: u32| {
        let offset = name.strip_prefix(prefix).and_then(|offset| offset.parse::<u32>().ok());
        offset.is_some_and(|offset| (1..=most).contains(&offset))
    };
    SIGNALS.contains(&name) || name == "RTMAX" || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}
