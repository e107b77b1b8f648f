//! The built program as a script would run it: a directory of its own, and nothing of the caller's
//! environment but the search path.

use std::{
    ffi::OsStr,
    fs,
    io::Read,
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use ocib_testkit::{Registry, require, run_command, skopeo, umoci};
use serde_json::Value;
use tempfile::TempDir;

/// Polls of [`eventually`]; one takes 10 ms. Generous: a busy machine must not fail a test.
const POLLS: usize = 30_000;
/// Files are remembered only once they are older than the coarsest clock's tick, by the clock on the wall: that may
/// be set back between a look at it and the program's own.
const SETTLED: Duration = Duration::from_secs(5);

/// A directory to build in. Its `context` holds a Dockerfile and what tests put there; programs run
/// beside it.
pub(crate) struct Site {
    dir: TempDir,
}

impl Site {
    pub(crate) fn new(dockerfile: &str) -> Self {
        let site = Self { dir: TempDir::with_prefix("ocib-test-").unwrap() };
        site.file("context/Dockerfile", dockerfile);
        site
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text, for arguments.
    pub(crate) fn name(&self, name: impl AsRef<Path>) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file, with the directories that it needs.
    pub(crate) fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// `ocib build context` with these arguments, ready to start.
    pub(crate) fn build(&self, arguments: &[&str]) -> Command {
        self.ocib(&[&["build", "context"], arguments].concat())
    }

    /// `ocib` with these arguments, ready to start.
    pub(crate) fn ocib(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocib"));
        command.args(arguments);
        self.clean(&mut command);
        command
    }

    /// Runs `ocib` and expects success.
    pub(crate) fn done(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.ocib(arguments)).done()
    }

    /// Makes `command` run here, with a clean environment.
    pub(crate) fn clean(&self, command: &mut Command) {
        command.current_dir(self.dir.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    }

    /// Builds and expects success.
    pub(crate) fn built(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.build(arguments)).done()
    }

    /// Builds and expects the exit code; gives what was said.
    pub(crate) fn refused(&self, code: i32, arguments: &[&str]) -> String {
        ended(&mut self.build(arguments)).failed(code)
    }

    /// What stands in the directory, but for the context.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut names = names(self.dir.path());
        names.retain(|name| name != "context");
        names
    }

    /// Unpacks an image that is named by any of skopeo's transports with umoci; gives the directory
    /// of its files.
    pub(crate) fn unpacked(&self, image: &str, architecture: &str) -> PathBuf {
        let number = names(self.dir.path()).len();
        let (layout, bundle) = (format!("{}:x", self.name(format!("u{number}"))), format!("b{number}"));
        let target = format!("oci:{layout}");
        skopeo(&[
            "--override-arch",
            architecture,
            "copy",
            "--src-tls-verify=false",
            "--preserve-digests",
            image,
            &target,
        ]);
        umoci(&["unpack", "--image", &layout, &self.name(&bundle)]);
        self.path(bundle).join("rootfs")
    }
}

/// Names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).unwrap();
        Self { status: output.status, stdout: output.stdout, stderr }
    }
}

impl Ended {
    pub(crate) fn done(self) -> Self {
        assert!(self.status.success(), "ocib ended with {}:\n{}", self.status, self.stderr);
        self
    }

    /// The exit code, unless a signal ended the program.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Expects the exit code and silence on stdout; gives stderr.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.status.signal(), None, "{}", self.stderr);
        assert_eq!(self.status.code(), Some(code), "{}", self.stderr);
        assert_eq!(self.stdout, b"", "a build that failed has no results");
        self.stderr
    }

    /// The results: one reference a line.
    pub(crate) fn references(&self) -> Vec<&str> {
        std::str::from_utf8(&self.stdout).unwrap().lines().collect()
    }

    /// The digest of the only image.
    pub(crate) fn digest(&self) -> &str {
        let references = self.references();
        let (_, digest) = references.first().unwrap().split_once('@').unwrap();
        assert!(references.iter().all(|reference| reference.ends_with(digest)), "{references:?}");
        digest
    }
}

/// Runs a program to its end.
pub(crate) fn ended(command: &mut Command) -> Ended {
    command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")).into()
}

/// Starts a program whose output is collected by [`wait`].
pub(crate) fn started(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// Waits for the end of a program. It writes too little to fill a pipe before.
pub(crate) fn wait(child: Child) -> Ended {
    child.wait_with_output().unwrap().into()
}

/// Sends a signal by its name, such as `TERM`.
pub(crate) fn signal(child: &Child, name: &str) {
    run_command(Command::new(require("kill", "procps")).args([format!("-{name}"), child.id().to_string()]));
}

/// Waits until `happens` while `child` runs; panics with its messages if it ends before.
pub(crate) fn until(child: &mut Child, what: &str, happens: impl Fn() -> bool) {
    eventually(what, || {
        let has_happened = happens();
        if let Some(status) = child.try_wait().unwrap().filter(|_| !has_happened) {
            let mut said = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
            panic!("ocib ended with {status} before {what}:\n{said}");
        }
        has_happened
    });
}

/// Waits until `happens`.
pub(crate) fn eventually(what: &str, mut happens: impl FnMut() -> bool) {
    for _ in 0..POLLS {
        if happens() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} does not happen");
}

/// Waits until the program takes it for certain that files below `directory`, which has no directories, will not
/// change within the tick of a clock.
pub(crate) fn settle(directory: &Path) {
    let changed = |file: fs::DirEntry| {
        let metadata = file.metadata().unwrap();
        metadata.ctime().max(metadata.mtime()).unsigned_abs()
    };
    let last = fs::read_dir(directory).unwrap().map(|file| changed(file.unwrap())).max().unwrap();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(last) + SETTLED;
    eventually("files grow old", || SystemTime::now() > end);
}

/// The document that a reference of a plain-HTTP registry names, as it is there.
pub(crate) fn manifest(reference: &str) -> Value {
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
    serde_json::from_str(&raw).unwrap()
}

/// The config of an image that is named by any of skopeo's transports.
pub(crate) fn config(image: &str) -> Value {
    let raw = skopeo(&["inspect", "--raw", "--config", "--tls-verify=false", image]);
    serde_json::from_str(&raw).unwrap()
}

/// Digests of the layers of a manifest, without `sha256:`.
pub(crate) fn layers(manifest: &Value) -> Vec<&str> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap()).collect()
}

/// What tag `tag` of a repository names in a plain-HTTP registry that wants no login.
pub(crate) fn tag_digest(registry: &Registry, repository: &str, tag: &str) -> Option<String> {
    let link = registry
        .storage()
        .join(format!("docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link"));
    fs::read_to_string(link).ok()
}

/// Where a registry keeps a blob, by its hex digest.
pub(crate) fn stored_blob(registry: &Registry, hex: &str) -> PathBuf {
    registry.storage().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
}

/// How much a registry has got so far of blobs that are on their way to a repository.
pub(crate) fn uploaded_bytes(registry: &Registry, repository: &str) -> u64 {
    let uploads = registry.storage().join(format!("docker/registry/v2/repositories/{repository}/_uploads"));
    let sessions = fs::read_dir(uploads).into_iter().flatten().flatten();
    // A session may end while it is looked at.
    let data = sessions.filter_map(|session| fs::metadata(session.path().join("data")).ok());
    data.map(|data| data.len()).sum()
}

/// Makes a path readable by every user, as temporary directories are not.
pub(crate) fn set_mode(path: impl AsRef<Path>, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A program that runs as the user and group 65534, who own nothing.
pub(crate) fn as_nobody(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(require("setpriv", "util-linux"));
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(program);
    command
}
