//! `GgufFile`: a parsed GGUF file.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lightglm_core::WeightError;
use lightglm_kernels::map_file;

use super::cursor::{Cursor, Reason};
use super::ggml_type::{GgmlType, unsupported_name};
use super::split::{Split, open_all};
use super::value::GgufValue;

/// What tensors are aligned to where `general.alignment` does not say.
const DEFAULT_ALIGNMENT: usize = 32;

/// Most dimensions of a tensor in ggml.
const MAX_DIMENSIONS: usize = 4;

/// Bytes of the shortest key with its value: the key's length, a type, a byte.
const LEAST_KEY: usize = 8 + 4 + 1;

/// Bytes of the shortest tensor info: the name's length, dimensions, type, offset.
const LEAST_TENSOR: usize = 8 + 4 + 4 + 8;

/// A tensor of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// How the elements are stored.
    pub ggml_type: GgmlType,
    /// Dimensions, outermost first (the file has them the other way round).
    pub shape: Vec<usize>,
    /// Which file of a model in several it lies in, from 0.
    pub part: usize,
    /// Where the tensor lies in the file, in bytes from the file's begin.
    pub range: Range<usize>,
}

/// A GGUF file, or the several files of one model: metadata (of the first) and tensors.
///
/// Every tensor of a value lies inside of its file, has the bytes that its shape asks for, and
/// overlaps with no other.
#[derive(Clone, Debug)]
pub struct GgufFile {
    path: PathBuf,
    /// Of each part.
    bytes: Vec<Bytes>,
    version: u32,
    keys: Vec<String>,
    metadata: HashMap<String, GgufValue>,
    tensors: BTreeMap<String, GgufTensor>,
}

impl GgufFile {
    /// Maps and parses the file `path`. Where it is one of the several files of a model
    /// (`model-00002-of-00003.gguf`), all of them are opened.
    ///
    /// # Errors
    /// [`WeightError::Io`], also for the file of a part that is missing; [`WeightError::Malformed`] for a
    /// file that contradicts itself or has a version other than 2 or 3, and for parts that contradict each
    /// other; [`WeightError::UnsupportedDtype`] for a tensor of a type that [`GgmlType`] does not have.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightError> {
        let file = Self::open_one(path.as_ref())?;
        match Split::of(&file)? {
            Some(split) => open_all(file, split),
            None => Ok(file),
        }
    }

    /// One file, whatever it is a part of.
    pub(super) fn open_one(path: &Path) -> Result<Self, WeightError> {
        let map = map_file(path).map_err(|source| WeightError::Io { file: path.into(), source })?;
        Self::parse(map.bytes().clone(), path)
    }

    /// [`GgufFile::open`] for the file's contents; errors call the file `(bytes)`.
    ///
    /// # Errors
    /// As [`GgufFile::open`], and for one part of a model in several files.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, WeightError> {
        let file = Self::parse(bytes, Path::new("(bytes)"))?;
        match Split::of(&file)? {
            Some(split) => open_all(file, split),
            None => Ok(file),
        }
    }

    /// Takes in the tensors of the next part.
    pub(super) fn append(&mut self, next: Self) -> Result<(), WeightError> {
        let part = self.bytes.len();
        for (name, tensor) in next.tensors {
            if self.tensors.contains_key(&name) {
                let reason = format!("tensor `{name}` stands in a part before this one too");
                return Err(WeightError::Malformed { file: next.path, format: "GGUF", reason });
            }
            self.tensors.insert(name, GgufTensor { part, ..tensor });
        }
        self.bytes.extend(next.bytes);
        Ok(())
    }

    /// The file's name, as errors call it; of several files the first's.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata value under `key`.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// All metadata, in the order of the file.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &GgufValue)> {
        self.keys.iter().map(|key| (key.as_str(), &self.metadata[key]))
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> &BTreeMap<String, GgufTensor> {
        &self.tensors
    }

    /// The bytes of a tensor of this file, shared with the mapping.
    pub fn tensor_bytes(&self, name: &str) -> Option<Bytes> {
        let tensor = self.tensors.get(name)?;
        Some(self.bytes[tensor.part].slice(tensor.range.clone()))
    }

    fn parse(bytes: Bytes, path: &Path) -> Result<Self, WeightError> {
        let malformed =
            |reason| WeightError::Malformed { file: path.into(), format: "GGUF", reason };
        let mut cursor = Cursor::new(&bytes);
        let (version, tensor_count, key_count) = read_preamble(&mut cursor).map_err(malformed)?;
        let (keys, metadata) = read_metadata(&mut cursor, key_count).map_err(malformed)?;
        let infos = read_infos(&mut cursor, tensor_count).map_err(malformed)?;
        let alignment = alignment(metadata.get("general.alignment")).map_err(malformed)?;
        let data = cursor.position().next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        for info in infos {
            let Some(ggml_type) = GgmlType::from_number(info.type_number) else {
                return Err(WeightError::UnsupportedDtype {
                    file: path.into(),
                    name: info.name.into(),
                    dtype: unsupported_name(info.type_number),
                });
            };
            let tensor = info.locate(ggml_type, data, alignment, bytes.len()).map_err(malformed)?;
            if tensors.insert(info.name.to_owned(), tensor).is_some() {
                return Err(malformed(format!("tensor `{}` stands in the file twice", info.name)));
            }
        }
        check_overlaps(&tensors).map_err(malformed)?;
        Ok(Self { path: path.into(), version, keys, metadata, tensors, bytes: vec![bytes.clone()] })
    }
}

/// Version, tensors, keys.
fn read_preamble(cursor: &mut Cursor<'_>) -> Result<(u32, u64, u64), Reason> {
    let magic: [u8; 4] = cursor.array()?;
    if magic != *b"GGUF" {
        return Err(format!("it begins with {magic:02x?} instead of `GGUF`"));
    }
    let version = cursor.u32()?;
    match version {
        2 | 3 => Ok((version, cursor.u64()?, cursor.u64()?)),
        _ if version.swap_bytes() <= 3 => Err("big-endian files are not supported".into()),
        _ => Err(format!("version {version}, supported are 2 and 3")),
    }
}

type Metadata = (Vec<String>, HashMap<String, GgufValue>);

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, Reason> {
    let count = cursor.check_count(count, "metadata keys", LEAST_KEY)?;
    let (mut keys, mut metadata) = (Vec::new(), HashMap::new());
    for _ in 0..count {
        let key = cursor.string()?;
        let value = GgufValue::read(cursor).map_err(|reason| format!("key `{key}`: {reason}"))?;
        keys.push(key.to_owned());
        if metadata.insert(key.to_owned(), value).is_some() {
            return Err(format!("key `{key}` stands in the file twice"));
        }
    }
    Ok((keys, metadata))
}

/// A tensor info as it stands in the file.
struct Info<'a> {
    name: &'a str,
    /// Innermost first.
    dimensions: Vec<u64>,
    type_number: u32,
    offset: u64,
}

fn read_infos<'a>(cursor: &mut Cursor<'a>, count: u64) -> Result<Vec<Info<'a>>, Reason> {
    let count = cursor.check_count(count, "tensors", LEAST_TENSOR)?;
    let mut infos = Vec::new();
    for _ in 0..count {
        let name = cursor.string()?;
        let dimensions = cursor.u32()? as usize;
        if dimensions > MAX_DIMENSIONS {
            return Err(format!("tensor `{name}` has {dimensions} dimensions"));
        }
        let dimensions = (0..dimensions).map(|_| cursor.u64()).collect::<Result<_, _>>()?;
        infos.push(Info { name, dimensions, type_number: cursor.u32()?, offset: cursor.u64()? });
    }
    Ok(infos)
}

impl Info<'_> {
    /// The tensor in a file of `file_len` bytes whose data starts at `data`.
    fn locate(
        &self,
        ggml_type: GgmlType,
        data: usize,
        alignment: usize,
        file_len: usize,
    ) -> Result<GgufTensor, Reason> {
        let Self { name, dimensions, offset, .. } = self;
        let sizes: Option<Vec<usize>> =
            dimensions.iter().rev().map(|&n| usize::try_from(n).ok()).collect();
        let elements = sizes
            .as_ref()
            .and_then(|sizes| sizes.iter().try_fold(1usize, |product, &n| product.checked_mul(n)));
        let (Some(shape), Some(elements)) = (sizes, elements) else {
            return Err(format!("tensor `{name}` of {dimensions:?} elements overflows"));
        };
        let (block, row) = (ggml_type.block_elements(), shape.last().copied().unwrap_or(1));
        if row % block != 0 {
            let kind = ggml_type.name();
            return Err(format!("tensor `{name}`: rows of {row} in {kind} blocks of {block}"));
        }
        let offset = usize::try_from(*offset).ok().filter(|offset| offset % alignment == 0);
        let Some(offset) = offset else {
            let offset = self.offset;
            return Err(format!("tensor `{name}`: offset {offset} not aligned to {alignment}"));
        };
        let begin = data.checked_add(offset);
        let bytes = (elements / block).checked_mul(ggml_type.block_bytes());
        let range = begin.zip(bytes).and_then(|(begin, n)| Some(begin..begin.checked_add(n)?));
        match range {
            Some(range) if range.end <= file_len => {
                Ok(GgufTensor { ggml_type, shape, part: 0, range })
            }
            _ => Err(format!(
                "tensor `{name}` of {elements} {} at {offset} ends past the file's {file_len} bytes",
                ggml_type.name()
            )),
        }
    }
}

fn alignment(value: Option<&GgufValue>) -> Result<usize, Reason> {
    let Some(value) = value else { return Ok(DEFAULT_ALIGNMENT) };
    match value.as_u64().and_then(|value| u32::try_from(value).ok()) {
        Some(alignment) if alignment.is_power_of_two() => Ok(alignment as usize),
        _ => Err(format!("general.alignment is {value:?}, not a power of two")),
    }
}

fn check_overlaps(tensors: &BTreeMap<String, GgufTensor>) -> Result<(), Reason> {
    let mut ranges: Vec<(&Range<usize>, &String)> =
        tensors.iter().map(|(name, tensor)| (&tensor.range, name)).collect();
    ranges.retain(|(range, _)| !range.is_empty());
    ranges.sort_by_key(|(range, _)| range.start);
    for pair in ranges.windows(2) {
        if pair[0].0.end > pair[1].0.start {
            return Err(format!("tensors `{}` and `{}` overlap", pair[0].1, pair[1].1));
        }
    }
    Ok(())
}
