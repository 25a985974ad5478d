//! Tiny teachers, their tensors changed at will, and what they say.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn_flex::FlexDevice;
use lightglm::Cpu;
use lightglm_core::{
    LogitRows, SafetensorsWriter, SequenceId, Span, StoredDtype, TensorSpec, WeightDtype,
    WeightSource,
};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::{GlmConfig, ModelType};
use lightglm_model::decoder::LoadPrecision;
use lightglm_model::weights::{SafetensorsCheckpoint, write_random_checkpoint};
use lightglm_quant::to_f32;
use tempfile::TempDir;

/// What the models are run on.
pub(crate) const TOKENS: [u32; 12] = [5, 71, 3, 119, 64, 200, 9, 44, 251, 17, 130, 86];

/// A tiny model of this type in f32, without a tokenizer: three layers, four query heads on two.
pub(crate) fn teacher(model_type: ModelType, seed: u64) -> TempDir {
    let config = GlmConfig { model_type, num_hidden_layers: 3, ..GlmConfig::tiny() };
    let folder = tempfile::tempdir().unwrap();
    let go_on = &mut |_| ControlFlow::Continue(());
    write_random_checkpoint(folder.path(), &config, WeightDtype::F32, seed, None, go_on).unwrap();
    folder
}

/// The models of the Llama family that are compared with transformers.
pub(crate) fn llama(name: &str) -> PathBuf {
    let data = "../lightglm-model/tests/data/llama";
    Path::new(env!("CARGO_MANIFEST_DIR")).join(data).join(name)
}

pub(crate) fn open(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder).unwrap()
}

/// Changes the tensors of the f32 model in `folder`: `change` is given their names, shapes and values.
pub(crate) fn change(folder: &Path, mut change: impl FnMut(&str, &[usize], &mut [f32])) {
    let file = folder.join("model.safetensors");
    let mut tensors = BTreeMap::new();
    let source = SafetensorsCheckpoint::open(folder).unwrap();
    for name in source.names() {
        let view = source.tensor(&name).unwrap();
        let mut values = to_f32(&view);
        change(&name, &view.shape, &mut values);
        tensors.insert(name, (view.shape, values));
    }
    let spec = |(name, (shape, _)): (&String, &(Vec<usize>, Vec<f32>))| TensorSpec {
        name: name.clone(),
        dtype: StoredDtype::F32,
        shape: shape.clone(),
    };
    let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
    let mut writer = SafetensorsWriter::create(file, specs, &BTreeMap::new()).unwrap();
    for spec in writer.order().to_vec() {
        let (_, values) = &tensors[&spec.name];
        writer.write(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    }
    writer.finish().unwrap();
}

/// Sets the `rows` of a matrix, or elements of a vector, to zero.
pub(crate) fn zero_rows(
    shape: &[usize],
    values: &mut [f32],
    rows: impl IntoIterator<Item = usize>,
) {
    let width = shape.get(1).copied().unwrap_or(1);
    rows.into_iter().for_each(|row| values[row * width..(row + 1) * width].fill(0.0));
}

/// Sets the `columns` of a matrix to zero.
pub(crate) fn zero_columns(shape: &[usize], values: &mut [f32], columns: &[usize]) {
    for row in values.chunks_exact_mut(shape[1]) {
        columns.iter().for_each(|&column| row[column] = 0.0);
    }
}

/// `[T, V]`: the logits behind each of `tokens`.
pub(crate) fn logits(folder: &Path, tokens: &[u32]) -> Vec<f32> {
    let f32 = LoadPrecision::Convert(WeightDtype::F32);
    let model = open(folder).load::<Cpu>(f32, &FlexDevice).unwrap();
    let span = Span::text(SequenceId(0), tokens, LogitRows::All);
    model.forward_uncached(&[span]).unwrap().into_data().to_vec().unwrap()
}

/// The largest distance of two logits.
pub(crate) fn apart(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).fold(0.0, |most, (a, b)| (a - b).abs().max(most))
}

/// Types and bytes by name.
pub(crate) fn tensors(source: &dyn WeightSource) -> BTreeMap<String, (WeightDtype, Vec<u8>)> {
    let tensor = |name: String| {
        let view = source.tensor(&name).unwrap();
        (name, (view.dtype, view.bytes.to_vec()))
    };
    source.names().into_iter().map(tensor).collect()
}
