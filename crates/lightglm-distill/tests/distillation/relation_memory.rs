//! What relations of a long sequence hold, and how long they take.

/// Tensors of the size of the queries, not matrices of tokens by tokens: 16 heads of those would be 64 of them.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "alone in its process: peak memory is the process's"]
fn no_matrix_of_tokens_by_tokens_is_made() {
    use std::sync::Arc;

    use burn_flex::{Flex, FlexDevice};
    use lightglm_core::{Activations, Objective};
    use lightglm_core::{GradientSums, LabelledSpan, LmError, Tap, TrainableLm};
    use lightglm_distill::{
        Distillation, Divergence, LiveStates, LiveTeacher, Matched, Matching, ModelShape, Relation,
        RelationMatching, Relations,
    };

    use self::states::{States, Train, made};

    const SHAPE: [usize; 2] = [4096, 1024];
    let unit = (SHAPE[0] * SHAPE[1] * 4) as f64;
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024.0 / unit
    };
    let logits = |batch: &[LabelledSpan<'_>]| -> Result<_, LmError> {
        Ok(burn::tensor::Tensor::<Flex, 2>::zeros([batch[0].labels(), 2], &FlexDevice))
    };
    let objective: &dyn Objective<Train> =
        &Distillation::new(LiveTeacher::new(logits), Divergence::ForwardKl);
    let teacher = LiveStates::<_, Flex>::new(|taps: &[Tap], _: &[LabelledSpan<'_>]| {
        assert_eq!(taps, [Tap::Queries(1)]);
        Ok(vec![made(SHAPE, 5)])
    });
    let shape = ModelShape { blocks: 1, width: 8 };
    let of = vec![Relation::Queries];
    let relations = Relations { heads: 16 };
    let matching = Matching::new(Arc::new(teacher), shape, shape)
        .with_relations(RelationMatching { relations, of, ..RelationMatching::default() })
        .unwrap();
    let student = Matched::new(States::<Train>::new(SHAPE, 7), matching, 1, &FlexDevice);
    let (tokens, targets) = (vec![0; SHAPE[0]], vec![Some(0); SHAPE[0]]);
    let span = LabelledSpan::text(&tokens, &targets);
    let (before, mut sums) = (peak(), GradientSums::new());
    let begin = std::time::Instant::now();
    student.differentiate(&[span], objective, Activations::Keep, &mut sums).unwrap();
    let took = begin.elapsed();
    let held = peak() - before;
    println!("{held:.2} tensors of the queries' size beside them; {took:?}");
    assert!(held < 6.5, "{held}");
}

/// A model that is its queries.
#[cfg(target_os = "linux")]
mod states {
    use burn::backend::Autodiff;
    use burn::module::{Module, Param};
    use burn::tensor::backend::{AutodiffBackend, Backend};
    use burn::tensor::{Tensor, TensorData};
    use burn_flex::{Flex, FlexDevice};
    use lightglm_core::{Activations, GradientSums, LabelledSpan, LmError, Objective, TrainableLm};

    pub(super) type Train = Autodiff<Flex>;

    pub(super) fn made<B: Backend<Device = FlexDevice>>(
        [rows, width]: [usize; 2],
        by: usize,
    ) -> Tensor<B, 2> {
        let values: Vec<f32> = (0..rows * width).map(|v| (v * by % 97) as f32 * 0.01).collect();
        Tensor::from_data(TensorData::new(values, [rows, width]), &FlexDevice)
    }

    #[derive(Module, Debug)]
    pub(super) struct States<B: Backend> {
        states: Param<Tensor<B, 2>>,
    }

    impl<B: Backend<Device = FlexDevice>> States<B> {
        pub(super) fn new(shape: [usize; 2], by: usize) -> Self {
            Self { states: Param::from_tensor(made(shape, by)) }
        }
    }

    impl<B: AutodiffBackend> TrainableLm<B> for States<B> {
        fn evaluate(
            &self,
            batch: &[LabelledSpan<'_>],
            objective: &dyn Objective<B>,
        ) -> Result<f64, LmError> {
            self.differentiate(batch, objective, Activations::Keep, &mut GradientSums::new())
        }

        fn differentiate(
            &self,
            batch: &[LabelledSpan<'_>],
            objective: &dyn Objective<B>,
            _: Activations,
            sums: &mut GradientSums<B>,
        ) -> Result<f64, LmError> {
            let taps = objective.taps().expect("it looks at the queries");
            let loss = taps.loss(vec![self.states.val()], batch)?;
            sums.collect(self, &mut loss.backward());
            Ok(0.0)
        }
    }
}
