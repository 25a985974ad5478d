//! What a model's weights are known by.

use lightglm_core::{WeightError, WeightSource};

use crate::mixing::Fnv;

/// Names, precisions, shapes and bytes of all tensors of `source` in 64 bits, for
/// [`CacheHeader::teacher`](super::CacheHeader::teacher) and wherever else weights have to be the same.
///
/// Every tensor is read once.
///
/// # Errors
/// As [`WeightSource::tensor`].
pub fn weights_hash(source: &dyn WeightSource) -> Result<u64, WeightError> {
    let mut hash = Fnv::new();
    for name in source.names() {
        let view = source.tensor(&name)?;
        hash.add(name.as_bytes());
        hash.add(view.dtype.name().as_bytes());
        view.shape.iter().for_each(|&size| hash.add_word(size as u64));
        hash.add_by_words(&view.bytes);
    }
    Ok(hash.finish())
}
