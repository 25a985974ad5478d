//! Models and processors that fail take their own requests down and nobody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Tensor;
use lightglm_core::{CausalLm, KvCache, LmError, Span};
use lightglm_generation::{LogitsProcessor, ProcessorError, SampleError, TokenHistory};
use lightglm_serve::engine::{AdapterLoader, EngineBuilder, EngineError};
use lightglm_testkit::TableLm;

use crate::harness::*;

/// Bans everything, gives up, or panics, after so many tokens.
enum Bad {
    BansAll,
    GivesUp,
    Panics,
}

impl LogitsProcessor for Bad {
    fn process(
        &mut self,
        history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        if history.generated.len() < 3 {
            return Ok(());
        }
        match self {
            Self::BansAll => logits.fill(f32::NEG_INFINITY),
            Self::Panics => panic!("a processor that panics, as the test wants it"),
            Self::GivesUp => {
                return Err(ProcessorError { processor: "bad".into(), reason: "tired".into() });
            }
        }
        Ok(())
    }
}

#[test]
fn bad_processors_fail_alone() {
    let mut engine = engine(config(), 100);
    let handle = engine.handle();
    let mut params = greedy(10);
    params.ignore_eos = true;
    let good = submit(&handle, request(&prompt(9, 1), params.clone()));
    let bad = [Bad::BansAll, Bad::GivesUp, Bad::Panics].map(|bad| {
        let mut request = request(&prompt(9, 2), params.clone());
        request.processors.push(Box::new(bad));
        submit(&handle, request)
    });
    run(&mut engine);
    assert_eq!(good.told().steps, alone(request(&prompt(9, 1), params)).steps);
    let ends = bad.map(|client| client.told().end.unwrap().unwrap_err());
    assert_eq!(ends[0], EngineError::Sample(SampleError::NothingToSample));
    assert!(matches!(&ends[1], EngineError::Sample(SampleError::Processor(_))), "{:?}", ends[1]);
    assert_eq!(ends[2], EngineError::Panicked);
}

/// A model that panics when it is told to.
struct Fragile {
    inner: TableLm<B>,
    break_now: Arc<AtomicBool>,
}

impl CausalLm<B> for Fragile {
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    fn forward(
        &self,
        spans: &[Span<'_>],
        cache: &mut dyn KvCache<B>,
    ) -> Result<Tensor<B, 2>, LmError> {
        let logits = self.inner.forward(spans, cache);
        assert!(!self.break_now.swap(false, Ordering::Relaxed), "a model that panics, as asked");
        logits
    }
}

#[test]
fn the_engine_outlives_a_model_that_panics() {
    let break_now = Arc::new(AtomicBool::new(false));
    let model = Fragile { inner: model(), break_now: Arc::clone(&break_now) };
    let mut engine = EngineBuilder::new(Arc::new(model), cache(100), config()).build();
    let handle = engine.handle();
    let lost = submit(&handle, request(&prompt(40, 1), greedy(5)));
    break_now.store(true, Ordering::Relaxed);
    run(&mut engine);
    assert_eq!(lost.told().end, Some(Err(EngineError::Panicked)));
    // Nothing of what was being written is taken for granted.
    let again = submit(&handle, request(&prompt(40, 1), greedy(5)));
    run(&mut engine);
    assert_eq!(again.told().started, Some(0));
    assert_eq!(again.told().steps, alone(request(&prompt(40, 1), greedy(5))).steps);
}

/// A reply that ended in the same step, with another model, stays as it was told.
#[test]
fn a_panic_takes_no_ended_reply_back() {
    let break_now = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&break_now);
    let loader: AdapterLoader<B> =
        Box::new(move |_| Ok(Arc::new(Fragile { inner: model(), break_now: Arc::clone(&flag) })));
    let builder = EngineBuilder::new(Arc::new(model()), cache(100), config());
    let mut engine = builder.with_adapters(loader).build();
    let handle = engine.handle();
    handle.load_adapter("fragile").unwrap();
    let ended = submit(&handle, request(&prompt(9, 1), greedy(1)));
    let mut other = request(&prompt(9, 2), greedy(1));
    other.model = Some("fragile".into());
    let lost = submit(&handle, other);
    break_now.store(true, Ordering::Relaxed);
    run(&mut engine);
    assert_eq!(ended.told().tokens().len(), 1);
    assert!(ended.told().end.unwrap().is_ok());
    assert_eq!(lost.told().end, Some(Err(EngineError::Panicked)));
    assert_eq!((handle.stats().finished, handle.stats().failed), (1, 1));
}
