//! The suites accept what keeps the promises, and notice what does not.

use burn::module::Module;
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use burn_flex::{Flex, FlexDevice};
use bytes::Bytes;
use lightglm_core::{
    CausalLm, KvCache, KvCacheError, KvLayer, Linear, LmError, SequenceId, SliceError, SliceLinear,
    Span, TensorView, WeightDtype, WeightError, WeightSource,
};
use lightglm_testkit::{
    ShuffledKvCache, SplitMix, TableLm, check_causal_lm, check_kv_cache, check_linear,
    check_slice_linear, check_weight_source,
};

type B = Flex;

fn device() -> FlexDevice {
    Default::default()
}

fn cache(sequences: usize, positions: usize, dtype: DType) -> ShuffledKvCache<B> {
    let blocks = sequences * positions.div_ceil(16);
    ShuffledKvCache::new(2, [blocks, 2, 4], dtype, 3, &device()).with_sequences(sequences)
}

fn int8_cache(sequences: usize, positions: usize, rotate_keys: bool) -> ShuffledKvCache<B> {
    let blocks = sequences * positions.div_ceil(16);
    let cache = ShuffledKvCache::new_int8(2, [blocks, 2, 3], rotate_keys, 3, &device());
    cache.with_sequences(sequences)
}

#[test]
fn shuffled_cache_conforms_in_every_dtype() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        check_kv_cache(|sequences, positions| cache(sequences, positions, dtype));
    }
    for rotate_keys in [false, true] {
        check_kv_cache(|sequences, positions| int8_cache(sequences, positions, rotate_keys));
    }
}

#[test]
fn shuffled_cache_takes_blocks_back() {
    let mut cache = cache(1, 32, DType::F32);
    cache.reserve(SequenceId(0), 32).unwrap();
    let added = cache.add_sequence();
    assert_eq!(cache.reserve(added, 1), Err(KvCacheError::Full { requested: 1, available: 0 }));
    cache.remove(SequenceId(0)).unwrap();
    cache.reserve(added, 32).unwrap();
    assert_eq!(cache.remove(SequenceId(0)), Err(KvCacheError::UnknownSequence(SequenceId(0))));
}

#[test]
fn table_lm_conforms_in_every_dtype() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let model = TableLm::<B>::new(40_000, 5, 1, &device()).with_max_positions(100);
        // A vocabulary of 40 000 needs all three digits of a token id.
        check_causal_lm::<B>(&model, |s, p| Box::new(cache(s, p, dtype)));
    }
    let model = TableLm::<B>::new(40_000, 5, 1, &device());
    check_causal_lm::<B>(&model, |s, p| Box::new(int8_cache(s, p, false)));
    let model = TableLm::<B>::new(37, usize::MAX, 2, &device());
    check_causal_lm::<B>(&model, |s, p| Box::new(cache(s, p, DType::F32)));
}

#[test]
fn table_lm_follows_its_script() {
    let model = TableLm::<B>::new(50, 3, 1, &device()).with_successors(&[4, 9, 2]);
    let mut cache = cache(1, 16, DType::F32);
    let span = Span::text(SequenceId(0), &[4, 9], lightglm_core::LogitRows::All);
    let best = model.forward(&[span], &mut cache).unwrap().argmax(1);
    assert_eq!(best.into_data().iter::<i64>().collect::<Vec<_>>(), [9, 2]);
}

/// Wraps a cache and breaks one promise.
struct Broken {
    inner: ShuffledKvCache<B>,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    ReserveHoldsPositions,
    AdvanceForgets,
    EveryoneGetsTheSameBlocks,
    LayersShareAPool,
}

impl KvCache<B> for Broken {
    fn sequence(&self, sequence: SequenceId) -> Result<(&[u32], usize), KvCacheError> {
        let (table, len) = self.inner.sequence(sequence)?;
        if self.fault == Fault::EveryoneGetsTheSameBlocks {
            return Ok((self.inner.sequence(SequenceId(0))?.0, len));
        }
        Ok((table, len))
    }

    fn reserve(&mut self, sequence: SequenceId, additional: usize) -> Result<(), KvCacheError> {
        self.inner.reserve(sequence, additional)?;
        if self.fault == Fault::ReserveHoldsPositions {
            self.inner.advance(sequence, additional)?;
        }
        Ok(())
    }

    fn layer_mut(&mut self, layer: usize) -> &mut KvLayer<B> {
        self.inner.layer_mut(if self.fault == Fault::LayersShareAPool { 0 } else { layer })
    }

    fn advance(&mut self, sequence: SequenceId, added: usize) -> Result<(), KvCacheError> {
        if self.fault == Fault::AdvanceForgets {
            return self.inner.advance(sequence, added.saturating_sub(1));
        }
        self.inner.advance(sequence, added)
    }
}

fn notices(check: impl FnOnce() + std::panic::UnwindSafe) -> bool {
    std::panic::catch_unwind(check).is_err()
}

#[test]
fn broken_caches_are_noticed() {
    for fault in [
        Fault::ReserveHoldsPositions,
        Fault::AdvanceForgets,
        Fault::EveryoneGetsTheSameBlocks,
        Fault::LayersShareAPool,
    ] {
        let check = move || {
            check_kv_cache(|s, p| Broken { inner: cache(s, p, DType::F32), fault });
        };
        assert!(notices(check));
    }
}

/// A model that looks at the whole batch, counts too much, or runs before it looks.
struct BrokenLm {
    inner: TableLm<B>,
    fault: LmFault,
}

#[derive(Clone, Copy)]
enum LmFault {
    BatchShows,
    RunsBeforeItLooks,
    ForgetsTheCache,
}

impl CausalLm<B> for BrokenLm {
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    fn forward(
        &self,
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<B>,
    ) -> Result<Tensor<B, 2>, LmError> {
        match self.fault {
            LmFault::BatchShows => Ok(self.inner.forward(spans, cache)? + spans.len() as f32),
            LmFault::RunsBeforeItLooks => {
                if let [first, rest @ ..] = spans
                    && !rest.is_empty()
                {
                    let first = self.inner.forward(&[*first], cache)?;
                    return Ok(Tensor::cat(vec![first, self.inner.forward(rest, cache)?], 0));
                }
                self.inner.forward(spans, cache)
            }
            LmFault::ForgetsTheCache => {
                let mut fresh = self::cache(8, 64, DType::F32);
                let logits = self.inner.forward(spans, &mut fresh)?;
                self.inner.forward(spans, cache)?;
                Ok(logits)
            }
        }
    }
}

#[test]
fn broken_models_are_noticed() {
    for fault in [LmFault::BatchShows, LmFault::RunsBeforeItLooks, LmFault::ForgetsTheCache] {
        let check = move || {
            let inner = TableLm::new(50, 4, 1, &device());
            let model = BrokenLm { inner, fault };
            check_causal_lm::<B>(&model, |s, p| Box::new(cache(s, p, DType::F32)));
        };
        assert!(notices(check));
    }
}

/// A plain projection, optionally with a batch-wide scale.
#[derive(Module, Debug)]
struct Projection<B: Backend> {
    weight: Tensor<B, 2>,
    batch_shows: bool,
    bytes: usize,
}

impl<B: Backend> Linear<B> for Projection<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        // Elementwise products and a sum per output: the order never depends on the rows.
        let [rows, k] = x.dims();
        let [n, _] = self.weight.dims();
        let scale = if self.batch_shows { 1.0 + rows as f32 } else { 1.0 };
        let products = x.reshape([rows, 1, k]) * self.weight.clone().reshape([1, n, k]);
        (products.sum_dim(2) * scale).reshape([rows, n])
    }

    fn shape(&self) -> [usize; 2] {
        self.weight.dims()
    }

    fn bytes_read(&self) -> usize {
        self.bytes
    }
}

fn projection(batch_shows: bool, bytes: usize) -> Projection<B> {
    let mut random = SplitMix::new(1);
    let data: Vec<f32> = (0..21).map(|_| random.next_f32()).collect();
    let weight = Tensor::from_data(TensorData::new(data, [3, 7]), &device());
    Projection { weight, batch_shows, bytes }
}

#[test]
fn linear_suite_accepts_and_notices() {
    check_linear(&projection(false, 84), &device());
    assert!(notices(|| check_linear(&projection(true, 84), &device())));
    assert!(notices(|| check_linear(&projection(false, 0), &device())));
    assert!(notices(|| check_linear(&projection(false, 1 << 20), &device())));
}

/// How a choice of outputs or inputs can go wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum SelectFault {
    None,
    SortsOutputs,
    TakesTheFirstInputs,
    WrapsIndices,
}

/// A projection that can be cut down, possibly wrongly.
#[derive(Module, Debug)]
struct Selectable<B: Backend> {
    inner: Projection<B>,
    #[module(skip)]
    fault: SelectFault,
}

impl<B: Backend> Linear<B> for Selectable<B> {
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.inner.forward(x)
    }

    fn shape(&self) -> [usize; 2] {
        self.inner.shape()
    }

    fn bytes_read(&self) -> usize {
        self.inner.bytes_read()
    }
}

impl<B: Backend> Selectable<B> {
    fn select(&self, dim: usize, chosen: &[usize]) -> Result<Self, SliceError> {
        let count = self.shape()[dim];
        if self.fault != SelectFault::WrapsIndices {
            SliceError::check(["output", "input"][dim], chosen, count)?;
        }
        let indices: Vec<i64> = chosen.iter().map(|&index| (index % count) as i64).collect();
        let weight = self.inner.weight.clone();
        let indices = Tensor::from_data(TensorData::new(indices, [chosen.len()]), &weight.device());
        let inner = Projection { weight: weight.select(dim, indices), ..self.inner.clone() };
        Ok(Self { inner, fault: self.fault })
    }
}

impl<B: Backend> SliceLinear<B> for Selectable<B> {
    fn slice_outputs(&self, outputs: &[usize]) -> Result<Self, SliceError> {
        let mut outputs = outputs.to_vec();
        if self.fault == SelectFault::SortsOutputs {
            outputs.sort_unstable();
        }
        self.select(0, &outputs)
    }

    fn slice_inputs(&self, inputs: &[usize]) -> Result<Option<Self>, SliceError> {
        let first: Vec<usize> = (0..inputs.len()).collect();
        match self.fault {
            SelectFault::TakesTheFirstInputs => self.select(1, &first).map(Some),
            _ => self.select(1, inputs).map(Some),
        }
    }
}

#[test]
fn select_suite_accepts_and_notices() {
    use SelectFault::{None, SortsOutputs, TakesTheFirstInputs, WrapsIndices};
    for fault in [None, SortsOutputs, TakesTheFirstInputs, WrapsIndices] {
        let check = move || {
            let linear = Selectable { inner: projection(false, 84), fault };
            check_slice_linear(&linear, &device());
        };
        match fault {
            None => check(),
            _ => assert!(notices(check), "{fault:?}"),
        }
    }
}

/// Two tensors in memory, one of them possibly too short.
struct InMemory {
    names: Vec<&'static str>,
    bytes: usize,
}

impl WeightSource for InMemory {
    fn names(&self) -> Vec<String> {
        self.names.iter().map(|name| name.to_string()).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.names.contains(&name).then(|| vec![2, 3])
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let missing = || WeightError::Missing { file: "memory".into(), name: name.into() };
        let shape = self.shape(name).ok_or_else(missing)?;
        Ok(TensorView { dtype: WeightDtype::Bf16, shape, bytes: Bytes::from(vec![0; self.bytes]) })
    }
}

#[test]
fn weight_source_suite_accepts_and_notices() {
    check_weight_source(&InMemory { names: vec!["a", "b"], bytes: 12 });
    assert!(notices(|| check_weight_source(&InMemory { names: vec!["a", "b"], bytes: 11 })));
    assert!(notices(|| check_weight_source(&InMemory { names: vec!["b", "a"], bytes: 12 })));
    assert!(notices(|| check_weight_source(&InMemory { names: vec![], bytes: 12 })));
}
