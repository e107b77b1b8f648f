//! Git repositories on a server: git's own `http-backend`, called as a CGI program on loopback.

mod pack;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use tempfile::TempDir;

pub use self::pack::{PackBuilder, git_answer, git_oid, seal_pack};
use crate::process::{require, run_command};

/// Where Debian's git keeps it.
const BACKEND: &str = "/usr/lib/git-core/git-http-backend";
/// The time of all commits: 2023-11-14T22:13:20Z.
const COMMIT_TIME: &str = "1700000000 +0000";

/// How a [`GitServer`] behaves.
#[derive(Clone, Debug, Default)]
pub struct GitServerOptions {
    /// The `Authorization` header that every request must have; else the answer is 401.
    pub authorization: Option<String>,
    /// Where all requests are redirected to: an origin such as `http://127.0.0.1:1234`.
    pub redirect: Option<String>,
}

/// A request that a [`GitServer`] got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GitRequest {
    /// Method, path and query.
    pub line: String,
    /// Its `Authorization` header, or nothing.
    pub authorization: String,
}

/// A server with repositories.
///
/// Below [`GitServer::repositories`] each directory `NAME.git` is served; [`GitServer::publish`] makes
/// them. Requests are answered until the process ends.
#[derive(Debug)]
pub struct GitServer {
    origin: String,
    root: TempDir,
    requests: Arc<Mutex<Vec<GitRequest>>>,
}

/// Runs git in `directory`, as nobody in particular and without any configuration, and returns what it
/// wrote to stdout. Commits have fixed authors and times.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    run_command(command(Command::new(require("git", "git"))).current_dir(directory).args(arguments))
}

fn command(mut command: Command) -> Command {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("LC_ALL", "C");
    let settings =
        [("protocol.file.allow", "always"), ("init.defaultBranch", "main"), ("advice.detachedHead", "false")];
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (at, (key, value)) in settings.into_iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
    }
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Tester").env(format!("GIT_{role}_EMAIL"), "t@example.org");
        command.env(format!("GIT_{role}_DATE"), COMMIT_TIME);
    }
    command
}

impl GitServer {
    /// Starts one without repositories.
    pub fn start(options: GitServerOptions) -> Self {
        assert!(
            Path::new(BACKEND).is_file(),
            "{BACKEND} is missing: apt-get install git (tests/run.sh does it)"
        );
        let root = TempDir::with_prefix("ocib-git-").expect("a temporary directory can be made");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback is free");
        let origin = format!("http://{}", listener.local_addr().expect("it has an address"));
        let requests = Arc::<Mutex<Vec<GitRequest>>>::default();
        let site = Arc::new(Site { root: root.path().to_owned(), options, requests: Arc::clone(&requests) });
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let site = Arc::clone(&site);
                // Whoever asked may go away at any time.
                thread::spawn(move || site.serve(connection).ok());
            }
        });
        Self { origin, root, requests }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The URL of a repository, without `.git#…`, which the caller adds.
    pub fn url(&self, rest: &str) -> String {
        format!("{}/{rest}", self.origin)
    }

    /// Where the repositories are.
    pub fn repositories(&self) -> &Path {
        self.root.path()
    }

    /// Serves all that `working_copy` has as the repository `NAME.git`.
    pub fn publish(&self, name: &str, working_copy: &Path) -> PathBuf {
        let target = self.root.path().join(format!("{name}.git"));
        let source = working_copy.to_str().expect("paths of tests are UTF-8");
        let path = target.to_str().expect("paths of tests are UTF-8");
        git(self.root.path(), &["clone", "--quiet", "--mirror", source, path]);
        target
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<GitRequest> {
        self.requests.lock().expect("no thread has panicked").clone()
    }
}

struct Site {
    root: PathBuf,
    options: GitServerOptions,
    requests: Arc<Mutex<Vec<GitRequest>>>,
}

/// A request that was read.
struct Asked {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Site {
    fn serve(&self, mut connection: TcpStream) -> io::Result<()> {
        let asked = Asked::read(&connection)?;
        let authorization = asked.header("authorization").to_owned();
        let line = format!("{} {}?{}", asked.method, asked.path, asked.query);
        self.requests
            .lock()
            .expect("no thread has panicked")
            .push(GitRequest { line, authorization: authorization.clone() });
        if let Some(origin) = &self.options.redirect {
            let location = format!("Location: {origin}{}?{}\r\n", asked.path, asked.query);
            connection.write_all(&answer("302 Found", &location, b""))?;
        } else if self.options.authorization.as_ref().is_some_and(|wanted| *wanted != authorization) {
            let header = "WWW-Authenticate: Basic realm=\"git\"\r\n";
            connection.write_all(&answer("401 Unauthorized", header, b"who are you?"))?;
        } else {
            self.call(&asked, &mut connection)?;
        }
        connection.shutdown(std::net::Shutdown::Write)?;
        // Closing with unread bytes would reset the connection before the answer arrived.
        io::copy(&mut connection, &mut io::sink()).map(drop)
    }

    /// Calls the program (RFC 3875) and hands on what it answers.
    fn call(&self, asked: &Asked, connection: &mut TcpStream) -> io::Result<()> {
        let mut program = command(Command::new(BACKEND));
        program.env("GIT_PROJECT_ROOT", &self.root).env("GIT_HTTP_EXPORT_ALL", "1");
        program.env("REQUEST_METHOD", &asked.method).env("PATH_INFO", &asked.path);
        program.env("QUERY_STRING", &asked.query).env("REMOTE_ADDR", "127.0.0.1");
        program.env("CONTENT_TYPE", asked.header("content-type"));
        program.env("CONTENT_LENGTH", asked.body.len().to_string());
        program.env("HTTP_CONTENT_ENCODING", asked.header("content-encoding"));
        program.env("GIT_PROTOCOL", asked.header("git-protocol"));
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (mut stdin, body) = (child.stdin.take().expect("it is piped"), asked.body.clone());
        // It answers before it has read all.
        let writer = thread::spawn(move || stdin.write_all(&body).ok());
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (mut status, mut headers) = ("200 OK".to_owned(), String::new());
        for line in output.by_ref().lines() {
            match line? {
                line if line.is_empty() => break,
                line => match line.strip_prefix("Status: ") {
                    Some(other) => other.clone_into(&mut status),
                    None => headers += &format!("{line}\r\n"),
                },
            }
        }
        connection.write_all(&answer(&status, &headers, b""))?;
        io::copy(&mut output, connection)?;
        writer.join().expect("it does not panic");
        child.wait().map(drop)
    }
}

impl Asked {
    fn read(connection: &TcpStream) -> io::Result<Self> {
        let mut input = BufReader::new(connection);
        let mut lines = input.by_ref().lines();
        let line = lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
        let mut headers = BTreeMap::new();
        for header in lines {
            let header = header?;
            let Some((name, value)) = header.split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (method, target) = (word(), word());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        Ok(Self { method, path: path.to_owned(), query: query.to_owned(), headers, body })
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_clones_what_was_published() {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let work = dir.path().join("work");
        git(dir.path(), &["init", "--quiet", "work"]);
        std::fs::write(work.join("a"), "hello").expect("a file can be written");
        git(&work, &["add", "a"]);
        git(&work, &["commit", "--quiet", "--message=one"]);
        let server = GitServer::start(GitServerOptions::default());
        server.publish("a", &work);
        git(dir.path(), &["clone", "--quiet", "--depth=1", &server.url("a.git"), "copy"]);
        assert_eq!(std::fs::read(dir.path().join("copy/a")).expect("it is there"), b"hello");
        assert_eq!(server.requests()[0].line, "GET /a.git/info/refs?service=git-upload-pack");
    }
}
