//! `index.json`: edited so that all that others wrote stays as it was.

use std::collections::BTreeMap;

use ocib_image::{Annotations, Descriptor, MediaType};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::Name;

/// The list of a layout's images.
#[derive(Debug)]
pub(crate) struct IndexFile {
    fields: BTreeMap<String, Box<RawValue>>,
    entries: Vec<Listed>,
}

/// An entry as it was written, and the two fields that decide whether it stays.
#[derive(Debug)]
struct Listed {
    raw: Box<RawValue>,
    digest: String,
    annotations: Annotations,
}

impl IndexFile {
    /// An index without images.
    pub(crate) fn new() -> Self {
        let fields = BTreeMap::from([
            ("schemaVersion".to_owned(), raw(&2)),
            ("mediaType".to_owned(), raw(&MediaType::Index)),
        ]);
        Self { fields, entries: Vec::new() }
    }

    /// Reads the bytes of an `index.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(bytes)?;
        let manifests = fields.remove("manifests");
        let manifests: Option<Vec<Box<RawValue>>> = match &manifests {
            Some(manifests) => serde_json::from_str(manifests.get())?,
            None => None,
        };
        let entries =
            manifests.unwrap_or_default().into_iter().map(Listed::parse).collect::<Result<_, _>>()?;
        Ok(Self { fields, entries })
    }

    /// Lists `root` under every one of `names`, in whose place it comes, or without a name if there
    /// are none. An image has at most one entry without a name, and a layout too: what was built
    /// without a name before is forgotten.
    pub(crate) fn insert(&mut self, root: &Descriptor, names: &[Name]) {
        let digest = root.digest.to_string();
        for name in names {
            self.entries.retain(|entry| {
                let is_nameless_twin = entry.is_nameless() && entry.digest == digest;
                !is_nameless_twin && !name.replaces(&entry.annotations)
            });
            let annotations = name.annotations();
            self.entries.push(Listed::new(&Descriptor { annotations, ..root.clone() }));
        }
        if names.is_empty() {
            self.entries.retain(|entry| !entry.is_nameless());
            if self.entries.iter().all(|entry| entry.digest != digest) {
                self.entries.push(Listed::new(root));
            }
        }
    }

    /// The bytes of the file, keys in order.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        let entries: Vec<_> = self.entries.iter().map(|entry| &entry.raw).collect();
        fields.insert("manifests".to_owned(), raw(&entries));
        serde_json::to_vec(&fields).expect("values that were read as JSON are JSON")
    }
}

impl Listed {
    fn new(descriptor: &Descriptor) -> Self {
        let annotations = descriptor.annotations.clone();
        Self { raw: raw(descriptor), digest: descriptor.digest.to_string(), annotations }
    }

    fn parse(raw: Box<RawValue>) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Outline {
            #[serde(default)]
            digest: String,
            #[serde(default)]
            annotations: Option<Annotations>,
        }
        let Outline { digest, annotations } = serde_json::from_str(raw.get())?;
        Ok(Self { raw, digest, annotations: annotations.unwrap_or_default() })
    }

    fn is_nameless(&self) -> bool {
        [super::name::REF_NAME, super::name::IMAGE_NAME]
            .iter()
            .all(|key| !self.annotations.contains_key(*key))
    }
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("strings, numbers and lists always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(before: &str, content: &[u8], names: &[&str]) -> String {
        let mut index = IndexFile::parse(before.as_bytes()).unwrap();
        let names: Vec<_> = names.iter().map(|name| Name::new(name)).collect();
        index.insert(&Descriptor::of(MediaType::Manifest, content), &names);
        String::from_utf8(index.to_bytes()).unwrap()
    }

    fn entry(content: &[u8], name: Option<&str>) -> String {
        let annotations = name.map(|name| Name::new(name).annotations()).unwrap_or_default();
        let descriptor = Descriptor { annotations, ..Descriptor::of(MediaType::Manifest, content) };
        serde_json::to_string(&descriptor).unwrap()
    }

    #[test]
    fn new_index() {
        let empty =
            r#"{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#;
        assert_eq!(String::from_utf8(IndexFile::new().to_bytes()).unwrap(), empty);
    }

    #[test]
    fn entries_of_others_stay() {
        let index =
            |entries: &[String]| format!(r#"{{"manifests":[{}],"schemaVersion":2}}"#, entries.join(","));
        let foreign =
            r#"{"size":1e1, "digest":"sha512:00","mediaType":"x","annotations":{"a":"b"},"vendor":[1]}"#;
        let foreign = || foreign.to_owned();
        for (before, content, names, expected) in [
            (vec![], b"1", vec![], vec![entry(b"1", None)]),
            (vec![entry(b"1", None)], b"1", vec![], vec![entry(b"1", None)]),
            (vec![entry(b"1", None)], b"2", vec![], vec![entry(b"2", None)]),
            (vec![entry(b"1", Some("a"))], b"1", vec![], vec![entry(b"1", Some("a"))]),
            (vec![entry(b"1", None)], b"1", vec!["a"], vec![entry(b"1", Some("a"))]),
            (vec![entry(b"1", None)], b"2", vec!["a"], vec![entry(b"1", None), entry(b"2", Some("a"))]),
            (
                vec![entry(b"1", Some("a")), entry(b"1", Some("b"))],
                b"2",
                vec!["a"],
                vec![entry(b"1", Some("b")), entry(b"2", Some("a"))],
            ),
            (vec![], b"1", vec!["a", "x/y:1"], vec![entry(b"1", Some("a")), entry(b"1", Some("x/y:1"))]),
            (vec![foreign()], b"1", vec!["a"], vec![foreign(), entry(b"1", Some("a"))]),
        ] {
            assert_eq!(after(&index(&before), content, &names), index(&expected), "{before:?} {names:?}");
        }
    }

    #[test]
    fn unknown_fields_stay() {
        let before = r#"{"schemaVersion":2,"manifests":null,"vendor":{"b":1, "a":2}}"#;
        let expected =
            format!(r#"{{"manifests":[{}],"schemaVersion":2,"vendor":{{"b":1, "a":2}}}}"#, entry(b"1", None));
        assert_eq!(after(before, b"1", &[]), expected);
    }
}
