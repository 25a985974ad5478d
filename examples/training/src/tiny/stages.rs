//! The stages in which it learns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use lightglm::training::{
    Method, MuonConfig, QatConfig, ScheduleShape, TrainConfig, TrainingModel, TrainingOptions,
};
use lightglm::{Policy, Scheme};
use lightglm_examples::progress_bar;
use lightglm_tiny::corpus::{FactSettings, LookupConversations, WordSettings};

use super::rows::{Corpus, Mix};
use crate::training_watch::WatchedRun;

/// Tokens of a conversation at most.
const MAX_TOKENS: usize = 768;

/// The folder of the last stage, in which the weights are packed.
pub const PACKED: &str = "6-packed";

/// A stage: rows of one mix, learnt once.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// The folder of its checkpoints and of what comes out.
    pub name: &'static str,
    /// Conversations.
    pub rows: usize,
    /// Conversations of a step.
    pub batch_size: usize,
    /// The largest learning rate.
    pub learning_rate: f64,
    /// How it falls.
    pub schedule: ScheduleShape,
    /// What the conversations are.
    pub mix: Mix,
    /// Whether Muon moves the matrices.
    pub muon: bool,
    /// Decides the rows and their order.
    pub seed: u64,
}

/// First to copy, from lists of few keys, in small steps: after some thousand of them the model finds out how, all
/// at once. Then to go back to where a sentence begins from what is asked for in it; then to find, in contexts of two or
/// three facts; then in long ones, of which nearly every sentence is asked for; at last the same with more that no text
/// tells, ever more slowly.
pub const STAGES: [Stage; 5] = [
    Stage {
        name: "1-copy",
        rows: 20_000,
        batch_size: 12,
        learning_rate: 1.5e-3,
        schedule: ScheduleShape::Constant,
        mix: Mix {
            lookups: 100,
            words: 0,
            word_sentences: SHORT,
            passages: 0,
            lists: lists(3, 0, 20),
            facts: FEW_FACTS,
        },
        muon: false,
        seed: 11,
    },
    Stage {
        name: "2-go-back",
        rows: 14_000,
        batch_size: 12,
        learning_rate: 1e-3,
        schedule: ScheduleShape::Cosine,
        mix: Mix {
            lookups: 50,
            words: 50,
            word_sentences: SHORT,
            passages: 0,
            lists: lists(4, 60, 8),
            facts: FEW_FACTS,
        },
        muon: true,
        seed: 15,
    },
    Stage {
        name: "3-find",
        rows: 12_000,
        batch_size: 12,
        learning_rate: 1e-3,
        schedule: ScheduleShape::Cosine,
        mix: Mix {
            lookups: 10,
            words: 30,
            word_sentences: LONG,
            passages: 0,
            lists: lists(6, 70, 10),
            facts: FactSettings {
                facts: 3,
                questions: 6,
                unanswerable: 4,
                mixed: 50,
                words: 90,
                phrases: 60,
            },
        },
        muon: true,
        seed: 16,
    },
    Stage {
        name: "4-learn",
        rows: 14_000,
        batch_size: 8,
        learning_rate: 5e-4,
        schedule: ScheduleShape::Constant,
        mix: Mix {
            lookups: 5,
            words: 10,
            word_sentences: LONG,
            passages: 10,
            lists: lists(9, 70, 20),
            facts: FactSettings {
                facts: 8,
                questions: 10,
                unanswerable: 12,
                mixed: 15,
                words: 30,
                phrases: 30,
            },
        },
        muon: true,
        seed: 13,
    },
    Stage {
        name: "5-answer",
        rows: 12_000,
        batch_size: 8,
        learning_rate: 4e-4,
        schedule: ScheduleShape::Cosine,
        mix: Mix {
            lookups: 4,
            words: 5,
            word_sentences: LONG,
            passages: 10,
            lists: lists(9, 60, 20),
            facts: FactSettings {
                facts: 8,
                questions: 9,
                unanswerable: 20,
                mixed: 5,
                words: 5,
                phrases: 30,
            },
        },
        muon: true,
        seed: 14,
    },
];

const fn lists(keys: usize, inside: usize, unanswerable: usize) -> LookupConversations {
    LookupConversations { keys, inside, unanswerable }
}

const SHORT: WordSettings = WordSettings { sentences: 3, words: 10, unanswerable: 4 };
const LONG: WordSettings = WordSettings { sentences: 6, words: 24, unanswerable: 8 };

const FEW_FACTS: FactSettings =
    FactSettings { facts: 3, questions: 5, unanswerable: 8, mixed: 60, words: 0, phrases: 0 };

/// Conversations on which the last stage is trained to bear its quantization.
const QAT_ROWS: usize = 2_000;

impl Stage {
    /// Trains `start` and writes what comes out to `output/model`; goes on behind the last checkpoint
    /// where there is one. False where it was interrupted.
    ///
    /// # Errors
    /// Where training fails or a file cannot be written.
    pub fn run(
        &self,
        corpus: &Corpus,
        start: &Path,
        output: &Path,
        stop: Arc<AtomicBool>,
    ) -> Result<bool> {
        let config = TrainConfig {
            batch_size: self.batch_size,
            epochs: 1,
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            warmup_ratio: 0.02,
            micro_batch_tokens: 4096,
            ..TrainConfig::default()
        };
        self.train(corpus, start, Method::Full, config, output, stop)
    }

    /// Trains `start` towards itself with its weights rounded, and packs it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn pack(
        &self,
        corpus: &Corpus,
        start: &Path,
        scheme: Scheme,
        output: &Path,
        stop: Arc<AtomicBool>,
    ) -> Result<bool> {
        let method = Method::Qat(QatConfig::new(Policy::uniform(scheme)));
        let config = TrainConfig {
            batch_size: self.batch_size,
            micro_batch_tokens: 4096,
            ..method.recommended()
        };
        let rows = self.rows.min(QAT_ROWS);
        let stage = Self { name: PACKED, rows, seed: self.seed + 1, ..*self };
        stage.train(corpus, start, method, config, output, stop)
    }

    fn train(
        &self,
        corpus: &Corpus,
        start: &Path,
        method: Method,
        config: TrainConfig,
        output: &Path,
        stop: Arc<AtomicBool>,
    ) -> Result<bool> {
        std::fs::create_dir_all(output)?;
        let progress = progress_bar::on_stderr();
        let options = TrainingOptions {
            max_tokens: MAX_TOKENS,
            seed: self.seed,
            progress,
            ..Default::default()
        };
        let mut student = TrainingModel::open_with(start, method, options)?;
        let rows = student.tokenize_examples(&corpus.rows(self.seed, self.rows, self.mix))?.rows;
        let held = corpus.rows(self.seed + 1_000_000, 100, self.mix);
        let held = student.tokenize_examples(&held)?.rows;
        let tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        let labels: usize = rows.iter().map(|row| row.labels()).sum();
        eprintln!("{}: {} rows, {tokens} tokens, {labels} learnt", self.name, rows.len());
        let mut config = TrainConfig {
            seed: self.seed,
            checkpoint_every: Some(250),
            evaluate_every: Some(250),
            ..config
        };
        config.optimizer.beta2 = 0.98;
        config.optimizer.weight_decay = 0.05;
        config.optimizer.muon =
            self.muon.then_some(MuonConfig { scale: 0.6, ..Default::default() });
        let title = format!("{}: {} rows", self.name, rows.len());
        let run = WatchedRun::open(output, true, title)?;
        let Some(trained) = run.train(&mut student, &rows, &held, &config, stop)? else {
            return Ok(false);
        };
        student.save(output.join("model"))?;
        eprintln!("{}: {} steps in {:.0} s", self.name, trained.steps, trained.seconds);
        Ok(true)
    }
}
