//! What a step holds at GLM-4's vocabulary.

/// Three tensors of the logits' size at most at once: the student's, the teacher's, the gradient.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "alone in its process: peak memory is the process's"]
fn a_step_holds_one_gradient() {
    use burn::backend::Autodiff;
    use burn::tensor::{Tensor, TensorData};
    use burn_flex::{Flex, FlexDevice};
    use lightglm_core::{LabelledSpan, LmError, Objective};
    use lightglm_distill::{Distillation, Divergence, LiveTeacher};

    const SHAPE: [usize; 2] = [512, 151_552];
    let elements = SHAPE[0] * SHAPE[1];
    let unit = (elements * 4) as f64;
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024.0 / unit
    };
    let made = |by: usize| (0..elements).map(|v| (v * by % 97) as f32 * 0.1).collect::<Vec<f32>>();
    let before = peak();
    let data = TensorData::new(made(7), SHAPE);
    let logits: Tensor<Autodiff<Flex>, 2> = Tensor::from_data(data, &FlexDevice);
    let logits = logits.require_grad();
    let teacher = LiveTeacher::<_, Flex>::new(|_: &[LabelledSpan<'_>]| -> Result<_, LmError> {
        Ok(Tensor::from_data(TensorData::new(made(5), SHAPE), &FlexDevice))
    });
    let targets = vec![Some(0); SHAPE[0]];
    let tokens = vec![0; SHAPE[0]];
    let span = LabelledSpan::text(&tokens, &targets);
    let objective = Distillation::new(teacher, Divergence::ForwardKl);
    let begin = std::time::Instant::now();
    let loss = objective.loss(logits.clone(), &[span]).unwrap();
    let forward = begin.elapsed();
    let gradients = loss.backward();
    let whole = begin.elapsed();
    assert!(logits.grad(&gradients).is_some());
    let held = peak() - before;
    println!("{held:.2} tensors of the logits' size; forward {forward:?}, with backward {whole:?}");
    assert!(held < 3.2, "{held}");
}
