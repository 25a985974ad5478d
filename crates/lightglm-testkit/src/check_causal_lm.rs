//! The promises of [`CausalLm`].

use burn::tensor::backend::Backend;
use lightglm_core::{CausalLm, KvCache, KvCacheError, LmError, LogitRows, SequenceId, Span};

use crate::split_mix::SplitMix;

/// Lengths of the test sequences, on both sides of a block's and a tile's end.
const LENGTHS: [usize; 6] = [1, 15, 16, 17, 40, 3];

/// Room every sequence of the factory's cache must have.
const POSITIONS: usize = 48;

/// Checks `model` with caches made by `factory(sequences, positions)`, which must have the sequences
/// `0..sequences`, all empty, with room for `positions` positions each and not much more.
///
/// Bit for bit: a batch is its sequences one by one, a prompt in chunks is the prompt whole, the
/// requested rows are rows of all rows. Bad batches are the right error and leave the cache as it
/// was. The model must allow 48 positions.
///
/// # Panics
/// Where a promise is broken.
pub fn check_causal_lm<B: Backend>(
    model: &dyn CausalLm<B>,
    factory: impl Fn(usize, usize) -> Box<dyn KvCache<B>>,
) {
    let mut random = SplitMix::new(0x1c0de);
    let vocab_size = model.vocab_size();
    assert!(vocab_size > 0, "an empty vocabulary: nothing would be checked");
    let mut prompt =
        |len: usize| -> Vec<u32> { (0..len).map(|_| random.below(vocab_size) as u32).collect() };
    let prompts: Vec<Vec<u32>> = LENGTHS.into_iter().map(&mut prompt).collect();
    let suite = Suite { model, factory: &factory, prompts };
    let alone = suite.every_sequence_alone();
    suite.batch_equals_alone(&alone);
    suite.chunks_equal_whole(&alone);
    suite.requested_rows_are_rows_of_all(&alone);
    suite.bad_batches_are_refused(&alone);
}

struct Suite<'a, B: Backend> {
    model: &'a dyn CausalLm<B>,
    factory: &'a dyn Fn(usize, usize) -> Box<dyn KvCache<B>>,
    prompts: Vec<Vec<u32>>,
}

/// The bits of all logit rows of one sequence.
type Rows = Vec<Vec<u32>>;

impl<B: Backend> Suite<'_, B> {
    fn forward(&self, spans: &[Span<'_>], cache: &mut dyn KvCache<B>) -> Rows {
        let logits = self.model.forward(spans, cache).expect("a good batch was refused");
        let rows: usize = spans.iter().map(|span| span.logits.count(span.tokens.len())).sum();
        let vocab_size = self.model.vocab_size();
        assert_eq!(logits.dims(), [rows, vocab_size], "wrong shape of the logits");
        let flat: Vec<f32> = logits.into_data().iter::<f32>().collect();
        assert!(!flat.iter().any(|value| value.is_nan()), "a logit is not a number");
        flat.chunks(vocab_size).map(|row| row.iter().map(|v| v.to_bits()).collect()).collect()
    }

    fn every_sequence_alone(&self) -> Vec<Rows> {
        let rows = |prompt: &Vec<u32>| {
            let mut cache = (self.factory)(1, POSITIONS);
            self.forward(&[all(0, prompt)], cache.as_mut())
        };
        let alone: Vec<Rows> = self.prompts.iter().map(rows).collect();
        let first = &alone[0][0];
        let varied = self.model.vocab_size() == 1 || alone.iter().flatten().any(|row| row != first);
        assert!(varied, "the logits do not depend on the tokens");
        alone
    }

    fn batch_equals_alone(&self, alone: &[Rows]) {
        let mut cache = (self.factory)(self.prompts.len(), POSITIONS);
        let spans: Vec<Span<'_>> =
            self.prompts.iter().enumerate().map(|(id, prompt)| all(id, prompt)).collect();
        let together = self.forward(&spans, cache.as_mut());
        assert!(together == alone.concat(), "a batch has other logits than its sequences alone");

        // Prefill and decode in one batch, in another order than the sequences'.
        let mut cache = (self.factory)(3, POSITIONS);
        let prompt = &self.prompts[4];
        self.forward(&[all(1, &prompt[..30])], cache.as_mut());
        let mixed = [all(2, &self.prompts[3]), all(1, &prompt[30..31]), all(0, &self.prompts[1])];
        let rows = self.forward(&mixed, cache.as_mut());
        let expected = [&alone[3][..], &alone[4][30..31], &alone[1][..]].concat();
        assert!(rows == expected, "a decoded token among prompts has other logits than alone");
    }

    fn chunks_equal_whole(&self, alone: &[Rows]) {
        for chunk in [1, 7, 16, 39] {
            for (prompt, expected) in self.prompts.iter().zip(alone) {
                let mut cache = (self.factory)(1, POSITIONS);
                let mut rows = Rows::new();
                for tokens in prompt.chunks(chunk) {
                    rows.extend(self.forward(&[all(0, tokens)], cache.as_mut()));
                }
                let held = cache.sequence(SequenceId(0)).expect("it is there").1;
                assert_eq!(held, prompt.len(), "the cache holds another number of positions");
                assert!(&rows == expected, "chunks of {chunk} give other logits than the whole");
            }
        }
    }

    fn requested_rows_are_rows_of_all(&self, alone: &[Rows]) {
        let mut cache = (self.factory)(3, POSITIONS);
        let spans = [
            Span { logits: LogitRows::None, ..all(0, &self.prompts[2]) },
            Span { logits: LogitRows::Last, ..all(1, &self.prompts[4]) },
            Span { logits: LogitRows::All, ..all(2, &self.prompts[5]) },
        ];
        let rows = self.forward(&spans, cache.as_mut());
        let expected = [&alone[4][39..], &alone[5][..]].concat();
        assert!(rows == expected, "the requested rows are not rows of all rows");

        let mut cache = (self.factory)(1, POSITIONS);
        let (head, tail) = self.prompts[4].split_at(39);
        let none = Span { logits: LogitRows::None, ..all(0, head) };
        assert!(self.forward(&[none], cache.as_mut()).is_empty(), "no row was asked for");
        let rows = self.forward(&[all(0, tail)], cache.as_mut());
        assert!(rows == alone[4][39..], "a span without logits did not fill the cache");
    }

    fn bad_batches_are_refused(&self, alone: &[Rows]) {
        let vocab_size = self.model.vocab_size();
        let (head, tail) = self.prompts[4].split_at(20);
        let beyond = [0, vocab_size as u32];
        let long = vec![0; 1 << 12];
        let out_of_range = LmError::TokenOutOfRange { token: beyond[1], vocab_size };
        let unknown = SequenceId(usize::MAX);
        let cases: [(&str, Vec<Span<'_>>, Option<LmError>); 6] = [
            ("no span", vec![], Some(LmError::EmptySpan(None))),
            (
                "an empty span",
                vec![all(0, tail), all(1, &[])],
                Some(LmError::EmptySpan(Some(SequenceId(1)))),
            ),
            ("a token out of range", vec![all(0, tail), all(1, &beyond)], Some(out_of_range)),
            (
                "a repeated sequence",
                vec![all(0, tail), all(0, tail)],
                Some(LmError::RepeatedSequence(SequenceId(0))),
            ),
            (
                "an unknown sequence",
                vec![all(0, tail), Span { sequence: unknown, ..all(0, tail) }],
                Some(LmError::Cache(KvCacheError::UnknownSequence(unknown))),
            ),
            // Whether the model's or the cache's end is met first is up to them.
            ("too many positions", vec![all(0, tail), all(1, &long)], None),
        ];
        let mut cache = (self.factory)(2, POSITIONS);
        self.forward(&[all(0, head)], cache.as_mut());
        for (what, spans, expected) in cases {
            let error = match self.model.forward(&spans, cache.as_mut()) {
                Err(error) => error,
                Ok(_) => panic!("{what} was accepted"),
            };
            match expected {
                Some(expected) => assert_eq!(error, expected, "{what}"),
                None => assert!(
                    matches!(error, LmError::TooLong { .. } | LmError::Cache(_)),
                    "{what} gave {error:?}"
                ),
            }
            for (sequence, len) in [(0, head.len()), (1, 0)] {
                let held = cache.sequence(SequenceId(sequence)).expect("it is there").1;
                assert_eq!(held, len, "{what} changed what the cache holds");
            }
        }
        let rows = self.forward(&[all(0, tail)], cache.as_mut());
        assert!(rows == alone[4][20..], "a refused batch changed the cache's contents");
    }
}

fn all(sequence: usize, tokens: &[u32]) -> Span<'_> {
    Span::text(SequenceId(sequence), tokens, LogitRows::All)
}
