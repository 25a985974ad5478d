//! The part of a search that runs models.

use burn::tensor::Tensor;
use lightglm_distill::search::{Chosen, SearchError, choose};
use lightglm_distill::student::{Slice, SlicedWeights, StudentError, Wanted};
use lightglm_kernels::{LmBackend, LmGradients};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_quant::{Policy, Scheme};

use super::super::{PruneOptions, config_of, importance, shape_of};
use super::block_variant::{BlockVariant, table_rules};
use super::costs::Costs;
use super::found::{ChosenBlock, FoundStudent};
use super::options::{BlockChoice, SearchOptions};
use super::score_file::{Replaced, ScoreFile};
use super::teacher_on_text::TeacherOnText;
use crate::device::DeviceJob;
use crate::error::Error;
use crate::model::{QuantizedBlock, quantize_source};

const DOING: &str = "scoring blocks";

/// What is searched, and what everything costs.
#[derive(Clone, Copy)]
pub(super) struct SearchJob<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) options: &'a SearchOptions,
    pub(super) of_bytes: &'a Costs,
    /// With a budget of milliseconds.
    pub(super) of_time: Option<&'a Costs>,
}

/// That, and what is known already.
pub(super) struct ScoredJob<'a> {
    job: SearchJob<'a>,
    scores: ScoreFile,
}

/// One number of neurons for all blocks, and which of each.
struct Width {
    size: usize,
    neurons: Vec<Vec<usize>>,
}

impl<'a> SearchJob<'a> {
    pub(super) fn with_scores(self, scores: ScoreFile) -> ScoredJob<'a> {
        ScoredJob { job: self, scores }
    }

    fn layers(&self) -> usize {
        self.checkpoint.config().num_hidden_layers
    }

    fn is_full(&self, width: usize) -> bool {
        width == self.checkpoint.config().intermediate_size
    }

    /// The neurons of each width; a text decides where not all stay.
    fn widths(&self) -> Result<Vec<Width>, Error> {
        let Self { checkpoint, options, .. } = *self;
        let teacher = shape_of(checkpoint.config());
        let sizes = options.widths(checkpoint);
        let importance = match sizes.iter().all(|size| self.is_full(*size)) {
            true => None,
            false => Some(importance(
                checkpoint,
                &PruneOptions {
                    calibration: options.calibration.clone(),
                    context: options.context,
                    device: options.device,
                    progress: options.progress.clone(),
                    ..PruneOptions::default()
                },
            )?),
        };
        let of_size = |size| {
            let wanted = Wanted { intermediate_size: Some(size), ..Wanted::default() };
            let slice = match &importance {
                None => Slice::whole(&teacher),
                Some(importance) => importance.slice(&teacher, &wanted)?,
            };
            Ok(Width { size, neurons: slice.ffn })
        };
        sizes.into_iter().map(of_size).collect()
    }

    /// What is known without running anything: a block that stays as it is loses nothing.
    fn is_unchanged(&self, choice: BlockChoice, width: usize) -> bool {
        choice == BlockChoice::Kept(Scheme::Dense) && self.is_full(width)
    }

    /// The best choices over all widths: which width, and what of it.
    fn choose(&self, scores: &[Vec<Vec<f64>>]) -> Result<(usize, Chosen), Error> {
        let Self { options, of_bytes, of_time, .. } = *self;
        let costs = of_time.unwrap_or(of_bytes);
        let room = costs.room(options.budget)?;
        let mut best: Option<(usize, Chosen)> = None;
        for (width, scores) in scores.iter().enumerate() {
            let chosen = match choose(&costs.choices(width, scores), room, options.budget_steps) {
                Ok(chosen) => chosen,
                // Another width fits: that was checked.
                Err(SearchError::Budget { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            if best.as_ref().is_none_or(|(_, before)| chosen.score < before.score) {
                best = Some((width, chosen));
            }
        }
        let (budget, smallest) = (options.budget.in_units(), costs.fixed);
        Ok(best.ok_or(SearchError::Budget { budget, smallest })?)
    }

    /// Everything about the choice but what it loses as a whole.
    fn found(
        &self,
        (width, chosen): (usize, &Chosen),
        widths: &[Width],
        scores: &[Vec<Vec<f64>>],
    ) -> Result<FoundStudent, Error> {
        let Self { checkpoint, options, of_bytes, of_time } = *self;
        let all = options.choices();
        let costs = of_time.unwrap_or(of_bytes);
        let budget = options.budget;
        let (mut layers, mut rules, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = of_bytes.fixed;
        for (layer, &index) in chosen.choices.iter().enumerate() {
            if let BlockChoice::Kept(scheme) = all[index] {
                if scheme != Scheme::Dense {
                    rules.push((format!("model.layers.{}.*", layers.len()), scheme));
                }
                layers.push(layer);
            }
            bytes += of_bytes.blocks[width][layer][index];
            blocks.push(ChosenBlock {
                layer,
                choice: all[index].to_string(),
                kl: scores[width][layer][index],
                cost: budget.of_units(costs.blocks[width][layer][index]),
            });
        }
        let tables = table_rules(checkpoint.config(), options.tables);
        rules.extend(tables.map(|(table, scheme)| (table.to_owned(), scheme)));
        let rules = rules.iter().map(|(pattern, scheme)| (pattern.as_str(), *scheme));
        let Width { size, neurons } = &widths[width];
        let ffn = match self.is_full(*size) {
            true => Vec::new(),
            false => layers.iter().map(|&layer| neurons[layer].clone()).collect(),
        };
        Ok(FoundStudent {
            ffn,
            intermediate_size: *size,
            policy: Policy::new(rules)?.to_string(),
            layers,
            unit: budget.unit().to_owned(),
            budget: budget.of_units(budget.in_units()),
            cost: budget.of_units(costs.fixed.saturating_add(chosen.cost)),
            bytes,
            is_exact: chosen.is_exact,
            predicted_kl: chosen.score,
            measured_kl: chosen.score,
            tables_kl: 0.0,
            blocks,
            teacher: String::new(),
            text: String::new(),
        })
    }
}

impl ScoredJob<'_> {
    /// Scores what is not scored yet, block by block.
    fn score<B: LmBackend>(
        &mut self,
        teacher: &TeacherOnText<'_, B>,
        widths: &[Width],
        device: &B::Device,
    ) -> Result<(), Error> {
        let SearchJob { checkpoint, options, .. } = self.job;
        let mut streams = teacher.streams(&teacher.model);
        let mut missing = Vec::new();
        for layer in 0..self.job.layers() {
            for (width, Width { size, .. }) in widths.iter().enumerate() {
                for choice in options.choices() {
                    let replaced = Replaced::block(layer, choice, *size);
                    let is_known = self.job.is_unchanged(choice, *size)
                        || self.scores.get(&replaced).is_some()
                        || missing.iter().any(|(_, _, _, other)| *other == replaced);
                    if !is_known {
                        missing.push((layer, width, choice, replaced));
                    }
                }
            }
        }
        let tables = Replaced::tables(options.tables);
        let score_tables = options.tables != Scheme::Dense && self.scores.get(&tables).is_none();
        let total = missing.len() as u64 + u64::from(score_tables);
        let mut done = 0;
        let mut missing = missing.into_iter().peekable();
        for layer in 0..self.job.layers() {
            if missing.peek().is_none() {
                break;
            }
            let behind = &teacher.model.layers[layer + 1..];
            while let Some((_, width, choice, replaced)) = missing.next_if(|next| next.0 == layer) {
                options.progress.working(DOING, done, total)?;
                let block = match choice {
                    BlockChoice::Dropped => None,
                    BlockChoice::Kept(scheme) => {
                        let neurons = &widths[width].neurons[layer];
                        let variant = BlockVariant::new(checkpoint, layer, neurons)?;
                        Some(variant.load(scheme, device)?)
                    }
                };
                let layers: Vec<QuantizedBlock<B>> =
                    block.into_iter().chain(behind.iter().cloned()).collect();
                let kl = teacher.divergence(&layers, &streams, &teacher.model)?;
                self.add(replaced, kl)?;
                done += 1;
            }
            let block = &teacher.model.layers[layer..=layer];
            let ends = streams.iter().map(|stream| teacher.run(block.to_vec(), stream));
            streams = ends.collect::<Result<Vec<Tensor<B, 2>>, Error>>()?;
        }
        if score_tables {
            options.progress.working(DOING, done, total)?;
            let model = BlockVariant::tables(checkpoint)?.load_tables(options.tables, device)?;
            let streams = teacher.streams(&model);
            let kl = teacher.divergence(&teacher.model.layers, &streams, &model)?;
            self.add(tables, kl)?;
        }
        options.progress.working(DOING, total, total)
    }

    fn add(&mut self, replaced: Replaced, kl: f64) -> Result<(), Error> {
        self.scores.add(replaced, finite(kl)?)
    }

    /// All scores, by width, block and choice.
    fn all(&self, widths: &[Width]) -> Vec<Vec<Vec<f64>>> {
        let options = self.job.options;
        let score = |layer: usize, size: usize, choice: BlockChoice| {
            match self.job.is_unchanged(choice, size) {
                true => 0.0,
                // All are there by now; a score that is not would be refused.
                false => self.scores.get(&Replaced::block(layer, choice, size)).unwrap_or(f64::NAN),
            }
        };
        let choices = options.choices();
        let block =
            |layer, size| choices.iter().map(|choice| score(layer, size, *choice)).collect();
        let of_width =
            |width: &Width| (0..self.job.layers()).map(|layer| block(layer, width.size)).collect();
        widths.iter().map(of_width).collect()
    }
}

impl DeviceJob for ScoredJob<'_> {
    type Output = Result<FoundStudent, Error>;

    fn run<B: LmGradients>(mut self, device: B::Device) -> Self::Output {
        let SearchJob { checkpoint, options, .. } = self.job;
        let widths = self.job.widths()?;
        let teacher = TeacherOnText::<B>::new(checkpoint, options, &device)?;
        self.score(&teacher, &widths, &device)?;
        let scores = self.all(&widths);
        let (width, chosen) = self.job.choose(&scores)?;
        let mut found = self.job.found((width, &chosen), &widths, &scores)?;
        found.teacher = self.scores.teacher.clone();
        found.text = self.scores.text.clone();
        found.tables_kl = self.scores.get(&Replaced::tables(options.tables)).unwrap_or(0.0);
        if options.tables == Scheme::Dense {
            found.tables_kl = 0.0;
        }
        found.predicted_kl += found.tables_kl;

        let shape = shape_of(checkpoint.config());
        let slice = found.slice(&shape);
        let weights = SlicedWeights::new(checkpoint.weights(), checkpoint.path(), shape, &slice)?;
        let config = config_of(checkpoint.config(), weights.student());
        let (file, progress) = (checkpoint.path(), &options.progress);
        let policy = found.policy()?;
        let model = quantize_source(&config, &weights, file, &policy, progress, &device)?.model;
        let kl = teacher.divergence(&model.layers, &teacher.streams(&model), &model)?;
        found.measured_kl = finite(kl)?;
        Ok(found)
    }
}

fn finite(kl: f64) -> Result<f64, StudentError> {
    let name = || "the divergence from the teacher".to_owned();
    let value = kl as f32;
    if kl.is_finite() { Ok(kl) } else { Err(StudentError::NotFinite { name: name(), value }) }
}
