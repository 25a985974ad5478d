//! `Trainer`: the loop itself.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use burn::module::ParamId;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Tensor};
use lightglm_core::{
    GradientSums, LabelledSpan, LmError, Objective, TrainableLm, trainable_parameters, with_values,
};
use lightglm_kernels::LmGradients;

use super::TokenizedExample;
use super::config::TrainConfig;
use super::error::TrainError;
use super::event::{StepReport, StopReason, TrainEvent, TrainOutcome};
use super::plan::Plan;
use super::rows_of_step::RowsOfStep;
use crate::checkpoint::{CheckpointFolder, RunState, TrainCheckpointError};
use crate::lora::DropoutSeed;
use crate::optimizer::{AdamW, clip_factor, global_norm};

/// Trains a model: batches of examples, gradients summed over forward passes, clipping, AdamW,
/// validation, early stopping, checkpoints.
///
/// It does not know what it trains: all parameters, adapters, or the weights behind a fake
/// quantization are whatever requires gradients.
pub struct Trainer<'a, B: AutodiffBackend> {
    config: &'a TrainConfig,
    objective: &'a dyn Objective<B>,
    validation: &'a [TokenizedExample],
    dropout: Option<DropoutSeed>,
    checkpoints: Option<(&'a CheckpointFolder, bool)>,
    settings: String,
}

/// What changes from step to step.
struct Run<B: AutodiffBackend, M> {
    model: M,
    optimizer: AdamW<B>,
    state: RunState,
    /// The best parameters so far, where they are wanted and there is no folder to keep them in.
    best: Option<BTreeMap<ParamId, Tensor<B::InnerBackend, 1>>>,
}

impl<'a, B: AutodiffBackend<InnerBackend: LmGradients>> Trainer<'a, B> {
    /// Training towards `objective`.
    pub fn new(config: &'a TrainConfig, objective: &'a dyn Objective<B>) -> Self {
        let settings = String::new();
        Self { config, objective, validation: &[], dropout: None, checkpoints: None, settings }
    }

    /// Examples that are scored and not learnt.
    #[must_use]
    pub fn with_validation(mut self, examples: &'a [TokenizedExample]) -> Self {
        self.validation = examples;
        self
    }

    /// The dropout that is switched on while a batch is learnt.
    #[must_use]
    pub fn with_dropout(mut self, seed: DropoutSeed) -> Self {
        self.dropout = Some(seed);
        self
    }

    /// Where checkpoints are kept; with `resume` the run goes on behind the last one, if there is one.
    #[must_use]
    pub fn with_checkpoints(mut self, folder: &'a CheckpointFolder, resume: bool) -> Self {
        self.checkpoints = Some((folder, resume));
        self
    }

    /// What decides the numbers of a run beside configuration and examples: an objective's settings, or those of
    /// what makes the rows of a step. A checkpoint of other settings is not resumed.
    #[must_use]
    pub fn with_settings(mut self, settings: impl Into<String>) -> Self {
        self.settings = settings.into();
        self
    }

    /// Trains `model` on `examples`. `watch` hears of everything and can end the run.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn run<M: TrainableLm<B>>(
        &self,
        model: M,
        examples: &[TokenizedExample],
        watch: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
    ) -> Result<(M, TrainOutcome), TrainError> {
        self.run_on(model, examples, &|_, _, _| Ok(None), watch)
    }

    /// As [`run`](Self::run), with what may put other rows in the place of a step's.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn run_on<M: TrainableLm<B>>(
        &self,
        model: M,
        examples: &[TokenizedExample],
        rows_of_step: &RowsOfStep<'_, M>,
        watch: &mut dyn FnMut(&TrainEvent) -> ControlFlow<()>,
    ) -> Result<(M, TrainOutcome), TrainError> {
        self.check(&model, examples)?;
        let plan = Plan::new(self.config, examples.len());
        let mut run = self.begin(model, examples)?;
        let trainable = trainable_parameters(&run.model).iter().map(|p| p.values.dims()[0]).sum();
        let (step, total_steps) = (run.state.step, plan.total_steps());
        let mut going = watch(&TrainEvent::Begin { step, total_steps, trainable });
        // A run that has stopped stays so when it is resumed.
        let mut stop = self.is_hopeless(&run.state);
        while !stop && run.state.step < total_steps && going.is_continue() {
            let report;
            (run, report) = self.step(run, &plan, examples, rows_of_step)?;
            going = watch(&TrainEvent::Step(report));
            let step = run.state.step;
            if (plan.is_due(step, self.config.evaluate_every) || step == total_steps)
                && let Some(event) = self.validate(&mut run)?
            {
                stop = self.is_hopeless(&run.state);
                going = both(going, watch(&event));
            }
            let due = plan.is_due(step, self.config.checkpoint_every) || step == total_steps;
            if (due || stop || going.is_break())
                && let Some(event) = self.save(&run, &plan, examples)?
            {
                going = both(going, watch(&event));
            }
        }
        if stop {
            let outcome = outcome(StopReason::Stopped, &run.state);
            return Ok((self.best(run)?, outcome));
        }
        let reason = match run.state.step < total_steps {
            true => StopReason::Interrupted,
            false => StopReason::Finished,
        };
        Ok((run.model, outcome(reason, &run.state)))
    }

    /// What [`run`](Self::run) refuses before it does anything: settings, rows, and a model that has
    /// nothing to train or is not in f32.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn check<M: TrainableLm<B>>(
        &self,
        model: &M,
        examples: &[TokenizedExample],
    ) -> Result<(), TrainError> {
        self.config.check()?;
        if examples.iter().all(|example| example.labels() == 0) {
            return Err(TrainError::NoExamples);
        }
        self.check_rows(examples)?;
        self.check_rows(self.validation)?;
        let parameters = trainable_parameters(model);
        if parameters.is_empty() {
            return Err(TrainError::NoParameters);
        }
        match parameters.into_iter().find(|parameter| parameter.dtype != DType::F32) {
            Some(p) => Err(TrainError::Precision { name: p.name, dtype: format!("{:?}", p.dtype) }),
            None => Ok(()),
        }
    }

    fn check_rows(&self, rows: &[TokenizedExample]) -> Result<(), TrainError> {
        let limit = self.config.micro_batch_tokens;
        for TokenizedExample { tokens, targets, line } in rows {
            let (line, tokens, targets) = (*line, tokens.len(), targets.len());
            if tokens == 0 || tokens != targets {
                return Err(TrainError::Example { line, tokens, targets });
            }
            if tokens > limit {
                return Err(TrainError::TooLong { line, tokens, limit });
            }
        }
        Ok(())
    }

    /// A fresh run, or the one that was interrupted.
    fn begin<M: TrainableLm<B>>(
        &self,
        model: M,
        examples: &[TokenizedExample],
    ) -> Result<Run<B, M>, TrainError> {
        let state = RunState::new(self.fingerprint(examples));
        let optimizer = AdamW::new(self.config.optimizer);
        let fresh = |model| Run { model, optimizer, state: state.clone(), best: None };
        let Some((folder, resume)) = self.checkpoints else { return Ok(fresh(model)) };
        match (folder.steps()?.pop(), resume) {
            (None, _) => Ok(fresh(model)),
            (Some(step), false) => {
                Err(TrainCheckpointError::InUse { folder: folder.path().to_path_buf(), step }
                    .into())
            }
            (Some(step), true) => {
                let (model, optimizer, found) = folder.load(step, model, self.config.optimizer)?;
                if found.fingerprint != state.fingerprint {
                    let reason = format!("`{}`, now `{}`", found.fingerprint, state.fingerprint);
                    let folder = folder.of_step(step);
                    return Err(TrainCheckpointError::OtherRun { folder, reason }.into());
                }
                Ok(Run { model, optimizer, state: found, best: None })
            }
        }
    }

    /// What decides the numbers of a run: its settings, and a hash of its examples.
    fn fingerprint(&self, examples: &[TokenizedExample]) -> String {
        let c = self.config;
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |word: u64| {
            for byte in word.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for example in examples.iter().chain(self.validation) {
            add(example.tokens.len() as u64);
            example.tokens.iter().for_each(|&token| add(u64::from(token)));
            example.targets.iter().for_each(|target| add(target.map_or(u64::MAX, u64::from)));
        }
        let o = &c.optimizer;
        let muon = o.muon.map(|muon| format!(" muon {} {}", muon.momentum, muon.scale));
        let muon = muon.unwrap_or_default();
        format!(
            "batch {} epochs {} lr {} {} warmup {} adamw {} {} {} {} clip {:?} pass {} seed {} \
             evaluate {:?} patience {:?} examples {}+{} {hash:016x}{muon}{}{}",
            c.batch_size,
            c.epochs,
            c.learning_rate,
            c.schedule,
            c.warmup_ratio,
            o.beta1,
            o.beta2,
            o.eps,
            o.weight_decay,
            c.max_grad_norm,
            c.micro_batch_tokens,
            c.seed,
            c.evaluate_every,
            c.patience,
            examples.len(),
            self.validation.len(),
            if self.settings.is_empty() { "" } else { " " },
            self.settings,
        )
    }

    /// One step: gradients of all passes, clipping, the update.
    fn step<M: TrainableLm<B>>(
        &self,
        run: Run<B, M>,
        plan: &Plan<'_>,
        examples: &[TokenizedExample],
        rows_of_step: &RowsOfStep<'_, M>,
    ) -> Result<(Run<B, M>, StepReport), TrainError> {
        let started = Instant::now();
        let Run { model, mut optimizer, mut state, best } = run;
        let mut chosen = plan.batch(state.step);
        let planned: Vec<&TokenizedExample> = chosen.iter().map(|&i| &examples[i]).collect();
        let others = rows_of_step(state.step, &model, &planned);
        let others = others.map_err(|source| model_error(source, &state, examples, &chosen))?;
        if let Some(rows) = &others {
            self.check_rows(rows)?;
            chosen = (0..rows.len()).collect();
        }
        let examples = others.as_deref().unwrap_or(examples);
        let learning_rate = self.config.learning_rate * plan.schedule().factor(state.step);
        let mut sums = GradientSums::new();
        let mut total = 0.0;
        for (pass, batch) in plan.micro_batches(examples, &chosen)?.into_iter().enumerate() {
            if let Some(dropout) = &self.dropout {
                let place = (state.step << 20) + pass as u64 + 1;
                let mixed = self.config.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place;
                // Not 0, which switches dropout off.
                dropout.set(mixed | 1 << 63);
            }
            let spans: Vec<LabelledSpan<'_>> = batch.iter().map(|&i| examples[i].span()).collect();
            let loss =
                model.differentiate(&spans, self.objective, self.config.activations, &mut sums);
            if let Some(dropout) = &self.dropout {
                dropout.set(0);
            }
            total += loss.map_err(|source| model_error(source, &state, examples, &chosen))?;
        }
        let labels: usize = chosen.iter().map(|&i| examples[i].labels()).sum();
        let scale = 1.0 / labels.max(1) as f64;
        let (loss, grad_norm) = (total * scale, global_norm(&sums) * scale);
        for (what, value) in [("loss", loss), ("gradient norm", grad_norm)] {
            if !value.is_finite() {
                // The parameters are still those of the last step.
                let run = Run { model, optimizer, state, best };
                let (step, lines) = (run.state.step + 1, lines(examples, &chosen));
                let checkpoint = self.last_good(&run);
                return Err(TrainError::NotFinite { step, what, value, lines, checkpoint });
            }
        }
        let clip = self.config.max_grad_norm.map_or(1.0, |max| clip_factor(grad_norm, max));
        let model = optimizer.step(model, sums, learning_rate, scale * clip);
        let tokens = chosen.iter().map(|&i| examples[i].tokens.len()).sum();
        state.step += 1;
        state.tokens += tokens as u64;
        let report = StepReport {
            step: state.step,
            total_steps: plan.total_steps(),
            epoch: state.step as f64 / plan.steps_per_epoch() as f64,
            loss,
            learning_rate,
            grad_norm,
            tokens,
            labels,
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok((Run { model, optimizer, state, best }, report))
    }

    /// Scores the validation examples; `None` where there are none.
    fn validate<M: TrainableLm<B>>(
        &self,
        run: &mut Run<B, M>,
    ) -> Result<Option<TrainEvent>, TrainError> {
        let labels: usize = self.validation.iter().map(TokenizedExample::labels).sum();
        if labels == 0 {
            return Ok(None);
        }
        let all: Vec<usize> = (0..self.validation.len()).collect();
        let plan = Plan::new(self.config, self.validation.len());
        let mut total = 0.0;
        for batch in plan.micro_batches(self.validation, &all)? {
            let spans: Vec<_> = batch.iter().map(|&i| self.validation[i].span()).collect();
            let loss = run.model.evaluate(&spans, self.objective);
            total +=
                loss.map_err(|source| model_error(source, &run.state, self.validation, &batch))?;
        }
        let (step, loss) = (run.state.step, total / labels as f64);
        // Not `<=`, and not without the first: a loss that is not a number is not the best.
        let best = loss.is_finite() && run.state.best_loss().is_none_or(|smallest| loss < smallest);
        if best {
            run.state.best_loss_bits = Some(loss.to_bits());
            run.state.best_step = step;
            run.state.without_improvement = 0;
            match (self.checkpoints, self.config.patience) {
                (_, None) => {}
                (Some((folder, _)), Some(_)) => folder.save_best(&run.model)?,
                (None, Some(_)) => {
                    let parameters = trainable_parameters(&run.model);
                    run.best = Some(parameters.into_iter().map(|p| (p.id, p.values)).collect());
                }
            }
        } else {
            run.state.without_improvement += 1;
        }
        Ok(Some(TrainEvent::Validation { step, loss, best }))
    }

    fn is_hopeless(&self, state: &RunState) -> bool {
        self.config.patience.is_some_and(|patience| state.without_improvement >= patience)
    }

    /// Saves a state whose parameters are finite; `None` where no checkpoints are kept.
    fn save<M: TrainableLm<B>>(
        &self,
        run: &Run<B, M>,
        plan: &Plan<'_>,
        examples: &[TokenizedExample],
    ) -> Result<Option<TrainEvent>, TrainError> {
        let Some((folder, _)) = self.checkpoints else { return Ok(None) };
        let (step, value) = (run.state.step, parameter_norm(&run.model));
        if !value.is_finite() {
            let lines = lines(examples, &plan.batch(step.saturating_sub(1)));
            let (what, checkpoint) = ("parameter norm", self.last_good(run));
            return Err(TrainError::NotFinite { step, what, value, lines, checkpoint });
        }
        let path = folder.save(&run.model, &run.optimizer, &run.state)?;
        Ok(Some(TrainEvent::Saved { step, path }))
    }

    /// The checkpoint of this state, written now, or the newest where it is not to be saved or cannot
    /// be: what is reported is why training failed, not that saving did too.
    fn last_good<M: TrainableLm<B>>(&self, run: &Run<B, M>) -> Option<PathBuf> {
        let (folder, _) = self.checkpoints?;
        let is_good = parameter_norm(&run.model).is_finite();
        let saved = is_good.then(|| folder.save(&run.model, &run.optimizer, &run.state).ok());
        saved.flatten().or_else(|| Some(folder.of_step(folder.steps().ok()?.pop()?)))
    }

    fn best<M: TrainableLm<B>>(&self, run: Run<B, M>) -> Result<M, TrainError> {
        match (run.best, self.checkpoints) {
            (Some(values), _) => Ok(with_values(run.model, values)),
            (None, Some((folder, _))) if run.state.best_loss().is_some() => {
                Ok(folder.load_best(run.model)?)
            }
            _ => Ok(run.model),
        }
    }
}

/// The Euclidean norm of all trainable parameters together.
fn parameter_norm<B, M>(model: &M) -> f64
where
    B: AutodiffBackend<InnerBackend: LmGradients>,
    M: TrainableLm<B>,
{
    let parameters = trainable_parameters(model).into_iter();
    parameters.map(|p| B::InnerBackend::sum_of_squares(p.values)).sum::<f64>().sqrt()
}

fn outcome(reason: StopReason, state: &RunState) -> TrainOutcome {
    let best = state.best_loss().map(|loss| (loss, state.best_step));
    TrainOutcome { reason, step: state.step, best, tokens: state.tokens }
}

fn both(a: ControlFlow<()>, b: ControlFlow<()>) -> ControlFlow<()> {
    if a.is_break() { a } else { b }
}

fn lines(examples: &[TokenizedExample], chosen: &[usize]) -> Vec<usize> {
    chosen.iter().map(|&i| examples[i].line).collect()
}

fn model_error(
    source: LmError,
    state: &RunState,
    examples: &[TokenizedExample],
    chosen: &[usize],
) -> TrainError {
    TrainError::Model { step: state.step + 1, lines: lines(examples, chosen), source }
}
