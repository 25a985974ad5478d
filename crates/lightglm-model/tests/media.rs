//! The decoder's door: media rows and positions in spans, and what flows back to them.

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    Activations, CausalLm, GradientSums, KvDtype, KvShape, LabelledSpan, LmError, LogitRows,
    MediaFault, MediaRows, Objective, Positions, SequenceId, Span, TrainableLm, WeightDtype,
};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::LmBackend;
use lightglm_model::config::{GlmConfig, RopeParameters};
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_model::weights::SeededWeights;

type Learning = Autodiff<Flex>;

fn config() -> GlmConfig {
    let tiny = GlmConfig::tiny();
    let pairs = tiny.rotary_dim() / 2;
    let rope = RopeParameters { mrope_section: Some([pairs - 2, 1, 1]), ..tiny.rope.clone() };
    GlmConfig { rope, ..tiny }
}

fn model<B: LmBackend<Device = FlexDevice>>(config: &GlmConfig) -> DenseGlm<B> {
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 7);
    let file = std::path::Path::new("seeded");
    DenseGlm::load(config, &weights, file, LoadPrecision::Stored, &FlexDevice).unwrap()
}

fn rows(count: usize, config: &GlmConfig) -> Vec<f32> {
    (0..count * config.hidden_size).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.002).collect()
}

fn values(x: Tensor<Flex, 2>) -> Vec<f32> {
    x.into_data().to_vec().unwrap()
}

/// Three tokens, a picture of two by two, two tokens.
fn tokens(config: &GlmConfig) -> Vec<u32> {
    let media = config.vocab_size as u32;
    vec![1, 2, 3, media, media, media, media, 4, 5]
}

const AXES: [[u32; 3]; 9] = [
    [0, 0, 0],
    [1, 1, 1],
    [2, 2, 2],
    [3, 3, 3],
    [3, 3, 4],
    [3, 4, 3],
    [3, 4, 4],
    [5, 5, 5],
    [6, 6, 6],
];

#[test]
fn a_text_with_axes_is_the_text_to_the_bit() {
    let with = config();
    let without = GlmConfig {
        rope: RopeParameters { mrope_section: None, ..with.rope.clone() },
        ..with.clone()
    };
    let text = [5, 6, 7, 8];
    let span = Span::text(SequenceId(0), &text, LogitRows::All);
    let expected = values(model::<Flex>(&without).forward_uncached(&[span]).unwrap());
    let axes: Vec<[u32; 3]> = (0..4).map(|at| [at; 3]).collect();
    for positions in [Positions::Follow, Positions::From(0), Positions::Axes(&axes)] {
        let span = Span { positions, ..span };
        for config in [&with, &without] {
            assert!(values(model::<Flex>(config).forward_uncached(&[span]).unwrap()) == expected);
        }
    }
}

#[test]
fn rows_that_are_a_tokens_own_are_that_token() {
    let config = config();
    let model = model::<Flex>(&config);
    let embedded = values(model.embed_tokens.weight.val());
    let d = config.hidden_size;
    let media = [MediaRows { at: 1, rows: &embedded[6 * d..8 * d] }];
    let outside = [5, config.vocab_size as u32, u32::MAX, 8];
    let span = Span { media: &media, ..Span::text(SequenceId(0), &outside, LogitRows::All) };
    let text = Span::text(SequenceId(0), &[5, 6, 7, 8], LogitRows::All);
    let of = |span| values(model.forward_uncached(&[span]).unwrap());
    assert!(of(span) == of(text));
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_leaves_the_cache() {
    let config = config();
    let model = model::<Flex>(&config);
    let shape = KvShape::of(&config);
    let mut cache = ContiguousKvCache::<Flex>::new(shape, 1, 32, KvDtype::F32, &FlexDevice);
    let (tokens, rows, d) = (tokens(&config), rows(4, &config), config.hidden_size);
    let media = |at, rows| [MediaRows { at, rows }];
    let whole = media(3, &rows[..]);
    let text = Span::text(SequenceId(0), &tokens, LogitRows::Last);
    let mut nan = rows.clone();
    nan[d + 3] = f32::NAN;
    let cases: [(Span<'_>, MediaFault); 7] = [
        (Span { media: &media(2, &rows), ..text }, MediaFault::OverText { at: 2, id: 3 }),
        (
            Span { media: &media(3, &rows[1..]), ..text },
            MediaFault::Width { values: 4 * d - 1, hidden_size: d },
        ),
        (Span { media: &media(3, &[]), ..text }, MediaFault::Width { values: 0, hidden_size: d }),
        (
            Span { media: &media(6, &rows), ..text },
            MediaFault::Place { from: 6, to: 10, tokens: 9 },
        ),
        (
            Span { media: &media(usize::MAX, &rows), ..text },
            MediaFault::Place { from: usize::MAX, to: usize::MAX, tokens: 9 },
        ),
        (Span { media: &media(3, &nan), ..text }, MediaFault::NotFinite { at: 4 }),
        (
            Span { media: &whole, positions: Positions::Axes(&AXES[1..]), ..text },
            MediaFault::Positions { given: 8, tokens: 9 },
        ),
    ];
    for (span, fault) in cases {
        let error = model.forward(&[span], &mut cache).unwrap_err();
        assert_eq!(error, LmError::Media { sequence: SequenceId(0), fault });
    }
    let uncovered = Span { media: &media(3, &rows[..3 * d]), ..text };
    assert!(matches!(
        model.forward(&[uncovered], &mut cache),
        Err(LmError::TokenOutOfRange { .. })
    ));
    let twice =
        [MediaRows { at: 3, rows: &rows[..2 * d] }, MediaRows { at: 4, rows: &rows[..3 * d] }];
    let twice = Span { media: &twice, ..text };
    assert!(matches!(model.forward(&[twice], &mut cache), Err(LmError::Media { .. })));
    let far = Span { media: &whole, positions: Positions::From(u32::MAX - 3), ..text };
    assert!(matches!(model.forward(&[far], &mut cache), Err(LmError::TooLong { .. })));
    let good = Span { media: &whole, positions: Positions::Axes(&AXES), ..text };
    assert!(model.forward(&[good], &mut cache).is_ok());
}

struct CrossEntropy;

impl<B: LmBackend> Objective<B> for CrossEntropy {
    fn loss(
        &self,
        logits: Tensor<B, 2>,
        batch: &[LabelledSpan<'_>],
    ) -> Result<Tensor<B, 1>, LmError> {
        let targets: Vec<u32> =
            batch.iter().flat_map(|span| span.targets).flatten().copied().collect();
        Ok(B::cross_entropy(logits, &targets).sum())
    }
}

/// Both ways through the decoder, against finite differences and each other.
#[test]
fn gradients_of_rows_are_those_of_finite_differences() {
    let config = config();
    let model = model::<Learning>(&config);
    let (tokens, rows, d) = (tokens(&config), rows(4, &config), config.hidden_size);
    let targets: Vec<Option<u32>> = (0..9).map(|i| (i > 5).then_some(i + 10)).collect();
    let other = LabelledSpan::text(&[9, 8], &[None, Some(3)]);
    let loss = |rows: &[f32]| {
        let (first, second) = rows.split_at(d);
        let media = [MediaRows { at: 3, rows: first }, MediaRows { at: 4, rows: second }];
        let positions = Positions::Axes(&AXES);
        let span =
            LabelledSpan { media: &media, positions, ..LabelledSpan::text(&tokens, &targets) };
        let value = model.evaluate(&[other, span], &CrossEntropy).unwrap();
        let gradients = [Activations::Keep, Activations::Recompute].map(|activations| {
            let mut sums = GradientSums::<Learning>::new().with_media();
            model.differentiate(&[other, span], &CrossEntropy, activations, &mut sums).unwrap();
            values(sums.take_media().expect("it was asked for"))
        });
        (value, gradients)
    };
    let (_, [kept, recomputed]) = loss(&rows);
    assert_eq!(kept.len(), 4 * d);
    let largest = kept.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let worst = kept.iter().zip(&recomputed).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-5 * largest.max(1.0), "{worst}");
    for at in (0..4 * d).step_by(d / 5) {
        let step = 1e-2;
        let moved = |by: f32| {
            let mut rows = rows.clone();
            rows[at] += by;
            loss(&rows).0
        };
        let difference = ((moved(step) - moved(-step)) / f64::from(2.0 * step)) as f32;
        assert!(
            (difference - kept[at]).abs() < 1e-3 * largest.max(1.0),
            "{at}: {difference} {}",
            kept[at]
        );
    }
    // Nobody who has not asked is given any.
    let mut sums = GradientSums::<Learning>::new();
    model.differentiate(&[other], &CrossEntropy, Activations::Keep, &mut sums).unwrap();
    assert!(sums.take_media().is_none());
}
