//! A vocabulary to test with, and a sampler that chooses at random among what is allowed.

use lightglm_generation::{LogitsProcessor, ProcessorError, TokenHistory};
use lightglm_serve::structured::{
    Constraint, GrammarVocabulary, StructuredError, StructuredLimits, compile,
};
use lightglm_testkit::{SplitMix, VocabularyText};
use lightglm_text::ChatText;

/// Wider than the tokenizer: the last ids stand for nothing.
pub(crate) const VOCAB_SIZE: usize = 450;

/// Two ways to end, as GLM has three.
pub(crate) const EOS: [u32; 2] = [400, 402];

/// Every byte, tokens of several, control tokens from 400 on.
pub(crate) fn toy() -> VocabularyText {
    let mut words: Vec<Option<Vec<u8>>> = (0..=255).map(|byte| Some(vec![byte])).collect();
    let several: [&[u8]; 40] = [
        b"\":",
        b"\",",
        b"{\"",
        b"\"}",
        b"},",
        b"[[",
        b"{\"a\":[{",
        b"]]",
        b"}}",
        b", ",
        b"\n",
        b"\n{",
        b"  ",
        b"    ",
        b"true",
        b"false",
        b"null",
        b"12",
        b"123",
        b"e9",
        b"e99",
        b"1e999",
        b":1e999",
        b"0.",
        b"-1",
        b"name",
        b"get",
        b"_weather",
        b"get_weather\n{\"",
        b"call\n{}",
        "你好".as_bytes(),
        "世界".as_bytes(),
        "，".as_bytes(),
        b"\xE4\xBD",
        b"\xA0",
        b"\\n",
        b"\\\"",
        b"\\u00",
        b"the ",
        b"ing",
    ];
    words.extend(several.iter().map(|word| Some(word.to_vec())));
    words.resize(400, Some(b"\xFF[12]".to_vec()));
    words.resize(410, None);
    VocabularyText::new(words, EOS.to_vec())
}

/// A reply that was chosen at random.
pub(crate) struct Reply {
    pub(crate) text: Vec<u8>,
    pub(crate) tokens: Vec<u32>,
    /// It ended with an end-of-sequence token, and was not cut off.
    pub(crate) ended: bool,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.text).expect("valid UTF-8")
    }
}

/// What the sampler likes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    /// Every allowed token is as likely as any other.
    Uniform,
    /// What closes something is likelier.
    Hurried,
}

pub(crate) struct Fixture {
    pub(crate) toy: VocabularyText,
    pub(crate) vocabulary: GrammarVocabulary,
    pub(crate) limits: StructuredLimits,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let toy = toy();
        let vocabulary = GrammarVocabulary::new(&toy, VOCAB_SIZE).unwrap();
        Self { toy, vocabulary, limits: StructuredLimits::default() }
    }

    pub(crate) fn compile(
        &self,
        c: &Constraint,
    ) -> Result<Box<dyn LogitsProcessor>, StructuredError> {
        compile(c, &self.vocabulary, &self.limits).map(|compiled| compiled.processor())
    }

    /// Follows a processor for up to `most` tokens; `look` sees the text and the allowed tokens of
    /// every step.
    pub(crate) fn follow(
        &self,
        processor: &mut dyn LogitsProcessor,
        (seed, mood, most): (u64, Mood, usize),
        mut look: impl FnMut(&[u8], &[f32]),
    ) -> Result<Reply, ProcessorError> {
        let mut random = SplitMix::new(seed);
        let mut reply = Reply { text: Vec::new(), tokens: Vec::new(), ended: false };
        while reply.tokens.len() < most {
            let mut logits: Vec<f32> = (0..VOCAB_SIZE).map(|_| random.next_f32()).collect();
            let history = TokenHistory { prompt: &[7], generated: &reply.tokens };
            processor.process(history, &mut logits)?;
            for (token, logit) in logits.iter().enumerate() {
                let is_text = token < 400 - 104 || EOS.contains(&(token as u32));
                assert!(is_text || *logit == f32::NEG_INFINITY, "control token {token} allowed");
            }
            look(&reply.text, &logits);
            if mood == Mood::Hurried {
                for token in b"\"}]0".map(u32::from).into_iter().chain(EOS) {
                    logits[token as usize] += 1.4;
                }
            }
            let best = (0..VOCAB_SIZE).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            assert!(logits[best].is_finite());
            reply.tokens.push(best as u32);
            if EOS.contains(&(best as u32)) {
                reply.ended = true;
                break;
            }
            reply.text.extend_from_slice(self.toy.token_bytes(best as u32).unwrap());
        }
        Ok(reply)
    }

    /// Finished replies under a constraint, from many seeds and in both moods.
    pub(crate) fn replies(&self, constraint: &Constraint, seeds: u64) -> Vec<Reply> {
        let mut ended = Vec::new();
        for seed in 0..seeds {
            let mood = if seed % 4 == 0 { Mood::Uniform } else { Mood::Hurried };
            let mut processor = self.compile(constraint).unwrap();
            let reply = self.follow(&mut *processor, (seed, mood, 3000), |_, _| {}).unwrap();
            assert!(std::str::from_utf8(&reply.text).is_ok() || !reply.ended);
            ended.extend(Some(reply).filter(|reply| reply.ended));
        }
        assert!(ended.len() as u64 * 2 >= seeds, "{} of {seeds} ended", ended.len());
        ended
    }
}
