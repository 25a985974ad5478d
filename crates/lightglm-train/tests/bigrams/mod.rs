//! A small corpus for the model of one matrix, and runs on it.
//!
//! Each test file uses a part of this.
#![allow(dead_code)]

use std::ops::ControlFlow;

use burn::backend::Autodiff;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::trainable_parameters;
use lightglm_testkit::BigramLm;
use lightglm_train::objectives::CrossEntropy;
use lightglm_train::trainer::{
    TokenizedExample, TrainConfig, TrainError, TrainEvent, TrainOutcome, Trainer,
};

pub(crate) type Train = Autodiff<Flex>;

/// Tokens there are.
pub(crate) const VOCAB: usize = 5;

pub(crate) fn model(seed: u64) -> BigramLm<Train> {
    BigramLm::new(VOCAB, seed, &FlexDevice)
}

/// An example of which every token but the first is learnt.
pub(crate) fn example(tokens: &[u32], line: usize) -> TokenizedExample {
    TokenizedExample::new(tokens.to_vec(), &vec![true; tokens.len()], line)
}

/// 13 examples of 6 to 18 tokens, on the lines 1, 3, 5, ...
pub(crate) fn corpus() -> Vec<TokenizedExample> {
    let mut state = 7u64;
    let mut token = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        // Skewed, so that there is something to learn.
        ((state >> 33) % 11).min((state >> 45) % 7) as u32 % VOCAB as u32
    };
    let one = |i: usize| example(&(0..6 + i).map(|_| token()).collect::<Vec<_>>(), 2 * i + 1);
    (0..13).map(one).collect()
}

/// Five steps an epoch, fifteen in all, each cut into several passes.
pub(crate) fn config() -> TrainConfig {
    TrainConfig {
        batch_size: 3,
        epochs: 3,
        learning_rate: 0.05,
        micro_batch_tokens: 20,
        seed: 11,
        ..TrainConfig::default()
    }
}

/// The parameters' bits.
pub(crate) fn bits(model: &BigramLm<Train>) -> Vec<u32> {
    let table = trainable_parameters(model).remove(0).values;
    table.into_data().to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// What a run came to.
pub(crate) struct Ran {
    pub(crate) model: BigramLm<Train>,
    pub(crate) outcome: TrainOutcome,
    pub(crate) events: Vec<TrainEvent>,
}

impl Ran {
    /// The loss of each step, by its bits.
    pub(crate) fn losses(&self) -> Vec<(u64, u64)> {
        losses(&self.events)
    }
}

pub(crate) fn losses(events: &[TrainEvent]) -> Vec<(u64, u64)> {
    let step = |event: &TrainEvent| match event {
        TrainEvent::Step(step) => Some((step.step, step.loss.to_bits())),
        _ => None,
    };
    events.iter().filter_map(step).collect()
}

/// Runs until `last_step`, or to the end.
pub(crate) fn run(
    trainer: &Trainer<'_, Train>,
    model: BigramLm<Train>,
    examples: &[TokenizedExample],
    last_step: Option<u64>,
) -> Result<Ran, TrainError> {
    let mut events = Vec::new();
    let mut watch = |event: &TrainEvent| {
        events.push(event.clone());
        match event {
            TrainEvent::Step(step) if Some(step.step) == last_step => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    let (model, outcome) = trainer.run(model, examples, &mut watch)?;
    Ok(Ran { model, outcome, events })
}

/// A run from the first step to the last, nothing kept.
pub(crate) fn uninterrupted(config: &TrainConfig, examples: &[TokenizedExample]) -> Ran {
    run(&Trainer::new(config, &CrossEntropy), model(1), examples, None).unwrap()
}
