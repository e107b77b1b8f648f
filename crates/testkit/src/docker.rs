//! Docker's daemon, out of Debian's packages: unpacked by `tests/run.sh`, not installed.

use std::{
    env, fs,
    fs::File,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{machine::fetched, process::require};

/// `dockerd` with a storage of its own, on a socket of its own, which speaks plain HTTP to loopback registries. Needs
/// root. Ended when dropped, with all that it started; then nothing of it is left.
///
/// It has no bridge, as that would be the whole machine's: what it builds has no network.
#[derive(Debug)]
pub struct Docker {
    dir: TempDir,
    process: Child,
}

/// Polls until it answers, or until the kernel has let go; one takes 20 ms and more. Generous: a busy machine must not
/// fail a test.
const POLLS: usize = 3000;

/// Namespaces of its own: what is mounted, and whoever runs, goes with the first process. What docker and runc keep
/// below /run is hidden.
const NAMESPACES: [&str; 10] = [
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "sh",
    "-c",
    "mount -t tmpfs tmpfs /run && exec \"$@\"",
];

const FLAGS: [&str; 9] = [
    "--storage-driver=vfs",
    // Also where systemd is, which wants a slice of its own for a group.
    "--exec-opt=native.cgroupdriver=cgroupfs",
    "--bridge=none",
    // What it would otherwise change of the machine's network.
    "--iptables=false",
    "--ip6tables=false",
    "--ip-masq=false",
    "--ip-forward=false",
    "--userland-proxy=false",
    "--insecure-registry=127.0.0.0/8",
];

impl Docker {
    /// Starts a daemon without images.
    pub fn start() -> Self {
        let dir = TempDir::with_prefix("ocib-docker-").expect("a temporary directory");
        let path = |name: &str| dir.path().join(name);
        let named = |flag: &str, name: &str| format!("--{flag}={}", path(name).display());
        // Its default is in /etc.
        let key = path("key.json");
        write(&path("daemon.json"), &serde_json::json!({ "deprecated-key-path": key }).to_string());
        let log = File::create(path("log")).expect("a file in a directory of ours");
        let mut command = Command::new(require("unshare", "util-linux"));
        command.args(NAMESPACES).arg("sh").arg(fetched("docker/dockerd")).args(FLAGS);
        command.args([named("config-file", "daemon.json"), named("pidfile", "pid")]);
        command.args([named("data-root", "data"), named("exec-root", "exec")]);
        command.args([
            format!("--host={}", socket(dir.path())),
            format!("--cgroup-parent={}", group(dir.path())),
        ]);
        command.env("PATH", search_path()).stdin(Stdio::null());
        command.stderr(log.try_clone().expect("an open file")).stdout(log);
        let process = command.spawn().unwrap_or_else(|error| panic!("cannot run unshare: {error}"));
        let mut docker = Self { dir, process };
        docker.write_client();
        docker.wait();
        docker
    }

    /// `docker` as the daemon's client, with a configuration of its own.
    pub fn client(&self) -> PathBuf {
        self.path("client")
    }

    /// The command lines of all builds and pushes so far.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls
            .lines()
            .filter(|line| ["build ", "push "].iter().any(|verb| line.starts_with(verb)))
            .map(str::to_owned)
            .collect()
    }

    /// Everything that is the daemon's: its directory, and its groups of processes.
    pub fn places(&self) -> Vec<PathBuf> {
        [vec![self.dir.path().to_owned()], groups(self.dir.path())].concat()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_client(&self) {
        let script = format!(
            "#!/bin/sh\n\
             echo \"$*\" >> {calls}\n\
             export DOCKER_HOST={socket} DOCKER_CONFIG={config}\n\
             if [ \"$1\" = build ]; then shift; set -- build --network none \"$@\"; fi\n\
             exec {docker} \"$@\"\n",
            calls = self.path("calls").display(),
            socket = socket(self.dir.path()),
            config = self.path("config").display(),
            docker = fetched("docker/docker").display(),
        );
        write(&self.client(), &script);
        fs::set_permissions(self.client(), fs::Permissions::from_mode(0o755)).expect("a file of ours");
    }

    /// Waits until the daemon answers.
    fn wait(&mut self) {
        for _ in 0..POLLS {
            let ended = self.process.try_wait().expect("a child of ours");
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(ended.is_none(), "dockerd has ended, which needs root: {}", log());
            let mut version = Command::new(self.client());
            version.arg("version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if version.status().is_ok_and(|status| status.success()) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("dockerd does not answer: {}", fs::read_to_string(self.path("log")).unwrap_or_default());
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // The first process of the namespace, whose end is the end of all in there; unshare waits for that.
        let parent = self.process.id().to_string();
        let killed = Command::new(require("pkill", "procps")).args(["-KILL", "-P", &parent]).status();
        if !killed.is_ok_and(|status| status.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
        for group in groups(self.dir.path()) {
            remove_group(&group);
        }
    }
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn socket(dir: &Path) -> String {
    format!("unix://{}", dir.join("socket").display())
}

/// Where dockerd finds containerd and runc.
fn search_path() -> std::ffi::OsString {
    let ours = fetched("docker/dockerd").parent().map(Path::to_owned);
    let runc = require("runc", "runc").parent().map(Path::to_owned);
    let path = env::var_os("PATH").unwrap_or_default();
    let all = ours.into_iter().chain(runc).chain(env::split_paths(&path));
    env::join_paths(all).expect("directories without a colon")
}

/// The name of the group of processes below which the daemon makes groups.
fn group(dir: &Path) -> String {
    dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The groups of that name, one in each hierarchy.
fn groups(dir: &Path) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(group(dir)));
    all.filter(|group| group.is_dir()).collect()
}

/// Its processes have ended, but the kernel may need a moment to see it.
fn remove_group(group: &Path) {
    for _ in 0..POLLS {
        let children = fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
        children.filter(|child| child.is_dir()).for_each(|child| remove_group(&child));
        if fs::remove_dir(group).is_ok() || !group.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::run_command;

    #[test]
    fn nothing_is_left() {
        let docker = Docker::start();
        let said =
            run_command(Command::new(docker.client()).args(["info", "--format", "{{.Driver}} {{.Images}}"]));
        assert_eq!(said, "vfs 0\n");
        let places = docker.places();
        drop(docker);
        assert_eq!(
            places.into_iter().filter(|place| place.exists()).collect::<Vec<_>>(),
            Vec::<PathBuf>::new()
        );
    }
}
