//! `Expected`: a file of what transformers computed.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::error::Error;

/// Why a file of expectations cannot be compared with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectedError {
    /// It is no safetensors file, or lacks a tensor.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: SafeTensorError,
    },
    /// A tensor is of another type.
    #[error("{}: `{name}` is {actual:?}, not {expected}", file.display())]
    Type {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        actual: Dtype,
        /// The types that it may have.
        expected: &'static str,
    },
    /// A tensor does not fit the prompts of its batch.
    #[error("{}: `{name}` of shape {shape:?} {reason}", file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What does not fit.
        reason: &'static str,
    },
    /// A gradient is of a parameter that the model does not have.
    #[error("{}: the model has no parameter `{name}`", file.display())]
    NoParameter {
        /// The file.
        file: PathBuf,
        /// The parameter.
        name: String,
    },
}

/// The tensors of an expectation file.
pub(super) struct Expected {
    bytes: Vec<u8>,
    file: PathBuf,
}

/// A shape and its values, row-major.
pub(super) type Values<T> = (Vec<usize>, Vec<T>);

impl Expected {
    pub(super) fn read(file: &Path) -> Result<Self, Error> {
        let named = || file.to_owned();
        let bytes = fs::read(file).map_err(|source| Error::Io { file: named(), source })?;
        SafeTensors::deserialize(&bytes)
            .map_err(|source| ExpectedError::File { file: named(), source })?;
        Ok(Self { bytes, file: named() })
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("was read before")
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// What stands before `.input_ids`.
    pub(super) fn prefixes(&self) -> Vec<String> {
        let tensors = self.tensors();
        let names = tensors.names().into_iter();
        let mut prefixes: Vec<String> =
            names.filter_map(|name| name.strip_suffix(".input_ids")).map(String::from).collect();
        prefixes.sort();
        prefixes
    }

    /// Names under `prefix.`, without it.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        let tensors = self.tensors();
        let names = tensors.names().into_iter();
        let mut names: Vec<String> = names
            .filter_map(|name| name.strip_prefix(prefix)?.strip_prefix('.'))
            .map(String::from)
            .collect();
        names.sort();
        names
    }

    pub(super) fn floats(&self, name: &str) -> Result<Values<f32>, ExpectedError> {
        let (dtype, shape, bytes) = self.tensor(name)?;
        if dtype != Dtype::F32 {
            return Err(self.other_type(name, dtype, "F32"));
        }
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Ok((shape, values.collect()))
    }

    pub(super) fn ints(&self, name: &str) -> Result<Values<i64>, ExpectedError> {
        let (dtype, shape, bytes) = self.tensor(name)?;
        let four = |b: &[u8]| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let eight = |b: &[u8]| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        let values = match dtype {
            Dtype::I64 => bytes.chunks_exact(8).map(eight).collect(),
            Dtype::I32 => bytes.chunks_exact(4).map(four).collect(),
            other => return Err(self.other_type(name, other, "I64 or I32")),
        };
        Ok((shape, values))
    }

    /// As [`ints`](Self::ints), of the shape `[B, T]` with a column at least.
    pub(super) fn rows(&self, name: &str) -> Result<([usize; 2], Vec<i64>), ExpectedError> {
        let (shape, values) = self.ints(name)?;
        match <[usize; 2]>::try_from(shape) {
            Ok(shape) if shape[0] > 0 && shape[1] > 0 => Ok((shape, values)),
            Ok(shape) => Err(self.misfit(name, &shape, "is empty")),
            Err(shape) => Err(self.misfit(name, &shape, "is no table of rows")),
        }
    }

    pub(super) fn misfit(
        &self,
        name: &str,
        shape: &[usize],
        reason: &'static str,
    ) -> ExpectedError {
        let (file, name) = (self.file.clone(), name.to_owned());
        ExpectedError::Shape { file, name, shape: shape.to_vec(), reason }
    }

    pub(super) fn no_parameter(&self, name: &str) -> ExpectedError {
        ExpectedError::NoParameter { file: self.file.clone(), name: name.to_owned() }
    }

    fn tensor(&self, name: &str) -> Result<(Dtype, Vec<usize>, &[u8]), ExpectedError> {
        let tensors = self.tensors();
        match tensors.tensor(name) {
            Ok(view) => Ok((view.dtype(), view.shape().to_vec(), view.data())),
            Err(source) => Err(ExpectedError::File { file: self.file.clone(), source }),
        }
    }

    fn other_type(&self, name: &str, actual: Dtype, expected: &'static str) -> ExpectedError {
        let (file, name) = (self.file.clone(), name.to_owned());
        ExpectedError::Type { file, name, actual, expected }
    }
}
