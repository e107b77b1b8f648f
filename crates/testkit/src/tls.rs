//! TLS in front of a server that speaks none.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use futures_channel::oneshot;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::registry::certificates;

/// Takes TLS on a loopback port, with a certificate of a private CA, and passes what comes on to a server
/// that speaks plainly. Ended when dropped.
#[derive(Debug)]
pub struct TlsFront {
    dir: TempDir,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
}

impl TlsFront {
    /// A front of `server` (`HOST:PORT`) that has a certificate for `127.0.0.1` and for these names.
    pub fn start(server: &str, names: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        certificates(dir.path(), names);
        let config = config(dir.path());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        listener.set_nonblocking(true).expect("any socket can be that");
        let (stop, stopped) = oneshot::channel();
        let server = server.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime of one thread");
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    failed = serve(listener, TlsAcceptor::from(config), server) => {
                        failed.expect("a bound socket accepts");
                    }
                }
            });
        });
        Self { dir, port, stop: Some(stop) }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The CA's certificate.
    pub fn ca_pem(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        // The thread may have ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
    }
}

fn config(dir: &Path) -> Arc<ServerConfig> {
    let read = |name: &str| fs::read(dir.join(name)).expect("it was just written");
    let chain = CertificateDer::pem_slice_iter(&read("server.pem")).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(&read("server.key"));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has their suites")
        .with_no_client_auth()
        .with_single_cert(chain.expect("a certificate"), key.expect("a key"));
    Arc::new(config.expect("the key is the certificate's"))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, server: String) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        let (acceptor, server) = (acceptor.clone(), server.clone());
        tokio::spawn(async move {
            // A client that does not trust us, or goes away early, is what some tests are about.
            let mut client = acceptor.accept(client).await?;
            let mut server = TcpStream::connect(&server).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await
        });
    }
}
