//! Everything at once, on a model so small that it takes seconds: a teacher is taught and asked, a student is cut out
//! of it, taught by it, trained to bear its quantization, packed, and asked, sparse and with an eight-bit KV cache.
//! Any part can be left out. The model begins with random weights and has little to say: with another folder in its
//! place the program is the same.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Result;
use lightglm::prune::{PruneOptions, Wanted, prune};
use lightglm::training::*;
use lightglm::{KvDtype, LoadOptions, Model, ProgressSink, Sparsity, WeightDtype, checkpoint};
use lightglm_model::config::GlmConfig;
use lightglm_model::weights::write_random_checkpoint;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let silent = ProgressSink::default();

    // 1. A teacher: all parameters, on questions and answers of a shop, of which the answers are learnt.
    let mut teacher = TrainingModel::open(random_model(&path("random"))?, Method::Full)?;
    let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/faq_train.jsonl");
    let mut rows = teacher.tokenize(&read_examples(rows, &ReadOptions::default())?)?.rows;
    rows.truncate(32);
    let measure = |model: &Model| perplexity(model, &rows, &silent);
    train(&mut teacher, &rows, 12, 3e-3)?;
    teacher.save(path("teacher"))?;
    println!("teacher: perplexity {:.1}", measure(&teacher.model()?)?);

    // 2. A student: the rows say which two of the four layers, and which half of the feed-forward neurons, matter most.
    let wanted =
        Wanted { num_hidden_layers: Some(2), intermediate_size: Some(64), ..Wanted::default() };
    let calibration = rows.iter().flat_map(|row| row.tokens.iter().copied()).collect();
    let options = PruneOptions { wanted, calibration, ..PruneOptions::default() };
    let report = prune(&checkpoint::open(path("teacher"), &silent)?, &options, &path("pruned"))?;
    let (before, after) = (report.before.parameters, report.after.parameters);
    println!("pruned: {after} of {before} parameters, layers {:?} stay", report.slice.layers);

    // 3. The teacher is asked once, and need not be in memory while others learn from its file.
    let opened = Model::open(path("teacher"), LoadOptions::default())?;
    let cache = path("teacher.cache");
    let answers = cache_teacher(&opened, &rows, &cache, &silent)?;
    println!("asked: {} distributions in {} bytes", answers.rows(), fs::metadata(&cache)?.len());

    // 4. Distilled: what the teacher finds likely behind each token, not the token alone.
    let student = TrainingModel::open(path("pruned"), Method::Full)?;
    let mut student = student.with_cached_teacher(&cache, DistillConfig::default())?;
    let told = |what: &str, model: &Model| -> Result<()> {
        let distance = kl_divergence(model, &opened, &rows, &silent)?;
        println!("{what}: perplexity {:.1}, {distance:.3} nat from the teacher", measure(model)?);
        Ok(())
    };
    told("pruned", &student.model()?)?;
    train(&mut student, &rows, 12, 3e-3)?;
    told("distilled", &student.model()?)?;
    student.save(path("distilled"))?;

    // 5. Quantization-aware training: each step computes with weights and activations as rounded as they will be. The
    //    head and what reads the residual stream last get eight bits, the rest four. The same file teaches.
    let config = QatConfig::new("lm_head=int8,*.down_proj=w8a8,*=int4".parse()?);
    let method = Method::Qat(QatConfig { int8_kv: true, ..config });
    let student = TrainingModel::open(path("distilled"), method)?;
    let mut student = student.with_cached_teacher(&cache, DistillConfig::default())?;
    told("rounded", &student.model()?)?;
    train(&mut student, &rows, 3, 1e-3)?;
    told("trained to bear it", &student.model()?)?;

    // 6. Packed: a folder that every program here opens, chat and serve included.
    student.save(path("packed"))?;
    let model = Model::open(path("packed"), LoadOptions::default())?;
    println!("packed: {}, {} bytes a token", model.scheme(), model.bytes_read(1));

    // 7. Sparse: each prompt chooses the half of the feed-forward neurons that its reply is computed with. And keys and
    //    values are held in the eight bits that training has seen.
    let sparsity = Sparsity::PromptNeurons(0.5);
    let options = LoadOptions { sparsity, kv_dtype: KvDtype::Int8, ..LoadOptions::default() };
    let sparse = Model::open(path("packed"), options)?;
    for (name, model) in [("packed", model), ("sparse", sparse)] {
        let reply = model.chat().ask("How long do I have to return something?")?.finish()?;
        println!("{name}: {} tokens: {:?}", reply.token_ids.len(), reply.text);
    }
    Ok(())
}

/// A few epochs at a learning rate that a tiny model bears.
fn train(
    model: &mut TrainingModel,
    rows: &[TokenizedExample],
    epochs: usize,
    learning_rate: f64,
) -> Result<()> {
    let config = TrainConfig { epochs, learning_rate, ..model.recommended() };
    model.train(rows, &config, |_| ControlFlow::Continue(()))?;
    Ok(())
}

/// A folder of random weights, with the small tokenizer of the tests.
fn random_model(folder: &Path) -> Result<PathBuf> {
    let config = GlmConfig {
        num_hidden_layers: 4,
        intermediate_size: 128,
        eos_token_ids: vec![302, 309, 311], // <|endoftext|>, <|user|>, <|observation|>
        ..GlmConfig::tiny()
    };
    let go_on = &mut |_| ControlFlow::Continue(());
    write_random_checkpoint(folder, &config, WeightDtype::F32, 0, None, go_on)?;
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let tokenizer = crates.join("lightglm-text/tests/data/text/tokenizer.json");
    fs::copy(tokenizer, folder.join("tokenizer.json"))?;
    Ok(folder.to_owned())
}
