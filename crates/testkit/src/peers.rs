//! Other people's readers of images.

use std::{
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::process::{output_of, require, run, run_command, stdout_of};

/// Runs `skopeo` without a signature policy of the machine. TLS of loopback registries is the
/// caller's to allow (`--src-tls-verify=false`).
pub fn skopeo(arguments: &[&str]) -> String {
    run("skopeo", "skopeo", &[&["--insecure-policy"], arguments].concat())
}

/// Runs `umoci`.
pub fn umoci(arguments: &[&str]) -> String {
    run("umoci", "umoci", arguments)
}

/// Unpacks a tar archive with GNU tar into `dir`, which is made.
pub fn untar(archive: &Path, dir: &Path) {
    std::fs::create_dir_all(dir).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
    let (archive, dir) = (archive.display().to_string(), dir.display().to_string());
    run("tar", "tar", &["-xf", &archive, "-C", &dir]);
}

/// `podman` with a storage of its own, which needs no more of the machine than root.
#[derive(Debug)]
pub struct Podman {
    dir: TempDir,
}

impl Podman {
    /// With an empty storage.
    pub fn new() -> Self {
        Self { dir: TempDir::with_prefix("ocib-podman-").expect("a temporary directory") }
    }

    /// Loads what `docker save` and `podman save` write, and returns podman's answer, which names
    /// the image.
    pub fn load(&self, archive: &Path) -> String {
        run_command(self.command().arg("load").arg("-i").arg(archive))
    }

    /// Pulls from any transport (`docker://`, `oci:`, `docker-archive:` …; plain HTTP is allowed)
    /// and returns the image's ID.
    pub fn pull(&self, image: &str) -> String {
        let answer = run_command(self.command().args(["pull", "--quiet", "--tls-verify=false", image]));
        answer.trim().to_owned()
    }

    /// Runs a loaded or pulled image without network and returns what it wrote to stdout.
    pub fn run(&self, image: &str, arguments: &[&str]) -> String {
        self.run_with(&[], image, arguments)
    }

    /// The same with flags of `podman run` before the image, such as `--arch arm64`.
    pub fn run_with(&self, flags: &[&str], image: &str, arguments: &[&str]) -> String {
        run_command(self.run_command("none").args(flags).arg(image).args(arguments))
    }

    /// `podman run` on a network (`none` or `host`), to be given more flags, an image and its arguments.
    pub fn run_command(&self, network: &str) -> Command {
        let mut command = self.command();
        command.args(["run", "--runtime", "runc", "--ulimit", "nofile=1024:1024"]);
        command.args(["--ulimit", "nproc=1000:1000", "--network", network, "--rm"]);
        command
    }

    fn command(&self) -> Command {
        require("runc", "runc");
        let mut command = Command::new(require("podman", "podman"));
        command.args(["--storage-driver", "vfs", "--root"]).arg(self.dir.path().join("root"));
        command.arg("--runroot").arg(self.dir.path().join("run"));
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

/// `buildah` with a storage of its own. It runs what is in an image by `chroot`, as root.
#[derive(Debug)]
pub struct Buildah {
    dir: TempDir,
}

impl Buildah {
    /// With an empty storage.
    pub fn new() -> Self {
        Self { dir: TempDir::with_prefix("ocib-buildah-").expect("a temporary directory") }
    }

    /// Builds `dockerfile` with an empty context, a layer for each instruction, into the OCI layout `dest`;
    /// its (only) FROM is the OCI layout `base`, whatever it says.
    pub fn build(&self, dockerfile: &Path, base: &Path, dest: &Path) -> String {
        let context = self.dir.path().join("context");
        std::fs::create_dir_all(&context).expect("a directory can be made");
        // Buildah makes a name of the path, and capitals of a temporary directory are not allowed in one.
        let name = base.file_name().and_then(|name| name.to_str()).expect("a layout has a name");
        let beside = base.parent().expect("a layout is in a directory");
        let pull = ["pull", "--quiet", &format!("oci:{name}")];
        let id = run_command(self.command().args(pull).current_dir(beside));
        let mut command = self.command();
        command.args(["bud", "--isolation", "chroot", "--layers", "--no-cache", "--from", id.trim()]);
        command.arg("-f").arg(dockerfile).arg("-t").arg(format!("oci:{}:x", dest.display()));
        Self::run(command.arg(context))
    }

    /// Runs a prepared `buildah` like [`run_command`], but again as often as the kernel, which waits for a busy
    /// machine only so long, did not let it seal the copy of itself from which it begins a command.
    pub fn run(command: &mut Command) -> String {
        let is_refused = |output: &Output| {
            let said = String::from_utf8_lossy(&output.stderr);
            !output.status.success() && said.contains("sealing memfd copy: Device or resource busy")
        };
        let mut output = output_of(command);
        for _ in 0..4 {
            if is_refused(&output) {
                output = output_of(command);
            }
        }
        stdout_of(command, &output)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(require("buildah", "buildah"));
        command.args(["--storage-driver", "vfs", "--root"]).arg(self.dir.path().join("root"));
        command.arg("--runroot").arg(self.dir.path().join("run"));
        command
    }
}

impl Default for Buildah {
    fn default() -> Self {
        Self::new()
    }
}
