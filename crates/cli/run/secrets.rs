//! `--secret` and `--ssh`: what a RUN may see while it runs, as buildx takes them.

use std::{fs, path::PathBuf};

use clap::Args;
use ocib_image::{RunSecret, RunSecretSource};

use crate::{diagnostic::Failure, environment};

/// BuildKit's limit (`secretsprovider.MaxSecretSize`).
const SECRET_BYTES_MAX: u64 = 500 * 1024;

#[derive(Args, Debug)]
pub(crate) struct SecretFlags {
    /// A secret for RUN --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]. It gets into no layer.
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,

    /// An ssh agent for RUN --mount=type=ssh: default, or NAME[=SOCKET|=KEY[,KEY]].
    #[arg(long = "ssh", value_name = "AGENT")]
    agents: Vec<String>,
}

impl SecretFlags {
    /// The flag that was given, if one was.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let flags = [(&self.secrets, "--secret"), (&self.agents, "--ssh")];
        flags.into_iter().find(|(texts, _)| !texts.is_empty()).map(|(_, flag)| flag)
    }

    /// What is lent. A variable that is not set is nothing to lend, as with buildx.
    pub(crate) fn read(&self) -> Result<Vec<RunSecret>, Failure> {
        let mut all = Vec::new();
        for text in &self.secrets {
            all.extend(secret(text)?);
        }
        for text in &self.agents {
            all.push(agent(text)?);
        }
        Ok(all)
    }
}

fn secret(text: &str) -> Result<Option<RunSecret>, Failure> {
    let bad = |why: &str| {
        Failure::usage(format!("--secret {text:?}: {why}"))
            .help("it is id=NAME,src=FILE or id=NAME,env=VARIABLE")
    };
    let (mut id, mut kind, mut file, mut variable) = (None, None, None, None);
    for field in text.split(',') {
        let (name, value) = field.split_once('=').ok_or_else(|| bad("expected NAME=VALUE"))?;
        let field = match &*name.to_lowercase() {
            "id" => &mut id,
            "type" => &mut kind,
            "source" | "src" => &mut file,
            "env" => &mut variable,
            _ => return Err(bad(&format!("there is no {name:?}"))),
        };
        *field = Some(value).filter(|value| !value.is_empty());
    }
    let id = id.ok_or_else(|| bad("it has no id"))?;
    match kind {
        None | Some("file") => {}
        Some("env") => variable = variable.or_else(|| file.take()),
        Some(_) => return Err(bad("the types are file and env")),
    }
    if file.is_none() && variable.is_none() {
        match environment::variable(id) {
            Some(_) => variable = Some(id),
            None => file = Some(id),
        }
    }
    let source = match (file, variable) {
        (Some(file), _) => RunSecretSource::File(readable(id, file)?),
        (None, Some(name)) if environment::variable(name).is_some() => {
            RunSecretSource::Variable(name.to_owned())
        }
        (None, _) => return Ok(None),
    };
    Ok(Some(RunSecret { id: id.to_owned(), source }))
}

fn readable(id: &str, file: &str) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(file);
    let opened = fs::File::open(&path).and_then(|file| file.metadata());
    match opened {
        Ok(metadata) if metadata.is_dir() => {
            Err(Failure::input(format!("the secret {id:?} cannot be read: {file} is a directory")))
        }
        Ok(metadata) if metadata.len() > SECRET_BYTES_MAX => Err(Failure::input(format!(
            "the secret {id:?} is too large: {file} has {} bytes, and {SECRET_BYTES_MAX} are allowed",
            metadata.len()
        ))),
        Ok(_) => Ok(path),
        Err(error) => Err(Failure::input(format!("the secret {id:?} cannot be read: {file}: {error}"))
            .help("a secret is --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE")),
    }
}

fn agent(text: &str) -> Result<RunSecret, Failure> {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    let mut paths: Vec<PathBuf> =
        paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    if paths.is_empty() {
        let socket = environment::variable("SSH_AUTH_SOCK").ok_or_else(|| {
            Failure::usage(format!("--ssh {text}: there is no agent, as SSH_AUTH_SOCK is not set"))
                .help("start one (eval $(ssh-agent)), or name a socket or a key: --ssh NAME=PATH")
        })?;
        paths.push(socket.into());
    }
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        return Err(Failure::input(format!("--ssh {id}: there is no {}", missing.display())));
    }
    let id = if id.is_empty() { "default" } else { id };
    Ok(RunSecret { id: id.to_owned(), source: RunSecretSource::Agent(paths) })
}
