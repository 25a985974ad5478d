//! `learnt_rows`: the rows that a program learns from, and those that it measures on, as tokens.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lightglm::ChatText;
use lightglm::training::data::epoch_order;
use lightglm::training::{
    ConversationTokenizer, OnBadRow, ReadOptions, TextUnit, TokenizedExample, read_examples,
};

use crate::training_args::TrainingArgs;

/// How many rows, and how long.
#[derive(Clone, Copy, Debug)]
pub struct RowLimits {
    /// Tokens of a row at most: texts are cut, longer conversations are dropped.
    pub tokens: usize,
    /// Rows to learn from, at most; they are drawn by the seed.
    pub train: usize,
    /// Rows to measure on, at most; the first ones.
    pub test: usize,
}

/// `--train` and `--test`, or the examples' own questions and answers, as tokens of the model whose text side is
/// `text`. Rows of which nothing is learnt are left out.
///
/// # Errors
/// Where a file cannot be read or used, and where no row is left.
pub fn learnt_rows(
    args: &TrainingArgs,
    text: &dyn ChatText,
    limits: RowLimits,
) -> Result<(Vec<TokenizedExample>, Vec<TokenizedExample>)> {
    let options = ReadOptions {
        text_unit: TextUnit::File,
        // A text file is one row.
        max_row_bytes: 1 << 30,
        ..args.rows.options(OnBadRow::Drop)
    };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    let of = |given: &Option<PathBuf>, own: &str| given.clone().unwrap_or(data.join(own));
    let tokenizer = ConversationTokenizer::new(text).with_dropped_allowed(args.rows.allow_dropped);
    let read = |path: PathBuf| {
        let mut set = read_examples(&path, &options)?;
        let rows = tokenizer.tokenize(&set.examples, limits.tokens, &mut set.report);
        let mut rows = rows.with_context(|| path.display().to_string())?;
        eprintln!("{}", set.report);
        rows.retain(|row| row.labels() > 0);
        ensure!(!rows.is_empty(), "{}: nothing to learn or to measure", path.display());
        Ok::<_, anyhow::Error>(rows)
    };
    let all = read(of(&args.train, "faq_train.jsonl"))?;
    let order = epoch_order(all.len(), args.seed, 0);
    let train = order.into_iter().take(limits.train).map(|i| all[i].clone()).collect();
    let mut test = read(of(&args.test, "faq_test.jsonl"))?;
    test.truncate(limits.test);
    Ok((train, test))
}
