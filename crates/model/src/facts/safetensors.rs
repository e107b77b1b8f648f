//! safetensors: eight bytes of length, a JSON header, the tensors
//! (huggingface/safetensors, README, "Format").

mod bounded;

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufReader, Read},
};

use bounded::Bounded;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The format's own limit for its header, in bytes.
const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Each takes 16 bytes of memory; the largest models have a tenth of it in all their files.
const TENSORS_MAX: u64 = 1 << 20;
/// Far more than there are.
const TYPES_MAX: usize = 64;
const TYPE_BYTES_MAX: usize = 32;

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
    let tensors: Tensors = serde_json::from_reader(BufReader::new(Bounded::new(file.take(length))))
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
        let Tensor { dtype, count, data_offsets: (from, to) } = tensor;
        if self.header.tensors == TENSORS_MAX {
            return Err(format!("it has more than {TENSORS_MAX} tensors"));
        }
        let types = &mut self.header.elements;
        if dtype.len() > TYPE_BYTES_MAX || types.len() == TYPES_MAX && !types.contains_key(&dtype) {
            return Err("its types are too many, or have names that are too long".to_owned());
        }
        if let Some(size) = element_bytes(&dtype)
            && count.checked_mul(size) != to.checked_sub(from)
        {
            return Err(format!("a tensor of {count} {dtype} lies at bytes {from} to {to}"));
        }
        self.header.tensors += 1;
        let elements = types.entry(dtype).or_default();
        *elements = elements.saturating_add(count);
        self.ranges.push((from, to));
        Ok(())
    }
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    /// The product of the sides.
    #[serde(rename = "shape", deserialize_with = "elements")]
    count: u64,
    data_offsets: (u64, u64),
}

/// How many elements a shape has, which may have any number of sides.
fn elements<'de, D: Deserializer<'de>>(shape: D) -> Result<u64, D::Error> {
    struct Product;
    impl<'de> Visitor<'de> for Product {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of sides")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<u64, A::Error> {
            let mut count = 1_u64;
            while let Some(side) = sides.next_element::<u64>()? {
                let more = count.checked_mul(side);
                count =
                    more.ok_or_else(|| A::Error::custom("a tensor has more elements than can be counted"))?;
            }
            Ok(count)
        }
    }
    shape.deserialize_seq(Product)
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
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
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
                    tensors.add(map.next_value()?).map_err(Error::custom)?;
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

    /// Headers that would take hundreds of megabytes of memory, or more than can be counted.
    #[test]
    fn what_is_made_to_do_harm() {
        let tensor = |name: &str, dtype: &str, shape: &str| {
            format!(r#""{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[0,0]}}"#)
        };
        let object = |members: &[String]| format!("{{{}}}", members.join(","));
        let long = "n".repeat(100_000);
        for (header, expected) in [
            (object(&[tensor(&long, "U8", "0")]), "a text of more than 65536 bytes"),
            (object(&[tensor("a", &long, "0")]), "a text of more than 65536 bytes"),
            (
                object(&[tensor("a", &long[..40], "0")]),
                "its types are too many, or have names that are too long",
            ),
            ("[".repeat(100), "it is nested more than 8 deep"),
            (
                object(&[tensor("a", "U8", "4294967296,4294967296")]),
                "a tensor has more elements than can be counted",
            ),
            (
                object(&(0..70).map(|number| tensor("a", &format!("T{number}"), "0")).collect::<Vec<_>>()),
                "its types are too many, or have names that are too long",
            ),
        ] {
            let error = of(&file(&header, 0)).unwrap_err();
            assert!(error.starts_with(&format!("its header cannot be read: {expected}")), "{error}");
        }
        // Two times 2^63, of a type whose elements have a size that nobody here knows.
        let half = tensor("a", "X", "9223372036854775808");
        assert_eq!(of(&file(&object(&[half.clone(), half]), 0)).unwrap().elements["X"], u64::MAX);
        // What trainers write down may be long, and is passed over.
        let metadata =
            format!(r#"{{"__metadata__":{{"tags":"{}","\\\"":"{{["}},{}}}"#, long, tensor("a", "U8", "0"));
        assert_eq!(of(&file(&metadata, 0)).unwrap().tensors, 1);
    }
}
