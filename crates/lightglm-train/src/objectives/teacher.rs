//! Towards another model's distribution. Shapes: `R` labelled rows, `V` vocab_size.

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, activation};
use lightglm_core::{LabelledSpan, LmError, Objective};
use lightglm_kernels::LmBackend;

use super::cross_entropy::targets;

/// `weight KL(teacher || student) + (1 - weight) cross-entropy`, summed over all labelled rows.
///
/// The teacher is asked about the same batch each time; nothing of it is stored. With the model before
/// quantization as the teacher, this is the objective of quantization-aware distillation.
///
/// ```text
/// KL = sum over v of p(v) (log p(v) - log q(v)),  p = softmax(teacher / T), q = softmax(student / T)
/// ```
/// times `T^2`, so that gradients keep their size.
///
/// Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2; Liu et al.
/// 2023, "LLM-QAT".
pub struct TowardsTeacher<T> {
    teacher: T,
    weight: f64,
    temperature: f64,
}

impl<T> TowardsTeacher<T> {
    /// `teacher` gives the logits `[R, V]` of a batch's labelled rows, in order.
    ///
    /// # Panics
    /// Where `weight` is not a share or `temperature` is not positive.
    pub fn new(teacher: T, weight: f64, temperature: f64) -> Self {
        assert!((0.0..=1.0).contains(&weight), "a weight between 0 and 1, not {weight}");
        assert!(temperature > 0.0, "a positive temperature, not {temperature}");
        Self { teacher, weight, temperature }
    }
}

impl<B, T> Objective<B> for TowardsTeacher<T>
where
    B: AutodiffBackend + LmBackend,
    T: Fn(&[LabelledSpan<'_>]) -> Result<Tensor<B::InnerBackend, 2>, LmError>,
{
    fn loss(
        &self,
        logits: Tensor<B, 2>,
        batch: &[LabelledSpan<'_>],
    ) -> Result<Tensor<B, 1>, LmError> {
        let mut loss = None;
        if self.weight > 0.0 {
            let teacher = (self.teacher)(batch)? / self.temperature;
            let student = logits.clone() / self.temperature;
            let log_p = activation::log_softmax(teacher, 1);
            let p = Tensor::from_inner(log_p.clone().exp());
            let log_q = activation::log_softmax(student, 1);
            let divergence = (p * (Tensor::from_inner(log_p) - log_q)).sum();
            let factor = self.weight * self.temperature * self.temperature;
            loss = Some(divergence * factor);
        }
        if self.weight < 1.0 {
            let entropy = B::cross_entropy(logits, &targets(batch)).sum() * (1.0 - self.weight);
            loss = Some(match loss {
                Some(loss) => loss + entropy,
                None => entropy,
            });
        }
        Ok(loss.expect("one of the weights is positive"))
    }
}
