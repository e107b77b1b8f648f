//! The files that a registry is started with.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::RegistryOptions;
use crate::process::run;

/// Writes the configuration (distribution 2.8, "Configuring a registry") and returns its path.
pub(super) fn config(dir: &Path, port: u16, options: &RegistryOptions) -> PathBuf {
    let at = dir.display();
    let storage = match options.in_memory {
        true => "inmemory: {}".to_owned(),
        false => format!("filesystem: {{rootdirectory: {at}/storage}}"),
    };
    let tls = match options.tls {
        true => {
            let clients = if options.client_certificate {
                format!(", clientcas: [{at}/ca.pem]")
            } else {
                String::new()
            };
            format!("\n  tls: {{certificate: {at}/server.pem, key: {at}/server.key{clients}}}")
        }
        false => String::new(),
    };
    let auth = match options.login {
        Some(_) => format!("\nauth:\n  htpasswd: {{realm: ocib-testkit, path: {at}/htpasswd}}"),
        None => String::new(),
    };
    let text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage:\n  {storage}\n  delete: {{enabled: true}}\n  \
         maintenance: {{uploadpurging: {{enabled: false}}}}\nhttp:\n  addr: 127.0.0.1:{port}{tls}{auth}\n"
    );
    write(dir, "config.yml", &text)
}

/// Only bcrypt is understood by distribution.
pub(super) fn htpasswd(dir: &Path, user: &str, password: &str) {
    write(dir, "htpasswd", &run("htpasswd", "apache2-utils", &["-Bbn", user, password]));
}

/// A CA, and certificates that it gives to the server and to a client: TLS libraries refuse a CA's
/// certificate as a server's. The server is called by its address, and by `names` behind a proxy.
pub(crate) fn certificates(dir: &Path, names: &[&str]) {
    let names: String = names.iter().map(|name| format!(",DNS:{name}")).collect();
    let names = format!("subjectAltName=IP:127.0.0.1,DNS:localhost{names}\nbasicConstraints=CA:FALSE\n");
    write(dir, "server.ext", &names);
    write(dir, "client.ext", "extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n");
    let path = |name: &str| dir.join(name).display().to_string();
    let ca = [&path("ca.pem"), &path("ca.key"), "-subj", "/CN=ocib testkit CA"];
    run(
        "openssl",
        "openssl",
        &[&["req", "-x509", "-days", "3650"], &KEY[..], &["-out", ca[0], "-keyout", ca[1], ca[2], ca[3]]]
            .concat(),
    );
    certificate(dir, "server", "/CN=127.0.0.1");
    certificate(dir, "client", "/CN=ocib testkit client");
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// `NAME.pem` and `NAME.key`, signed by the CA with the extensions in `NAME.ext`.
fn certificate(dir: &Path, name: &str, subject: &str) {
    let path = |name: &str| dir.join(name).display().to_string();
    let with = |end: &str| path(&format!("{name}.{end}"));
    let request = with("csr");
    let openssl = |before: &[&str], after: &[&str]| {
        run("openssl", "openssl", &[before, after].concat());
    };
    openssl(
        &[&["req", "-new"], &KEY[..]].concat(),
        &["-out", &request, "-keyout", &with("key"), "-subj", subject],
    );
    let (ca, key) = (path("ca.pem"), path("ca.key"));
    openssl(
        &["x509", "-req", "-days", "3650", "-in", &request, "-CA", &ca, "-CAkey", &key, "-CAcreateserial"],
        &["-extfile", &with("ext"), "-out", &with("pem")],
    );
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).expect("a file in a directory of ours");
    path
}
