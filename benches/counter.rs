//! Counts what a client sends: a TCP proxy before a registry.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// A proxy on a loopback port. It serves until the program ends.
#[derive(Debug)]
pub(crate) struct Counter {
    port: u16,
    sent: Arc<AtomicU64>,
}

impl Counter {
    /// A proxy before `target` (`HOST:PORT`).
    pub(crate) fn start(target: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let sent = Arc::new(AtomicU64::new(0));
        let (counter, target) = (sent.clone(), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A target that is gone closes the connection, which is what the client should see.
                let _ = carry(client, &target, &counter);
            }
        });
        Self { port, sent }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Bytes that clients sent so far, heads of requests included.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

fn carry(client: TcpStream, target: &str, sent: &Arc<AtomicU64>) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let (up, down, sent) = ((client.try_clone()?, server.try_clone()?), (server, client), sent.clone());
    thread::spawn(move || copy(up, &sent));
    thread::spawn(move || copy(down, &AtomicU64::new(0)));
    Ok(())
}

fn copy((mut from, mut to): (TcpStream, TcpStream), count: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(got @ 1..) = from.read(&mut buffer) {
        count.fetch_add(got as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..got]).is_err() {
            break;
        }
    }
    // Whoever closed first is closed already.
    let _ = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
}
