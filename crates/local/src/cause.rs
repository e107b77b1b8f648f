//! Every way in which a program of this host ends badly, with its name and its remedy. One table: messages, the
//! guide, `ocib explain` and tests read it.

use ocib_image::{RunError, RunErrorKind};

/// Why a program of this host gave no image, and what to do.
#[derive(Debug)]
pub struct Cause {
    /// Its name in messages and docs, which never changes.
    pub id: &'static str,
    /// What a caller can do differently.
    pub kind: RunErrorKind,
    /// What it means, for people, without a full stop.
    pub title: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// It is this cause if a program says all texts of one row in one line, in lower case.
    signs: &'static [&'static [&'static str]],
}

const fn cause(
    id: &'static str,
    kind: RunErrorKind,
    title: &'static str,
    remedy: &'static str,
    signs: &'static [&'static [&'static str]],
) -> Cause {
    Cause { id, kind, title, remedy, signs }
}

/// The command itself.
pub(crate) static COMMAND_FAILED: Cause = cause(
    "run-command-failed",
    RunErrorKind::Command,
    "a command of the Dockerfile failed",
    "see what it said above",
    &[],
);
pub(crate) static COMMAND_KILLED: Cause = cause(
    "run-command-signal",
    RunErrorKind::Command,
    "a command of the Dockerfile was ended by a signal",
    "see what it said above; signal 9 often means that memory was short: give the host or its cgroup more",
    &[],
);
pub(crate) static NO_COMMAND: Cause = cause(
    "run-command-missing",
    RunErrorKind::Command,
    "the program that a RUN starts is not in the image, or is none",
    "check its name and mode, the shell of the base (there is none on scratch), and that its interpreter is there",
    &[&["process failed to start with error"], &["unable to start container process", "exec: "]],
);
pub(crate) static EXEC_FORMAT: Cause = cause(
    "run-foreign-program",
    RunErrorKind::Backend,
    "this host cannot run programs for the platform",
    "register an emulator (Debian: qemu-user-static with binfmt-support), or build on a host of that platform",
    &[&["exec format error"]],
);
/// The program.
pub(crate) static NO_PROGRAM: Cause = cause(
    "run-no-program",
    RunErrorKind::Input,
    "the program is not there",
    "install it, say where it is with --run-program, or choose another --run",
    &[],
);
pub(crate) static NOT_STARTED: Cause = cause(
    "run-program-not-started",
    RunErrorKind::Input,
    "the program cannot be started",
    "see whether it runs by itself",
    &[],
);
pub(crate) static NO_SCRATCH: Cause = cause(
    "run-no-scratch",
    RunErrorKind::Input,
    "the program needs room on a disk, and there is nowhere to write",
    "name a directory with --scratch-dir",
    &[],
);
pub(crate) static DISK_FULL: Cause = cause(
    "run-scratch-full",
    RunErrorKind::Backend,
    "the disk is full on which the program unpacks and keeps layers",
    "name a directory with more room with --scratch-dir; --run-storage-driver overlay keeps less than vfs",
    &[&["no space left on device"], &["disk quota exceeded"]],
);
pub(crate) static USER_NAMESPACE: Cause = cause(
    "run-user-namespace",
    RunErrorKind::Backend,
    "the program is not root and may not make a user namespace, or has no ids for one",
    "have the administrator give this user ranges in /etc/subuid and /etc/subgid, install newuidmap (Debian: uidmap) \
     and allow user namespaces (sysctl user.max_user_namespaces); in a container run as root with CAP_SETUID and \
     CAP_SETGID, or use --run kaniko",
    &[
        &["newuidmap"],
        &["newgidmap"],
        &["no subuid ranges found"],
        &["no subgid ranges found"],
        &["/etc/subuid"],
        // With one id only, which cannot leave its groups.
        &["setting supplemental groups list: operation not permitted"],
        &["cannot clone: "],
        &["cannot re-exec process"],
        &["potentially insufficient uids or gids"],
        &["cannot set user namespace"],
    ],
);
pub(crate) static STORAGE_DRIVER: Cause = cause(
    "run-storage-driver",
    RunErrorKind::Input,
    "the storage driver cannot be used here",
    "leave --run-storage-driver out (vfs works everywhere), or name a --scratch-dir on another file system",
    &[
        &["is not supported over"],
        &["driver not supported"],
        &["prerequisites for driver not satisfied"],
        &["kernel does not support overlay"],
        &["fuse-overlayfs"],
    ],
);
pub(crate) static ISOLATION: Cause = cause(
    "run-isolation",
    RunErrorKind::Input,
    "what should hold the commands cannot be had here",
    "leave --run-isolation out: chroot needs no runtime and works inside containers",
    &[
        &["unrecognized isolation"],
        &["error running container: from ", "executable file not found"],
        &["runc create failed"],
        &["error running container: from "],
    ],
);
/// The kernel refuses `F_ADD_SEALS` while something else holds pages of the copy, which under load may last
/// longer than it waits.
pub(crate) static SEAL_BUSY: Cause = cause(
    "run-seal-busy",
    RunErrorKind::Backend,
    "the program could not seal the copy of itself that holds a command, again and again",
    "run it again when the host has less to do or more memory; no command was begun",
    &[&["sealing memfd copy: ", "resource busy"]],
);
pub(crate) static NOT_UNDERSTOOD: Cause = cause(
    "run-not-understood",
    RunErrorKind::Input,
    "this version of the program does not know a word of an instruction",
    "take a newer version (docker 20.10 knows neither RUN --network nor the size of a tmpfs), or leave the word out",
    &[&["dockerfile parse error"], &["unknown flag: network"], &["invalid mount option"]],
);
/// Docker's daemon.
pub(crate) static DAEMON_DENIED: Cause = cause(
    "run-daemon-denied",
    RunErrorKind::Denied,
    "this user may not speak to docker's daemon",
    "add the user to the daemon's group (docker), or use --run buildah, which needs no daemon",
    &[&["permission denied while trying to connect to the docker daemon"]],
);
pub(crate) static NO_DAEMON: Cause = cause(
    "run-no-daemon",
    RunErrorKind::Backend,
    "docker's daemon does not answer",
    "start it, or set DOCKER_HOST; --run buildah needs no daemon",
    &[&["cannot connect to the docker daemon"], &["error during connect"]],
);
pub(crate) static NO_BUILDKIT: Cause = cause(
    "run-no-buildkit",
    RunErrorKind::Input,
    "this docker has no BuildKit",
    "install docker's buildx plugin (Debian: docker-buildx), or docker 20.10 or later with the builder built in",
    &[&["buildx component is missing"], &["buildkit not supported by daemon"], &["unknown flag: --progress"]],
);
/// Registries.
pub(crate) static PLAIN_HTTP: Cause = cause(
    "run-registry-without-tls",
    RunErrorKind::Registry,
    "the program wants TLS of a registry that has none",
    "name the registry with --insecure-registry; for docker in the daemon's configuration (insecure-registries)",
    &[&["server gave http response to https client"]],
);
pub(crate) static INPUT_MISSING: Cause = cause(
    "run-input-missing",
    RunErrorKind::Registry,
    "the program could not get an image that the part begins with or copies from",
    "let it read the base's registry and the run repository: it has its own configuration and the file that \
     REGISTRY_AUTH_FILE names",
    &[],
);
pub(crate) static PUSH_FAILED: Cause = cause(
    "run-push-failed",
    RunErrorKind::Registry,
    "the program could not push the result",
    "let it push to the run repository, with its own credentials or those of the file that REGISTRY_AUTH_FILE names",
    &[],
);
/// All else.
pub(crate) static BUILD_FAILED: Cause = cause(
    "run-build-failed",
    RunErrorKind::Backend,
    "the program failed for a reason that ocib does not know",
    "see what it said above",
    &[],
);
pub(crate) static NO_MANIFEST: Cause = cause(
    "run-no-manifest",
    RunErrorKind::Backend,
    "the program did not say which manifest it pushed",
    "see what it said above; another version of it may be needed",
    &[],
);

static ALL: [&Cause; 21] = [
    &COMMAND_FAILED,
    &COMMAND_KILLED,
    // Said where the next one is said, too.
    &EXEC_FORMAT,
    &NO_COMMAND,
    &NO_PROGRAM,
    &NOT_STARTED,
    &NO_SCRATCH,
    &DISK_FULL,
    &USER_NAMESPACE,
    &STORAGE_DRIVER,
    &ISOLATION,
    &SEAL_BUSY,
    &NOT_UNDERSTOOD,
    &DAEMON_DENIED,
    &NO_DAEMON,
    &NO_BUILDKIT,
    &PLAIN_HTTP,
    &INPUT_MISSING,
    &PUSH_FAILED,
    &BUILD_FAILED,
    &NO_MANIFEST,
];

impl Cause {
    /// All causes, in the order of the guide.
    ///
    /// ```
    /// assert!(ocib_local::Cause::all().any(|cause| cause.id == "run-no-program"));
    /// ```
    pub fn all() -> impl Iterator<Item = &'static Self> {
        ALL.into_iter()
    }

    /// The cause with this id.
    pub fn named(id: &str) -> Option<&'static Self> {
        Self::all().find(|cause| cause.id == id)
    }

    /// The causes that a log speaks of, each once, in the order of its lines: by id, as in `error[run-no-program]`,
    /// or by the words of a program.
    pub fn all_of_log(text: &str) -> Vec<&'static Self> {
        let mut found: Vec<&'static Self> = Vec::new();
        for line in text.lines() {
            let named = |cause: &&Self| {
                line.split(|c: char| !c.is_ascii_lowercase() && c != '-').any(|w| w == cause.id)
            };
            if let Some(cause) = Self::all().find(named).or_else(|| Self::of_line(line))
                && !found.iter().any(|known| known.id == cause.id)
            {
                found.push(cause);
            }
        }
        found
    }

    /// The first cause whose signs are in a line that a program said of itself.
    pub(crate) fn of_line(line: &str) -> Option<&'static Self> {
        let line = line.to_lowercase();
        Self::all().find(|cause| cause.signs.iter().any(|row| row.iter().all(|sign| line.contains(sign))))
    }

    /// An error of this cause that says `message`.
    pub(crate) fn error(&self, message: impl Into<String>) -> RunError {
        RunError::new(self.kind, self.id, message, self.remedy)
    }
}
