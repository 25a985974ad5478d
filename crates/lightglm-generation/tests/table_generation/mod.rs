//! A table model that speaks single characters, for the tests of generation.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use burn_flex::Flex;
use lightglm_core::SequenceId;
use lightglm_core::{KvDtype, KvShape};
use lightglm_generation::{
    ContiguousKvCache, Generation, GenerationRequest, Generator, SamplingParams, Step,
};
use lightglm_testkit::TableLm;

pub type B = Flex;

pub const VOCAB: usize = 120;
pub const EOS: u32 = 0;

pub fn model() -> TableLm<B> {
    TableLm::new(VOCAB, 4, 11, &Default::default())
}

pub fn cache(sequences: usize, positions: usize) -> ContiguousKvCache<B> {
    let shape = KvShape { layers: 1, key_value_heads: 1, head_dim: 4 };
    ContiguousKvCache::new(shape, sequences, positions, KvDtype::Bf16, &Default::default())
}

/// Token `t` is the character U+0020 + t; tokens from 95 on are characters of three bytes.
pub fn letter(token: u32) -> Option<String> {
    let offset = if token < 95 { 0x20 } else { 0x4e00 };
    char::from_u32(token + offset).map(String::from)
}

pub fn token(letter: char) -> u32 {
    letter as u32 - 0x20
}

pub type Request = GenerationRequest<fn(u32) -> Option<String>>;

pub fn request(prompt: &[u32], params: SamplingParams) -> Request {
    let detokenizer = letter as fn(u32) -> Option<String>;
    GenerationRequest::new(prompt.to_vec(), params, vec![EOS], detokenizer)
}

pub fn collect(steps: Vec<Step>) -> Generation {
    let reply: Generation = steps.into_iter().collect();
    let (last, others) = reply.steps.split_last().expect("a step");
    assert_eq!(last.finish, Some(reply.finish), "the last step says why");
    assert!(others.iter().all(|step| step.finish.is_none()));
    reply
}

pub fn generate(model: &TableLm<B>, prompt: &[u32], params: SamplingParams) -> Generation {
    let mut cache = cache(1, 256);
    let generator =
        Generator::new(model, &mut cache, SequenceId(0), request(prompt, params)).unwrap();
    collect(generator.map(Result::unwrap).collect())
}

pub fn sampled(seed: u64) -> SamplingParams {
    SamplingParams { temperature: 1.5, seed, max_tokens: 40, ..Default::default() }
}
