//! What the decoder shows of its inside, and the gradients that it takes there.

use std::path::Path;

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{
    GradientSums, KvDtype, KvShape, LabelledSpan, LmError, LogitRows, Objective, SequenceId, Span,
    Tap, TapObjective, TrainableLm, WeightDtype,
};
use lightglm_generation::ContiguousKvCache;
use lightglm_model::config::{GlmConfig, ModelType};
use lightglm_model::decoder::{DenseGlm, LoadPrecision, Site};
use lightglm_model::weights::SeededWeights;
use lightglm_testkit::check_trainable_lm;

type Train = Autodiff<Flex>;

const TOKENS: [u32; 12] = [3, 7, 3, 9, 11, 2, 3, 7, 5, 5, 8, 1];

fn config(model_type: ModelType) -> GlmConfig {
    GlmConfig { model_type, vocab_size: 40, ..GlmConfig::tiny() }
}

fn model<B>(model_type: ModelType) -> DenseGlm<B>
where
    B: lightglm_kernels::LmBackend<Device = FlexDevice>,
{
    let config = config(model_type);
    let weights = SeededWeights::new(config.clone(), WeightDtype::F32, 3);
    let stored = LoadPrecision::Stored;
    DenseGlm::load(&config, &weights, Path::new("seeded"), stored, &FlexDevice).unwrap()
}

/// The sum of squares at some places, over the spans that have labels, beside a sum of squares of the logits.
struct Squares(Vec<Tap>);

impl<B: Backend> Objective<B> for Squares {
    fn loss(&self, logits: Tensor<B, 2>, _: &[LabelledSpan<'_>]) -> Result<Tensor<B, 1>, LmError> {
        Ok(logits.powi_scalar(2).sum() * 0.05)
    }

    fn taps(&self) -> Option<&dyn TapObjective<B>> {
        Some(self)
    }
}

impl<B: Backend> TapObjective<B> for Squares {
    fn taps(&self) -> Vec<Tap> {
        self.0.clone()
    }

    fn loss(
        &self,
        tapped: Vec<Tensor<B, 2>>,
        batch: &[LabelledSpan<'_>],
    ) -> Result<Tensor<B, 1>, LmError> {
        assert_eq!(tapped.len(), self.0.len());
        let tokens: usize = batch.iter().map(|span| span.tokens.len()).sum();
        let square = |(i, value): (usize, Tensor<B, 2>)| {
            assert_eq!(value.dims()[0], tokens);
            value.powi_scalar(2).sum() * (0.05 * (i + 1) as f64)
        };
        Ok(tapped.into_iter().enumerate().map(square).reduce(|a, b| a + b).expect("a place"))
    }

    fn collect(&self, _: &mut B::Gradients, _: &mut GradientSums<B>)
    where
        B: AutodiffBackend,
    {
    }
}

#[test]
fn gradients_join_where_the_values_were() {
    let each = [
        Tap::Hidden(0),
        Tap::Hidden(1),
        Tap::Hidden(2),
        Tap::Queries(1),
        Tap::Keys(2),
        Tap::Values(1),
    ];
    for tap in each {
        check_trainable_lm(&model::<Train>(ModelType::Glm4), &Squares(vec![tap]), &TOKENS);
    }
    // All at once, some of them twice, with normed heads.
    let all = each.into_iter().chain([Tap::Hidden(1), Tap::Queries(1)]).collect();
    check_trainable_lm(&model::<Train>(ModelType::GlmQkNorm), &Squares(all), &TOKENS);
}

#[test]
fn what_is_shown_is_what_a_hook_sees() {
    let (config, model) = (config(ModelType::Glm4), model::<Flex>(ModelType::Glm4));
    let taps = [
        (Tap::Values(2), Site::Values(1)),
        (Tap::Hidden(0), Site::Embed),
        (Tap::Hidden(2), Site::Layer(1)),
        (Tap::Queries(1), Site::Queries(0)),
        (Tap::Keys(1), Site::Keys(0)),
        (Tap::Hidden(1), Site::Layer(0)),
    ];
    let mut seen = Vec::new();
    let mut hook = |site: Site, value: &Tensor<Flex, 2>| seen.push((site, value.clone()));
    let mut cache = ContiguousKvCache::new(KvShape::of(&config), 1, 64, KvDtype::F32, &FlexDevice);
    let span = Span::text(SequenceId(0), &TOKENS, LogitRows::None);
    model.forward_with_hook(&[span], &mut cache, &mut hook).unwrap();
    let span = LabelledSpan::text(&TOKENS, &[None; 12]);
    let tapped = model.tapped(&taps.map(|(tap, _)| tap), &[span]).unwrap();
    for ((tap, site), value) in taps.into_iter().zip(tapped) {
        let (_, expected) = seen.iter().find(|(at, _)| *at == site).unwrap();
        let bits = |x: &Tensor<Flex, 2>| x.to_data().to_vec::<f32>().unwrap();
        assert!(bits(&value) == bits(expected), "{tap:?}");
    }
}

#[test]
fn a_place_that_is_not_there_is_refused() {
    let targets = TOKENS.map(Some);
    let span = LabelledSpan::text(&TOKENS, &targets);
    for tap in [Tap::Hidden(3), Tap::Queries(0), Tap::Keys(3), Tap::Values(usize::MAX)] {
        let expected = LmError::Tap { tap, blocks: 2 };
        let error = model::<Flex>(ModelType::Glm).tapped(&[tap], &[span]).unwrap_err();
        assert_eq!(error, expected);
        let (student, objective) = (model::<Train>(ModelType::Glm), Squares(vec![tap]));
        assert_eq!(student.evaluate(&[span], &objective).unwrap_err(), expected);
        for activations in [lightglm_core::Activations::Keep, lightglm_core::Activations::Recompute]
        {
            let mut sums = GradientSums::new();
            let error = student.differentiate(&[span], &objective, activations, &mut sums);
            assert_eq!(error.unwrap_err(), expected);
            assert!(sums.is_empty());
        }
    }
}
