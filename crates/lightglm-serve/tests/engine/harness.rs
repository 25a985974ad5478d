//! What the engine's tests share: a small engine, and clients that remember what they were told.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use burn_flex::{Flex, FlexDevice};
use lightglm_core::{KV_BLOCK, KvDtype, KvShape};
use lightglm_generation::{FinishReason, SamplingParams, Step};
use lightglm_serve::engine::{
    Engine, EngineBuilder, EngineConfig, EngineError, EngineHandle, EngineRequest, Event,
    EventSink, PromptToken, Usage,
};
use lightglm_serve::kv::PagedKvCache;
use lightglm_testkit::TableLm;

pub(crate) type B = Flex;
pub(crate) type TestEngine = Engine<B, PagedKvCache<B>>;

pub(crate) const VOCAB: usize = 97;
pub(crate) const EOS: u32 = 0;

pub(crate) fn model() -> TableLm<B> {
    TableLm::new(VOCAB, 7, 11, &FlexDevice)
}

pub(crate) fn cache(blocks: usize) -> PagedKvCache<B> {
    let shape = KvShape { layers: 1, key_value_heads: 1, head_dim: TableLm::<B>::HEAD_DIM };
    PagedKvCache::new(shape, blocks, KvDtype::F32, &FlexDevice)
}

/// A config without clocks in it: what is scheduled is the same in every run.
pub(crate) fn config() -> EngineConfig {
    let mut config = EngineConfig::new(4096);
    config.speculation = None;
    config
}

pub(crate) fn engine(config: EngineConfig, blocks: usize) -> TestEngine {
    EngineBuilder::new(Arc::new(model()), cache(blocks), config).build()
}

pub(crate) fn request(prompt: &[u32], params: SamplingParams) -> EngineRequest {
    let detokenizer = |token: u32| Some(format!("{token} "));
    EngineRequest::new(prompt.to_vec(), params, vec![EOS], Box::new(detokenizer))
}

pub(crate) fn greedy(max_tokens: usize) -> SamplingParams {
    SamplingParams { max_tokens, ..SamplingParams::default() }
}

pub(crate) fn sampled(max_tokens: usize, seed: u64) -> SamplingParams {
    SamplingParams { max_tokens, seed, temperature: 1.2, top_p: 0.95, ..SamplingParams::default() }
}

/// A prompt of `len` tokens, none of them the end of a reply.
pub(crate) fn prompt(len: usize, seed: u32) -> Vec<u32> {
    (0..len as u32).map(|i| 1 + (i * 31 + seed * 17 + i * i * 7) % (VOCAB as u32 - 1)).collect()
}

/// What a client was told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) started: Option<usize>,
    /// Of the prompt, from its second token on.
    pub(crate) prompt: Vec<PromptToken>,
    pub(crate) steps: Vec<Step>,
    pub(crate) end: Option<Result<(FinishReason, Usage), EngineError>>,
}

impl Told {
    pub(crate) fn tokens(&self) -> Vec<u32> {
        self.steps.iter().filter_map(|step| step.token).collect()
    }

    pub(crate) fn finish(&self) -> FinishReason {
        self.end.clone().expect("an end").expect("a reply").0
    }
}

#[derive(Clone, Default)]
pub(crate) struct Client(Arc<Mutex<Told>>);

impl Client {
    pub(crate) fn sink(&self) -> EventSink {
        self.sink_until(usize::MAX)
    }

    /// A client that hangs up after so many steps.
    pub(crate) fn sink_until(&self, steps: usize) -> EventSink {
        let told = Arc::clone(&self.0);
        Box::new(move |event| {
            let mut told = told.lock().unwrap();
            assert!(told.end.is_none(), "{event:?} after the end");
            match event {
                Event::Started { cached_tokens } => {
                    assert!(told.started.replace(cached_tokens).is_none(), "started twice");
                }
                Event::Prompt(tokens) => {
                    assert!(told.steps.is_empty(), "the prompt after the reply");
                    told.prompt.extend(tokens);
                }
                Event::Step(step) => told.steps.push(step),
                Event::Finished { reason, usage } => told.end = Some(Ok((reason, usage))),
                Event::Failed(error) => told.end = Some(Err(error)),
                _ => {}
            }
            match told.steps.len() >= steps {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    }

    pub(crate) fn told(&self) -> Told {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().unwrap().end.is_some()
    }
}

pub(crate) fn submit(handle: &EngineHandle, request: EngineRequest) -> Client {
    let client = Client::default();
    handle.submit(request, client.sink()).expect("accepted");
    client
}

/// Runs the engine until nothing is left, and checks that nothing is lost.
pub(crate) fn run(engine: &mut TestEngine) {
    for _ in 0..200_000 {
        if !engine.step() {
            let stats = engine.handle().stats();
            assert_eq!((stats.waiting, stats.running, stats.kv_blocks_used), (0, 0, 0));
            assert!(engine.handle().is_idle());
            return;
        }
    }
    panic!("the engine does not come to an end");
}

/// What the request is answered when nothing else runs and nothing is cut short.
pub(crate) fn alone(request: EngineRequest) -> Told {
    let mut engine = engine(config(), 4096 / KV_BLOCK);
    let client = submit(&engine.handle(), request);
    run(&mut engine);
    client.told()
}
