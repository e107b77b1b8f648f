//! GGUF: magic, version, counts, key-value pairs, tensor infos, tensors (ggml-org/ggml, docs/gguf.md).

use std::io::{self, BufReader, Read};

/// What a header says.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) tensors: u64,
    pub(super) parameters: u64,
    pub(super) architecture: Option<String>,
    pub(super) name: Option<String>,
    pub(super) license: Option<String>,
    pub(super) size_label: Option<String>,
    pub(super) context_length: Option<u64>,
    pub(super) quantization: Option<&'static str>,
}

/// Bytes of headers that are read at most: vocabularies stand in them, and the largest take 20 MB.
const HEADER_BYTES_MAX: u64 = 256 << 20;
/// A string of more bytes is passed over, not kept.
const KEPT_MAX: u64 = 4096;
/// Dimensions of a tensor (`GGML_MAX_DIMS`).
const DIMENSIONS_MAX: u32 = 4;
/// Arrays of arrays deeper than this are nonsense.
const DEPTH_MAX: usize = 4;

/// Reads the header; none of a version whose headers have another form, such as those of machines that write the
/// highest byte first. What is wrong comes as text.
pub(super) fn read(file: impl Read) -> Result<Option<Header>, String> {
    let mut reader = Reader(BufReader::with_capacity(64 << 10, file.take(HEADER_BYTES_MAX)));
    reader.header().map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends within its header".to_owned(),
        _ => error.to_string(),
    })
}

struct Reader<R>(BufReader<R>);

/// A value, as far as it is of interest.
enum Value {
    Text(String),
    Number(u64),
    Other,
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

impl<R: Read> Reader<R> {
    fn header(&mut self) -> io::Result<Option<Header>> {
        if &self.bytes::<4>()? != b"GGUF" {
            return Err(bad("it does not begin with GGUF"));
        }
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Ok(None);
        }
        let mut header = Header { version, tensors: self.u64()?, ..Header::default() };
        let pairs = self.u64()?;
        for _ in 0..pairs {
            let key = self.text()?.unwrap_or_default();
            let kind = self.u32()?;
            let value = self.value(kind, 0)?;
            header.learn(&key, value);
        }
        for _ in 0..header.tensors {
            self.text()?;
            let dimensions = self.u32()?;
            if dimensions > DIMENSIONS_MAX {
                return Err(bad(format!("a tensor has {dimensions} dimensions")));
            }
            let mut count = 1_u64;
            for _ in 0..dimensions {
                count = count.checked_mul(self.u64()?).ok_or_else(|| bad("a tensor is too large"))?;
            }
            header.parameters = header.parameters.saturating_add(count);
            // Its type and where it lies.
            self.pass(4 + 8)?;
        }
        Ok(Some(header))
    }

    fn value(&mut self, kind: u32, depth: usize) -> io::Result<Value> {
        Ok(match kind {
            0 | 1 | 7 => Value::Number(self.bytes::<1>()?[0].into()),
            2 | 3 => Value::Number(u16::from_le_bytes(self.bytes()?).into()),
            4 | 5 => Value::Number(self.u32()?.into()),
            6 => {
                self.pass(4)?;
                Value::Other
            }
            8 => self.text()?.map_or(Value::Other, Value::Text),
            9 if depth < DEPTH_MAX => {
                let (kind, count) = (self.u32()?, self.u64()?);
                for _ in 0..count {
                    self.value(kind, depth + 1)?;
                }
                Value::Other
            }
            10 | 11 => Value::Number(self.u64()?),
            12 => {
                self.pass(8)?;
                Value::Other
            }
            _ => return Err(bad(format!("a value is of type {kind}, expected 0 to 12"))),
        })
    }

    /// A string; `None` if it is longer than anything of interest.
    fn text(&mut self) -> io::Result<Option<String>> {
        let length = self.u64()?;
        if length > KEPT_MAX {
            self.pass(length)?;
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let got = (&mut self.0).take(length).read_to_end(&mut bytes)?;
        match got as u64 == length {
            true => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        match io::copy(&mut (&mut self.0).take(bytes), &mut io::sink())? == bytes {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Header {
    fn learn(&mut self, key: &str, value: Value) {
        match (key, value) {
            ("general.architecture", Value::Text(text)) => self.architecture = Some(text),
            ("general.name", Value::Text(text)) => self.name = Some(text),
            ("general.license", Value::Text(text)) => self.license = Some(text),
            ("general.size_label", Value::Text(text)) => self.size_label = Some(text),
            ("general.file_type", Value::Number(number)) => self.quantization = file_type(number),
            (key, Value::Number(number)) if key.ends_with(".context_length") => {
                self.context_length = Some(number);
            }
            _ => {}
        }
    }
}

/// `general.file_type` by name (llama.cpp, `llama_ftype`).
fn file_type(number: u64) -> Option<&'static str> {
    const NAMES: [&str; 33] = [
        "F32", "F16", "Q4_0", "Q4_1", "", "", "", "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M",
        "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS",
        "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S", "IQ2_M", "IQ4_XS", "IQ1_M", "BF16",
    ];
    NAMES.get(usize::try_from(number).ok()?).copied().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [&text(key)[..], &kind.to_le_bytes(), value].concat()
    }

    fn file() -> Vec<u8> {
        let words = [&8_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &text("a"), &text("b")].concat();
        let tensor = |name: &str, shape: &[u64]| {
            let sides: Vec<u8> = shape.iter().flat_map(|side| side.to_le_bytes()).collect();
            [&text(name)[..], &(shape.len() as u32).to_le_bytes(), &sides, &[0; 12]].concat()
        };
        [
            b"GGUF".to_vec(),
            3_u32.to_le_bytes().to_vec(),
            2_u64.to_le_bytes().to_vec(),
            4_u64.to_le_bytes().to_vec(),
            pair("general.architecture", 8, &text("llama")),
            pair("tokenizer.ggml.tokens", 9, &words),
            pair("llama.context_length", 4, &8192_u32.to_le_bytes()),
            pair("general.file_type", 4, &15_u32.to_le_bytes()),
            tensor("a", &[4, 5]),
            tensor("b", &[7]),
        ]
        .concat()
    }

    #[test]
    fn reads_past_vocabularies() {
        let expected = Header {
            version: 3,
            tensors: 2,
            parameters: 27,
            architecture: Some("llama".into()),
            context_length: Some(8192),
            quantization: Some("Q4_K_M"),
            ..Header::default()
        };
        assert_eq!(read(&file()[..]), Ok(Some(expected)));
    }

    #[test]
    fn says_what_is_wrong() {
        let whole = file();
        for version in [1_u32.to_le_bytes(), 3_u32.to_be_bytes()] {
            let other = [b"GGUF", &version[..], &whole[8..]].concat();
            assert_eq!(read(&other[..]), Ok(None));
        }
        for end in 4..whole.len() {
            assert_eq!(read(&whole[..end]), Err("it ends within its header".into()), "{end}");
        }
        assert_eq!(read(&b"GGML0000"[..]), Err("it does not begin with GGUF".into()));
        let mut endless = whole;
        endless[8..16].fill(0xff);
        assert_eq!(read(&endless[..]), Err("it ends within its header".into()));
    }
}
