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
    write(dir, "ca.ext", "basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n");
    write(dir, "issued", "");
    write(dir, "ca.cnf", &AUTHORITY.replace("DIR", &dir.display().to_string()));
    certificate(dir, "ca", "/CN=ocib testkit CA");
    certificate(dir, "server", "/CN=127.0.0.1");
    certificate(dir, "client", "/CN=ocib testkit client");
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// Where `openssl ca` keeps its books. `req` and `x509` would begin a certificate's life now, and a clock that is
/// set back a moment later is before that.
const AUTHORITY: &str = "[ca]\ndefault_ca = testkit\n[testkit]\ndatabase = DIR/issued\nnew_certs_dir = DIR\n\
    rand_serial = yes\ndefault_md = sha256\nunique_subject = no\npolicy = names\n\
    [names]\ncommonName = supplied\n";
const LIFE: [&str; 4] = ["-startdate", "20200101000000Z", "-enddate", "20991231235959Z"];

/// `NAME.pem` and `NAME.key`, signed by the CA (its own by itself) with the extensions in `NAME.ext`.
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
    let signer = match name {
        "ca" => vec!["-selfsign".to_owned()],
        _ => vec!["-cert".to_owned(), path("ca.pem")],
    };
    let (config, key) = (path("ca.cnf"), path("ca.key"));
    let mut sign = vec!["ca", "-config", &config, "-batch", "-notext", "-keyfile", &key, "-in", &request];
    sign.extend(signer.iter().map(String::as_str).chain(LIFE));
    openssl(&sign, &["-extfile", &with("ext"), "-out", &with("pem")]);
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).expect("a file in a directory of ours");
    path
}
