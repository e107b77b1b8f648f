//! What each program is called with, and the directory that it works in.
//!
//! buildah and podman get a storage of their own below that directory, so a job sees nothing of other
//! builds and leaves nothing behind. Docker keeps its images in its daemon: what the job made there is
//! removed by name.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use ocib_image::{RunError, RunJob, RunSecret, RunSecretSource};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{LocalOptions, Tool, cause::NO_SCRATCH};

/// A directory for one job. Dropping it removes it with all that is in it.
#[derive(Debug)]
pub(crate) struct Workspace<'a> {
    options: &'a LocalOptions,
    job: &'a RunJob,
    dir: Option<TempDir>,
    /// Where podman keeps locks and sockets, if that has to be elsewhere.
    short: Option<TempDir>,
}

/// Podman refuses a longer path for its locks and sockets (`specified runroot is longer than 50 characters`).
const RUN_ROOT_BYTES_MAX: usize = 50;

impl<'a> Workspace<'a> {
    pub(crate) fn new(options: &'a LocalOptions, job: &'a RunJob) -> Result<Self, RunError> {
        let failed = |error: std::io::Error| {
            let scratch = options.scratch.display();
            let tool = options.tool.name();
            NO_SCRATCH
                .error(format!("{tool} needs room on a disk, and {scratch} cannot be written to"))
                .because(error)
        };
        let dir = TempDir::with_prefix_in("ocib-run-", &options.scratch).map_err(failed)?;
        for name in ["context", "tmp"] {
            fs::create_dir(dir.path().join(name)).map_err(failed)?;
        }
        fs::write(dir.path().join("Dockerfile"), &job.dockerfile).map_err(failed)?;
        let is_long = dir.path().join("runroot").as_os_str().len() > RUN_ROOT_BYTES_MAX;
        let short = match options.tool == Tool::Podman && is_long {
            true => Some(TempDir::with_prefix("ocib-run-").map_err(failed)?),
            false => None,
        };
        Ok(Self { options, job, dir: Some(dir), short })
    }

    fn run_root(&self) -> PathBuf {
        self.short.as_ref().map_or_else(|| self.path("runroot"), |short| short.path().to_owned())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn root(&self) -> &Path {
        self.dir.as_ref().map_or(Path::new(""), TempDir::path)
    }

    pub(crate) fn build(&self) -> Command {
        let mut command = self.program();
        let destination = self.job.destination.to_string();
        command.arg("build");
        if self.options.tool == Tool::Docker {
            // The old builder of docker below 23 knows neither mounts nor progress.
            command.args(["--progress", "plain"]).env("DOCKER_BUILDKIT", "1");
            if self.job.is_fresh {
                command.arg("--no-cache");
            }
        } else {
            // A layer for each instruction, as BuildKit has them.
            command.args(["--layers", "--isolation", &self.options.isolation]);
            command.args(["--pull-always", "--format", "oci"]);
            self.registry(&mut command);
        }
        for secret in &self.job.secrets {
            command.args(lent(secret));
        }
        for (name, value) in &self.job.proxies {
            command.args(["--build-arg", &format!("{name}={}", value.reveal())]);
        }
        command.args(["--platform", &self.job.platform.to_string()]);
        command.arg("--file").arg(self.path("Dockerfile"));
        command.args(["--tag", &destination]).arg(self.path("context"));
        command
    }

    pub(crate) fn push(&self) -> Command {
        let mut command = self.program();
        let destination = self.job.destination.to_string();
        command.arg("push");
        if let Some(file) = self.digest_file() {
            self.registry(&mut command);
            command.arg("--digestfile").arg(file);
            command.args([&destination, &format!("docker://{destination}")]);
        } else {
            command.arg(&destination);
        }
        command
    }

    /// What removes what a daemon keeps.
    pub(crate) fn removal(&self) -> Option<Command> {
        (self.options.tool == Tool::Docker).then(|| {
            let mut command = self.program();
            command.args(["image", "rm", &self.job.destination.to_string()]);
            command
        })
    }

    /// Where the program writes the digest of what it pushed, if it can.
    pub(crate) fn digest_file(&self) -> Option<PathBuf> {
        (self.options.tool != Tool::Docker).then(|| self.path("digest"))
    }

    fn program(&self) -> Command {
        let mut command = Command::new(&self.options.program);
        command.stdin(Stdio::null());
        if self.options.tool != Tool::Docker {
            command.arg("--root").arg(self.path("root")).arg("--runroot").arg(self.run_root());
            command.args(["--storage-driver", &self.options.storage_driver]);
            command.env("TMPDIR", self.path("tmp"));
        }
        command
    }

    /// How buildah and podman speak to registries: credentials by the path of a file, never by value.
    fn registry(&self, command: &mut Command) {
        if let Some(file) = &self.options.auth_file {
            command.arg("--authfile").arg(file);
        }
        if self.is_insecure() {
            command.arg("--tls-verify=false");
        }
    }

    fn is_insecure(&self) -> bool {
        let registry = self.job.destination.registry();
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        let is_loopback = host == "localhost" || host.starts_with("127.") || host == "[::1]";
        is_loopback || self.options.insecure_registries.iter().any(|named| named == registry || named == host)
    }
}

/// What lends a secret: where it is, never what it is.
fn lent(secret: &RunSecret) -> [OsString; 2] {
    let id = &secret.id;
    let joined = |start: String, paths: &[PathBuf]| {
        let mut text = OsString::from(start);
        for (number, path) in paths.iter().enumerate() {
            text.push(if number > 0 { "," } else { "" });
            text.push(path);
        }
        text
    };
    match &secret.source {
        RunSecretSource::File(path) => {
            ["--secret".into(), joined(format!("id={id},src="), std::slice::from_ref(path))]
        }
        RunSecretSource::Variable(name) => ["--secret".into(), format!("id={id},env={name}").into()],
        RunSecretSource::Agent(paths) => ["--ssh".into(), joined(format!("{id}="), paths)],
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        for dir in [self.dir.take(), self.short.take()].into_iter().flatten() {
            self.remove(&dir.keep());
        }
    }
}

impl Workspace<'_> {
    fn remove(&self, path: &Path) {
        // Plain removal is all that root needs; in a user namespace files belong to users that only the
        // program can remove for us.
        if fs::remove_dir_all(path).is_err() {
            let mut unshare = std::process::Command::new(&self.options.program);
            unshare.args(["unshare", "rm", "-rf"]).arg(path);
            let _ = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ocib_image::{Digest, Platform, Secret};

    use super::*;

    fn arguments(tool: Tool, is_fresh: bool) -> Vec<String> {
        let job = RunJob {
            key: Digest::of(b""),
            title: String::new(),
            dockerfile: "FROM scratch\n".to_owned(),
            lines: vec![1],
            platform: Platform::linux_amd64(),
            destination: "127.0.0.1:1/a:run".parse().unwrap(),
            context: None,
            proxies: BTreeMap::from([("NO_PROXY".to_owned(), Secret::new("a,b"))]),
            is_fresh,
            secrets: Vec::new(),
            disk_bytes: 0,
        };
        let options = LocalOptions::new(tool);
        let workspace = Workspace::new(&options, &job).unwrap();
        let command = workspace.build();
        command.as_std().get_args().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    /// Only docker remembers what it did for earlier builds.
    #[test]
    fn what_is_to_be_made_anew_is_no_memory_of_dockers() {
        for (tool, is_fresh, expected) in
            [(Tool::Docker, true, true), (Tool::Docker, false, false), (Tool::Buildah, true, false)]
        {
            let arguments = arguments(tool, is_fresh);
            assert_eq!(arguments.iter().any(|argument| argument == "--no-cache"), expected, "{arguments:?}");
            let proxy = ["--build-arg", "NO_PROXY=a,b"];
            assert!(arguments.windows(2).any(|pair| pair == proxy), "{arguments:?}");
        }
    }
}
