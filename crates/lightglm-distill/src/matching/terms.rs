//! `Terms`: a matching as what an objective makes of values inside of a model.

use burn::module::Param;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use lightglm_core::{GradientSums, LabelledSpan, LmError, Objective, Tap, TapObjective};
use lightglm_kernels::LmBackend;

use crate::error::DistillError;
use crate::matching::hidden_term::hidden_term;
use crate::matching::relation_term::relation_term;
use crate::matching::relations::Spans;
use crate::matching::settings::Matching;
use crate::matching::states::StateRows;
use crate::teacher::refused;

/// Of each pair of hidden states the projection, if it has one.
pub(super) type Projections<B> = Vec<Option<Param<Tensor<B, 2>>>>;

/// A matching that counts, with its projections as they are in this step.
pub(super) struct Terms<'a, B: LmBackend> {
    pub(super) matching: &'a Matching,
    pub(super) projections: &'a Projections<B>,
}

impl<B: LmBackend> TapObjective<B> for Terms<'_, B> {
    fn taps(&self) -> Vec<Tap> {
        self.matching.taps().0
    }

    fn loss(
        &self,
        tapped: Vec<Tensor<B, 2>>,
        batch: &[LabelledSpan<'_>],
    ) -> Result<Tensor<B, 1>, LmError> {
        let teacher = teacher_states(self.matching, batch)?;
        let mut pairs = tapped.into_iter().zip(teacher);
        let mut parts = Vec::with_capacity(pairs.len());
        if let Some(hidden) = self.matching.active_hidden() {
            let weights = hidden.settings.positions.weights(batch);
            let distance = hidden.settings.distance;
            for projection in self.projections {
                let Some((student, teacher)) = pairs.next() else { break };
                let projection = projection.as_ref().map(Param::val);
                let term = hidden_term(distance, student, projection, teacher, &weights)?;
                parts.push(term * hidden.settings.weight);
            }
        }
        if let Some(relations) = self.matching.active_relations() {
            let lengths = batch.iter().map(|span| span.tokens.len()).collect();
            let spans = Spans { lengths, weights: relations.settings.positions.weights(batch) };
            for (student, teacher) in pairs {
                let cut = relations.settings.relations;
                let term = relation_term(cut, student, &teacher, spans.clone())?;
                parts.push(term * relations.settings.weight);
            }
        }
        let sum = parts.into_iter().reduce(|a, b| a + b);
        sum.ok_or_else(|| refused(&"nothing is matched"))
    }

    fn collect(&self, gradients: &mut B::Gradients, sums: &mut GradientSums<B>)
    where
        B: AutodiffBackend,
    {
        sums.collect(self.projections, gradients);
    }
}

/// One for each tap.
fn teacher_states(
    matching: &Matching,
    batch: &[LabelledSpan<'_>],
) -> Result<Vec<StateRows>, LmError> {
    let (_, taps) = matching.taps();
    let states = matching.teacher.states(&taps, batch)?;
    match states.len() == taps.len() {
        true => Ok(states),
        false => {
            let error = DistillError::Taps { asked: taps.len(), given: states.len() };
            Err(refused(&error))
        }
    }
}

/// An objective, and a matching beside it.
pub(super) struct Beside<'a, B: LmBackend> {
    pub(super) objective: &'a dyn Objective<B>,
    /// `None` where nothing counts.
    pub(super) terms: Option<Terms<'a, B>>,
}

impl<B: LmBackend> Objective<B> for Beside<'_, B> {
    fn loss(
        &self,
        logits: Tensor<B, 2>,
        batch: &[LabelledSpan<'_>],
    ) -> Result<Tensor<B, 1>, LmError> {
        if self.terms.is_some() && self.objective.taps().is_some() {
            return Err(refused(&"two objectives look inside of the model"));
        }
        self.objective.loss(logits, batch)
    }

    fn taps(&self) -> Option<&dyn TapObjective<B>> {
        match &self.terms {
            Some(terms) => Some(terms),
            None => self.objective.taps(),
        }
    }
}
