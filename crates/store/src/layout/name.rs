//! What an image is called in a layout.

use ocib_image::{Annotations, Reference};

/// image-spec, "annotations": the tag, within one layout.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's and BuildKit's full name of an image.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";

/// A tag, or a full reference of which a layout keeps the tag as well, as BuildKit does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Name {
    /// `registry/repository:tag`, if it was given as a reference.
    image: Option<String>,
    tag: String,
}

impl Name {
    /// Text with a slash or colon is a reference, any other is a tag.
    pub(crate) fn new(text: &str) -> Self {
        let reference = text.contains(['/', ':']).then(|| text.parse::<Reference>().ok()).flatten();
        match reference.map(Reference::or_latest) {
            Some(reference) => Self {
                image: Some(reference.to_string()),
                tag: reference.tag().unwrap_or("latest").to_owned(),
            },
            None => Self { image: None, tag: text.to_owned() },
        }
    }

    /// The tag, within one layout or archive.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// The full name, if it was given as a reference.
    pub(crate) fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// What makes the image be found by this name.
    pub(crate) fn annotations(&self) -> Annotations {
        let image = self.image.iter().map(|image| (IMAGE_NAME.to_owned(), image.clone()));
        image.chain([(REF_NAME.to_owned(), self.tag.clone())]).collect()
    }

    /// Whether an entry with these annotations loses its place to the image that gets this name.
    /// Two full names with the same tag do not collide.
    pub(crate) fn replaces(&self, annotations: &Annotations) -> bool {
        match (&self.image, annotations.get(IMAGE_NAME)) {
            (Some(new), Some(old)) => new == old,
            _ => annotations.get(REF_NAME) == Some(&self.tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> Annotations {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn tags_and_references() {
        for (text, expected) in [
            ("v1", annotations(&[(REF_NAME, "v1")])),
            ("a.b/c:1", annotations(&[(IMAGE_NAME, "a.b/c:1"), (REF_NAME, "1")])),
            ("a.b:5000/c", annotations(&[(IMAGE_NAME, "a.b:5000/c:latest"), (REF_NAME, "latest")])),
            ("c:1", annotations(&[(IMAGE_NAME, "docker.io/library/c:1"), (REF_NAME, "1")])),
            ("No/Reference", annotations(&[(REF_NAME, "No/Reference")])),
        ] {
            assert_eq!(Name::new(text).annotations(), expected, "{text}");
        }
    }

    #[test]
    fn full_names_collide_only_with_themselves() {
        for (new, old, expected) in [
            ("v1", annotations(&[(REF_NAME, "v1")]), true),
            ("v1", annotations(&[(REF_NAME, "v2")]), false),
            ("v1", annotations(&[]), false),
            ("a.b/c:1", annotations(&[(REF_NAME, "1")]), true),
            ("a.b/c:1", Name::new("a.b/c:1").annotations(), true),
            ("a.b/c:1", Name::new("a.b/d:1").annotations(), false),
            ("1", Name::new("a.b/d:1").annotations(), true),
        ] {
            assert_eq!(Name::new(new).replaces(&old), expected, "{new} {old:?}");
        }
    }
}
