//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::{Component, Path};

use lightglm_core::WeightError;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

#[derive(Deserialize)]
struct Index {
    #[serde(deserialize_with = "entries")]
    weight_map: Vec<(String, String)>,
}

/// Reads the index `file`: the shard of each tensor. Every shard is a plain file name.
///
/// # Errors
/// [`WeightError::Io`]; [`WeightError::Malformed`] for what is not an index or names a tensor twice;
/// [`WeightError::ShardEscapes`] for a shard that is absolute or has a separator or `..` in it.
pub(super) fn read_index(file: &Path) -> Result<BTreeMap<String, String>, WeightError> {
    let bytes =
        std::fs::read(file).map_err(|source| WeightError::Io { file: file.into(), source })?;
    parse_index(&bytes, file)
}

fn parse_index(bytes: &[u8], file: &Path) -> Result<BTreeMap<String, String>, WeightError> {
    let malformed = |reason: String| WeightError::Malformed {
        file: file.into(),
        format: "safetensors index",
        reason,
    };
    let index: Index =
        serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    let mut shards = BTreeMap::new();
    for (name, shard) in index.weight_map {
        if !is_plain_file_name(&shard) {
            return Err(WeightError::ShardEscapes { file: file.into(), name, shard });
        }
        match shards.entry(name) {
            Entry::Vacant(entry) => drop(entry.insert(shard)),
            Entry::Occupied(entry) => {
                let name = entry.key();
                return Err(malformed(format!("tensor `{name}` stands in weight_map twice")));
            }
        }
    }
    Ok(shards)
}

/// Whether `shard` is one ordinary path component, on every operating system.
fn is_plain_file_name(shard: &str) -> bool {
    let mut components = Path::new(shard).components();
    let one =
        matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none();
    one && !shard.contains(['/', '\\', ':', '\0'])
}

/// An object's entries as they stand, repeated keys and all.
fn entries<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, String)>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object of tensor names and shards")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = map.next_entry()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    json.deserialize_map(Entries)
}
