//! safetensors: eight bytes of length, a JSON header, the tensors
//! (huggingface/safetensors, README, "Format").

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufReader, Read},
};

use serde::{
    Deserialize,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// The format's own limit for its header, in bytes.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// What a header says, without names.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) tensors: u64,
    /// Elements by type.
    pub(super) elements: BTreeMap<String, u64>,
}

/// Reads the header of a file of `bytes` bytes, and compares it with that. What is wrong comes as text.
pub(super) fn read(mut file: impl Read, bytes: u64) -> Result<Header, String> {
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|error| format!("its first eight bytes cannot be read: {error}"))?;
    let length = u64::from_le_bytes(length);
    let behind = length.checked_add(8).filter(|end| length <= HEADER_BYTES_MAX && *end <= bytes);
    let Some(behind) = behind else {
        return Err(format!("its header would have {length} bytes, but the file has {bytes}"));
    };
    let tensors: Tensors = serde_json::from_reader(BufReader::new(file.take(length)))
        .map_err(|error| format!("its header cannot be read: {error}"))?;
    tensors.check(bytes - behind)
}

#[derive(Default)]
struct Tensors {
    header: Header,
    ranges: Vec<(u64, u64)>,
}

impl Tensors {
    /// The data that follows the header has no holes and no overlaps, and ends with the file.
    fn check(mut self, data_bytes: u64) -> Result<Header, String> {
        self.ranges.sort_unstable();
        let mut end = 0;
        for (from, to) in self.ranges {
            if from != end || to < from {
                return Err(format!("a tensor lies at bytes {from} to {to}, expected one at {end}"));
            }
            end = to;
        }
        match end == data_bytes {
            true => Ok(self.header),
            false => Err(format!("its tensors take {end} bytes, but {data_bytes} follow the header")),
        }
    }

    fn add(&mut self, tensor: Tensor) -> Result<(), String> {
        let count = tensor.shape.iter().try_fold(1_u64, |all, side| all.checked_mul(*side));
        let count = count.ok_or("a tensor has more elements than can be counted")?;
        let (from, to) = tensor.data_offsets;
        if let Some(size) = element_bytes(&tensor.dtype)
            && count.checked_mul(size) != to.checked_sub(from)
        {
            return Err(format!("a tensor of {count} {} lies at bytes {from} to {to}", tensor.dtype));
        }
        self.header.tensors += 1;
        *self.header.elements.entry(tensor.dtype).or_default() += count;
        self.ranges.push((from, to));
        Ok(())
    }
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Bytes of one element; `None` for types whose elements share bytes, and for new ones.
fn element_bytes(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 1,
        "U16" | "I16" | "F16" | "BF16" => 2,
        "U32" | "I32" | "F32" => 4,
        "U64" | "I64" | "F64" | "C64" => 8,
        _ => return None,
    })
}

/// A header may have a hundred thousand tensors, so they are counted as they come.
impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counting;
        impl<'de> Visitor<'de> for Counting {
            type Value = Tensors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
                let mut tensors = Tensors::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    tensors.add(map.next_value()?).map_err(serde::de::Error::custom)?;
                }
                Ok(tensors)
            }
        }
        deserializer.deserialize_map(Counting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    }

    fn of(file: &[u8]) -> Result<Header, String> {
        read(file, file.len() as u64)
    }

    #[test]
    fn counts_tensors_and_elements() {
        let header = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[],"data_offsets":[12,16]},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}  "#;
        let expected = Header { tensors: 2, elements: [("BF16".into(), 6), ("F32".into(), 1)].into() };
        assert_eq!(of(&file(header, 16)), Ok(expected));
        assert_eq!(of(&file("{}", 0)), Ok(Header::default()));
    }

    #[test]
    fn says_what_is_wrong() {
        let one = |offsets: &str| format!(r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{offsets}}}}}"#);
        for (bytes, expected) in [
            (b"abc".to_vec(), "its first eight bytes cannot be read: failed to fill whole buffer"),
            (file(&one("[0,4]"), 3), "its tensors take 4 bytes, but 3 follow the header"),
            (file(&one("[0,4]"), 5), "its tensors take 4 bytes, but 5 follow the header"),
            (file(&one("[1,5]"), 5), "a tensor lies at bytes 1 to 5, expected one at 0"),
            (
                file(&one("[0,3]"), 3),
                "its header cannot be read: a tensor of 4 U8 lies at bytes 0 to 3 at line 1 column 53",
            ),
            (
                u64::MAX.to_le_bytes().to_vec(),
                "its header would have 18446744073709551615 bytes, but the file has 8",
            ),
            (file("{", 0), "its header cannot be read: EOF while parsing an object at line 1 column 1"),
        ] {
            assert_eq!(of(&bytes).unwrap_err(), expected);
        }
    }
}
