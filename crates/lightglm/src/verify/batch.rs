//! `Batch`: one batch of the expectations, prefilled, decoded and continued.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use lightglm_core::{CausalLm, KvDtype, KvShape, LogitRows, SequenceId, Span};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::LmBackend;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, Site};

use super::comparison::Comparisons;
use super::expected::Expected;
use crate::error::Error;

/// One batch of the expectations: all tensors that share a prefix.
pub(super) struct Batch<'a> {
    pub(super) expected: &'a Expected,
    pub(super) prefix: &'a str,
    pub(super) config: &'a GlmConfig,
}

/// The rows of a padded batch as the sequences they are: `(first real column, tokens)` each.
pub(super) type Rows = Vec<(usize, Vec<u32>)>;

impl Batch<'_> {
    fn name(&self, tensor: &str) -> String {
        format!("{}.{tensor}", self.prefix)
    }

    pub(super) fn verify<B: LmBackend>(
        &self,
        model: &DenseGlm<B>,
        device: &B::Device,
        report: &mut Comparisons<'_>,
    ) -> Result<(), Error> {
        let rows = self.rows()?;
        let seen = self.prefill(model, device, &rows, report)?;
        self.decode(model, device, &rows, report)?;
        self.greedy(model, device, &rows, report)?;
        for name in self.expected.names(self.prefix) {
            if !seen.contains(&name) {
                report.not_compared(&self.name(&name));
            }
        }
        Ok(())
    }

    /// Takes the padding off: columns where `attention_mask` is 0 are no tokens.
    fn rows(&self) -> Result<Rows, Error> {
        let (shape, ids) = self.expected.rows(&self.name("input_ids"))?;
        let name = self.name("attention_mask");
        let mask = match self.expected.has(&name) {
            true => self.expected.ints(&name)?.1,
            false => vec![1; ids.len()],
        };
        let misfit = |reason| self.expected.misfit(&name, &shape, reason);
        if mask.len() != ids.len() {
            return Err(misfit("is not the shape of the mask").into());
        }
        let rows = ids.chunks(shape[1]).zip(mask.chunks(shape[1]));
        rows.map(|(ids, mask)| {
            let first = mask.iter().position(|&m| m == 1).ok_or(misfit("has a row of padding"))?;
            let end = mask.iter().rposition(|&m| m == 1).map_or(first, |last| last + 1);
            if mask[first..end].iter().any(|&m| m != 1) {
                return Err(misfit("has holes").into());
            }
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
        report: &mut Comparisons<'_>,
    ) -> Result<Vec<String>, Error> {
        let mut cache = self.cache::<B>(device, rows, 0);
        let mut sites = Vec::new();
        let mut observer = |site: Site, value: &Tensor<B, 2>| sites.push((site, host(value)));
        let spans = spans(rows, LogitRows::All);
        let logits = host(&model.forward_with_hook(&spans, &mut cache, &mut observer)?);
        let mut seen = vec!["input_ids".to_string(), "attention_mask".to_string()];
        let mut compare = |name: &str, actual: &[f32]| -> Result<(), Error> {
            if self.expected.has(&self.name(name)) {
                let expected = self.unpadded(name, rows)?;
                report.values(&self.name(name), actual, &expected);
                seen.push(name.to_string());
            }
            Ok(())
        };
        for (site, value) in &sites {
            let name = match site {
                Site::Embed => "hidden.embed".to_string(),
                Site::Queries(i) => format!("layer{i}.queries"),
                Site::Keys(i) => format!("layer{i}.keys"),
                Site::Values(i) => format!("layer{i}.values"),
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
            report.values(
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
        report: &mut Comparisons<'_>,
    ) -> Result<(), Error> {
        let (input, output) = (self.name("decode_input_ids"), self.name("decode_logits"));
        if !self.expected.has(&input) || !self.expected.has(&output) {
            return Ok(());
        }
        let (shape, ids) = self.expected.rows(&input)?;
        let (_, expected) = self.expected.floats(&output)?;
        let (steps, v) = (shape[1], model.vocab_size());
        if shape[0] != rows.len() || expected.len() != ids.len() * v {
            return Err(self
                .expected
                .misfit(&input, &shape, "does not fit prompts and logits")
                .into());
        }
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
        report.values(&output, &actual, &expected);
        Ok(())
    }

    /// The model's own continuation.
    fn greedy<B: LmBackend>(
        &self,
        model: &DenseGlm<B>,
        device: &B::Device,
        rows: &Rows,
        report: &mut Comparisons<'_>,
    ) -> Result<(), Error> {
        let name = self.name("greedy_tokens");
        if !self.expected.has(&name) {
            return Ok(());
        }
        let (shape, expected) = self.expected.rows(&name)?;
        let steps = shape[1];
        if shape[0] != rows.len() {
            return Err(self
                .expected
                .misfit(&name, &shape, "has other rows than the prompts")
                .into());
        }
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
    fn unpadded(&self, name: &str, rows: &Rows) -> Result<Vec<f32>, Error> {
        let (shape, values) = self.expected.floats(&self.name(name))?;
        self.take_rows(name, &shape, &values, rows)
    }

    fn unpadded_ints(&self, name: &str, rows: &Rows) -> Result<Vec<i64>, Error> {
        let (shape, values) = self.expected.ints(&self.name(name))?;
        self.take_rows(name, &shape, &values, rows)
    }

    fn take_rows<T: Copy>(
        &self,
        name: &str,
        shape: &[usize],
        values: &[T],
        rows: &Rows,
    ) -> Result<Vec<T>, Error> {
        let misfit = |reason| self.expected.misfit(&self.name(name), shape, reason);
        if shape.len() < 2 || shape[0] != rows.len() {
            return Err(misfit("has other rows than the prompts").into());
        }
        let width: usize = shape[2..].iter().product();
        let mut taken = Vec::new();
        for (row, (first, tokens)) in rows.iter().enumerate() {
            if first + tokens.len() > shape[1] {
                return Err(misfit("has fewer columns than the prompts").into());
            }
            let start = (row * shape[1] + first) * width;
            taken.extend_from_slice(&values[start..start + tokens.len() * width]);
        }
        Ok(taken)
    }
}

pub(super) fn spans(rows: &Rows, logits: LogitRows) -> Vec<Span<'_>> {
    let rows = rows.iter().enumerate();
    rows.map(|(i, (_, tokens))| Span::text(SequenceId(i), tokens, logits)).collect()
}

fn host<B: Backend>(x: &Tensor<B, 2>) -> Vec<f32> {
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
