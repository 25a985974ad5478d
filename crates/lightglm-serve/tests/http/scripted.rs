//! An engine that says what it is told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lightglm_generation::{
    FinishReason, SamplingParams, Step, StopStrings, TokenHistory, TokenLogprob,
};
use lightglm_serve::engine::{
    AdapterError, EngineApi, EngineError, EngineLimits, EngineRequest, EngineStats, Event,
    EventSink, PromptToken, Rejection, Usage,
};

use crate::toy_text::{END, VOCAB_SIZE};

/// What it says.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    /// A text, a byte a token.
    Say(String),
    /// A text, up to a stop string of the request.
    UntilStop(String),
    /// Letters, until it is cancelled; so long apart.
    Forever(Duration),
    /// A text, slowly.
    Slowly(String, Duration),
    /// A text, which a stop string ends.
    Stopped(String),
    /// A token, then a failure.
    Fail(EngineError),
    /// Nothing but a panic in the caller's thread.
    Panic,
    /// Nothing is accepted.
    Reject(Rejection),
}

/// What a request was.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) model: Option<String>,
    pub(crate) prompt: Vec<u32>,
    pub(crate) params: SamplingParams,
    pub(crate) processors: usize,
    pub(crate) key: String,
    pub(crate) priority: i32,
    pub(crate) cache_salt: String,
}

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    cancelled: AtomicUsize,
}

pub(crate) struct Scripted {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    adapters: Mutex<Vec<String>>,
    counts: Arc<Counts>,
    pub(crate) draining: AtomicBool,
    pub(crate) dead: AtomicBool,
    /// Requests of one key; 0 for no limit.
    pub(crate) max_open_per_key: AtomicUsize,
}

impl Scripted {
    pub(crate) fn saying(text: &str) -> Arc<Self> {
        Self::following(Script::Say(text.into()))
    }

    pub(crate) fn following(script: Script) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script),
            seen: Mutex::default(),
            adapters: Mutex::new(vec!["tuned".into()]),
            counts: Arc::default(),
            draining: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            max_open_per_key: AtomicUsize::new(0),
        })
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request.
    pub(crate) fn one(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1);
        seen[0].clone()
    }

    pub(crate) fn cancelled(&self) -> usize {
        self.counts.cancelled.load(Ordering::SeqCst)
    }

    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }
}

/// Waits for what another thread is about to do.
pub(crate) fn wait_for(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what} does not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl EngineApi for Scripted {
    fn submit(&self, request: EngineRequest, sink: EventSink) -> Result<(), Rejection> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(Rejection::Draining);
        }
        let script = self.script.lock().unwrap().clone();
        match &script {
            Script::Panic => panic!("as the script says"),
            Script::Reject(rejection) => return Err(rejection.clone()),
            _ => {}
        }
        if request.prompt.len() > 4000 {
            return Err(Rejection::PromptTooLong { tokens: request.prompt.len(), limit: 4000 });
        }
        let unknown = request.prompt.iter().find(|token| **token as usize >= VOCAB_SIZE);
        if let Some(&token) = unknown {
            return Err(Rejection::UnknownToken { token, vocab_size: VOCAB_SIZE });
        }
        if request.prompt.is_empty() {
            return Err(Rejection::EmptyPrompt);
        }
        self.seen.lock().unwrap().push(Seen {
            model: request.model.clone(),
            prompt: request.prompt.clone(),
            params: request.params.clone(),
            processors: request.processors.len(),
            key: request.key.clone(),
            priority: request.priority,
            cache_salt: request.cache_salt.clone(),
        });
        self.counts.open.fetch_add(1, Ordering::SeqCst);
        let counts = self.counts.clone();
        std::thread::spawn(move || {
            perform(request, sink, script, &counts);
            counts.open.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(())
    }

    fn stats(&self) -> EngineStats {
        EngineStats {
            waiting: 3,
            running: 2,
            kv_blocks: 100,
            kv_blocks_used: 30,
            kv_blocks_cached: 20,
            steps: 1001,
            sequences: 1002,
            prompt_tokens: 1003,
            cached_tokens: 1004,
            generated_tokens: 1005,
            drafted_tokens: 1006,
            accepted_tokens: 1007,
            preemptions: 1008,
            finished: 1009,
            cancelled: 1010,
            failed: 1011,
            rejected: 1012,
        }
    }

    fn limits(&self) -> EngineLimits {
        EngineLimits {
            max_positions: 4096,
            vocab_size: VOCAB_SIZE,
            max_waiting: 8,
            max_running: 4,
            max_open_per_key: Some(self.max_open_per_key.load(Ordering::SeqCst))
                .filter(|limit| *limit > 0),
        }
    }

    fn adapters(&self) -> Vec<String> {
        self.adapters.lock().unwrap().clone()
    }

    fn load_adapter(&self, name: &str) -> Result<(), AdapterError> {
        let name = name.to_owned();
        if name == "slow" {
            std::thread::sleep(Duration::from_secs(3));
        }
        let mut adapters = self.adapters.lock().unwrap();
        if adapters.contains(&name) {
            return Err(AdapterError::AlreadyLoaded { name });
        }
        if name == "unfit" {
            let reason = "adapter_config.json: field `use_dora` is true".into();
            return Err(AdapterError::Unfit { name, reason });
        }
        if name == "broken" {
            let reason = "/secret/place: no such file".into();
            return Err(AdapterError::Failed { name, reason });
        }
        adapters.push(name);
        Ok(())
    }

    fn unload_adapter(&self, name: &str) -> Result<(), AdapterError> {
        let mut adapters = self.adapters.lock().unwrap();
        let at = adapters.iter().position(|adapter| adapter == name);
        let at = at.ok_or_else(|| AdapterError::NotLoaded { name: name.to_owned() })?;
        adapters.remove(at);
        Ok(())
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    fn is_idle(&self) -> bool {
        self.open() == 0
    }

    fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::SeqCst)
    }
}

fn perform(mut request: EngineRequest, mut sink: EventSink, script: Script, counts: &Counts) {
    if let Script::UntilStop(text) = &script {
        return until_stop(&request, sink, text);
    }
    let is_stopped = matches!(script, Script::Stopped(_));
    let (text, pause, failure) = match script {
        Script::Stopped(text) => (Some(text), Duration::ZERO, None),
        Script::Say(text) => (Some(text), Duration::ZERO, None),
        Script::Slowly(text, pause) => (Some(text), pause, None),
        Script::Forever(pause) => (None, pause, None),
        Script::Fail(error) => (Some("x".into()), Duration::ZERO, Some(error)),
        Script::Panic | Script::Reject(_) | Script::UntilStop(_) => return,
    };
    let mut usage = Usage { prompt_tokens: request.prompt.len(), ..Usage::default() };
    usage.cached_tokens = usage.prompt_tokens / 2;
    let _ = sink(Event::Started { cached_tokens: usage.cached_tokens });
    if let Some(top) = request.prompt_logprobs {
        let tokens = request.prompt.iter().enumerate().skip(1).map(|(at, &token)| PromptToken {
            token,
            logprob: -(at as f32),
            top_logprobs: (0..top as u32)
                .map(|id| TokenLogprob { token: id + 97, logprob: -(id as f32) })
                .collect(),
        });
        // In two parts, as prompts are run.
        let mut tokens: Vec<PromptToken> = tokens.collect();
        let rest = tokens.split_off(tokens.len() / 2);
        let _ = sink(Event::Prompt(tokens));
        let _ = sink(Event::Prompt(rest));
    }
    let mut bytes = text.map(|text| text.into_bytes().into_iter().peekable());
    let mut generated: Vec<u32> = Vec::new();
    let reason = loop {
        if request.cancel.is_cancelled() {
            counts.cancelled.fetch_add(1, Ordering::SeqCst);
            break FinishReason::Cancelled;
        }
        let wanted = match &mut bytes {
            Some(bytes) => bytes.peek().copied().map_or(END, u32::from),
            None => u32::from(b'a'),
        };
        let token = processed(&mut request, &generated, wanted);
        // What the processors wanted instead comes in between.
        if let Some(bytes) = &mut bytes
            && token == wanted
        {
            bytes.next();
        }
        generated.push(token);
        let next = (token != END).then_some(token);
        std::thread::sleep(pause);
        let text = next.and_then(|token| request.detokenizer.push(token)).unwrap_or_default();
        let top = request.params.logprobs;
        let top_logprobs = (0..top.unwrap_or(0) as u32)
            .map(|id| TokenLogprob { token: id + 97, logprob: -(id as f32) });
        usage.completion_tokens += 1;
        let finish = match next {
            None if is_stopped => Some(FinishReason::StopString),
            None => Some(FinishReason::Eos),
            Some(_) if usage.completion_tokens >= request.params.max_tokens => {
                Some(FinishReason::Length)
            }
            Some(_) => None,
        };
        let step = Step {
            token: Some(token),
            logprob: top.map(|_| f32::NEG_INFINITY),
            top_logprobs: top_logprobs.collect(),
            text,
            finish,
        };
        if sink(Event::Step(step)).is_break() {
            counts.cancelled.fetch_add(1, Ordering::SeqCst);
            return;
        }
        if let Some(error) = failure {
            let _ = sink(Event::Failed(error));
            return;
        }
        if let Some(reason) = finish {
            break reason;
        }
    };
    let _ = sink(Event::Finished { reason, usage });
}

/// As an engine does it that looks for stop strings: what may become one is held back.
fn until_stop(request: &EngineRequest, mut sink: EventSink, text: &str) {
    let mut matcher = StopStrings::new(&request.params.stop);
    let mut detokenizer = lightglm_text::ChatText::detokenizer(&crate::toy_text::ToyText::new());
    let mut usage = Usage { prompt_tokens: request.prompt.len(), ..Usage::default() };
    let mut reason = FinishReason::Eos;
    for byte in text.bytes() {
        let text = detokenizer.push(u32::from(byte)).unwrap_or_default();
        let found = matcher.push(text);
        usage.completion_tokens += 1;
        let finish = found.stopped.map(|_| FinishReason::StopString);
        let token = Some(u32::from(byte));
        let step =
            Step { token, logprob: None, top_logprobs: Vec::new(), text: found.text, finish };
        let _ = sink(Event::Step(step));
        if let Some(finish) = finish {
            reason = finish;
            break;
        }
    }
    let _ = sink(Event::Finished { reason, usage });
}

/// The token that the request's processors leave of a model that wants `wanted`.
fn processed(request: &mut EngineRequest, generated: &[u32], wanted: u32) -> u32 {
    let mut logits = vec![0.0; VOCAB_SIZE];
    logits[wanted as usize] = 1.0;
    let history = TokenHistory { prompt: &request.prompt, generated };
    for processor in &mut request.processors {
        processor.process(history, &mut logits).unwrap();
    }
    let best = (0..VOCAB_SIZE).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)));
    best.unwrap() as u32
}
