//! A real registry: `docker-registry` of Debian (distribution 2.8) on a loopback port.

mod log;
mod setup;

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use tempfile::TempDir;

pub use log::{Request, Served};
pub(crate) use setup::certificates;

use crate::{
    port::{free_port, is_left, listens},
    process::{require, run_command},
};

/// How a registry is set up. The default: plain HTTP, open to all, storage in a directory.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Serve HTTPS with a certificate of a private CA ([`Registry::ca_pem`]).
    pub tls: bool,
    /// Require a certificate of the same CA from clients ([`Registry::client_pem`]); for TLS only.
    pub client_certificate: bool,
    /// Require this user and password (Basic).
    pub login: Option<(String, String)>,
    /// Keep blobs in memory: faster, but a restarted registry is empty.
    pub in_memory: bool,
}

/// A running registry, ended when dropped. Nothing of it outlives the test but a port number.
#[derive(Debug)]
pub struct Registry {
    dir: TempDir,
    port: u16,
    options: RegistryOptions,
    process: Mutex<Option<Child>>,
}

/// How often a port that was free a moment ago may turn out to be taken.
const PORT_ATTEMPTS: usize = 5;
/// A registry is ready within 100 ms; a busy machine gets this many times 20 ms.
const READY_POLLS: usize = 1500;
/// What a registry still does for a client that went away may take so many times 5 ms.
const LEFT_POLLS: usize = 2000;
/// The query of the kit's own requests, which it keeps out of [`Registry::requests`].
const MARK: &str = "ocib-testkit-mark";

impl Registry {
    /// Starts a registry and waits until it answers.
    pub fn start(options: RegistryOptions) -> Self {
        let dir = TempDir::with_prefix("ocib-registry-").expect("a temporary directory");
        if options.tls {
            certificates(dir.path(), &["registry.test"]);
        }
        if let Some((user, password)) = &options.login {
            setup::htpasswd(dir.path(), user, password);
        }
        let mut registry = Self { dir, port: 0, options, process: Mutex::new(None) };
        for _ in 0..PORT_ATTEMPTS {
            registry.port = free_port();
            if registry.spawn() {
                return registry;
            }
        }
        panic!("docker-registry does not start:\n{}", registry.read("stderr"))
    }

    /// `127.0.0.1:PORT`, which is how references name the registry.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The registry's URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.options.tls { "https" } else { "http" }, self.host())
    }

    /// The directory that holds the registry's files, in the form of distribution's file system
    /// driver; empty if it stores in memory.
    pub fn storage(&self) -> PathBuf {
        self.dir.path().join("storage")
    }

    /// The certificate, as PEM, of the CA that a client must trust.
    pub fn ca_pem(&self) -> PathBuf {
        assert!(self.options.tls, "the registry was started without TLS");
        self.dir.path().join("ca.pem")
    }

    /// Certificate and key, as PEM, that the CA has given to a client.
    pub fn client_pem(&self) -> (PathBuf, PathBuf) {
        assert!(self.options.tls, "the registry was started without TLS");
        (self.dir.path().join("client.pem"), self.dir.path().join("client.key"))
    }

    /// Every request that was answered so far, in the order of the answers' ends.
    pub fn requests(&self) -> Served {
        self.mark();
        let mut requests = log::parse(&self.read("stdout"));
        requests.retain(|request| request.query != MARK);
        Served(requests)
    }

    /// Ends the registry politely: what it is doing is finished first.
    pub fn stop(&self) {
        let Some(mut child) = self.take_process() else { return };
        run_command(Command::new(require("kill", "procps")).args(["-TERM", &child.id().to_string()]));
        child.wait().expect("a child of ours can be waited for");
    }

    /// Ends the registry at once, as a crash would.
    pub fn kill(&self) {
        let Some(mut child) = self.take_process() else { return };
        // Fails only if it has ended by itself.
        let _ = child.kill();
        child.wait().expect("a child of ours can be waited for");
    }

    /// Starts a stopped registry again, on the same port and with the same storage.
    pub fn restart(&self) {
        self.kill();
        assert!(self.spawn(), "docker-registry does not start again:\n{}", self.read("stderr"));
    }

    fn take_process(&self) -> Option<Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the registry came up; not if its port is taken.
    fn spawn(&self) -> bool {
        let config = setup::config(self.dir.path(), self.port, &self.options);
        let log = |name| {
            let options = fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join(name));
            Stdio::from(options.expect("a file in a directory of ours"))
        };
        let mut command = Command::new(require("docker-registry", "docker-registry"));
        command.arg("serve").arg(config).stdin(Stdio::null()).stdout(log("stdout")).stderr(log("stderr"));
        // Nothing of the caller's environment may configure the registry (REGISTRY_* variables would).
        command.env_clear();
        let mut child = command.spawn().expect("docker-registry can be run");
        let is_up = self.is_ready(&mut child);
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = is_up.then_some(child);
        is_up
    }

    fn is_ready(&self, child: &mut Child) -> bool {
        for _ in 0..READY_POLLS {
            if child.try_wait().expect("a child of ours can be waited for").is_some() {
                return false;
            }
            if listens(child.id(), self.port) {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("docker-registry does not listen:\n{}", self.read("stderr"))
    }

    /// A long answer may reach its reader before its line is in the log: clients that have ended are waited for. One
    /// more request, whose line is written before its answer, makes it likely for those that have not.
    fn mark(&self) {
        for _ in 0..LEFT_POLLS {
            if !is_left(self.port) {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        if !self.options.tls
            && let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
        {
            let request = format!("GET /v2/?{MARK} HTTP/1.0\r\n\r\n");
            let answered = stream.write_all(request.as_bytes());
            // A registry that was killed meanwhile has written all that it will.
            let _ = answered.and_then(|()| stream.read_to_end(&mut Vec::new()));
        }
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.dir.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::run;

    fn curl(arguments: &[&str]) -> String {
        run("curl", "curl", &[&["-sS", "-w", "%{http_code}", "-o", "/dev/null"], arguments].concat())
    }

    #[test]
    fn serves_logs_and_comes_back() {
        let registry = Registry::start(RegistryOptions::default());
        assert_eq!(curl(&[&registry.url(), "-I"]), "200");
        let blob = format!("{}/v2/a/blobs/uploads/", registry.url());
        assert_eq!(curl(&["-X", "POST", &blob]), "202");
        let served = registry.requests();
        assert_eq!(served.with("POST", "/v2/a/").len(), 1);
        assert_eq!(served.0.len(), 2, "{served:?}");
        registry.stop();
        assert!(TcpStream::connect(registry.host()).is_err());
        registry.restart();
        assert_eq!(registry.requests().since(&served).0, []);
        assert!(registry.storage().join("docker/registry/v2/repositories/a/_uploads").is_dir());
    }

    #[test]
    fn asks_for_tls_and_login() {
        let login = Some(("user".to_owned(), "secret".to_owned()));
        let registry = Registry::start(RegistryOptions {
            tls: true,
            login,
            in_memory: true,
            ..RegistryOptions::default()
        });
        let (url, ca) = (format!("{}/v2/", registry.url()), registry.ca_pem().display().to_string());
        assert_eq!(curl(&["--cacert", &ca, &url]), "401");
        assert_eq!(curl(&["--cacert", &ca, "-u", "user:secret", &url]), "200");
    }

    #[test]
    fn asks_for_a_clients_certificate() {
        let registry = Registry::start(RegistryOptions {
            tls: true,
            client_certificate: true,
            in_memory: true,
            ..RegistryOptions::default()
        });
        let (url, ca) = (format!("{}/v2/", registry.url()), registry.ca_pem().display().to_string());
        let (certificate, key) = registry.client_pem();
        let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
        assert_eq!(curl(&["--cacert", &ca, "--cert", &certificate, "--key", &key, &url]), "200");
        let without = Command::new("curl").args(["-sS", "--cacert", &ca, &url]).output().unwrap();
        assert!(!without.status.success(), "{without:?}");
    }
}
