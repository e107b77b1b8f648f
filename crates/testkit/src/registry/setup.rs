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
        true => format!("\n  tls: {{certificate: {at}/server.pem, key: {at}/server.key}}"),
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

/// A CA and a server certificate of its own: TLS libraries refuse a CA's certificate as a server's.
pub(super) fn certificates(dir: &Path) {
    write(dir, "server.ext", "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n");
    let path = |name: &str| dir.join(name).display().to_string();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let openssl = |before: &[&str], after: &[&str]| {
        run("openssl", "openssl", &[before, after].concat());
    };
    let ca = [&path("ca.pem"), &path("ca.key"), "-subj", "/CN=ocib testkit CA"];
    openssl(
        &[&["req", "-x509", "-days", "3650"], &key[..]].concat(),
        &["-out", ca[0], "-keyout", ca[1], ca[2], ca[3]],
    );
    let request = path("server.csr");
    openssl(
        &[&["req", "-new"], &key[..]].concat(),
        &["-out", &request, "-keyout", &path("server.key"), "-subj", "/CN=127.0.0.1"],
    );
    openssl(
        &["x509", "-req", "-days", "3650", "-in", &request, "-CA", ca[0], "-CAkey", ca[1], "-CAcreateserial"],
        &["-extfile", &path("server.ext"), "-out", &path("server.pem")],
    );
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).expect("a file in a directory of ours");
    path
}
