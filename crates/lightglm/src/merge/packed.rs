//! A folder of packed weights: what the adapter touches is dequantized, merged and quantized again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use burn::tensor::DType;
use burn_flex::FlexDevice;
use lightglm_core::{
    LoadPart, PartSource, QUANTIZATION_KEY, SafetensorsWriter, TensorSpec, TensorView, WeightDtype,
    WeightError, WeightSource,
};
use lightglm_kernels::ScaleDtype;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_quant::{
    CheckpointQuantizer, HostMatrix, MatrixWeight, PackedBytes, Policy, QuantError,
    QuantizedCheckpoint, QuantizedScheme, Scheme, to_f32,
};
use lightglm_train::lora::{HEAD, Lora, MergedWeights};

use super::shards::spec;
use super::{DOING, MergeOptions, MergeReport, Requantized, unties};
use crate::adapted::matrix_of;
use crate::device::Cpu;
use crate::error::Error;
use crate::new_folder::{NewFolder, at};

const SINGLE: &str = "model.safetensors";

/// The tensors of a packed matrix, after its name.
const PARTS: [&str; 3] = [".codes", ".scales", ".minimums"];

pub(super) fn merge(
    checkpoint: &Checkpoint,
    lora: &Lora,
    options: &MergeOptions,
    folder: &Path,
) -> Result<MergeReport, Error> {
    let (source, path) = (checkpoint.weights(), checkpoint.path());
    let packed = QuantizedCheckpoint::open(source, path)?;
    let original = Dequantized { packed, source, path };
    let merged = MergedWeights::new(&original, lora, checkpoint.config().tie_word_embeddings);
    let merging = Merging::new(&original, &merged, checkpoint, lora)?;
    let specs = source.names().into_iter().map(|name| {
        let stored = source.stored(&name)?;
        spec(path, &name, stored.dtype, stored.shape)
    });
    let specs = specs.collect::<Result<Vec<TensorSpec>, Error>>()?;
    let total = specs.iter().map(|spec| spec.bytes() as u64).sum();
    let index = source.metadata(QUANTIZATION_KEY).unwrap_or_default();
    let metadata = BTreeMap::from([(QUANTIZATION_KEY.to_owned(), index)]);
    let mut output = NewFolder::begin(folder)?;
    let mut writer = SafetensorsWriter::create(output.weights(SINGLE), specs, &metadata)?;
    // The parts of a matrix may stand apart; those that are not due yet wait here.
    let mut waiting: HashMap<String, Vec<u8>> = HashMap::new();
    let (mut done, mut costs) = (0, Costs::default());
    for spec in writer.order().to_vec() {
        options.progress.working(DOING, done, total)?;
        done += spec.bytes() as u64;
        let name = PARTS.iter().find_map(|part| spec.name.strip_suffix(part));
        let name = name.filter(|name| merging.schemes.contains_key(*name));
        if let Some(name) = name {
            if !waiting.contains_key(&spec.name) {
                let packed = merging.packed(name, &mut costs)?;
                let parts = [Some(packed.codes), Some(packed.scales), packed.minimums];
                for (part, pages) in PARTS.iter().zip(parts) {
                    waiting.extend(pages.map(|pages| (format!("{name}{part}"), pages.to_vec())));
                }
            }
            writer.write(&waiting.remove(&spec.name).unwrap_or_default())?;
        } else if merging.dense.contains(matrix_of(&spec.name)) {
            writer.write(&merged.tensor(&spec.name)?.bytes)?;
        } else {
            for part in source.stored(&spec.name)?.parts {
                writer.write(&part)?;
                lightglm_kernels::page_out(&part);
            }
        }
    }
    options.progress.working(DOING, done, total)?;
    writer.finish()?;
    let file = path.join("config.json");
    let config = fs::read(&file).map_err(|source| at(&file, source))?;
    output.finish(&checkpoint.text_files()?, &config)?;
    let merged = merging.schemes.len() + merging.dense.len();
    Ok(MergeReport { merged, bytes: total, untied: false, requantized: costs.report() })
}

/// What is merged, and what with.
struct Merging<'a> {
    merged: &'a MergedWeights<'a>,
    original: &'a Dequantized<'a>,
    /// Packed matrices that the adapter touches.
    schemes: BTreeMap<String, (QuantizedScheme, [usize; 2])>,
    /// Dense ones.
    dense: BTreeSet<String>,
}

impl<'a> Merging<'a> {
    fn new(
        original: &'a Dequantized<'a>,
        merged: &'a MergedWeights<'a>,
        checkpoint: &Checkpoint,
        lora: &Lora,
    ) -> Result<Self, Error> {
        let refuse = |reason: String| {
            let name = lora.name().to_owned();
            Err(Error::Adapter { name, reason })
        };
        if unties(checkpoint, lora) {
            return refuse(
                "makes a head of its own, and the folder's is its packed table of embeddings: merge the adapter \
                 into the dense model, and quantize that"
                    .to_owned(),
            );
        }
        let (mut schemes, mut dense) = (BTreeMap::new(), BTreeSet::new());
        for name in lora.matrices().keys().chain(lora.saved().keys()) {
            if name == HEAD && checkpoint.config().tie_word_embeddings {
                continue;
            }
            match original.packed.index().entry(name).map(|entry| (entry.scheme, entry.shape)) {
                Some((Scheme::Dense, _)) => {
                    dense.insert(name.clone());
                }
                Some((held @ Scheme::Quantized(scheme), _))
                    if scheme.weight.scale_dtype == ScaleDtype::Nested =>
                {
                    return refuse(format!(
                        "changes `{name}`, which is in a GGUF file's blocks ({held}), and none are made here: \
                         merge the adapter into the GGUF file"
                    ));
                }
                Some((Scheme::Quantized(scheme), shape)) => {
                    schemes.insert(name.clone(), (scheme, shape));
                }
                None => return refuse(format!("changes `{name}`, which the folder does not have")),
            }
        }
        Ok(Self { merged, original, schemes, dense })
    }

    /// The matrix `name` merged and packed again; what that cost is added to `costs`.
    fn packed(&self, name: &str, costs: &mut Costs) -> Result<PackedBytes, Error> {
        let (scheme, shape) = self.schemes[name];
        let tensor = format!("{name}.weight");
        let wanted = self.merged.tensor(&tensor)?;
        let policy = Policy::new([(name, Scheme::Quantized(scheme))])?;
        let one = One { name: tensor.clone(), view: wanted.clone() };
        let quantizer = CheckpointQuantizer::new(&one, self.original.path, &policy);
        let HostMatrix::Packed(packed) = quantizer.matrix(name, shape)? else {
            unreachable!("the policy quantizes `{name}`");
        };
        let matrix = packed.clone().into_matrix::<Cpu>(&FlexDevice);
        let matrix = matrix
            .map_err(|source| QuantError::Layer { name: name.to_owned(), source })
            .map(MatrixWeight::Packed)?;
        let before = to_f32(&self.original.tensor(&tensor)?);
        costs.add(name, &before, &to_f32(&wanted), &floats(&matrix));
        Ok(packed)
    }
}

/// A packed folder whose matrices come dequantized, in f32.
struct Dequantized<'a> {
    packed: QuantizedCheckpoint<'a>,
    source: &'a dyn WeightSource,
    path: &'a Path,
}

impl Dequantized<'_> {
    /// Scheme and shape of the matrix that `name` is the weight of.
    fn entry(&self, name: &str) -> Option<(&str, [usize; 2])> {
        let matrix = name.strip_suffix(".weight")?;
        let (name, entry) = self.packed.index().matrices().find(|(name, _)| *name == matrix)?;
        (entry.scheme != Scheme::Dense).then_some((name, entry.shape))
    }
}

impl WeightSource for Dequantized<'_> {
    fn names(&self) -> Vec<String> {
        let matrices = self.packed.index().matrices();
        matrices.map(|(name, _)| format!("{name}.weight")).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self.entry(name) {
            Some((_, shape)) => Some(shape.to_vec()),
            None => self.source.shape(name),
        }
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let Some((matrix, shape)) = self.entry(name) else { return self.source.tensor(name) };
        let part = LoadPart::new(matrix, shape);
        let table = PartSource::<Cpu>::embedding(&self.packed, &part, &FlexDevice);
        let table = table.map_err(|error| WeightError::Malformed {
            file: self.path.to_owned(),
            format: "packed matrix",
            reason: error.to_string(),
        })?;
        let bytes: Vec<u8> = floats(&table.weight).iter().flat_map(|w| w.to_le_bytes()).collect();
        Ok(TensorView { dtype: WeightDtype::F32, shape: shape.to_vec(), bytes: bytes.into() })
    }
}

fn floats(weight: &MatrixWeight<Cpu>) -> Vec<f32> {
    let values = weight.values().cast(DType::F32).into_data();
    values.into_vec().expect("cast to f32")
}

/// One tensor.
struct One {
    name: String,
    view: TensorView,
}

impl WeightSource for One {
    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        (name == self.name).then(|| self.view.shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        match name == self.name {
            true => Ok(self.view.clone()),
            false => Err(WeightError::Missing { file: "merged".into(), name: name.to_owned() }),
        }
    }
}

/// Squared norms, summed over matrices.
#[derive(Default)]
struct Costs {
    matrices: usize,
    weights: f64,
    update: f64,
    rounding: f64,
    largest: f32,
    worst: (String, f64),
}

impl Costs {
    /// Of one matrix: `before`, `wanted` after the merge, and what codes make of it.
    fn add(&mut self, name: &str, before: &[f32], wanted: &[f32], codes: &[f32]) {
        let squared = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        let (update, rounding) = (squared(wanted, before), squared(codes, wanted));
        self.matrices += 1;
        self.weights += wanted.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
        self.update += update;
        self.rounding += rounding;
        for (code, wanted) in codes.iter().zip(wanted) {
            self.largest = self.largest.max((code - wanted).abs());
        }
        let share = share(rounding, update);
        if self.worst.0.is_empty() || share > self.worst.1 {
            self.worst = (name.to_owned(), share);
        }
    }

    fn report(self) -> Option<Requantized> {
        (self.matrices > 0).then(|| Requantized {
            matrices: self.matrices,
            error_of_update: share(self.rounding, self.update),
            error_of_weights: share(self.rounding, self.weights),
            largest: self.largest,
            worst: self.worst,
        })
    }
}

/// The ratio of two norms of these squares; 0 where there is nothing to lose.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).sqrt() } else { 0.0 }
}
