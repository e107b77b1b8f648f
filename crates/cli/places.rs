//! Names of places on the command line: where images are read from and written to.

use std::path::Path;

use ocib_image::{
    ArchiveFormat, Document, ImageName, PlaceError, PlaceErrorKind, Platform, Reference, Sealer, Sink,
};
use ocib_store::{
    ArchiveOptions, ArchiveSink, Destination, Documents, HashFirst, Images, LayoutSink, PushOptions,
    Registries, RegistrySink,
};

use crate::diagnostic::{Exit, Failure};

/// How skopeo writes places, and how ocib does; nothing where ocib has no such place. Some of them would
/// be read as images of Docker Hub.
const FOREIGN: [(&str, Option<&str>); 7] = [
    ("docker://", Some("")),
    ("oci:", Some("oci-layout://")),
    ("oci-archive:", Some("oci-archive://")),
    ("docker-archive:", Some("docker-archive://")),
    ("dir:", None),
    ("docker-daemon:", None),
    ("containers-storage:", None),
];
const EXPECTED: &str = "expected REGISTRY/REPOSITORY[:TAG][@DIGEST], oci-layout://DIR[:TAG], oci-archive://FILE[:TAG] \
                        or docker-archive://FILE[:REPOSITORY:TAG]";

/// The image that an argument names.
pub(crate) fn name(text: &str) -> Result<ImageName, Failure> {
    let foreign = FOREIGN.iter().find_map(|(start, own)| Some((text.strip_prefix(start)?, start, own)));
    match foreign {
        Some((rest, _, Some(own))) if own.is_empty() || !rest.starts_with("//") => {
            let message = format!("{text}: this is how skopeo names it");
            return Err(Failure::usage(message).help(format!("write {own}{rest}")));
        }
        Some((_, start, None)) => {
            let message = format!("{text}: ocib reads and writes no {start}");
            return Err(Failure::usage(message).help(EXPECTED));
        }
        _ => {}
    }
    text.parse().map_err(|error: ocib_image::Error| Failure::usage(error.to_string()).help(EXPECTED))
}

/// What an argument names, if it is in a registry.
pub(crate) fn reference(text: &str) -> Result<Reference, Failure> {
    match name(text)? {
        ImageName::Registry(reference) => Ok(reference),
        _ => Err(Failure::usage(format!("{text} is not in a registry"))
            .help("tags are moved within a registry; `ocib copy` takes an image from one place to another")),
    }
}

/// The documents of an image, or of some of its platforms, out of the first mirror that has them.
pub(crate) async fn documents(
    images: &Images,
    name: &ImageName,
    platforms: &[Platform],
) -> Result<Documents, Failure> {
    let read = images.read(name, |origin| Documents::read(origin, platforms));
    read.await.map_err(|error| unread(name, &error))
}

/// Why an image could not be read: what is missing on this machine is no fault of a registry.
pub(crate) fn unread(name: &ImageName, error: &PlaceError) -> Failure {
    match (name, error.kind) {
        (ImageName::Layout { .. } | ImageName::Archive { .. }, PlaceErrorKind::NotFound) => {
            Failure::new(Exit::Input, error.to_string())
        }
        _ => Failure::of_place(error),
    }
}

/// Where an image goes, with the name that it gets there.
#[derive(Debug)]
pub(crate) struct Target(ImageName);

impl Target {
    /// The place that an argument names. Only in a registry may it have a digest, which then must be
    /// the image's.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let name = name(text)?;
        match &name {
            ImageName::Layout { digest: Some(_), .. } | ImageName::Archive { digest: Some(_), .. } => {
                Err(Failure::usage(format!("{text}: what is written gets its digest from its bytes"))
                    .help("leave @… out, or give a tag"))
            }
            _ => Ok(Self(name)),
        }
    }

    /// Whether the image goes to stdout, so that nothing else may.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(&self.0, ImageName::Archive { file, .. } if is_dash(file))
    }

    /// Whether manifests get there as files, where readers expect OCI's media types.
    pub(crate) fn is_layout(&self) -> bool {
        !matches!(&self.0, ImageName::Registry(_))
    }

    /// Whether it is in the registry of `source`, which then can mount what the image is made of: no
    /// mirror of it could help.
    pub(crate) fn is_beside(&self, source: &ImageName) -> bool {
        match (&self.0, source) {
            (ImageName::Registry(target), ImageName::Registry(source)) => {
                target.registry() == source.registry()
            }
            _ => false,
        }
    }

    /// Says before anything is moved what could not end well.
    pub(crate) fn check(&self, image: &Documents) -> Result<(), Failure> {
        let digest = image.root().descriptor().digest;
        match (&self.0, image.root()) {
            (ImageName::Archive { format: ArchiveFormat::Docker, .. }, Document::Index(index)) => {
                let have: Vec<String> = index.platforms().map(ToString::to_string).collect();
                let message =
                    format!("a docker archive holds one platform, but the image has {}", have.join(", "));
                Err(Failure::usage(message).help("pick one with --platform, or write an oci-archive://"))
            }
            (ImageName::Registry(reference), _)
                if reference.digest().is_some_and(|wanted| *wanted != digest) =>
            {
                let message = format!("{reference} cannot name the image, whose digest is {digest}");
                Err(Failure::usage(message).help("leave @… out, or copy the image of that digest"))
            }
            _ => Ok(()),
        }
    }

    /// What writes there.
    pub(crate) fn sink(&self, registries: &Registries, sealer: &Sealer) -> Result<Box<dyn Sink>, Failure> {
        let names = |tag: &Option<String>| tag.iter().cloned().collect::<Vec<_>>();
        Ok(match &self.0 {
            ImageName::Registry(reference) => {
                let tags = reference.tag().map(str::to_owned).into_iter().collect();
                Box::new(push(registries, reference, tags, sealer))
            }
            ImageName::Layout { directory, tag, .. } => {
                Box::new(LayoutSink::new(directory, &names(tag), sealer.clone()))
            }
            ImageName::Archive { format, file, tag, .. } => {
                let destination = match is_dash(file) {
                    true => Destination::Stream(Box::new(std::io::stdout())),
                    false => Destination::File(file.clone()),
                };
                let (format, names, sealer) = (*format, names(tag), sealer.clone());
                let options = ArchiveOptions { format, destination, names, sealer };
                let sink = ArchiveSink::new(options).map_err(|error| Failure::usage(error.to_string()))?;
                Box::new(sink)
            }
        })
    }
}

/// What writes to a repository.
pub(crate) fn push(
    registries: &Registries,
    repository: &Reference,
    tags: Vec<String>,
    sealer: &Sealer,
) -> RegistrySink {
    RegistrySink::new(PushOptions {
        registries: registries.clone(),
        repository: repository.clone(),
        tags,
        sealer: sealer.clone(),
        hash_first: HashFirst::Never,
        cache_from: Vec::new(),
    })
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_skopeo_are_translated() {
        for (text, expected) in [
            ("docker://a.b/c:1", "write a.b/c:1"),
            ("oci:dir:tag", "write oci-layout://dir:tag"),
            ("oci-archive:x.tar:1", "write oci-archive://x.tar:1"),
            ("docker-archive:x.tar:a/b:1", "write docker-archive://x.tar:a/b:1"),
            ("dir:x", EXPECTED),
            ("docker-daemon:a:1", EXPECTED),
            ("a.b/UPPER", EXPECTED),
        ] {
            assert_eq!(name(text).unwrap_err().remedy(), Some(expected), "{text}");
        }
        for text in ["oci-archive://x.tar:1", "docker-archive://x.tar:a/b:1", "oci-layout://d:t", "a.b/c:1"] {
            assert_eq!(name(text).unwrap().to_string(), text);
        }
    }
}
