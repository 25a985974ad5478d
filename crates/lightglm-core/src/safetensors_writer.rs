//! Writing safetensors: streamed, aligned, and never half written under the final name.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, json};
use tempfile::NamedTempFile;

use crate::weights::{WeightDtype, WeightError, WeightSource};

/// What the data's begin is a multiple of: a cache line, and the widest vector register.
const ALIGNMENT: usize = 64;

/// Bytes gathered before the operating system is asked to write.
const BUFFER: usize = 1 << 20;

/// Element types that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoredDtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// Bytes.
    U8,
    /// Signed bytes.
    I8,
    /// Signed 32-bit integers.
    I32,
    /// Signed 64-bit integers.
    I64,
}

impl StoredDtype {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 | Self::I8 => 1,
        }
    }

    /// The name the safetensors header uses: `F32`, `BF16`, `I8`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::U8 => "U8",
            Self::I8 => "I8",
            Self::I32 => "I32",
            Self::I64 => "I64",
        }
    }
}

impl From<WeightDtype> for StoredDtype {
    fn from(dtype: WeightDtype) -> Self {
        match dtype {
            WeightDtype::F32 => Self::F32,
            WeightDtype::F16 => Self::F16,
            WeightDtype::Bf16 => Self::Bf16,
        }
    }
}

/// A tensor to be written: everything but its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name in the file.
    pub name: String,
    /// Element type.
    pub dtype: StoredDtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// The tensor's bytes, or `None` where they do not fit into `usize`.
    fn checked_bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.size(), |bytes, &n| bytes.checked_mul(n))
    }

    /// The tensor's size in bytes.
    ///
    /// # Panics
    /// Where the size does not fit into `usize`.
    pub fn bytes(&self) -> usize {
        self.checked_bytes().expect("a tensor's bytes fit into usize")
    }
}

/// Writes one safetensors file: the header at once, then the tensors' bytes in the order of
/// [`SafetensorsWriter::order`].
///
/// The bytes go to a temporary name in the same folder; [`SafetensorsWriter::finish`] syncs and
/// renames. A writer that is dropped before removes what it wrote. The data starts at a multiple of
/// 64 bytes, and tensors are ordered so that each whose size is a multiple of 64 starts at one too.
#[derive(Debug)]
pub struct SafetensorsWriter {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
    order: Vec<TensorSpec>,
    left: usize,
}

impl SafetensorsWriter {
    /// Starts the file `path` with the given tensors and free-form metadata.
    ///
    /// # Errors
    /// [`WeightError::Io`] naming `path`, also for two tensors of one name or of impossible size.
    pub fn create(
        path: impl AsRef<Path>,
        tensors: impl IntoIterator<Item = TensorSpec>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, WeightError> {
        let path = path.as_ref().to_owned();
        let mut order: Vec<TensorSpec> = tensors.into_iter().collect();
        let io = |source| WeightError::Io { file: path.clone(), source };
        let left = check_specs(&order).map_err(io)?;
        // Stable, so that tensors of a block stay together. No holes are allowed between tensors:
        // after all that are multiples of 64 bytes, only smaller alignments are left to keep.
        order.sort_by_key(|spec| ALIGNMENT - alignment(spec.bytes()));
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut out = BufWriter::with_capacity(BUFFER, temporary_in(folder).map_err(io)?);
        out.write_all(&header(&order, metadata)).map_err(io)?;
        Ok(Self { path, out, order, left })
    }

    /// The tensors in the order their bytes must be written in.
    pub fn order(&self) -> &[TensorSpec] {
        &self.order
    }

    /// Appends the next bytes; a tensor may come in pieces.
    ///
    /// # Errors
    /// [`WeightError::Io`], also for more bytes than the tensors have.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WeightError> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            let message = format!("{} bytes written where {} were left", bytes.len(), self.left);
            return Err(self.error(io::Error::other(message)));
        };
        self.left = left;
        self.out.write_all(bytes).map_err(|source| self.error(source))
    }

    /// Syncs the file and gives it its name, over whatever had it.
    ///
    /// # Errors
    /// [`WeightError::Io`], also where bytes are missing. Nothing stays behind then.
    pub fn finish(self) -> Result<(), WeightError> {
        let Self { path, out, left, .. } = self;
        let io = |source| WeightError::Io { file: path.clone(), source };
        if left != 0 {
            return Err(io(io::Error::other(format!("{left} bytes were never written"))));
        }
        let file = out.into_inner().map_err(|error| io(error.into_error()))?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(&path).map_err(|error| io(error.error))?;
        Ok(())
    }

    fn error(&self, source: io::Error) -> WeightError {
        WeightError::Io { file: self.path.clone(), source }
    }
}

/// Writes all tensors of `source` to the safetensors file `path`, one after the other.
///
/// # Errors
/// [`WeightError`] of the source, or [`WeightError::Io`].
pub fn save_safetensors(
    path: impl AsRef<Path>,
    source: &dyn WeightSource,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightError> {
    let specs: Result<Vec<TensorSpec>, WeightError> = source
        .names()
        .into_iter()
        .map(|name| {
            source.tensor(&name).map(|t| TensorSpec { name, dtype: t.dtype.into(), shape: t.shape })
        })
        .collect();
    let mut writer = SafetensorsWriter::create(path, specs?, metadata)?;
    for spec in writer.order().to_vec() {
        writer.write(&source.tensor(&spec.name)?.bytes)?;
    }
    writer.finish()
}

/// A temporary file with the permissions that an ordinary new file would have.
///
/// # Errors
/// What the operating system says.
pub fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".partial");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Cut down by the umask, where tempfile's own default is for its owner alone.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// The sum of all bytes.
fn check_specs(specs: &[TensorSpec]) -> io::Result<usize> {
    let mut names = HashSet::new();
    let mut total = 0usize;
    for spec in specs {
        if spec.name == "__metadata__" || !names.insert(&spec.name) {
            return Err(io::Error::other(format!("tensor name `{}` is taken", spec.name)));
        }
        total = spec
            .checked_bytes()
            .and_then(|bytes| total.checked_add(bytes))
            .ok_or_else(|| io::Error::other(format!("tensor `{}` is too large", spec.name)))?;
    }
    Ok(total)
}

/// The largest power of two up to [`ALIGNMENT`] that divides `bytes`.
fn alignment(bytes: usize) -> usize {
    1 << bytes.trailing_zeros().min(ALIGNMENT.trailing_zeros())
}

/// Length and JSON, padded with spaces to a multiple of [`ALIGNMENT`].
fn header(order: &[TensorSpec], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut map = Map::new();
    if !metadata.is_empty() {
        map.insert("__metadata__".into(), json!(metadata));
    }
    let mut begin = 0;
    for spec in order {
        let end = begin + spec.bytes();
        let entry =
            json!({"dtype": spec.dtype.name(), "shape": spec.shape, "data_offsets": [begin, end]});
        map.insert(spec.name.clone(), entry);
        begin = end;
    }
    let json = serde_json::Value::Object(map).to_string();
    let padded = (8 + json.len()).next_multiple_of(ALIGNMENT) - 8;
    let mut bytes = (padded as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.resize(8 + padded, b' ');
    bytes
}
