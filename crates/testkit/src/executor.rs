//! The stand-in for Kaniko's executor: a script that builds with buildah, and an image of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    machine::{arm64_emulator, checkout},
    process::require,
    run_command,
};

/// A script that takes the flags of Kaniko's executor, reads a context and builds as Kaniko does, and says
/// and leaves what Kaniko says and leaves. What it does not stand for is written at its head.
#[derive(Clone, Debug)]
pub struct Executor {
    directory: PathBuf,
}

impl Executor {
    /// The stand-in of this checkout. Panics if a program is missing that it starts.
    pub fn new() -> Self {
        for program in ["bash", "buildah", "curl", "gzip", "skopeo", "tar"] {
            require(program, program);
        }
        Self { directory: checkout().join("crates/testkit/executor") }
    }

    /// The executor as a process of this machine, to be given its arguments, its input and its output.
    /// It needs root, or the right to make user namespaces. RUNs of arm64 are emulated, which needs Linux 6.7
    /// and root.
    ///
    /// `root` is `/` to it, as far as its own files are concerned: what a pod would mount at `/kaniko/…` lies
    /// in `root/kaniko`, and the termination message is read from `root/dev/termination-log`. Whoever ends it
    /// ends its process group, which it leads if [`process_group(0)`] is set: RUNs are processes in there.
    ///
    /// [`process_group(0)`]: std::os::unix::process::CommandExt::process_group
    pub fn command(&self, root: &Path) -> Command {
        for directory in ["dev", "kaniko"] {
            let directory = root.join(directory);
            std::fs::create_dir_all(&directory)
                .unwrap_or_else(|error| panic!("cannot make {}: {error}", directory.display()));
        }
        let mut command = Command::new(self.directory.join("executor"));
        command.current_dir(root).env_clear().env("OCIB_EXECUTOR_ROOT", root);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("OCIB_EXECUTOR_EMULATOR", arm64_emulator());
        command
    }

    /// Makes `directory` the context of an image of the executor: a Dockerfile without RUN, and the script,
    /// the programs that it starts and their libraries, as Debian has installed them on this machine.
    pub fn assemble(&self, directory: &Path) {
        run_command(Command::new(self.directory.join("assemble")).arg(directory));
    }
}

impl Default for Executor {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
