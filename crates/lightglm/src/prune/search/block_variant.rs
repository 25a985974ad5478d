//! One block of a teacher as a model of its own, in any width and scheme.

use lightglm_distill::student::{Slice, SlicedWeights};
use lightglm_kernels::LmBackend;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_quant::{Footprint, Policy, Scheme};

use super::super::{config_of, shape_of};
use crate::error::Error;
use crate::model::{QuantizedBlock, QuantizedGlm, matrices, quantize_source};
use crate::progress::ProgressSink;

/// The rule for all matrices of the only block.
const BLOCK: &str = "model.layers.0.*";

/// The embedding table and the head.
const TABLES: [&str; 2] = ["model.embed_tokens", "lm_head"];

/// A slice of a teacher that has one block.
pub(super) struct BlockVariant<'a> {
    checkpoint: &'a Checkpoint,
    slice: Slice,
    config: GlmConfig,
}

impl<'a> BlockVariant<'a> {
    /// Block `layer` with these `neurons`, and a table of one token.
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        layer: usize,
        neurons: &[usize],
    ) -> Result<Self, Error> {
        let slice = Slice { vocabulary: vec![0], ..Self::slice(checkpoint, layer) };
        Self::of(checkpoint, Slice { ffn: vec![neurons.to_vec()], ..slice })
    }

    /// The tables with all tokens, and the first block.
    pub(super) fn tables(checkpoint: &'a Checkpoint) -> Result<Self, Error> {
        Self::of(checkpoint, Self::slice(checkpoint, 0))
    }

    fn slice(checkpoint: &Checkpoint, layer: usize) -> Slice {
        let whole = Slice::whole(&shape_of(checkpoint.config()));
        Slice { layers: vec![layer], ..whole }.for_kept_layers()
    }

    fn of(checkpoint: &'a Checkpoint, slice: Slice) -> Result<Self, Error> {
        let teacher = checkpoint.config();
        let config = config_of(teacher, &slice.check(&shape_of(teacher))?);
        Ok(Self { checkpoint, slice, config })
    }

    fn weights(&self) -> Result<SlicedWeights<'_>, Error> {
        let Self { checkpoint, slice, .. } = self;
        let teacher = shape_of(checkpoint.config());
        Ok(SlicedWeights::new(checkpoint.weights(), checkpoint.path(), teacher, slice)?)
    }

    /// The block in `scheme`.
    pub(super) fn load<B: LmBackend>(
        &self,
        scheme: Scheme,
        device: &B::Device,
    ) -> Result<QuantizedBlock<B>, Error> {
        let mut model = self.load_as::<B>(&Policy::new([(BLOCK, scheme)])?, device)?;
        Ok(model.layers.swap_remove(0))
    }

    /// The model whose tables are in `scheme`.
    pub(super) fn load_tables<B: LmBackend>(
        &self,
        scheme: Scheme,
        device: &B::Device,
    ) -> Result<QuantizedGlm<B>, Error> {
        self.load_as(&table_policy(&self.config, scheme)?, device)
    }

    fn load_as<B: LmBackend>(
        &self,
        policy: &Policy,
        device: &B::Device,
    ) -> Result<QuantizedGlm<B>, Error> {
        let (weights, file) = (self.weights()?, self.checkpoint.path());
        let silent = ProgressSink::default();
        Ok(quantize_source(&self.config, &weights, file, policy, &silent, device)?.model)
    }

    /// The tensors of the slice.
    ///
    /// # Errors
    /// Where the checkpoint is at fault.
    pub(super) fn tensors(&self) -> Result<Tensors, Error> {
        let weights = self.weights()?;
        let tensor = |(name, shape): (String, Vec<usize>)| -> Result<_, Error> {
            let size = weights.dtype(&name)?.size() as u64;
            Ok((name, shape, size))
        };
        let tensors = self.config.tensor_shapes().into_iter().map(tensor);
        Ok(Tensors(tensors.collect::<Result<_, Error>>()?))
    }
}

/// Names, shapes, and bytes of an element.
pub(super) struct Tensors(Vec<(String, Vec<usize>, u64)>);

impl Tensors {
    /// Bytes of the block's tensors, its matrices in `scheme`, all others as they are stored.
    ///
    /// # Errors
    /// Where the scheme does not fit a matrix.
    pub(super) fn block_bytes(&self, scheme: Scheme) -> Result<u64, Error> {
        self.bytes(scheme, |tensor| tensor.starts_with("model.layers."))
    }

    /// Bytes of all other tensors, the tables in `scheme`.
    ///
    /// # Errors
    /// As [`Self::block_bytes`].
    pub(super) fn other_bytes(&self, scheme: Scheme) -> Result<u64, Error> {
        self.bytes(scheme, |tensor| !tensor.starts_with("model.layers."))
    }

    fn bytes(&self, scheme: Scheme, is_meant: impl Fn(&str) -> bool) -> Result<u64, Error> {
        let mut bytes = 0;
        for (tensor, shape, size) in self.0.iter().filter(|(tensor, ..)| is_meant(tensor)) {
            bytes += match (tensor.strip_suffix(".weight"), <[usize; 2]>::try_from(&shape[..])) {
                (Some(name), Ok(shape)) => Footprint::of(name, shape, scheme, 8 * size)?.bytes,
                _ => shape.iter().product::<usize>() as u64 * size,
            };
        }
        Ok(bytes)
    }
}

/// Rules that hold the tables of a model of `config` in `scheme`.
pub(super) fn table_policy(config: &GlmConfig, scheme: Scheme) -> Result<Policy, Error> {
    Ok(Policy::new(table_rules(config, scheme))?)
}

/// The same as pairs; none where they stay dense.
pub(super) fn table_rules(
    config: &GlmConfig,
    scheme: Scheme,
) -> impl Iterator<Item = (&'static str, Scheme)> {
    let names = matrices(config);
    let is_there = move |table: &&str| names.iter().any(|(name, _)| name == table);
    let tables = TABLES.into_iter().filter(is_there);
    tables.filter(move |_| scheme != Scheme::Dense).map(move |table| (table, scheme))
}
