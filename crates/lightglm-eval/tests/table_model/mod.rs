//! Models small enough to work out by hand: logits looked up in a table, and a cache that counts.

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    CausalLm, KvCache, KvCacheError, KvLayer, LmError, LogitRows, SequenceId, Span,
};

/// Gives the logits of a row from the token in front of it and that token's position.
pub(crate) type Row = fn(token: u32, position: usize) -> Vec<f32>;

/// A model whose logits come from a function.
pub(crate) struct TableModel {
    pub(crate) vocab_size: usize,
    pub(crate) row: Row,
}

impl CausalLm<Flex> for TableModel {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn forward(
        &self,
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<Flex>,
    ) -> Result<Tensor<Flex, 2>, LmError> {
        let mut logits = Vec::new();
        let mut rows = 0;
        for span in spans {
            let (_, held) = cache.sequence(span.sequence)?;
            cache.reserve(span.sequence, span.tokens.len())?;
            rows += span.logits.count(span.tokens.len());
            for (offset, &token) in span.tokens.iter().enumerate() {
                let wanted = match span.logits {
                    LogitRows::All => true,
                    LogitRows::Last => offset + 1 == span.tokens.len(),
                    LogitRows::None => false,
                };
                if wanted {
                    logits.extend((self.row)(token, held + offset));
                }
            }
            cache.advance(span.sequence, span.tokens.len())?;
        }
        let columns = logits.len().checked_div(rows).unwrap_or(self.vocab_size);
        let device = FlexDevice;
        Ok(Tensor::from_data(TensorData::new(logits, [rows, columns]), &device))
    }
}

/// Counts positions; a table model has nothing to keep.
pub(crate) struct CountingCache {
    held: usize,
    room: usize,
}

/// Makes a [`CountingCache`] with room for exactly `positions`.
pub(crate) fn counting_cache(positions: usize) -> Result<Box<dyn KvCache<Flex>>, KvCacheError> {
    Ok(Box::new(CountingCache { held: 0, room: positions }))
}

impl KvCache<Flex> for CountingCache {
    fn sequence(&self, sequence: SequenceId) -> Result<(&[u32], usize), KvCacheError> {
        match sequence {
            SequenceId(0) => Ok((&[], self.held)),
            other => Err(KvCacheError::UnknownSequence(other)),
        }
    }

    fn reserve(&mut self, _: SequenceId, additional: usize) -> Result<(), KvCacheError> {
        let requested = self.held + additional;
        if requested > self.room {
            return Err(KvCacheError::Full { requested, available: self.room });
        }
        Ok(())
    }

    fn layer_mut(&mut self, layer: usize) -> &mut KvLayer<Flex> {
        panic!("a table model has no layer {layer}")
    }

    fn advance(&mut self, _: SequenceId, added: usize) -> Result<(), KvCacheError> {
        self.held += added;
        Ok(())
    }
}
