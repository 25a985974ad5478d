//! One model, composed: trained to bear its quantization, packed, sparse, its KV cache in eight bits.
//! Any part can be left out. The model is a tiny one of random weights, which has nothing to say: with
//! another folder in its place the program is the same.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use lightglm::training::*;
use lightglm::{KvDtype, LoadOptions, Model, ProgressSink, Sparsity, WeightDtype};
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::write_random_checkpoint;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let dense = tiny_model(folder.path())?;

    // 1. Quantization-aware training: each step computes with weights and activations as rounded as they
    //    will be. The head and what reads the residual stream last get eight bits, the rest four.
    let config = QatConfig::new("lm_head=int8,*.down_proj=w8a8,*=int4".parse()?);
    let method = Method::Qat(QatConfig { int8_kv: true, kl_weight: 0.5, ..config });
    let mut student = TrainingModel::open(&dense, method)?;
    let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/faq_train.jsonl");
    let mut rows = student.tokenize(&read_examples(rows, &ReadOptions::default())?)?.rows;
    rows.truncate(32);
    let silent = ProgressSink::default();
    let measure = |student: &TrainingModel| perplexity(&student.model()?, &rows, &silent);
    let rounded = measure(&student)?;
    let config = TrainConfig { learning_rate: 1e-3, ..student.recommended() };
    let outcome = student.train(&rows, &config, |_| ControlFlow::Continue(()))?;
    let trained = measure(&student)?;
    println!("perplexity {rounded:.1} rounded, {trained:.1} after {} steps", outcome.step);

    // 2. Packed: a folder that every program here opens, chat and serve included.
    let packed = folder.path().join("packed");
    student.save(&packed)?;

    // 3. Sparse: each prompt chooses the half of the feed-forward neurons that its reply is computed
    //    with. And keys and values are held in the eight bits that training has seen.
    let sparsity = Sparsity::PromptNeurons(0.5);
    let options = LoadOptions { sparsity, kv_dtype: KvDtype::Int8, ..LoadOptions::default() };
    let model = Model::open(&packed, options)?;
    let reply = model.chat().ask("How long do I have to return something?")?.finish()?;
    println!("{} tokens: {:?}", reply.token_ids.len(), reply.text);
    Ok(())
}

/// A folder of random weights, with the small tokenizer of the tests.
fn tiny_model(folder: &Path) -> Result<PathBuf> {
    let ends = vec![302, 309, 311]; // <|endoftext|>, <|user|>, <|observation|>
    let config = GlmConfig { eos_token_ids: ends, ..GlmConfig::tiny() };
    let model = folder.join("dense");
    let go_on = &mut |_| ControlFlow::Continue(());
    write_random_checkpoint(&model, &config, WeightDtype::F32, 0, None, go_on)?;
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let tokenizer = crates.join("lightglm-text/tests/data/text/tokenizer.json");
    fs::copy(tokenizer, model.join("tokenizer.json"))?;
    Ok(model)
}
