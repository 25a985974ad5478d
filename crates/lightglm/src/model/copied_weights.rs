//! `CopiedWeights`: a checkpoint whose tensors are copied out of their mapped file.

use bytes::Bytes;
use lightglm_core::{StoredTensor, TensorView, WeightError, WeightSource};
use lightglm_kernels::{Pages, page_in, page_out};

use super::load_options::{LoadOptions, Weights};

/// `source` with tensors in memory of their own, in huge pages where the system gives them.
///
/// What is read of the file is given back to the system's cache.
pub(super) struct CopiedWeights<'a>(pub(super) &'a dyn WeightSource);

impl CopiedWeights<'_> {
    /// The copies where `options` ask for them, else the checkpoint itself. What is converted or quantized
    /// is a copy already.
    pub(super) fn unless_mapped(&self, options: &LoadOptions) -> &dyn WeightSource {
        match options.copy_weights && options.weights == Weights::Stored {
            true => self,
            false => self.0,
        }
    }
}

fn copied(bytes: &Bytes) -> Bytes {
    page_in(bytes);
    let mut pages = Pages::zeroed(bytes.len());
    pages.copy_from_slice(bytes);
    page_out(bytes);
    Bytes::from_owner(pages)
}

fn copied_stored(tensor: StoredTensor) -> StoredTensor {
    StoredTensor { parts: tensor.parts.iter().map(copied).collect(), ..tensor }
}

impl WeightSource for CopiedWeights<'_> {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.shape(name)
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let view = self.0.tensor(name)?;
        Ok(TensorView { bytes: copied(&view.bytes), ..view })
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        Ok(copied_stored(self.0.stored(name)?))
    }

    fn stored_rows(&self, name: &str) -> Result<Vec<StoredTensor>, WeightError> {
        // Blocks are packed, which is a copy already.
        self.0.stored_rows(name)
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.0.metadata(key)
    }
}
