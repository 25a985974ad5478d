//! `SafetensorsCheckpoint`: one file or many shards as a weight source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lightglm_core::{StoredTensor, TensorView, WeightDtype, WeightError, WeightSource};
use lightglm_kernels::map_file;

use super::header::{SafetensorsTensor, parse_safetensors_header};
use super::index::read_index;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A mapped safetensors checkpoint. Nothing but the headers is read until a tensor's bytes are.
#[derive(Clone, Debug)]
pub struct SafetensorsCheckpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Located>,
    metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Located {
    file: PathBuf,
    dtype: String,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl SafetensorsCheckpoint {
    /// Opens a folder (`model.safetensors`, or `model.safetensors.index.json` and its shards) or a
    /// single file.
    ///
    /// # Errors
    /// [`WeightError::Io`] where a file is not there or cannot be mapped; [`WeightError::Malformed`]
    /// and [`WeightError::ShardEscapes`] for files that contradict themselves;
    /// [`WeightError::Missing`] for a tensor that the index names and its shard lacks.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightError> {
        let path = path.as_ref();
        if !path.is_dir() {
            return Self::open_single(path);
        }
        let (single, index) = (path.join(SINGLE), path.join(INDEX));
        if !single.exists() && index.exists() {
            return Self::open_sharded(path, &index);
        }
        if !single.exists()
            && let Some(pickle) = PICKLES.iter().map(|name| path.join(name)).find(|p| p.exists())
        {
            let reason = "a pickle can run code when it is read, so it is not: save the model as safetensors \
                          (transformers: `model.save_pretrained(folder)`)";
            let (format, reason) = ("safetensors", reason.to_owned());
            return Err(WeightError::Malformed { file: pickle, format, reason });
        }
        Self::open_single(&single)
    }

    /// The folder or file the checkpoint was opened from, as errors call it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_single(file: &Path) -> Result<Self, WeightError> {
        let (metadata, tensors) = map_tensors(file)?;
        Ok(Self { path: file.into(), tensors: tensors.collect(), metadata })
    }

    fn open_sharded(folder: &Path, index: &Path) -> Result<Self, WeightError> {
        let shards = read_index(index)?;
        let files: BTreeSet<&String> = shards.values().collect();
        let (mut tensors, mut metadata) = (BTreeMap::new(), BTreeMap::new());
        for shard in files {
            let path = folder.join(shard);
            let (of_shard, in_shard) = map_tensors(&path)?;
            metadata.extend(of_shard);
            for (name, located) in in_shard {
                // A tensor the index gives to another shard, or to none, would be read from a place
                // that no one named.
                if shards.get(&name) != Some(shard) {
                    return Err(WeightError::Malformed {
                        file: index.into(),
                        format: "safetensors index",
                        reason: match shards.get(&name) {
                            Some(other) => {
                                format!("tensor `{name}` is in `{shard}`, the index says `{other}`")
                            }
                            None => format!("tensor `{name}` in `{shard}` is not in the index"),
                        },
                    });
                }
                tensors.insert(name, located);
            }
        }
        match shards.into_iter().find(|(name, _)| !tensors.contains_key(name)) {
            Some((name, shard)) => Err(WeightError::Missing { file: folder.join(shard), name }),
            None => Ok(Self { path: folder.into(), tensors, metadata }),
        }
    }
}

/// What torch wrote before safetensors.
const PICKLES: [&str; 4] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "pytorch_model-00001-of-00002.bin",
    "consolidated.00.pth",
];

/// The file's metadata, and its tensors with their names.
type Mapped<I> = (BTreeMap<String, String>, I);

/// Maps `file` and slices out its tensors.
fn map_tensors(
    file: &Path,
) -> Result<Mapped<impl Iterator<Item = (String, Located)>>, WeightError> {
    let map = map_file(file).map_err(|source| WeightError::Io { file: file.into(), source })?;
    let header = parse_safetensors_header(map.bytes(), file)?;
    let file = file.to_owned();
    let tensors = header.tensors.into_iter().map(move |(name, tensor)| {
        let SafetensorsTensor { dtype, shape, range } = tensor;
        (name, Located { file: file.clone(), dtype, shape, bytes: map.bytes().slice(range) })
    });
    Ok((header.metadata, tensors))
}

impl WeightSource for SafetensorsCheckpoint {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|located| located.shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let Some(located) = self.tensors.get(name) else {
            return Err(WeightError::missing(&self.path, name, self.names()));
        };
        let known = [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16];
        match known.into_iter().find(|dtype| dtype.name() == located.dtype) {
            Some(dtype) => {
                Ok(TensorView { dtype, shape: located.shape.clone(), bytes: located.bytes.clone() })
            }
            None => Err(WeightError::UnsupportedDtype {
                file: located.file.clone(),
                name: name.into(),
                dtype: located.dtype.clone(),
            }),
        }
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        let Some(located) = self.tensors.get(name) else {
            return Err(WeightError::missing(&self.path, name, self.names()));
        };
        let Located { dtype, shape, bytes, .. } = located.clone();
        Ok(StoredTensor { dtype, shape, parts: vec![bytes] })
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.metadata.get(key).cloned()
    }
}
