//! What a model is, as its files say: read from headers alone.

mod card;
mod config;
mod gguf;
mod safetensors;

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use ocib_image::{LayerError, Tree};
use serde::{Deserialize, Serialize};

use crate::{Error, File, FileKind, layer::told};

/// What is known of a model. All of it was said by the model's own files and is not verified further
/// than that headers fit their files.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// `safetensors`, `gguf`, or the ending of the weights' names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The name that the weights have in their own headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Such as `LlamaForCausalLM`, or GGUF's `llama`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// transformers' name for the family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_type: Option<String>,
    /// Elements of all tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// Tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensors: Option<u64>,
    /// Elements by type, of safetensors files.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub elements: BTreeMap<String, u64>,
    /// The type that the model computes in, as its config says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// How it was quantized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// Tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// By SPDX where the license has a name there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// What it is for, in the Hub's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What loads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
    /// The version of GGUF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gguf_version: Option<u32>,
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
}

/// Texts of more bytes are no config and no card.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// How pointers of git LFS begin (git-lfs, docs/spec.md), which have less than 1024 bytes.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
const POINTER_BYTES_MAX: u64 = 1024;
/// Names have fewer.
const FACT_BYTES_MAX: usize = 512;

impl Facts {
    /// The number of parameters for people: `8.0B`.
    pub fn size_label(&self) -> Option<String> {
        let count = self.parameters.filter(|count| *count > 0)?;
        let units = [(1_000_000_000_000, 'T'), (1_000_000_000, 'B'), (1_000_000, 'M'), (1_000, 'K')];
        let unit = units.iter().find(|(size, _)| count >= *size);
        Some(match unit {
            // Integers, so that every machine rounds alike.
            Some((size, letter)) => {
                let tenths = (u128::from(count) * 10 + u128::from(size / 2)) / u128::from(*size);
                format!("{}.{}{letter}", tenths / 10, tenths % 10)
            }
            None => count.to_string(),
        })
    }

    /// The type of most elements, in the config's words or the weights'.
    pub fn precision(&self) -> Option<String> {
        let most =
            self.elements.iter().max_by_key(|(_, count)| **count).map(|(dtype, _)| dtype.to_lowercase());
        most.or_else(|| self.dtype.clone())
    }

    /// Reads the headers of `files`. Blocks; a header that contradicts its file is an error.
    pub(crate) fn read(tree: &dyn Tree, files: &[&File]) -> Result<Self, Error> {
        let mut facts = Self { files: files.len() as u64, ..Self::default() };
        for file in files {
            facts.bytes += file.bytes;
            if file.kind == FileKind::Weight {
                facts.weight_bytes += file.bytes;
            }
        }
        for file in files {
            facts.learn(tree, file)?;
        }
        Ok(facts.in_short())
    }

    /// The same without texts that are too long for what they should be: all of them become labels, and registries
    /// take manifests of 4 MiB.
    pub(crate) fn in_short(mut self) -> Self {
        let texts = [
            &mut self.format,
            &mut self.name,
            &mut self.architecture,
            &mut self.model_type,
            &mut self.dtype,
            &mut self.quantization,
            &mut self.license,
            &mut self.base_model,
            &mut self.task,
            &mut self.library,
        ];
        for text in texts {
            text.take_if(|text| text.len() > FACT_BYTES_MAX);
        }
        self
    }

    /// What is known of all parts of a model, from what is known of each; later parts are heard first.
    pub(crate) fn of_parts(parts: &[Self]) -> Self {
        parts.iter().cloned().fold(Self::default(), Self::and)
    }

    fn and(self, later: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        let mut elements = self.elements;
        add(&mut elements, later.elements);
        Self {
            format: later.format.or(self.format),
            name: later.name.or(self.name),
            architecture: later.architecture.or(self.architecture),
            model_type: later.model_type.or(self.model_type),
            parameters: sum(self.parameters, later.parameters),
            tensors: sum(self.tensors, later.tensors),
            elements,
            dtype: later.dtype.or(self.dtype),
            quantization: later.quantization.or(self.quantization),
            context_length: later.context_length.or(self.context_length),
            license: later.license.or(self.license),
            base_model: later.base_model.or(self.base_model),
            task: later.task.or(self.task),
            library: later.library.or(self.library),
            gguf_version: later.gguf_version.or(self.gguf_version),
            files: self.files.saturating_add(later.files),
            bytes: self.bytes.saturating_add(later.bytes),
            weight_bytes: self.weight_bytes.saturating_add(later.weight_bytes),
        }
    }

    fn learn(&mut self, tree: &dyn Tree, file: &File) -> Result<(), Error> {
        let path = String::from_utf8_lossy(&file.path).into_owned();
        let lower = path.to_lowercase();
        self.format = file.format(self.format.take());
        if may_be_pointer(tree, file) && text(tree, file)?.starts_with(POINTER) {
            return Err(Error::Pointer { name: tree.display(&file.path) });
        }
        if lower.ends_with(".safetensors") {
            let read = |content: &mut Reading| safetensors::read(content, file.bytes);
            let header = header(tree, file, "safetensors", read)?;
            self.count(
                header.tensors,
                header.elements.values().fold(0, |all, count| all.saturating_add(*count)),
            );
            add(&mut self.elements, header.elements);
        } else if lower.ends_with(".gguf") {
            if let Some(header) = header(tree, file, "GGUF", |content| gguf::read(content))? {
                self.learn_gguf(header);
            }
        } else if path == "config.json" {
            config::learn(self, &text(tree, file)?);
        } else if path == "README.md" {
            card::learn(self, &text(tree, file)?);
        } else if self.license.is_none() && matches!(&*lower, "license" | "license.txt" | "license.md") {
            self.license = card::license_of(&text(tree, file)?).map(str::to_owned);
        }
        Ok(())
    }

    fn learn_gguf(&mut self, header: gguf::Header) {
        self.gguf_version = Some(header.version);
        self.count(header.tensors, header.parameters);
        self.architecture = header.architecture.or(self.architecture.take());
        self.name = header.name.or(self.name.take());
        self.context_length = header.context_length.or(self.context_length);
        self.license = self.license.take().or(header.license.map(|license| card::spdx(&license)));
        self.quantization = header.quantization.map(str::to_owned).or(self.quantization.take());
    }

    fn count(&mut self, tensors: u64, parameters: u64) {
        self.tensors = Some(self.tensors.unwrap_or(0).saturating_add(tensors));
        self.parameters = Some(self.parameters.unwrap_or(0).saturating_add(parameters));
    }
}

/// Whether a clone without git LFS could have a pointer there. Tokenizers are large files, too; elsewhere than on a
/// disk of this machine, a request for each small text would cost more than it tells.
fn may_be_pointer(tree: &dyn Tree, file: &File) -> bool {
    let is_told = match file.kind {
        FileKind::Weight => true,
        FileKind::Config => !tree.is_distant(),
        FileKind::Doc | FileKind::Code | FileKind::Dataset => false,
    };
    is_told && file.bytes < POINTER_BYTES_MAX
}

/// Adds numbers of elements by type.
fn add(elements: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (dtype, count) in more {
        let all = elements.entry(dtype).or_default();
        *all = all.saturating_add(count);
    }
}

fn text(tree: &dyn Tree, file: &File) -> Result<Vec<u8>, LayerError> {
    let mut bytes = Vec::new();
    let read = tree.open(&file.content, 0)?.take(TEXT_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| told(error, || tree.display(&file.path)))?;
    Ok(bytes)
}

/// What `read` makes of the header of a file. What keeps it from being read is no fault of the header.
fn header<T>(
    tree: &dyn Tree,
    file: &File,
    format: &'static str,
    read: impl FnOnce(&mut Reading) -> Result<T, String>,
) -> Result<T, Error> {
    let mut content = Reading { content: tree.open(&file.content, 0)?, failure: None };
    let name = || tree.display(&file.path);
    read(&mut content).map_err(|why| match content.failure {
        Some(error) => told(error, name).into(),
        None => Error::BadFile { name: name(), format, why },
    })
}

/// A reader that keeps what it failed by.
struct Reading {
    content: Box<dyn Read + Send>,
    failure: Option<io::Error>,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failure = Some(error);
            }
            kind.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use ocib_image::{PlaceError, PlaceErrorKind};

    use super::*;

    /// A tree of one file, of which the server gives nothing.
    #[derive(Debug)]
    struct Unreachable;

    impl Tree for Unreachable {
        fn stat(&self, _: &[u8]) -> Result<Option<ocib_image::Node>, LayerError> {
            Ok(None)
        }

        fn list(&self, _: &[u8]) -> Result<Vec<Box<[u8]>>, LayerError> {
            Ok(Vec::new())
        }

        fn open(&self, _: &[u8], _: u64) -> Result<Box<dyn Read + Send>, LayerError> {
            Ok(Box::new(Fails))
        }

        fn xattrs(&self, _: &[u8]) -> Result<ocib_image::Xattrs, LayerError> {
            Ok(Vec::new())
        }

        fn display(&self, path: &[u8]) -> String {
            String::from_utf8_lossy(path).into_owned()
        }
    }

    struct Fails;

    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            let story = PlaceError::new(PlaceErrorKind::Unreachable, io::Error::other("503"));
            Err(io::Error::other(LayerError::Place(story)))
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_damaged() {
        for name in ["m.safetensors", "m.gguf", "m.bin", "config.json", "README.md", "LICENSE"] {
            let file = File {
                path: name.as_bytes().into(),
                content: name.as_bytes().into(),
                bytes: 1000,
                kind: FileKind::of(name.as_bytes()),
                digest: None,
                identity: None,
            };
            let error = Facts::read(&Unreachable, &[&file]).unwrap_err();
            let kind = match &error {
                Error::Layer(LayerError::Place(story)) => Some(story.kind),
                _ => None,
            };
            assert_eq!(kind, Some(PlaceErrorKind::Unreachable), "{name}: {error:?}");
        }
    }

    /// A clone without git LFS: of most formats nobody else would tell before the model is loaded.
    #[test]
    fn pointers_are_no_files_of_a_model() {
        let dir = tempfile::tempdir().unwrap();
        let hex = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
        let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{hex}\nsize 12345\n");
        for (name, expected) in [
            (
                "pytorch_model.bin",
                Some("pytorch_model.bin is a pointer of git LFS, expected the file itself"),
            ),
            ("tokenizer.json", Some("tokenizer.json is a pointer of git LFS, expected the file itself")),
            ("notes.md", None),
        ] {
            std::fs::write(dir.path().join(name), &pointer).unwrap();
            let tree = ocib_source::Directory::open(dir.path()).unwrap();
            let selection = ocib_source::HubFiles { include: vec![name.to_owned()], ..Default::default() };
            let files = crate::files::list(&tree, &selection).unwrap();
            let read = Facts::read(&tree, &files.iter().collect::<Vec<_>>());
            let said = read.err().map(|error| error.to_string().rsplit('/').next().unwrap().to_owned());
            assert_eq!(said.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn what_is_too_long_to_be_a_name_is_none() {
        let said = |bytes: usize| Facts { license: Some("x".repeat(bytes)), ..Facts::default() };
        assert_eq!(said(512).in_short(), said(512));
        assert_eq!(said(513).in_short(), Facts::default());
    }

    /// An image may say anything of its layers.
    #[test]
    fn sums_that_cannot_be_written_end_at_the_largest_number() {
        let elements = BTreeMap::from([("F32".to_owned(), u64::MAX)]);
        let most =
            Facts { elements, files: u64::MAX, bytes: u64::MAX, weight_bytes: u64::MAX, ..Facts::default() };
        assert_eq!(Facts::of_parts(&[most.clone(), most.clone()]), most);
    }

    #[test]
    fn sizes_for_people() {
        for (parameters, expected) in [
            (0, None),
            (999, Some("999")),
            (7_241_732_096, Some("7.2B")),
            (8_030_261_248, Some("8.0B")),
            (494_032_768, Some("494.0M")),
            (1_000_000_000_000, Some("1.0T")),
        ] {
            let facts = Facts { parameters: Some(parameters), ..Facts::default() };
            assert_eq!(facts.size_label().as_deref(), expected);
        }
    }
}
