//! Certificates of hosts (containers-certs.d(5), and Docker's "Verify repository client with
//! certificates", which have the same form).

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use ocib_net::HostTrust;

use crate::Error;

/// What the first of `directories` that has one for `registry` (`HOST[:PORT]`) says about it.
pub(super) fn trust(directories: &[PathBuf], registry: &str) -> Result<Option<HostTrust>, Error> {
    for directory in directories {
        let own = directory.join(registry);
        let names = match names(&own) {
            Ok(names) => names,
            // As containers/image: what a user must not see is not the user's.
            Err(error) if is_elsewhere(&error) => continue,
            Err(source) => return Err(Error::File { verb: "list", path: own, source }),
        };
        return of_files(&own, &names).map(Some);
    }
    Ok(None)
}

fn is_elsewhere(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// Names of files, sorted.
fn names(directory: &Path) -> io::Result<BTreeSet<String>> {
    let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// `*.crt` are certificates of CAs, `NAME.cert` with `NAME.key` what ocib shows.
fn of_files(directory: &Path, names: &BTreeSet<String>) -> Result<HostTrust, Error> {
    let mut trust = HostTrust::default();
    for name in names.iter().filter(|name| name.ends_with(".crt")) {
        let path = directory.join(name);
        let pem = read(&path)?;
        trust.trust(&pem).map_err(|error| bad(&path, &error.to_string()))?;
    }
    if let Some(name) = client_certificate(directory, names)? {
        let path = directory.join(format!("{name}.cert"));
        let (certificate, key) = (read(&path)?, read(&directory.join(format!("{name}.key")))?);
        trust.identify(&certificate, &key).map_err(|error| bad(&path, &error.to_string()))?;
    }
    Ok(trust)
}

/// The name of the only pair of certificate and key, if there is one.
fn client_certificate<'n>(directory: &Path, names: &'n BTreeSet<String>) -> Result<Option<&'n str>, Error> {
    let with = |end: &str| {
        let end = end.to_owned();
        names.iter().filter_map(move |name| name.strip_suffix(&end)).collect::<BTreeSet<&str>>()
    };
    let (certificates, keys) = (with(".cert"), with(".key"));
    if let Some(name) = certificates.difference(&keys).next() {
        let why = format!("its key {name}.key is not beside it; certificates of CAs end with .crt");
        return Err(bad(&directory.join(format!("{name}.cert")), &why));
    }
    if let Some(name) = keys.difference(&certificates).next() {
        let why = format!("its certificate {name}.cert is not beside it");
        return Err(bad(&directory.join(format!("{name}.key")), &why));
    }
    match certificates.len() {
        0 | 1 => Ok(certificates.first().copied()),
        count => Err(bad(directory, &format!("it has {count} client certificates, expected one"))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File { verb: "read", path: path.to_owned(), source })
}

fn bad(path: &Path, why: &str) -> Error {
    let why = why.trim_start_matches("https cannot be used: ").to_owned();
    Error::HostCertificate { path: path.to_owned(), why }
}
