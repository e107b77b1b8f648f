//! Repositories in ADD and as contexts, served by git itself.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use ocib_testkit::{FileType, GitServer, GitServerOptions, git, rootfs};
use serde_json::{Value, json};

use crate::program::{Ended, Site, config, ended};

/// The time of the test kit's commits.
const TIME: u64 = 1_700_000_000;

/// A site whose context is the Dockerfile alone, and a server with the repository `app`: a Dockerfile,
/// an ignore file, an executable file, a link, a directory and a submodule.
struct Repository {
    site: Site,
    server: GitServer,
    work: PathBuf,
}

impl Repository {
    fn new(dockerfile: &str) -> Self {
        Self::guarded(dockerfile, GitServerOptions::default())
    }

    fn guarded(dockerfile: &str, options: GitServerOptions) -> Self {
        let (site, server) = (Site::new(""), GitServer::start(options));
        let text = dockerfile.replace("SERVER", server.origin());
        site.file("context/Dockerfile", text);
        let here = site.path("");
        for name in ["lib", "work"] {
            git(&here, &["init", "--quiet", name]);
        }
        site.file("lib/part", "of the library\n");
        commit(&site.path("lib"));
        server.publish("lib", &site.path("lib"));
        let work = site.path("work");
        site.file("work/Dockerfile", "FROM scratch\nCOPY . /app/\n").file("work/.dockerignore", "secret\n");
        site.file("work/secret", "no")
            .file("work/data/b", "b")
            .file("work/data/Other.Dockerfile", "FROM scratch\nCOPY . /d/\n");
        site.file("work/run", "#!/bin/sh\n");
        fs::set_permissions(work.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("data/b", work.join("link")).unwrap();
        let oid = git(&site.path("lib"), &["rev-parse", "HEAD"]).trim().to_owned();
        site.file("work/.gitmodules", "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib.git\n");
        git(&work, &["add", "--all", "."]);
        git(&work, &["update-index", "--add", "--cacheinfo", &format!("160000,{oid},lib")]);
        git(&work, &["commit", "--quiet", "--message=one"]);
        git(&work, &["tag", "--annotate", "--message=one", "v1"]);
        server.publish("app", &work);
        Self { site, server, work }
    }

    fn oid(&self) -> String {
        git(&self.work, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// `ocib COMMAND CONTEXT` with these arguments.
    fn run(&self, command: &str, context: &str, arguments: &[&str]) -> Command {
        let mut run = Command::new(env!("CARGO_BIN_EXE_ocib"));
        self.site.clean(&mut run);
        run.args([command, context]).args(arguments);
        run
    }

    fn built(&self, context: &str, arguments: &[&str]) -> Ended {
        ended(&mut self.run("build", &self.url(context), arguments)).done()
    }

    fn url(&self, context: &str) -> String {
        context.replace("SERVER", self.server.origin())
    }

    /// Paths of the image in ./ocib-out, with type, mode, owner, size and link.
    fn paths(&self) -> Vec<String> {
        let files = rootfs(&self.site.path("ocib-out"), "linux/amd64");
        files.iter().map(|(path, file)| format!("{path} {file}")).collect()
    }

    /// All times of files in the image.
    fn times(&self) -> BTreeSet<u64> {
        let files = rootfs(&self.site.path("ocib-out"), "linux/amd64");
        let files = files.values().filter(|file| file.file_type == FileType::File);
        files.map(|file| file.mtime).collect()
    }
}

fn commit(work: &Path) {
    git(work, &["add", "--all", "."]);
    git(work, &["commit", "--quiet", "--message=one"]);
}

/// What a checkout has, below `root`.
fn checkout(root: &str, with: &[&str]) -> Vec<String> {
    let own = [
        ".dockerignore f 0644 0:0 7",
        ".gitmodules f 0644 0:0 48",
        "Dockerfile f 0644 0:0 26",
        "data d 0755 0:0 0",
        "data/Other.Dockerfile f 0644 0:0 24",
        "data/b f 0644 0:0 1",
        "lib d 0755 0:0 0",
        "lib/part f 0644 0:0 15",
        "link l 0777 0:0 0 -> data/b",
        "run f 0755 0:0 10",
    ];
    let mut all: Vec<String> = own.iter().chain(with).map(|line| format!("{root}/{line}")).collect();
    all.push(format!("{root} d 0755 0:0 0"));
    all.sort();
    all
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[test]
fn add_brings_the_files_of_a_commit() {
    let repository = Repository::new("FROM scratch\nADD SERVER/app.git#v1 /src\n");
    let made = ended(&mut repository.run("build", "context", &[])).done();
    assert_eq!(sorted(repository.paths()), checkout("src", &["secret f 0644 0:0 2"]));
    assert_eq!(repository.times(), [TIME].into());
    let url = repository.url("SERVER/app.git");
    let said = format!("{url} cannot be read twice: it is written to /tmp");
    assert_eq!(made.stderr.lines().filter(|line| *line == said).count(), 1, "{}", made.stderr);
    assert_eq!(repository.site.leftovers(), ["lib", "ocib-out", "work"]);
    let history = config(&format!("oci:{}", repository.site.name("ocib-out")));
    assert_eq!(history["history"][0]["created_by"], format!("ADD {url}#v1 /src # buildkit"));
}

#[test]
fn flags_of_add_mean_what_they_mean() {
    let dockerfile = "FROM scratch\nADD --checksum=OID --chown=7:8 --chmod=0600 --exclude=**/b --link SERVER/app.git#main:data /d/\n";
    let repository = Repository::new(dockerfile);
    let text = repository.url(dockerfile).replace("OID", &repository.oid());
    repository.site.file("context/Dockerfile", &text);
    ended(&mut repository.run("build", "context", &["-q"])).done();
    let expected = ["d d 0600 7:8 0", "d/Other.Dockerfile f 0600 7:8 24"];
    assert_eq!(sorted(repository.paths()), expected);
}

#[test]
fn a_kept_git_directory_is_one_for_git() {
    let repository = Repository::new("FROM scratch\nADD --keep-git-dir SERVER/app.git#v1 /src\n");
    ended(&mut repository.run("build", "context", &["-q"])).done();
    let root = repository.site.unpacked(&format!("oci:{}", repository.site.name("ocib-out")), "amd64");
    let src = root.join("src");
    assert_eq!(git(&src, &["status", "--porcelain"]), "");
    assert_eq!(git(&src, &["log", "--format=%H %s"]), format!("{} one\n", repository.oid()));
    assert_eq!(git(&src, &["fsck", "--full", "--strict"]), "");
    assert_eq!(git(&src, &["describe", "--tags"]), "v1\n");
}

#[test]
fn a_repository_is_a_context() {
    let repository = Repository::new("");
    let made = repository.built("SERVER/app.git", &["-q"]);
    assert_eq!(sorted(repository.paths()), checkout("app", &[]));
    assert_eq!(repository.times(), [0].into());
    // A clone of it is the same context.
    let url = repository.url("SERVER/app.git");
    git(&repository.site.path(""), &["clone", "--quiet", "--recurse-submodules", &url, "clone"]);
    fs::remove_dir_all(repository.site.path("clone/.git")).unwrap();
    fs::remove_file(repository.site.path("clone/lib/.git")).unwrap();
    let clone = ended(&mut repository.run("build", "clone", &["-q", "-o", "type=oci,dest=x.tar"])).done();
    assert_eq!(made.digest(), clone.digest());
    repository.built("SERVER/app.git", &["-q", "--timestamps", "keep"]);
    assert_eq!(repository.times(), [TIME].into());
}

#[test]
fn a_directory_of_a_repository_is_a_context() {
    let repository = Repository::new("");
    repository.built("SERVER/app.git#main:data", &["-q", "-f", "Other.Dockerfile"]);
    let paths = ["d d 0755 0:0 0", "d/Other.Dockerfile f 0644 0:0 24", "d/b f 0644 0:0 1"];
    assert_eq!(sorted(repository.paths()), paths);
    let keep = "--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR=1";
    repository.built("SERVER/app.git", &["-q", keep]);
    assert!(repository.paths().iter().any(|line| line.starts_with("app/.git/HEAD f 0644 0:0 41")));
    let stderr = ended(&mut repository.run(
        "build",
        &repository.url("SERVER/app.git"),
        &["-q", "--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR=maybe"],
    ))
    .failed(2);
    assert_eq!(stderr, "error: --build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR: \"maybe\" is neither 1 nor 0\n");
}

#[test]
fn a_repository_is_a_named_context() {
    let repository = Repository::new("FROM scratch\nCOPY --from=other data secre[t] /x/\n");
    let named = format!("--build-context=other={}", repository.url("SERVER/app.git#v1"));
    ended(&mut repository.run("build", "context", &["-q", &named])).done();
    let paths = ["x d 0755 0:0 0", "x/Other.Dockerfile f 0644 0:0 24", "x/b f 0644 0:0 1"];
    assert_eq!(sorted(repository.paths()), paths);
}

#[test]
fn a_plan_is_that_of_a_clone_and_leaves_nothing() {
    let repository = Repository::new("FROM scratch\nADD SERVER/app.git#v1 /app/\n");
    let scratch = repository.site.path("scratch");
    fs::create_dir(&scratch).unwrap();
    let url = repository.url("SERVER/app.git");
    git(&repository.site.path(""), &["clone", "--quiet", "--recurse-submodules", &url, "clone"]);
    fs::remove_dir_all(repository.site.path("clone/.git")).unwrap();
    fs::remove_file(repository.site.path("clone/lib/.git")).unwrap();
    let targets = |context: &str| {
        let arguments = ["-q", "--json", "--scratch-dir", "scratch"];
        let Ended { stdout, .. } = ended(&mut repository.run("plan", context, &arguments)).done();
        let plan: Value = serde_json::from_slice(&stdout).unwrap();
        plan["targets"].clone()
    };
    assert_eq!(targets(&url), targets("clone"));
    let step = targets("context")[0]["stages"][0]["parts"][0]["steps"][0].clone();
    assert_eq!(step["sources"], json!([{"kind": "network"}]));
    assert_eq!(step["size"]["files"], 8);
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    assert!(!repository.site.path("ocib-out").exists());
}

#[test]
fn check_reads_a_repository() {
    let repository = Repository::new("");
    repository.site.file("work/Bad", "from scratch\nCOPY a /b\n");
    commit(&repository.work);
    repository.server.publish("bad", &repository.work);
    let url = repository.url("SERVER/bad.git");
    let checked = ended(&mut repository.run("check", &url, &["-f", "Bad"])).done();
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains("FromAsCasing") || text.contains("ConsistentInstructionCasing"), "{text}");
    assert_eq!(checked.stderr, "");
}

#[test]
fn what_is_wrong_is_said_at_its_place() {
    let repository = Repository::new("FROM scratch\nADD SERVER/app.git#nowhere /src\n");
    let url = repository.url("SERVER/app.git");
    let stderr = ended(&mut repository.run("build", "context", &["-q"])).failed(5);
    let mark = "^".repeat(url.len() + "#nowhere".len());
    assert_eq!(
        stderr,
        format!(
            "error: cannot fetch: {url}: repository does not contain ref nowhere\n --> context/Dockerfile:2:5\n  \
             |\n2 | ADD {url}#nowhere /src\n  |     {mark}\n"
        )
    );
    let fails = |context: &str, code| {
        let context = repository.url(context);
        ended(&mut repository.run("build", &context, &["-q"])).failed(code)
    };
    assert_eq!(
        fails("SERVER/app.git#nowhere", 5),
        format!("error: {url}: repository does not contain ref nowhere\n")
    );
    assert_eq!(
        fails("SERVER/lib.git", 3),
        format!("error: {} has no Dockerfile\n", repository.url("SERVER/lib.git"))
    );
    assert_eq!(
        fails("SERVER/app.git?x=y", 3),
        format!("error: {url} is not a git reference: unexpected query \"x\"\n")
    );
    assert_eq!(
        fails("git@github.com:o/r.git", 3),
        "error: git@github.com:o/r.git cannot be fetched: git is spoken over https only, expected \
         https://github.com/o/r.git\n"
    );
}

#[test]
fn tokens_come_from_the_environment_and_are_never_shown() {
    // Of `x-access-token:hunter2`.
    let authorization = Some("Basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==".to_owned());
    let options = GitServerOptions { authorization, ..GitServerOptions::default() };
    let repository = Repository::guarded("FROM scratch\nADD SERVER/app.git /src\n", options);
    for (command, context) in [("build", "context"), ("build", "SERVER/app.git"), ("check", "SERVER/app.git")]
    {
        let context = repository.url(context);
        let made = ended(repository.run(command, &context, &[]).env("GIT_AUTH_TOKEN", "hunter2")).done();
        assert!(!made.stderr.contains("hunter2") && !made.stderr.contains("aHVudGVyMg"));
        let stderr = ended(repository.run(command, &context, &[]).env("GIT_AUTH_TOKEN", "other")).failed(4);
        assert!(
            stderr.contains("answered 401: who are you?") && stderr.contains("GIT_AUTH_TOKEN"),
            "{stderr}"
        );
    }
}
