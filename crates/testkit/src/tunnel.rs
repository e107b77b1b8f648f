//! A proxy for HTTPS (RFC 9110, section 9.3.6) that resolves names itself, so that tests can use names
//! that no resolver knows.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A proxy on a loopback port, ended when dropped. It takes `CONNECT` and nothing else.
#[derive(Debug)]
pub struct ConnectProxy {
    port: u16,
    shared: Arc<Shared>,
}

/// One request to a [`ConnectProxy`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyRequest {
    /// Method and target, such as `CONNECT registry.test:443`.
    pub line: String,
    /// What stood in `Proxy-Authorization`.
    pub authorization: Option<String>,
    /// Status of the answer.
    pub status: u16,
}

#[derive(Debug)]
struct Shared {
    /// From `HOST:PORT` to where that really is.
    names: BTreeMap<String, String>,
    authorization: Option<String>,
    requests: Mutex<Vec<ProxyRequest>>,
    stopped: AtomicBool,
}

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;

impl ConnectProxy {
    /// A proxy that knows these names (`HOST:PORT`, and where that is), and wants this in
    /// `Proxy-Authorization`, if anything.
    pub fn start(names: &[(&str, &str)], authorization: Option<&str>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::new(Shared {
            names: names.iter().map(|(name, target)| ((*name).to_owned(), (*target).to_owned())).collect(),
            authorization: authorization.map(str::to_owned),
            requests: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // A client that goes away early is none of our business.
                thread::spawn(move || shared.serve(client).ok());
            }
        });
        Self { port, shared }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<ProxyRequest> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts; if nothing listens any more, it has ended.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let head = head(&mut client)?;
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let mut authorization = headers.filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"));
        let authorization = authorization.next().map(|(_, value)| value.trim().to_owned());
        let server = self.names.get(target).map(TcpStream::connect);
        let (status, server) = match (method, server) {
            _ if self.authorization.is_some() && authorization != self.authorization => (407, None),
            ("CONNECT", Some(Ok(server))) => (200, Some(server)),
            ("CONNECT", _) => (502, None),
            _ => (405, None),
        };
        let line = format!("{method} {target}");
        let request = ProxyRequest { line, authorization, status };
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let Some(server) = server else {
            let challenge = if status == 407 { "proxy-authenticate: Basic realm=\"test\"\r\n" } else { "" };
            let answer =
                format!("HTTP/1.1 {status} No\r\n{challenge}content-length: 0\r\nconnection: close\r\n\r\n");
            return client.write_all(answer.as_bytes());
        };
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
        let (again, there) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || carry(again, there));
        carry(server, client);
        Ok(())
    }
}

/// The head of a request; what follows it waits for the tunnel.
fn head(client: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    // Either may be closed by its peer: then the other is done too.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Registry, RegistryOptions, run_command};
    use std::process::Command;

    #[test]
    fn resolves_names_and_wants_its_password() {
        let registry =
            Registry::start(RegistryOptions { tls: true, in_memory: true, ..RegistryOptions::default() });
        let proxy = ConnectProxy::start(&[("registry.test:443", &registry.host())], Some("Basic bWU6cHc="));
        let ca = registry.ca_pem();
        let curl = |user: &str| {
            let proxy = format!("http://{user}@{}", proxy.host());
            let arguments = ["-sS", "-w", "%{http_connect}", "-o", "/dev/null", "-x", &proxy];
            let mut command = Command::new("curl");
            command.args(arguments).arg("--cacert").arg(&ca).arg("https://registry.test/v2/");
            command
        };
        assert_eq!(run_command(&mut curl("me:pw")), "200");
        assert!(!curl("me:wrong").output().expect("curl can be run").status.success());
        let line = "CONNECT registry.test:443".to_owned();
        let request = |authorization: &str, status| ProxyRequest {
            line: line.clone(),
            authorization: Some(authorization.to_owned()),
            status,
        };
        assert_eq!(proxy.requests(), [request("Basic bWU6cHc=", 200), request("Basic bWU6d3Jvbmc=", 407)]);
    }
}
