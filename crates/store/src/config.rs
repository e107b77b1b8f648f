//! The configuration of registries that containers' tools share: mirrors, insecure hosts, certificates.

mod certificates;
mod file;
mod problem;
mod rule;

use std::{
    cmp::Reverse,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ocib_image::Reference;
use ocib_net::{Http, HttpOptions};

pub use self::problem::ConfigProblem;
pub(crate) use self::rule::PullSource;
use self::{
    file::RuleFile,
    rule::{Rule, match_end},
};
use crate::Error;

/// Where images really are, what their hosts are trusted by, and which names nobody may use, in the
/// conventions of containers-registries.conf(5), version 2, and containers-certs.d(5). The default says
/// nothing: every image is where its name says.
///
/// The rule with the longest prefix counts. A pull asks its mirrors in their order and then the place
/// itself; a push goes to the place that the name says, whatever mirrors and locations there are.
/// Certificates in `HOST[:PORT]/` hold for that host alone; they are read when it is first asked.
///
/// ```
/// use ocib_store::RegistryConfig;
/// let text = "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"mirror.example/hub\"\n";
/// let config = RegistryConfig::parse("registries.conf".as_ref(), text)?;
/// assert!(config.notes().is_empty());
/// # Ok::<(), ocib_store::Error>(())
/// ```
#[derive(Clone, Default, Debug)]
pub struct RegistryConfig {
    rules: Vec<Rule>,
    notes: Vec<String>,
    /// Directories of directories `HOST[:PORT]`; the first that has one counts.
    certificates: Vec<PathBuf>,
}

/// Where the files are looked for.
#[derive(Default)]
struct Places {
    main: Option<PathBuf>,
    /// Directories of `*.conf`, whose rules replace earlier ones of the same prefix.
    drop_ins: Vec<PathBuf>,
    certificates: Vec<PathBuf>,
}

impl RegistryConfig {
    /// The variable that names a file or directory as containers' tools do.
    pub const VARIABLE: &str = "CONTAINERS_REGISTRIES_CONF";

    /// Reads `text`; `path` is its name in messages. There are no certificates.
    ///
    /// # Errors
    /// [`Error::RegistryConfig`], with the place of what is wrong.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let mut config = Self::default();
        config.add(RuleFile::parse(path, text)?);
        Ok(config)
    }

    /// Reads what is at `named`, or else at `$CONTAINERS_REGISTRIES_CONF`, which must be there:
    ///
    /// - a file: these rules and no others, with the certificates of the usual directories
    /// - a directory like `/etc/containers`: its `registries.conf`, `registries.conf.d/*.conf` and
    ///   `certs.d`, of which there must be at least one, and nothing else
    ///
    /// Where neither is named, the usual places, as far as they are there:
    /// `containers/registries.conf` and its `.d` in `$XDG_CONFIG_HOME` (by default `~/.config`), or, if
    /// that file is not there, `/etc/containers/registries.conf` and both directories `.d`.
    /// Certificates are in `containers/certs.d` there, `/etc/containers/certs.d` and
    /// `/etc/docker/certs.d`.
    ///
    /// # Errors
    /// [`Error::RegistryConfig`] with the place of what is wrong, or [`Error::File`].
    pub fn find(named: Option<&Path>, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let user = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
        let named = named.map(Path::to_owned).or_else(|| variable(Self::VARIABLE));
        Self::read(&Places::of(named.as_deref(), user.as_deref(), Path::new("/etc"))?)
    }

    /// What of the files makes no difference, a line each: keys that ocib has no use for or does not
    /// know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where `name` can be pulled from, in the order in which the places are to be asked; at least one.
    pub(crate) fn sources(&self, name: &Reference) -> Result<Vec<PullSource>, Error> {
        match self.rule(name) {
            None => Ok(vec![PullSource { name: name.clone(), is_insecure: false }]),
            Some(rule) => rule.blocks(name).and_then(|()| rule.sources(name)),
        }
    }

    /// Whether the host of `name` may be spoken to over plain http or an unverified https for it.
    pub(crate) fn is_insecure(&self, name: &Reference) -> bool {
        self.rule(name).is_some_and(|rule| rule.is_insecure)
    }

    /// Fails if nobody may use `name`.
    pub(crate) fn check(&self, name: &Reference) -> Result<(), Error> {
        self.rule(name).map_or(Ok(()), |rule| rule.blocks(name))
    }

    /// How to speak to `registry`, which is served at `host`: as `http` does, with what is said about
    /// that host alone.
    pub(crate) fn http(
        &self,
        http: &Arc<Http>,
        registry: &str,
        host: &str,
        is_insecure: bool,
    ) -> Result<Arc<Http>, Error> {
        let trust = certificates::trust(&self.certificates, registry)?;
        if trust.is_none() && !is_insecure {
            return Ok(Arc::clone(http));
        }
        let HttpOptions { mut hosts, mut insecure_hosts, .. } = http.options().clone();
        hosts.extend(trust.map(|trust| (host.to_owned(), trust)));
        if is_insecure {
            insecure_hosts.extend(with_ports(host));
        }
        Ok(Arc::new(Http::new(HttpOptions { hosts, insecure_hosts, ..http.options().clone() })))
    }

    /// The rule whose prefix is the longest of those that `name` has.
    fn rule(&self, name: &Reference) -> Option<&Rule> {
        let whole = name.name();
        let fitting = self.rules.iter().filter(|rule| match_end(&whole, &rule.prefix).is_some());
        // Of two of the same length containers/image takes the first by its text.
        fitting.max_by_key(|rule| (rule.prefix.len(), Reverse(&rule.prefix)))
    }

    fn read(places: &Places) -> Result<Self, Error> {
        let mut config = Self { certificates: places.certificates.clone(), ..Self::default() };
        if let Some(main) = &places.main {
            config.add(RuleFile::read(main)?);
        }
        for directory in &places.drop_ins {
            for path in drop_ins(directory)? {
                config.add(RuleFile::read(&path)?);
            }
        }
        Ok(config)
    }

    /// Adds what a later file says.
    fn add(&mut self, file: RuleFile) {
        self.rules.retain(|rule| !file.rules.iter().any(|later| later.prefix == rule.prefix));
        self.rules.extend(file.rules);
        self.notes.extend(file.notes);
    }
}

impl Places {
    /// The places within `system` (`/etc`) and the directory of the user's configuration.
    fn of(named: Option<&Path>, user: Option<&Path>, system: &Path) -> Result<Self, Error> {
        if let Some(directory) = named.filter(|path| path.is_dir()) {
            return Self::in_directory(directory);
        }
        let (user, system) = (user.map(|user| user.join("containers")), system.to_owned());
        let (containers, docker) = (system.join("containers"), system.join("docker"));
        let certificates = user.iter().chain([&containers, &docker]).map(|place| place.join("certs.d"));
        let certificates = certificates.collect();
        if named.is_some() {
            return Ok(Self { main: named.map(Path::to_owned), drop_ins: Vec::new(), certificates });
        }
        let drop_ins = |place: &Path| place.join("registries.conf.d");
        let own = user.as_ref().map(|user| user.join("registries.conf")).filter(|file| file.exists());
        let (main, drop_ins) = match (own, &user) {
            (Some(own), Some(user)) => (Some(own), vec![drop_ins(user)]),
            _ => {
                let main = Some(containers.join("registries.conf")).filter(|file| file.exists());
                (main, [&containers].into_iter().chain(&user).map(|place| drop_ins(place)).collect())
            }
        };
        Ok(Self { main, drop_ins, certificates })
    }

    fn in_directory(directory: &Path) -> Result<Self, Error> {
        let [main, drop_ins, certificates] =
            ["registries.conf", "registries.conf.d", "certs.d"].map(|name| directory.join(name));
        if ![&main, &drop_ins, &certificates].into_iter().any(|path| path.exists()) {
            let why = "it has neither registries.conf nor registries.conf.d nor certs.d";
            let source = io::Error::new(io::ErrorKind::NotFound, why);
            return Err(Error::File { verb: "configure registries by", path: directory.to_owned(), source });
        }
        let main = Some(main).filter(|file| file.exists());
        Ok(Self { main, drop_ins: vec![drop_ins], certificates: vec![certificates] })
    }
}

/// Files `*.conf` of a directory that need not be there, in the order of their names.
fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let failed = |source| Error::File { verb: "list", path: directory.to_owned(), source };
    let entries = fs::read_dir(directory).map_err(failed)?;
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "conf") && path.is_file());
    paths.sort();
    Ok(paths)
}

/// A host without a port stands for the ports of https and http, and for no others.
fn with_ports(host: &str) -> Vec<String> {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    match has_port {
        true => vec![host.to_owned()],
        false => vec![format!("{host}:443"), format!("{host}:80")],
    }
}

#[cfg(test)]
mod tests;
