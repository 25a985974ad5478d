//! `adapter_model.bin`: what `torch.save` writes of a dict of tensors, read without running any of it.
//!
//! The file is a zip archive: `data.pkl` is a pickle that says which tensor is which part of which storage, and
//! each storage is a member by itself, `data/0`, `data/1`, ... The pickle is read by [`super::unpickle`], which
//! knows the constructors of tensors and nothing else.
//!
//! Source: PyTorch, `torch/serialization.py` (`_save`, `_load`) and `caffe2/serialize/inline_container.cc`.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use bytes::Bytes;
use zip::{CompressionMethod, ZipArchive};

use super::error::PeftError;
use super::tensors::{AdapterTensor, AdapterTensors};
use super::unpickle::{Storage, TensorRecord, unpickle};

/// How every zip archive that is not empty begins.
const ZIP: &[u8] = b"PK\x03\x04";

/// Bytes that the pickle of names and shapes may have at most.
const LONGEST_PICKLE: u64 = 64 << 20;

type Archive<'b> = ZipArchive<Cursor<&'b [u8]>>;

/// Tensors of the archive in `bytes`, which errors call `file`.
pub(super) fn read_pickle(file: &Path, bytes: &[u8]) -> Result<AdapterTensors, PeftError> {
    if !bytes.starts_with(ZIP) {
        let reason = "is no zip archive: PyTorch 1.6 and later write one. Load it with torch and save it as \
                      adapter_model.safetensors (`safetensors.torch.save_file`)";
        return Err(PeftError::malformed(file, reason));
    }
    let malformed = |reason: &dyn ToString| PeftError::malformed(file, reason.to_string());
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| malformed(&error))?;
    let prefix = prefix(&archive);
    let prefix = prefix.ok_or_else(|| malformed(&"has no single data.pkl: torch.save has one"))?;
    let order = format!("{prefix}byteorder");
    if archive.index_for_name(&order).is_some() {
        let order = member(&mut archive, &order, 16).map_err(|reason| malformed(&reason))?;
        if order != b"little" {
            let order = String::from_utf8_lossy(&order).into_owned();
            return Err(malformed(&format!("has bytes in the order `{order}`, which is not read")));
        }
    }
    let pickle = member(&mut archive, &format!("{prefix}data.pkl"), LONGEST_PICKLE);
    let pickle = pickle.map_err(|reason| malformed(&reason))?;
    let records = unpickle(&pickle).map_err(|reason| malformed(&format!("data.pkl {reason}")))?;
    let mut storages: BTreeMap<String, Bytes> = BTreeMap::new();
    // Members may overlap, and then take more memory than the file has bytes.
    let mut left = bytes.len() as u64;
    let mut tensors = AdapterTensors::new();
    for (name, record) in records {
        let wrong = |reason: String| PeftError::tensor(file, &name, reason);
        let key = record.storage.key.clone();
        let storage = match storages.get(&key) {
            Some(bytes) => bytes.clone(),
            None => {
                let path = format!("{prefix}data/{key}");
                let bytes = member(&mut archive, &path, left).map_err(wrong)?;
                left -= bytes.len() as u64;
                storages.entry(key).or_insert(Bytes::from(bytes)).clone()
            }
        };
        let bytes = elements(&record, &storage).map_err(wrong)?;
        let dtype = match record.storage.dtype {
            Ok(dtype) => Ok(dtype),
            Err(other) => Err(other.to_owned()),
        };
        let tensor = AdapterTensor { dtype, shape: record.shape, bytes };
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(PeftError::tensor(file, &name, "is there twice"));
        }
    }
    Ok(tensors)
}

/// The folder that the members are in, with its slash.
fn prefix(archive: &Archive<'_>) -> Option<String> {
    let mut pickles = archive.file_names().filter_map(|name| name.strip_suffix("data.pkl"));
    match (pickles.next(), pickles.next()) {
        (Some(prefix), None) if prefix.is_empty() || prefix.ends_with('/') => {
            Some(prefix.to_owned())
        }
        _ => None,
    }
}

/// The member `name`, of at most `limit` bytes. It takes no more memory than the archive has bytes of it.
fn member(archive: &mut Archive<'_>, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let file = archive.by_name(name);
    let mut file = file.map_err(|error| format!("`{name}` cannot be read: {error}"))?;
    if file.compression() != CompressionMethod::Stored {
        return Err(format!("`{name}` is compressed, which torch.save never does"));
    }
    if file.size() > limit {
        return Err(format!("`{name}` has {} bytes", file.size()));
    }
    let mut bytes = Vec::new();
    let read = (&mut file).take(limit).read_to_end(&mut bytes);
    read.map_err(|error| format!("`{name}` cannot be read: {error}"))?;
    Ok(bytes)
}

/// The tensor's elements row by row: a slice of the storage, or a copy where it is a view with other strides.
fn elements(record: &TensorRecord, storage: &Bytes) -> Result<Bytes, String> {
    let TensorRecord { storage: Storage { size, numel, .. }, offset, shape, strides } = record;
    let (size, numel) = (*size, *numel);
    if numel.checked_mul(size) != Some(storage.len()) {
        let has = storage.len();
        return Err(format!("{numel} elements of {size} bytes in a storage of {has} bytes"));
    }
    if shape.len() != strides.len() {
        return Err(format!("shape {shape:?} with strides {strides:?}"));
    }
    let outside = || {
        format!(
            "shape {shape:?}, strides {strides:?} and offset {offset} do not fit {numel} elements"
        )
    };
    let count = shape.iter().try_fold(1usize, |count, &n| count.checked_mul(n));
    let count = count.ok_or_else(outside)?;
    if count == 0 {
        return Ok(Bytes::new());
    }
    // Views that repeat elements (`expand`) could make much of little.
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(*offset, |at, (&n, &stride)| at.checked_add((n - 1).checked_mul(stride)?));
    if count > numel || last.is_none_or(|last| last >= numel) {
        return Err(outside());
    }
    let mut contiguous = 1;
    let is_contiguous = shape.iter().zip(strides).rev().all(|(&n, &stride)| {
        let fits = n == 1 || stride == contiguous;
        contiguous *= n;
        fits
    });
    if is_contiguous {
        return Ok(storage.slice(offset * size..(offset + count) * size));
    }
    let mut bytes = Vec::with_capacity(count * size);
    let mut index = vec![0; shape.len()];
    let mut at = *offset;
    for _ in 0..count {
        bytes.extend_from_slice(&storage[at * size..(at + 1) * size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use lightglm_core::WeightDtype;

    use super::*;

    fn record(shape: &[usize], strides: &[usize], offset: usize, numel: usize) -> TensorRecord {
        let storage = Storage { dtype: Ok(WeightDtype::F16), size: 2, key: "0".into(), numel };
        TensorRecord { storage, offset, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    fn read(record: &TensorRecord, len: usize) -> Result<Vec<u16>, String> {
        let storage: Vec<u8> = (0..len as u16).flat_map(u16::to_le_bytes).collect();
        let bytes = elements(record, &Bytes::from(storage))?;
        Ok(bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect())
    }

    #[test]
    fn views_are_followed() {
        let of = |shape: &[usize], strides: &[usize], offset| {
            read(&record(shape, strides, offset, 12), 12)
        };
        assert_eq!(of(&[2, 3], &[3, 1], 6).unwrap(), [6, 7, 8, 9, 10, 11]);
        assert_eq!(of(&[3, 2], &[1, 3], 0).unwrap(), [0, 3, 1, 4, 2, 5], "transposed");
        assert_eq!(of(&[2, 2, 1], &[6, 2, 9], 1).unwrap(), [1, 3, 7, 9]);
        assert_eq!(of(&[], &[], 5).unwrap(), [5]);
        assert_eq!(of(&[0, 9], &[9, 1], 99).unwrap(), [0u16; 0]);
    }

    #[test]
    fn views_stay_in_their_storage() {
        let cases: [(&[usize], &[usize], usize, usize); 7] = [
            (&[2, 3], &[3, 1], 7, 12),
            (&[4, 4], &[4, 1], 0, 12),
            (&[1 << 40, 1 << 40], &[0, 0], 0, 12),
            (&[13], &[0], 0, 12),
            (&[2], &[usize::MAX], 1, 12),
            (&[2, 3], &[3], 0, 12),
            (&[2], &[1], 0, usize::MAX),
        ];
        for (shape, strides, offset, numel) in cases {
            let error = read(&record(shape, strides, offset, numel), 12).unwrap_err();
            assert!(error.contains("elements") || error.contains("strides"), "{error}");
        }
    }
}
