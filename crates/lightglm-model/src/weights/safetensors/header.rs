//! The header of one safetensors file.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::Path;

use lightglm_core::WeightError;
use safetensors::tensor::Metadata;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// Bytes of the length in front of the header.
const LENGTH_BYTES: usize = 8;

/// The longest header the format allows.
const MAX_HEADER: usize = 100_000_000;

/// One tensor of a safetensors file.
#[derive(Clone, Debug, PartialEq)]
pub struct SafetensorsTensor {
    /// The dtype as the format spells it: `F32`, `BF16`, `I8`.
    pub dtype: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Where the tensor lies in the file, in bytes from the file's begin.
    pub range: Range<usize>,
}

/// What a safetensors file holds. Every range lies inside of the file, has the length that dtype and
/// shape ask for, and overlaps with no other.
#[derive(Clone, Debug, PartialEq)]
pub struct SafetensorsHeader {
    /// The tensors by name.
    pub tensors: BTreeMap<String, SafetensorsTensor>,
    /// The free-form `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// Parses the header of the safetensors file with the contents `bytes`; `file` is what errors call
/// it.
///
/// # Errors
/// [`WeightError::Malformed`] for a file that contradicts itself: a header longer than the file,
/// JSON that is none, a name twice, ranges that overlap, leave holes, lie outside of the file or do
/// not fit dtype and shape.
pub fn parse_safetensors_header(
    bytes: &[u8],
    file: &Path,
) -> Result<SafetensorsHeader, WeightError> {
    let malformed = |reason: String| WeightError::Malformed {
        file: file.into(),
        format: "safetensors",
        reason,
    };
    if bytes.starts_with(b"version https://git-lfs") {
        let reason =
            "this is a Git LFS pointer and not the weights: run `git lfs pull` in the folder";
        return Err(malformed(reason.to_owned()));
    }
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(malformed(format!("{} bytes are too few for a header", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let header_len = usize::try_from(length).ok().filter(|n| *n <= rest.len() && *n <= MAX_HEADER);
    let Some(header_len) = header_len else {
        return Err(malformed(format!("a header of {length} bytes in {} bytes", bytes.len())));
    };
    let (header, data) = rest.split_at(header_len);
    // The crate checks ranges against shapes and against each other. Its own reader adds the lengths
    // unchecked, which panics where overflow checks are on, and its map keeps the last of two equal
    // names: both are done here.
    let parsed: Metadata =
        serde_json::from_slice(header).map_err(|error| malformed(error.to_string()))?;
    if let Some(name) = repeated_name(header).map_err(|error| malformed(error.to_string()))? {
        return Err(malformed(format!("the name `{name}` stands in the header twice")));
    }
    if parsed.data_len() != data.len() {
        let declared = parsed.data_len();
        return Err(malformed(format!("tensors of {declared} bytes in {} bytes", data.len())));
    }
    let data_start = LENGTH_BYTES + header_len;
    let tensors = parsed.tensors().into_iter().map(|(name, info)| {
        let (begin, end) = info.data_offsets;
        let tensor = SafetensorsTensor {
            dtype: info.dtype.to_string(),
            shape: info.shape.clone(),
            range: data_start + begin..data_start + end,
        };
        (name, tensor)
    });
    let metadata = parsed.metadata().clone().unwrap_or_default();
    Ok(SafetensorsHeader { tensors: tensors.collect(), metadata: metadata.into_iter().collect() })
}

/// The first key that stands twice in the outermost object.
fn repeated_name(json: &[u8]) -> Result<Option<String>, serde_json::Error> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = Option<String>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut seen, mut repeated) = (HashSet::new(), None);
            while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if repeated.is_none() && !seen.insert(name.clone()) {
                    repeated = Some(name);
                }
            }
            Ok(repeated)
        }
    }

    serde_json::Deserializer::from_slice(json).deserialize_map(Names)
}
