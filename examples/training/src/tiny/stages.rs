//! The stages in which it learns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use lightglm::training::{
    Method, MuonConfig, QatConfig, ScheduleShape, TokenizedExample, TrainConfig, TrainingModel,
    TrainingOptions,
};
use lightglm::{Policy, Scheme};
use lightglm_examples::progress_bar;
use lightglm_tiny::corpus::{FactSettings, LookupConversations, Random, WordSettings};
use rayon::prelude::*;

use super::hints::{self, Hint};
use super::rows::{Corpus, Mix};
use super::token_rows::TokenRows;
use super::vocabulary::Vocabulary;
use crate::training_watch::WatchedRun;

/// Tokens of a conversation at most.
const MAX_TOKENS: usize = 768;

/// Tokens of the answers of rows in which finding is learnt more than copying.
const ANSWER: usize = 6;

/// The folder of the last stage, in which the weights are packed.
pub const PACKED: &str = "9-packed";

/// A stage: rows of one kind, learnt once.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// The folder of its checkpoints and of what comes out.
    pub name: &'static str,
    /// Rows.
    pub rows: usize,
    /// Rows of a step.
    pub batch_size: usize,
    /// The largest learning rate.
    pub learning_rate: f64,
    /// How it falls.
    pub schedule: ScheduleShape,
    /// What the rows are.
    pub made: Made,
    /// What is asked for on the way; in rows of tokens [`Hint::Found`], whichever it is.
    pub hint: Option<Hint>,
    /// Decides the rows and their order.
    pub seed: u64,
}

/// What rows are made of.
#[derive(Clone, Copy, Debug)]
pub enum Made {
    /// Tokens in no order.
    Tokens(TokenRows),
    /// Conversations.
    Conversations(Mix),
}

/// What two blocks learn: to copy any token, and to note at each how its sentence begins, in short sentences of tokens in
/// no order, in longer ones, and in sentences of languages.
pub const STAGES_OF_TWO: [Stage; 3] = [
    Stage {
        name: "1-note",
        rows: 8_000,
        batch_size: 8,
        learning_rate: 1e-3,
        schedule: ScheduleShape::Constant,
        made: Made::Tokens(TokenRows { sentences: 3, tokens: 4, asked: 1, same_beginning: 0 }),
        hint: Some(Hint::Found),
        seed: 21,
    },
    Stage {
        name: "2-note-longer",
        rows: 10_000,
        batch_size: 10,
        learning_rate: 1e-3,
        schedule: ScheduleShape::Constant,
        made: Made::Tokens(TokenRows { sentences: 6, tokens: 16, asked: 3, same_beginning: 30 }),
        hint: Some(Hint::Found),
        seed: 22,
    },
    Stage {
        name: "3-note-sentences",
        rows: 12_000,
        batch_size: 12,
        learning_rate: 1e-3,
        schedule: ScheduleShape::Constant,
        made: Made::Conversations(PHRASES),
        hint: Some(Hint::Found),
        seed: 23,
    },
];

/// What the grown model learns: to find the sentence that a question names, again from tokens in no order to sentences of
/// languages; then by questions; at last without hints, with more that no text tells, ever more slowly.
pub const STAGES: [Stage; 5] = [
    Stage {
        name: "4-find",
        rows: 4_000,
        batch_size: 8,
        learning_rate: 1e-3,
        schedule: ScheduleShape::Constant,
        made: Made::Tokens(TokenRows { sentences: 3, tokens: 4, asked: 1, same_beginning: 0 }),
        hint: Some(Hint::Found),
        seed: 26,
    },
    Stage {
        name: "5-find-longer",
        rows: 5_000,
        batch_size: 10,
        learning_rate: 1e-3,
        schedule: ScheduleShape::Constant,
        made: Made::Tokens(TokenRows { sentences: 6, tokens: 16, asked: 3, same_beginning: 30 }),
        hint: Some(Hint::Found),
        seed: 27,
    },
    Stage {
        name: "6-find-sentences",
        rows: 8_000,
        batch_size: 12,
        learning_rate: 1e-3,
        schedule: ScheduleShape::Constant,
        made: Made::Conversations(PHRASES),
        hint: Some(Hint::Found),
        seed: 28,
    },
    Stage {
        name: "7-questions",
        rows: 50_000,
        batch_size: 16,
        learning_rate: 8e-4,
        schedule: ScheduleShape::Constant,
        made: Made::Conversations(Mix {
            lookups: 3,
            words: 2,
            word_sentences: LONG,
            passages: 8,
            lists: lists(9, 60, 15),
            facts: FactSettings {
                facts: 8,
                questions: 10,
                unanswerable: 9,
                mixed: 15,
                words: 9,
                phrases: 30,
            },
        }),
        hint: Some(Hint::Meant),
        seed: 24,
    },
    Stage {
        name: "8-answer",
        rows: 15_000,
        batch_size: 12,
        learning_rate: 8e-4,
        schedule: ScheduleShape::Cosine,
        made: Made::Conversations(Mix {
            lookups: 3,
            words: 1,
            word_sentences: LONG,
            passages: 8,
            lists: lists(9, 60, 20),
            facts: FactSettings {
                facts: 8,
                questions: 9,
                unanswerable: 13,
                mixed: 8,
                words: 8,
                phrases: 30,
            },
        }),
        hint: None,
        seed: 25,
    },
];

/// Sentences that are asked for by phrases and words of theirs.
const PHRASES: Mix = Mix {
    lookups: 10,
    words: 5,
    word_sentences: LONG,
    passages: 30,
    lists: lists(6, 70, 5),
    facts: FactSettings {
        facts: 5,
        questions: 8,
        unanswerable: 4,
        mixed: 50,
        words: 80,
        phrases: 50,
    },
};

const fn lists(keys: usize, inside: usize, unanswerable: usize) -> LookupConversations {
    LookupConversations { keys, inside, unanswerable }
}

const LONG: WordSettings = WordSettings { sentences: 6, words: 24, unanswerable: 8 };

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
        let vocabulary = Vocabulary::open(start)?;
        let rows = self.rows_of(corpus, &vocabulary, &student, self.seed, self.rows, self.hint)?;
        let held = self.rows_of(corpus, &vocabulary, &student, self.seed + 1_000_000, 100, None)?;
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
        config.optimizer.muon = Some(MuonConfig { scale: 0.6, ..Default::default() });
        let title = format!("{}: {} rows", self.name, rows.len());
        let run = WatchedRun::open(output, true, title)?;
        let Some(trained) = run.train(&mut student, &rows, &held, &config, stop)? else {
            return Ok(false);
        };
        student.save(output.join("model"))?;
        eprintln!("{}: {} steps in {:.0} s", self.name, trained.steps, trained.seconds);
        Ok(true)
    }

    /// Rows of this seed, so many of them, with hints or without.
    fn rows_of(
        &self,
        corpus: &Corpus,
        vocabulary: &Vocabulary,
        student: &TrainingModel,
        seed: u64,
        count: usize,
        hint: Option<Hint>,
    ) -> Result<Vec<TokenizedExample>> {
        let mix = match self.made {
            Made::Tokens(kind) => {
                let each = (0..count as u64).into_par_iter().map(|i| Random::new(seed << 32 | i));
                let row = |mut random| kind.next(vocabulary, &mut random, hint.is_some());
                return Ok(each.map(row).collect());
            }
            Made::Conversations(mix) => mix,
        };
        let mut rows = student.tokenize_examples(&corpus.rows(seed, count, mix))?.rows;
        if let Some(hint) = hint {
            rows.par_iter_mut().enumerate().for_each(|(i, row)| {
                // Those in the text are many, and soon known.
                hints::give_conversation(row, vocabulary, hint, i % 4 == 0);
                if hint == Hint::Meant && i % 3 > 0 {
                    hints::cut_answers(row, vocabulary, ANSWER);
                }
            });
        }
        Ok(rows)
    }
}
