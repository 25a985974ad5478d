//! Does our decoder compute what Hugging Face transformers computes?
//!
//! `cargo run --release --example verify -- DIR` loads DIR's config.json and weights, reads
//! DIR/expected.safetensors, and prints the largest absolute difference for each expected tensor.
//! Exit status 1 where one is above 2e-4 or a greedy token differs. On CUDA, where burn multiplies f32
//! matrices in TF32 (10 bits of mantissa), the norm of the difference is compared with the tensor's, and
//! may be up to 1e-2 of it.
//!
//! Each group of tensors in the file (a prefix such as `nopad` or `leftpad`) is one batch:
//! `input_ids` with `attention_mask` are prefilled with every inner value observed, then
//! `decode_input_ids` are fed one by one, then the model continues greedily on its own. Padded rows
//! are run as the shorter sequences they are. Where DIR/expected_train.safetensors is present, loss
//! and gradients are compared as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor, activation};
use clap::Parser;
use lightglm_core::{CausalLm, LogitRows, SequenceId, Span, WeightDtype};
use lightglm_core::{KvDtype, KvShape};
use lightglm_examples::device::{Device, DeviceJob, run_on};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::{LmBackend, LmGradients};
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, LoadPrecision, Site};
use lightglm_model::weights::SafetensorsCheckpoint;
use safetensors::{Dtype, SafeTensors};

/// f32 sums in another order than the reference's stay well below this.
const TOLERANCE: f32 = 2e-4;

/// Of the norm, where products are TF32: each rounds its inputs to within 4.9e-4, in every layer, forward
/// and backward. On an H100 the worst of the fixtures' tensors, a gradient, was off by 4.8e-3.
const TF32_TOLERANCE: f64 = 1e-2;

#[derive(Parser)]
struct Args {
    /// Folder with config.json, the weights and expected.safetensors.
    dir: PathBuf,
    /// Configuration to use; by default config.json, then config.legacy.json where there is one.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    device: Device,
}

fn main() -> ExitCode {
    lightglm_examples::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let configs = match args.config {
        Some(config) => vec![config],
        None => ["config.json", "config.legacy.json"]
            .map(|name| args.dir.join(name))
            .into_iter()
            .enumerate()
            .filter(|(i, path)| *i == 0 || path.exists())
            .map(|(_, path)| path)
            .collect(),
    };
    let mut report = Report { tf32: args.device == Device::Cuda, ..Report::default() };
    for config in configs {
        println!("{} on {:?}", config.display(), args.device);
        let job = Verify { dir: &args.dir, config: &config, report: &mut report };
        run_on(args.device, job)?;
    }
    println!("{} compared, {} failed", report.compared, report.failed);
    ensure!(
        report.failed == 0,
        "{} of {} differ from the reference",
        report.failed,
        report.compared
    );
    Ok(())
}

/// Counts and prints comparisons.
#[derive(Default)]
struct Report {
    compared: usize,
    failed: usize,
    /// Whether products are of TF32.
    tf32: bool,
}

impl Report {
    fn line(&mut self, name: &str, passed: bool, what: &str) {
        self.compared += 1;
        self.failed += usize::from(!passed);
        println!("  {} {name:<62} {what}", if passed { "ok  " } else { "FAIL" });
    }

    /// The largest absolute difference of two equally long lists; NaN counts as infinite and passes
    /// nowhere.
    fn difference(&mut self, name: &str, actual: &[f32], expected: &[f32]) {
        if actual.len() != expected.len() {
            let what = format!("{} values where {} are expected", actual.len(), expected.len());
            return self.line(name, false, &what);
        }
        let worst = actual.iter().zip(expected).map(|(a, e)| (a - e).abs());
        let worst = worst.fold(0.0, |m: f32, d| if d.is_nan() { f32::INFINITY } else { m.max(d) });
        if self.tf32 {
            let norm = |values: &mut dyn Iterator<Item = f32>| {
                values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
            };
            let off = norm(&mut actual.iter().zip(expected).map(|(a, e)| a - e));
            let relative = off / norm(&mut expected.iter().copied()).max(f64::MIN_POSITIVE);
            let what = format!("max |difference| {worst:.2e}, of the norm {relative:.2e}");
            return self.line(name, relative <= TF32_TOLERANCE, &what);
        }
        self.line(name, worst <= TOLERANCE, &format!("max |difference| {worst:.2e}"));
    }

    fn tokens(&mut self, name: &str, actual: &[i64], expected: &[i64]) {
        let equal = actual.iter().zip(expected).filter(|(a, e)| a == e).count();
        let passed = actual == expected;
        self.line(name, passed, &format!("{equal} of {} tokens agree", expected.len()));
    }
}

struct Verify<'a> {
    dir: &'a Path,
    config: &'a Path,
    report: &'a mut Report,
}

impl DeviceJob for Verify<'_> {
    type Output = ();

    fn run<B: LmGradients>(self, device: B::Device) -> Result<()> {
        let config = GlmConfig::from_file(self.config)?;
        let checkpoint = SafetensorsCheckpoint::open(self.dir)?;
        let precision = LoadPrecision::Convert(WeightDtype::F32);
        let model = DenseGlm::<B>::load(&config, &checkpoint, self.dir, precision, &device)?;
        let expected = Expected::read(&self.dir.join("expected.safetensors"))?;
        for prefix in expected.prefixes() {
            let group = Group { expected: &expected, prefix: &prefix, config: &config };
            group.verify(&model, &device, self.report)?;
        }
        let train = self.dir.join("expected_train.safetensors");
        if train.exists() {
            let train = Expected::read(&train)?;
            let model =
                DenseGlm::<Autodiff<B>>::load(&config, &checkpoint, self.dir, precision, &device)?;
            verify_training(model, &train, self.report)?;
        }
        Ok(())
    }
}

/// One batch of the expectations: all tensors that share a prefix.
struct Group<'a> {
    expected: &'a Expected,
    prefix: &'a str,
    config: &'a GlmConfig,
}

/// The rows of a padded batch as the sequences they are: `(first real column, tokens)` each.
type Rows = Vec<(usize, Vec<u32>)>;

impl Group<'_> {
    fn name(&self, tensor: &str) -> String {
        format!("{}.{tensor}", self.prefix)
    }

    fn verify<B: LmBackend>(
        &self,
        model: &DenseGlm<B>,
        device: &B::Device,
        report: &mut Report,
    ) -> Result<()> {
        let rows = self.rows()?;
        let seen = self.prefill(model, device, &rows, report)?;
        self.decode(model, device, &rows, report)?;
        self.greedy(model, device, &rows, report)?;
        for name in self.expected.names(self.prefix) {
            if !seen.contains(&name) {
                println!("  ---- {:<62} not understood, not compared", self.name(&name));
            }
        }
        Ok(())
    }

    /// Takes the padding off: columns where `attention_mask` is 0 are no tokens.
    fn rows(&self) -> Result<Rows> {
        let (shape, ids) = self.expected.ints(&self.name("input_ids"))?;
        let mask = match self.expected.has(&self.name("attention_mask")) {
            true => self.expected.ints(&self.name("attention_mask"))?.1,
            false => vec![1; ids.len()],
        };
        ensure!(shape.len() == 2 && mask.len() == ids.len(), "input_ids and attention_mask differ");
        let rows = ids.chunks(shape[1]).zip(mask.chunks(shape[1]));
        rows.map(|(ids, mask)| {
            let first = mask.iter().position(|&m| m == 1).context("a row is all padding")?;
            let end = mask.iter().rposition(|&m| m == 1).map_or(first, |last| last + 1);
            ensure!(mask[first..end].iter().all(|&m| m == 1), "a mask has holes");
            let tokens = ids[first..end].iter().map(|&id| id as u32).collect();
            Ok((first, tokens))
        })
        .collect()
    }

    fn cache<B: LmBackend>(
        &self,
        device: &B::Device,
        rows: &Rows,
        more: usize,
    ) -> ContiguousKvCache<B> {
        let longest = rows.iter().map(|(_, tokens)| tokens.len()).max().unwrap_or(0);
        ContiguousKvCache::new(
            KvShape::of(self.config),
            rows.len(),
            longest + more,
            KvDtype::F32,
            device,
        )
    }

    /// The whole prompts at once, every inner value compared; returns the names understood.
    fn prefill<B: LmBackend>(
        &self,
        model: &DenseGlm<B>,
        device: &B::Device,
        rows: &Rows,
        report: &mut Report,
    ) -> Result<Vec<String>> {
        let mut cache = self.cache::<B>(device, rows, 0);
        let mut sites = Vec::new();
        let mut observer = |site: Site, value: &Tensor<B, 2>| sites.push((site, host(value)));
        let spans = spans(rows, LogitRows::All);
        let logits = host(&model.forward_with_hook(&spans, &mut cache, &mut observer)?);
        let mut seen = vec!["input_ids".to_string(), "attention_mask".to_string()];
        let mut compare = |name: &str, actual: &[f32]| -> Result<()> {
            if self.expected.has(&self.name(name)) {
                let expected = self.unpadded(name, rows)?;
                report.difference(&self.name(name), actual, &expected);
                seen.push(name.to_string());
            }
            Ok(())
        };
        for (site, value) in &sites {
            let name = match site {
                Site::Embed => "hidden.embed".to_string(),
                Site::SelfAttnOut(i) => format!("layer{i}.self_attn_out"),
                Site::MlpOut(i) => format!("layer{i}.mlp_out"),
                Site::Layer(i) => format!("hidden.layer{i}"),
                Site::FinalNorm => "hidden.final_norm".to_string(),
            };
            compare(&name, value)?;
        }
        compare("logits", &logits)?;
        let name = self.name("position_ids");
        if self.expected.has(&name) {
            let expected = self.unpadded_ints("position_ids", rows)?;
            let actual: Vec<i64> =
                rows.iter().flat_map(|(_, tokens)| 0..tokens.len() as i64).collect();
            report.tokens(&name, &actual, &expected);
            seen.push("position_ids".to_string());
        }
        let name = self.name("logprobs_last_row0");
        if self.expected.has(&name) {
            let v = model.vocab_size();
            let last = rows[0].1.len() - 1;
            report.difference(
                &name,
                &log_softmax(&logits[last * v..(last + 1) * v]),
                &self.expected.floats(&name)?.1,
            );
        }
        let others = ["logprobs_last_row0", "decode_input_ids", "decode_logits", "greedy_tokens"];
        seen.extend(others.map(String::from));
        Ok(seen)
    }

    /// Given tokens one at a time after the prompts.
    fn decode<B: LmBackend>(
        &self,
        model: &DenseGlm<B>,
        device: &B::Device,
        rows: &Rows,
        report: &mut Report,
    ) -> Result<()> {
        let (input, output) = (self.name("decode_input_ids"), self.name("decode_logits"));
        if !self.expected.has(&input) || !self.expected.has(&output) {
            return Ok(());
        }
        let (shape, ids) = self.expected.ints(&input)?;
        let (_, expected) = self.expected.floats(&output)?;
        let (steps, v) = (shape[1], model.vocab_size());
        let mut cache = self.cache::<B>(device, rows, steps);
        model.forward(&spans(rows, LogitRows::None), &mut cache)?;
        let mut actual = vec![0.0; expected.len()];
        for step in 0..steps {
            let tokens: Rows =
                (0..shape[0]).map(|row| (0, vec![ids[row * steps + step] as u32])).collect();
            let logits = host(&model.forward(&spans(&tokens, LogitRows::Last), &mut cache)?);
            for (row, logits) in logits.chunks(v).enumerate() {
                actual[(row * steps + step) * v..][..v].copy_from_slice(logits);
            }
        }
        report.difference(&output, &actual, &expected);
        Ok(())
    }

    /// The model's own continuation.
    fn greedy<B: LmBackend>(
        &self,
        model: &DenseGlm<B>,
        device: &B::Device,
        rows: &Rows,
        report: &mut Report,
    ) -> Result<()> {
        let name = self.name("greedy_tokens");
        if !self.expected.has(&name) {
            return Ok(());
        }
        let (shape, expected) = self.expected.ints(&name)?;
        let steps = shape[1];
        let mut cache = self.cache::<B>(device, rows, steps);
        let mut actual = vec![0; expected.len()];
        let mut next = rows.clone();
        for step in 0..steps {
            let logits = host(&model.forward(&spans(&next, LogitRows::Last), &mut cache)?);
            for (row, logits) in logits.chunks(model.vocab_size()).enumerate() {
                let token = argmax(logits);
                actual[row * steps + step] = token as i64;
                next[row] = (0, vec![token as u32]);
            }
        }
        report.tokens(&name, &actual, &expected);
        Ok(())
    }

    /// Rows of `[B, S, ...]` where a token stands, in order.
    fn unpadded(&self, name: &str, rows: &Rows) -> Result<Vec<f32>> {
        let (shape, values) = self.expected.floats(&self.name(name))?;
        take_rows(&shape, &values, rows).with_context(|| self.name(name))
    }

    fn unpadded_ints(&self, name: &str, rows: &Rows) -> Result<Vec<i64>> {
        let (shape, values) = self.expected.ints(&self.name(name))?;
        take_rows(&shape, &values, rows).with_context(|| self.name(name))
    }
}

fn take_rows<T: Copy>(shape: &[usize], values: &[T], rows: &Rows) -> Result<Vec<T>> {
    ensure!(shape.len() >= 2 && shape[0] == rows.len(), "shape {shape:?} has other rows");
    let width: usize = shape[2..].iter().product();
    let mut taken = Vec::new();
    for (row, (first, tokens)) in rows.iter().enumerate() {
        ensure!(first + tokens.len() <= shape[1], "shape {shape:?} has other columns");
        let start = (row * shape[1] + first) * width;
        taken.extend_from_slice(&values[start..start + tokens.len() * width]);
    }
    Ok(taken)
}

/// Mean next-token cross-entropy and its gradients against the reference's.
fn verify_training<B: AutodiffBackend + LmBackend>(
    model: DenseGlm<B>,
    expected: &Expected,
    report: &mut Report,
) -> Result<()>
where
    DenseGlm<B>: AutodiffModule<B>,
{
    let (shape, ids) = expected.ints("train.input_ids")?;
    let rows: Rows =
        ids.chunks(shape[1]).map(|row| (0, row.iter().map(|&id| id as u32).collect())).collect();
    let logits = model.forward_uncached(&spans(&rows, LogitRows::All))?;
    let loss = next_token_loss(logits, &rows);
    let (_, expected_loss) = expected.floats("train.loss")?;
    report.difference("train.loss", &host_1d(&loss), &expected_loss);
    let gradients = loss.backward();
    let mut collected = Gradients::<B> { gradients, path: vec![], values: BTreeMap::new() };
    model.visit(&mut collected);
    for name in expected.names("train.grad") {
        let key = name.strip_prefix("model.").unwrap_or(&name);
        // The embedding table is a parameter of the model itself, not of a layer.
        let table = key.strip_suffix(".weight").unwrap_or(key);
        let Some(actual) = collected.values.get(key).or(collected.values.get(table)) else {
            bail!("the model has no parameter `{name}` (it has {:?})", collected.values.keys());
        };
        let (_, wanted) = expected.floats(&format!("train.grad.{name}"))?;
        report.difference(&format!("train.grad.{name}"), actual, &wanted);
    }
    if expected.has("train.grad_global_norm") {
        let squares = collected.values.values().flatten().map(|&g| f64::from(g) * f64::from(g));
        let norm = squares.sum::<f64>().sqrt() as f32;
        let (_, wanted) = expected.floats("train.grad_global_norm")?;
        report.difference("train.grad_global_norm", &[norm], &wanted);
    }
    Ok(())
}

/// `logits: [T, V]` of all rows; each row's last token predicts nothing.
fn next_token_loss<B: Backend>(logits: Tensor<B, 2>, rows: &Rows) -> Tensor<B, 1> {
    let device = logits.device();
    let (mut from, mut targets, mut first) = (vec![], vec![], 0);
    for (_, tokens) in rows {
        from.extend((first..first + tokens.len() - 1).map(|row| row as i32));
        targets.extend(tokens[1..].iter().map(|&token| token as i32));
        first += tokens.len();
    }
    let n = from.len();
    let log_probs =
        activation::log_softmax(logits, 1).select(0, Tensor::from_data(from.as_slice(), &device));
    let targets = Tensor::<B, 1, burn::tensor::Int>::from_data(targets.as_slice(), &device);
    -log_probs.gather(1, targets.reshape([n, 1])).mean()
}

/// Collects each parameter's gradient under its dotted path.
struct Gradients<B: AutodiffBackend> {
    gradients: B::Gradients,
    path: Vec<String>,
    values: BTreeMap<String, Vec<f32>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Gradients<B> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = param.val().grad(&self.gradients) {
            let values = gradient.cast(DType::F32).into_data().to_vec().expect("f32 data");
            self.values.insert(self.path.join("."), values);
        }
    }
}

/// The tensors of an expectation file.
struct Expected {
    bytes: Vec<u8>,
    file: PathBuf,
}

impl Expected {
    fn read(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        SafeTensors::deserialize(&bytes).with_context(|| file.display().to_string())?;
        Ok(Self { bytes, file: file.to_path_buf() })
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("was read before")
    }

    fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// What stands before `.input_ids`.
    fn prefixes(&self) -> Vec<String> {
        let tensors = self.tensors();
        let mut prefixes: Vec<String> = tensors
            .names()
            .into_iter()
            .filter_map(|name| name.strip_suffix(".input_ids"))
            .map(String::from)
            .collect();
        prefixes.sort();
        prefixes
    }

    /// Names under `prefix.`, without it.
    fn names(&self, prefix: &str) -> Vec<String> {
        let tensors = self.tensors();
        let names = tensors.names().into_iter();
        let mut names: Vec<String> = names
            .filter_map(|name| name.strip_prefix(prefix)?.strip_prefix('.'))
            .map(String::from)
            .collect();
        names.sort();
        names
    }

    fn floats(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).with_context(|| self.file.display().to_string())?;
        ensure!(view.dtype() == Dtype::F32, "{name} is {:?}, not F32", view.dtype());
        let values =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Ok((view.shape().to_vec(), values.collect()))
    }

    fn ints(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>)> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).with_context(|| self.file.display().to_string())?;
        let values = match view.dtype() {
            Dtype::I64 => view
                .data()
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")))
                .collect(),
            Dtype::I32 => view
                .data()
                .chunks_exact(4)
                .map(|b| i64::from(i32::from_le_bytes(b.try_into().expect("four bytes"))))
                .collect(),
            other => bail!("{name} is {other:?}, not I64 or I32"),
        };
        Ok((view.shape().to_vec(), values))
    }
}

fn spans(rows: &Rows, logits: LogitRows) -> Vec<Span<'_>> {
    let rows = rows.iter().enumerate();
    rows.map(|(i, (_, tokens))| Span { sequence: SequenceId(i), tokens, logits }).collect()
}

fn host<B: Backend>(x: &Tensor<B, 2>) -> Vec<f32> {
    x.clone().into_data().to_vec().expect("activations are f32")
}

fn host_1d<B: Backend>(x: &Tensor<B, 1>) -> Vec<f32> {
    x.clone().into_data().to_vec().expect("activations are f32")
}

/// The lowest index of the largest value, as torch.argmax.
fn argmax(values: &[f32]) -> usize {
    let best = |best: usize, (i, v): (usize, &f32)| if *v > values[best] { i } else { best };
    values.iter().enumerate().fold(0, best)
}

fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    logits.iter().map(|&x| x - max - sum.ln() as f32).collect()
}
