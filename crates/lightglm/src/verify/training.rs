//! Loss and gradients against the reference's.

use std::collections::BTreeMap;

use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor, activation};
use lightglm_core::{LogitRows, ProjectionLayout};
use lightglm_kernels::LmBackend;
use lightglm_model::decoder::DenseGlm;

use super::batch::{Rows, spans};
use super::comparison::Comparisons;
use super::expected::Expected;
use crate::error::Error;

/// Mean next-token cross-entropy and its gradients against the reference's, whose parameters are laid out as
/// `layout` says.
pub(super) fn verify<B: AutodiffBackend + LmBackend>(
    model: DenseGlm<B>,
    layout: ProjectionLayout,
    expected: &Expected,
    report: &mut Comparisons<'_>,
) -> Result<(), Error>
where
    DenseGlm<B>: AutodiffModule<B>,
{
    let (shape, ids) = expected.rows("train.input_ids")?;
    let rows: Rows =
        ids.chunks(shape[1]).map(|row| (0, row.iter().map(|&id| id as u32).collect())).collect();
    let logits = model.forward_uncached(&spans(&rows, LogitRows::All))?;
    let loss = next_token_loss(logits, &rows);
    let (_, expected_loss) = expected.floats("train.loss")?;
    report.values("train.loss", &host_1d(&loss), &expected_loss);
    let gradients = loss.backward();
    let mut collected = Gradients::<B> { gradients, path: vec![], values: BTreeMap::new() };
    model.visit(&mut collected);
    for name in expected.names("train.grad") {
        let (shape, wanted) = expected.floats(&format!("train.grad.{name}"))?;
        let actual = collected.of(&name, layout, shape.first().copied().unwrap_or(1));
        let actual = actual.ok_or_else(|| expected.no_parameter(&name))?;
        report.values(&format!("train.grad.{name}"), &actual, &wanted);
    }
    if expected.has("train.grad_global_norm") {
        let squares = collected.values.values().flatten().map(|&g| f64::from(g) * f64::from(g));
        let norm = squares.sum::<f64>().sqrt() as f32;
        let (_, wanted) = expected.floats("train.grad_global_norm")?;
        report.values("train.grad_global_norm", &[norm], &wanted);
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

impl<B: AutodiffBackend> Gradients<B> {
    /// The gradient of the parameter that a file of `layout` calls `name` and that has `rows` rows there, in
    /// the file's order.
    fn of(&self, name: &str, layout: ProjectionLayout, rows: usize) -> Option<Vec<f32>> {
        let key = name.strip_prefix("model.").unwrap_or(name);
        // The embedding table is a parameter of the model itself, not of a layer.
        let table = key.rsplit_once('.').map_or(key, |(projection, _)| projection);
        if let Some(values) = self.values.get(key).or(self.values.get(table)) {
            let width = values.len() / rows.max(1);
            if !layout.reorders(table) || width * rows != values.len() {
                return Some(values.clone());
            }
            let mut in_file = vec![0.0; values.len()];
            for (row, values) in values.chunks_exact(width.max(1)).enumerate() {
                let at = layout.row_in_file(table, row) * width;
                in_file.get_mut(at..at + width)?.copy_from_slice(values);
            }
            return Some(in_file);
        }
        // A half of what the decoder has as one, gate's rows first.
        let (mlp, half) = ["gate_proj", "up_proj"]
            .into_iter()
            .zip([0, 1])
            .find_map(|(part, half)| Some((table.strip_suffix(part)?, half)))?;
        let both = self.values.get(&format!("{mlp}gate_up_proj.weight"))?;
        both.chunks(both.len().div_ceil(2).max(1)).nth(half).map(<[f32]>::to_vec)
    }
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

fn host_1d<B: Backend>(x: &Tensor<B, 1>) -> Vec<f32> {
    x.clone().into_data().to_vec().expect("activations are f32")
}
