//! `BigramLm`: a language model that is one matrix. Shapes: `R` labelled rows, `V` vocab_size.

use burn::module::{Module, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor, TensorData};
use lightglm_core::{Activations, GradientSums, LabelledSpan, LmError, Objective, TrainableLm};

use crate::split_mix::SplitMix;

/// A [`TrainableLm`] whose logits behind a token are that token's row of a table.
///
/// What it can learn is known in closed form (the bigram frequencies of its data), and a step takes
/// microseconds.
#[derive(Module, Debug)]
pub struct BigramLm<B: Backend> {
    /// `[V, V]`.
    pub table: Param<Tensor<B, 2>>,
}

impl<B: Backend> BigramLm<B> {
    /// A seeded table with entries between -0.1 and 0.1.
    pub fn new(vocab_size: usize, seed: u64, device: &B::Device) -> Self {
        let mut random = SplitMix::new(seed);
        let values = (0..vocab_size * vocab_size).map(|_| random.next_f32() * 0.1);
        let data = TensorData::new(values.collect::<Vec<f32>>(), [vocab_size, vocab_size]);
        Self { table: Param::from_tensor(Tensor::from_data(data, device)) }
    }
}

impl<B: AutodiffBackend> BigramLm<B> {
    fn loss(
        &self,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
    ) -> Result<Option<Tensor<B, 1>>, LmError> {
        let tapped = objective.taps().and_then(|objective| objective.taps().first().copied());
        if let Some(tap) = tapped {
            return Err(LmError::Tap { tap, blocks: 0 });
        }
        let vocab_size = self.table.dims()[0];
        let mut ids = Vec::new();
        for span in batch {
            let targets = span.targets.iter().flatten();
            if let Some(&token) =
                span.tokens.iter().chain(targets).find(|&&token| token as usize >= vocab_size)
            {
                return Err(LmError::TokenOutOfRange { token, vocab_size });
            }
            let labelled = span.tokens.iter().zip(span.targets).filter(|(_, t)| t.is_some());
            ids.extend(labelled.map(|(token, _)| *token as i32));
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let n = ids.len();
        let table = self.table.val();
        let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [n]), &table.device());
        objective.loss(table.select(0, ids), batch).map(Some)
    }
}

impl<B: AutodiffBackend> TrainableLm<B> for BigramLm<B> {
    fn evaluate(
        &self,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
    ) -> Result<f64, LmError> {
        Ok(self.loss(batch, objective)?.map_or(0.0, |loss| number(&loss)))
    }

    fn differentiate(
        &self,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
        _: Activations,
        sums: &mut GradientSums<B>,
    ) -> Result<f64, LmError> {
        let Some(loss) = self.loss(batch, objective)? else { return Ok(0.0) };
        let value = number(&loss);
        sums.collect(self, &mut loss.backward());
        Ok(value)
    }
}

fn number<B: AutodiffBackend>(loss: &Tensor<B, 1>) -> f64 {
    let data = loss.clone().inner().into_data().convert::<f64>();
    data.to_vec::<f64>().map_or(f64::NAN, |loss| loss[0])
}
