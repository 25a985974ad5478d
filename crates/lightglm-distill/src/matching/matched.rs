//! `Matched`: a student, and what its states pass through on the way to a teacher's.

use std::sync::Arc;

use burn::module::{AutodiffModule, Module, ModuleDisplay, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use lightglm_core::{Activations, GradientSums, LabelledSpan, LmError, Objective, TrainableLm};
use lightglm_kernels::LmBackend;

use crate::matching::settings::{Matching, Widths};
use crate::matching::terms::{Beside, Projections, Terms};
use crate::mixing::mixed;

/// A student whose inner states are matched with a teacher's, beside whatever objective it is trained towards.
///
/// It is what a trainer is given. The projections are parameters of it, so they are optimized with the student and stand
/// in the run's checkpoints (`projections.0`, ...); [`student`](Self::student) is taken out when the run is over, and its
/// folder has nothing of them.
///
/// Where every weight of the matching is 0, training has the bits of training the student alone.
#[derive(Module, Debug)]
pub struct Matched<B: Backend, M: Module<B>> {
    /// The student.
    pub student: M,
    /// Of each pair of hidden states `[D_teacher, D_student]`, if it is learnt.
    pub projections: Vec<Option<Param<Tensor<B, 2>>>>,
    #[module(skip)]
    matching: Arc<Matching>,
}

impl<B: Backend, M: Module<B>> Matched<B, M> {
    /// `student` with new projections, uniform within `1 / sqrt(D_student)` as `torch.nn.Linear` begins; `seed` decides
    /// them.
    pub fn new(student: M, matching: Matching, seed: u64, device: &B::Device) -> Self {
        let shape = [matching.of_teacher.width, matching.of_student.width];
        let projection = |pair: usize, widths| match widths {
            Widths::Equal => None,
            Widths::Learned => {
                let values = TensorData::new(uniform(seed, pair as u64, shape), shape);
                Some(Param::from_tensor(Tensor::from_data(values, device)))
            }
        };
        let projections = match &matching.hidden {
            Some(hidden) => {
                let pairs = 0..hidden.blocks.len();
                pairs.map(|pair| projection(pair, hidden.settings.widths)).collect()
            }
            None => Projections::<B>::new(),
        };
        Self { student, projections, matching: Arc::new(matching) }
    }
}

impl<B, M> Matched<B, M>
where
    B: AutodiffBackend + LmBackend,
    M: Module<B>,
{
    fn beside<'a>(&'a self, objective: &'a dyn Objective<B>) -> Beside<'a, B> {
        let terms = Terms { matching: &self.matching, projections: &self.projections };
        Beside { objective, terms: self.matching.is_active().then_some(terms) }
    }
}

impl<B, M> TrainableLm<B> for Matched<B, M>
where
    B: AutodiffBackend + LmBackend,
    M: TrainableLm<B> + AutodiffModule<B, InnerModule: ModuleDisplay> + ModuleDisplay,
{
    fn evaluate(
        &self,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
    ) -> Result<f64, LmError> {
        self.student.evaluate(batch, &self.beside(objective))
    }

    fn differentiate(
        &self,
        batch: &[LabelledSpan<'_>],
        objective: &dyn Objective<B>,
        activations: Activations,
        sums: &mut GradientSums<B>,
    ) -> Result<f64, LmError> {
        self.student.differentiate(batch, &self.beside(objective), activations, sums)
    }
}

/// `D_teacher D_student` numbers between -`1 / sqrt(D_student)` and that.
fn uniform(seed: u64, stream: u64, [rows, columns]: [usize; 2]) -> Vec<f32> {
    let start = mixed(seed, stream);
    let bound = 1.0 / (columns.max(1) as f32).sqrt();
    let number = |i: u64| ((mixed(start, i) >> 40) as f32 / (1 << 23) as f32 - 1.0) * bound;
    (0..(rows * columns) as u64).map(number).collect()
}
