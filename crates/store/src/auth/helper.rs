//! Credential helpers: programs that keep credentials (docker-credential-helpers' protocol).

use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use ocib_image::Credential;
use ocib_net::printable;
use serde::Deserialize;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::file::credential;
use crate::Error;

/// A helper asks a keychain or a cloud's endpoint; one that takes longer waits for somebody.
const PATIENCE: Duration = Duration::from_secs(15);
/// What helpers print if they have nothing (docker-credential-helpers, `credentials/error.go`).
const NOT_FOUND: &[u8] = b"credentials not found";
const STDERR_CHARS: usize = 200;

/// The program `docker-credential-NAME`.
pub(super) struct Helper<'a> {
    pub(super) name: &'a str,
    /// Where programs are.
    pub(super) programs: &'a [PathBuf],
    /// The file that names the helper.
    pub(super) file: &'a Path,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Helper<'_> {
    /// What the helper has for `server`. Its output is in no error: it may hold the secret.
    pub(super) async fn ask(&self, server: &str) -> Result<Option<Credential>, Error> {
        let program = self.program()?;
        let output = match timeout(PATIENCE, run(&program, server)).await {
            Ok(output) => output.map_err(|error| self.failed(error.to_string()))?,
            Err(_) => {
                return Err(self.failed(format!("it gave no answer within {} seconds", PATIENCE.as_secs())));
            }
        };
        if !output.status.success() {
            let has_nothing = output.stdout.windows(NOT_FOUND.len()).any(|window| window == NOT_FOUND);
            return if has_nothing { Ok(None) } else { Err(self.failed(ending(&output))) };
        }
        let answer: Answer = serde_json::from_slice(&output.stdout)
            .map_err(|_| self.failed("its answer is not JSON with Username and Secret".to_owned()))?;
        let is_empty = answer.username.is_empty() && answer.secret.is_empty();
        Ok((!is_empty).then(|| credential(&answer.username, &answer.secret)))
    }

    fn program(&self) -> Result<PathBuf, Error> {
        // The name comes from a file that an image or a job may have written.
        if self.name.contains('/') {
            return Err(
                self.failed("its name is a path, expected the NAME of docker-credential-NAME".to_owned())
            );
        }
        let file = format!("docker-credential-{}", self.name);
        let found = self.programs.iter().map(|directory| directory.join(&file)).find(|path| path.is_file());
        found.ok_or_else(|| Error::NoHelper { helper: self.shown(), file: self.file.to_owned() })
    }

    fn shown(&self) -> String {
        printable(format!("docker-credential-{}", self.name).as_bytes(), 100)
    }

    fn failed(&self, why: String) -> Error {
        Error::CredentialHelper { helper: self.shown(), file: self.file.to_owned(), why }
    }
}

impl fmt::Display for Helper<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, named in {}", self.shown(), self.file.display())
    }
}

async fn run(program: &Path, server: &str) -> io::Result<Output> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(server.as_bytes()).await {
            // It may answer without having read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
    }
    child.wait_with_output().await
}

fn ending(output: &Output) -> String {
    match printable(&output.stderr, STDERR_CHARS) {
        said if said.is_empty() => format!("it ended with {}", output.status),
        said => format!("it ended with {}: {said}", output.status),
    }
}
