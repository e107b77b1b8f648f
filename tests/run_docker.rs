//! RUN by docker, with a daemon of its own.

use std::{fs, process::Command};

use ocib_testkit::{Docker, run_command, untar};

use crate::{
    program::{Ended, ended, names, tag_digest},
    run_mounts::assert_nowhere,
    runs::{Runs, assert_consistent, listing},
};

const DOCKERFILE: &str = "\
FROM @BASE@
COPY one /one
RUN --mount=type=secret,id=token,target=/root/cred,mode=0440,uid=5,gid=6 --mount=type=tmpfs,target=/t \\
    stat -c '%A %u %g' /root/cred > /cred && wc -c < /root/cred >> /cred && id -u >> /cred && touch /t/lost
COPY --chown=app two /real/two
ENV LATER=\"a 'b' $FROM_BASE\"
RUN --mount=source=dir,target=/b cat /one /real/two /b/leaf > /all && echo \"$LATER\" >> /all && mkdir -m 2750 /made
COPY three /three
CMD [\"cat\", \"/all\"]
";

const SECRET: &str = "planted-in-docker-4711";

/// A site with a daemon; the daemon is the first to end.
struct Site {
    docker: Docker,
    runs: Runs,
}

impl Site {
    fn new() -> Self {
        let runs = Runs::new(DOCKERFILE);
        runs.site.file("context/one", "1\n").file("context/two", "2\n").file("context/three", "3\n");
        runs.site.file("context/dir/leaf", "leaf\n").file("token", SECRET);
        Self { docker: Docker::start(), runs }
    }

    fn build(&self, more: &[&str]) -> Ended {
        let client = self.docker.client().display().to_string();
        let flags = ["--run", "docker", "--run-program", &client, "--secret", "id=token,src=token"];
        ended(&mut self.runs.build(&[&flags[..], more].concat()))
    }

    /// The same with the Dockerfile changed.
    fn edited(&self, from: &str, to: &str, more: &[&str]) -> Ended {
        let dockerfile = fs::read_to_string(self.runs.site.path("context/Dockerfile")).unwrap();
        assert!(dockerfile.contains(from), "{dockerfile}");
        self.runs.site.file("context/Dockerfile", dockerfile.replace(from, to));
        let ended = self.build(more);
        self.runs.site.file("context/Dockerfile", dockerfile);
        ended
    }

    fn docker(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.docker.client());
        run_command(command.args(arguments).env("DOCKER_BUILDKIT", "1").current_dir(self.runs.site.path("")))
    }
}

#[test]
fn docker_runs_what_is_written_and_nothing_is_left() {
    let site = Site::new();
    let runs = &site.runs;
    site.build(&[]).done();
    assert_eq!(site.docker.calls().len(), 2, "one part, built and pushed: {:?}", site.docker.calls());
    let files = runs.files();
    let read = |name: &str| fs::read_to_string(files.join(name)).unwrap();
    assert_eq!(read("all"), "1\n2\nleaf\na 'b' yes\n");
    let cred = read("cred");
    assert_eq!(cred, format!("-r--r----- 5 6\n{}\n0\n", SECRET.len()));
    assert!(!files.join("t/lost").exists());
    assert_consistent(&runs.config());
    assert_nowhere(runs, SECRET);
    // The image that a job made is removed there.
    assert_eq!(site.docker(&["image", "ls", "--quiet"]), "");

    // As docker makes it alone.
    let output = format!("type=tar,dest={}", runs.site.name("whole.tar"));
    site.docker(&["build", "--quiet", "--secret", "id=token,src=token", "--output", &output, "context"]);
    untar(&runs.site.path("whole.tar"), &runs.site.path("whole"));
    assert_eq!(listing(&files), listing(&runs.site.path("whole")));

    // What was made is there; what comes after it may change.
    let (calls, first) = (site.docker.calls(), tag_digest(&runs.registry, "app", "1"));
    site.build(&[]).done();
    assert_eq!((site.docker.calls(), tag_digest(&runs.registry, "app", "1")), (calls.clone(), first));
    runs.site.file("context/three", "other\n");
    site.build(&[]).done();
    assert_eq!(site.docker.calls(), calls);
    runs.site.file("context/two", "other\n");
    site.build(&[]).done();
    assert_eq!(site.docker.calls().len(), calls.len() + 2);

    assert_eq!(names(&runs.site.path("scratch")), [".keep"]);
    let places = site.docker.places();
    drop(site);
    assert!(places.iter().all(|place| !place.exists()), "{places:?}");
}

#[test]
fn what_docker_does_not_do_is_said_at_its_line() {
    let site = Site::new();
    let failed = site.edited("cat /one", "echo so far; exit 7; cat /one", &[]).failed(1);
    assert!(failed.contains("so far\n"), "{failed}");
    assert!(failed.contains("error[run-command-failed]: "), "{failed}");
    assert!(failed.contains(" --> context/Dockerfile:7:1\n"), "{failed}");
    let unknown =
        site.edited("RUN --mount=source", "RUN --network=none --mount=source", &["--quiet"]).failed(3);
    assert!(unknown.starts_with("error[run-not-understood]: "), "{unknown}");
    assert_eq!(site.docker(&["image", "ls", "--quiet"]), "");
    assert_eq!(tag_digest(&site.runs.registry, "app", "1"), None);
}
