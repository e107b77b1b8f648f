//! A server with a repository, whoever fetches from it, and the judge: git's own checkout.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use ocib_image::{Event, Events, Fetched, GitReference, NodeKind, PlaceError, Timestamp, Tree};
use ocib_net::{Backoff, HttpOptions};
use ocib_source::{Git, GitCredentials, GitOptions};
use ocib_testkit::{GitServer, GitServerOptions, git};
use tempfile::TempDir;

/// The time of all commits of the test kit.
pub(crate) const TIME: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// A server and a directory to make repositories in.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) server: GitServer,
    /// What was noted.
    pub(crate) notes: Arc<Notes>,
    credentials: GitCredentials,
}

/// What is at a path: type, mode and content or target.
pub(crate) type Files = BTreeMap<String, (char, u32, Vec<u8>)>;

#[derive(Default)]
pub(crate) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Events for Notes {
    fn emit(&self, event: Event<'_>) {
        if let Event::Note(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

impl Site {
    /// With the repository `r`.
    pub(crate) fn new() -> Self {
        let site = Self::with(GitServerOptions::default(), &[]);
        let work = site.repository("r");
        site.server.publish("r", &work);
        site
    }

    /// Without repositories; `variables` are credentials.
    pub(crate) fn with(options: GitServerOptions, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self {
            dir: TempDir::with_prefix("ocib-test-").unwrap(),
            server: GitServer::start(options),
            notes: Arc::default(),
            credentials: GitCredentials::from_variables(variables),
        }
    }

    /// A working copy with all that a commit can hold: two branches, tags of both kinds, executable
    /// files, links, directories, large and similar files.
    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        git(self.dir.path(), &["init", "--quiet", name]);
        let work = self.dir.path().join(name);
        let file = |path: &str, content: &[u8]| {
            let path = work.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        file("README.md", b"first\n");
        commit(&work, "first");
        git(&work, &["tag", "light"]);
        git(&work, &["tag", "--annotate", "--message=a tag", "heavy"]);
        git(&work, &["tag", "--annotate", "--message=a tag of a tag", "heavier", "heavy"]);
        file("README.md", b"second\n");
        file("empty", b"");
        file("bin/run", b"#!/bin/sh\n");
        fs::set_permissions(work.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
        file("sub/dir/file with spaces \u{e9}", b"x");
        file("sub.txt", b"sorts between sub and its files for git");
        for (link, target) in [("link", "sub/dir"), ("up", ".."), ("sub/out", "../../x"), ("rooted", "/etc")]
        {
            symlink(target, work.join(link)).unwrap();
        }
        // Deltas: many versions of one text, and a large one that is not held in memory.
        let line =
            |i: u32| format!("line {i} of a file that differs little from the next one: {:x}\n", i * i);
        for version in 0..40 {
            let text: String = (0..300).map(|i| line(if i == version { i + 1000 } else { i })).collect();
            file(&format!("many/{version}"), text.as_bytes());
        }
        let mut noise = 1_u64;
        let mut large: Vec<u8> = (0..5_000_000)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        file("large/a", &large);
        large[2_500_000..2_500_100].fill(0);
        large.extend(b"the end");
        file("large/b", &large);
        commit(&work, "second");
        git(&work, &["repack", "-a", "-d", "-f", "--quiet", "--depth=50", "--window=50"]);
        git(&work, &["branch", "topic/one", "light"]);
        work
    }

    pub(crate) fn git(&self) -> Git {
        Git::new(GitOptions {
            http: HttpOptions::default(),
            backoff: Backoff {
                attempts: 2,
                first: Duration::from_millis(1),
                longest: Duration::from_millis(1),
            },
            scratch: self.dir.path().to_owned(),
            credentials: self.credentials.clone(),
            events: Arc::clone(&self.notes) as Arc<dyn Events>,
        })
    }

    /// What `rest` below the server's origin means.
    pub(crate) async fn fetch(&self, rest: &str) -> Result<Fetched, PlaceError> {
        self.fetch_url(&self.server.url(rest)).await
    }

    pub(crate) async fn fetch_url(&self, url: &str) -> Result<Fetched, PlaceError> {
        let reference = GitReference::parse(url).unwrap().expect("a repository");
        self.git().fetch(&reference).await
    }

    pub(crate) async fn files(&self, rest: &str) -> Files {
        let fetched = self.fetch(rest).await.unwrap_or_else(|error| panic!("{rest}: {error}"));
        assert_eq!(fetched.file, None);
        seen(fetched.tree).await
    }

    /// The error with the server's origin, which is another one each time, as `http://server`.
    pub(crate) async fn refused(&self, rest: &str) -> String {
        let error = self.fetch(rest).await.expect_err(rest);
        error.to_string().replace(self.server.origin(), "http://server")
    }
}

/// Commits everything.
pub(crate) fn commit(work: &Path, message: &str) -> String {
    git(work, &["add", "--all"]);
    git(work, &["commit", "--quiet", "--message", message]);
    git(work, &["rev-parse", "HEAD"]).trim().to_owned()
}

/// All that a tree has; each file is read twice, the second time from its middle.
pub(crate) async fn seen(tree: Arc<dyn Tree>) -> Files {
    let walk = move || {
        let mut files = Files::new();
        let mut todo = vec![Vec::new()];
        while let Some(path) = todo.pop() {
            for name in tree.list(&path).unwrap() {
                let below = if path.is_empty() { name.to_vec() } else { [&path[..], b"/", &name].concat() };
                let node = tree.stat(&below).unwrap().unwrap();
                assert_eq!((node.uid, node.gid, node.mtime, node.link_group), (0, 0, TIME, None));
                let (kind, content) = match node.kind {
                    NodeKind::File { size } => ('f', content(&*tree, &below, size)),
                    NodeKind::Symlink(target) => ('l', target.to_vec()),
                    _ => ('d', Vec::new()),
                };
                files.insert(String::from_utf8(below.clone()).unwrap(), (kind, node.mode, content));
                if kind == 'd' {
                    todo.push(below);
                }
            }
        }
        files
    };
    tokio::task::spawn_blocking(walk).await.unwrap()
}

fn content(tree: &dyn Tree, path: &[u8], size: u64) -> Vec<u8> {
    let read = |offset: u64| {
        let mut content = Vec::new();
        tree.open(path, offset).unwrap().read_to_end(&mut content).unwrap();
        content
    };
    let all = read(0);
    assert_eq!(all.len() as u64, size);
    assert!(read(size / 2) == all[all.len() / 2..], "{}", String::from_utf8_lossy(path));
    assert!(read(size + 1).is_empty());
    all
}

/// All that a directory has, but for `.git`.
pub(crate) fn checked_out(root: &Path) -> Files {
    let mut files = Files::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() == ".git" {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.mode() & 0o7777;
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if metadata.is_symlink() {
                let target = fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
                files.insert(name, ('l', 0o777, target));
            } else if metadata.is_dir() {
                files.insert(name, ('d', mode, Vec::new()));
                todo.push(path);
            } else {
                files.insert(name, ('f', mode, fs::read(&path).unwrap()));
            }
        }
    }
    files
}

/// Compares without printing megabytes.
pub(crate) fn assert_same(actual: &Files, expected: &Files) {
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(actual), names(expected));
    for (name, (kind, mode, content)) in expected {
        let (actual_kind, actual_mode, actual_content) = &actual[name];
        assert_eq!((actual_kind, actual_mode), (kind, mode), "{name}");
        assert!(actual_content == content, "{name} has another content");
    }
}

/// Writes a tree to a directory.
pub(crate) fn write_out(files: &Files, root: &Path) {
    for (name, (kind, mode, content)) in files {
        let path = root.join(name);
        match kind {
            'd' => fs::create_dir_all(&path).unwrap(),
            'l' => {
                use std::os::unix::ffi::OsStrExt;
                symlink(std::ffi::OsStr::from_bytes(content), &path).unwrap();
            }
            _ => {
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
}
