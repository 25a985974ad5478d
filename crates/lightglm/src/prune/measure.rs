//! What a text says of a model's parts.
//!
//! Shapes: `T` rows, `D` hidden_size, `F` intermediate_size, `H` heads, `d` head_dim.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use lightglm_core::{KvDtype, KvShape, LogitRows, SequenceId, Span};
use lightglm_distill::student::{
    BlockInfluenceSums, ColumnSums, EnergyShares, Importance, Measure, StudentError,
};
use lightglm_generation::ContiguousKvCache;
use lightglm_kernels::{LmBackend, LmGradients};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::{DenseGlm, DenseLinear, ForwardHook, LoadPrecision, Site};
use lightglm_sparse::{Recorder, Recording, SparseLinear, SparsityError};

use super::PruneOptions;
use crate::device::{DeviceJob, run_on};
use crate::error::Error;

const DOING: &str = "measuring importance";

/// Projections whose inputs are recorded, by the ends of their names.
const RECORDED: [&str; 4] =
    ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"];

/// Runs the model of `checkpoint` on the text of `options`, a window of [`PruneOptions::context`] tokens at a time, each
/// behind what its tokenizer puts in front of every text, and measures what its parts do.
///
/// # Errors
/// [`Error::Prune`] for a quantized model; [`Error::Student`] without tokens, or for activations that are not finite;
/// [`Error::Option`] for a `context` of 0; [`Error::Model`], [`Error::Interrupted`].
pub fn importance(checkpoint: &Checkpoint, options: &PruneOptions) -> Result<Importance, Error> {
    super::refuse_quantized(checkpoint)?;
    if options.calibration.is_empty() {
        return Err(StudentError::NothingMeasured.into());
    }
    if options.context == 0 {
        let reason = "the model has to see a token at once".to_owned();
        return Err(Error::Option { option: "context", reason });
    }
    // A folder without a tokenizer has nothing in front.
    let front = checkpoint.tokenizer().map(|tokenizer| tokenizer.front().to_vec());
    let front = front.unwrap_or_default();
    run_on(options.device, Job { checkpoint, options, front })?
}

struct Job<'a> {
    checkpoint: &'a Checkpoint,
    options: &'a PruneOptions,
    front: Vec<u32>,
}

impl DeviceJob for Job<'_> {
    type Output = Result<Importance, Error>;

    fn run<B: LmGradients>(self, device: B::Device) -> Self::Output {
        let Self { checkpoint, options, front } = self;
        let config = checkpoint.config();
        let model = checkpoint.load::<B>(LoadPrecision::Stored, &device)?;
        let inputs = Arc::new(InputSums::default());
        let recording = model.clone().map_linears(|name: &str, linear: DenseLinear<B>| {
            let is_recorded = RECORDED.iter().any(|recorded| name.ends_with(recorded));
            let recording = is_recorded.then(|| Recording::new(name, inputs.clone()));
            SparseLinear::new(linear, recording)
        });
        let mut stream = StreamSums::new(&model);
        // What stands in front of a window takes room, too.
        let room = config.context_length().saturating_sub(front.len()).max(1);
        let windows = options.calibration.chunks(options.context.min(room));
        let total = windows.len() as u64;
        for (window, done) in windows.zip(1..) {
            let tokens = [&front, window].concat();
            let (shape, dtype) = (KvShape::of(config), KvDtype::F32);
            let mut cache = ContiguousKvCache::new(shape, 1, tokens.len(), dtype, &device);
            let (sequence, logits) = (SequenceId(0), LogitRows::Last);
            let span = Span::text(sequence, &tokens, logits);
            recording.forward_with_hook(&[span], &mut cache, &mut stream)?;
            inputs.check()?;
            stream.check()?;
            options.progress.working(DOING, done, total)?;
        }
        let layers = config.num_hidden_layers;
        stream.finish(&inputs, layers, config.head_dim, options.neurons).map_err(Error::from)
    }
}

/// Sums up the inputs of projections, by their names.
#[derive(Debug, Default)]
struct InputSums(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    columns: BTreeMap<String, ColumnSums>,
    /// The first that went wrong.
    failed: Option<StudentError>,
}

impl InputSums {
    fn check(&self) -> Result<(), StudentError> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner).failed.take();
        failed.map_or(Ok(()), Err)
    }

    /// What `take` makes of the inputs of the projection `part` of each layer.
    fn of_layers(
        &self,
        layers: usize,
        part: &str,
        take: impl Fn(&ColumnSums) -> Option<Vec<f64>>,
    ) -> Result<Vec<Vec<f64>>, StudentError> {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_layer = |layer| {
            let columns = sums.columns.get(&format!("model.layers.{layer}.{part}"));
            columns.and_then(&take).ok_or(StudentError::NothingMeasured)
        };
        (0..layers).map(of_layer).collect()
    }
}

impl Recorder for InputSums {
    fn record(&self, name: &str, x: &[f32], width: usize) -> Result<(), SparsityError> {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = sums.columns.entry(name.to_owned()).or_default().add(name, x, width);
        taken.map_err(|error| {
            // A forward pass cannot return it: it is asked for behind each window.
            sums.failed.get_or_insert(error);
            SparsityError::NothingRecorded
        })
    }
}

/// Sums up what happens to the residual stream.
struct StreamSums<'a, B: LmBackend> {
    model: &'a DenseGlm<B>,
    /// What the next block is given.
    stream: Option<Tensor<B, 2>>,
    blocks: Vec<BlockInfluenceSums>,
    /// By the names of norms.
    norms: BTreeMap<String, EnergyShares>,
    last_norm: ColumnSums,
    failed: Option<StudentError>,
}

impl<'a, B: LmBackend> StreamSums<'a, B> {
    fn new(model: &'a DenseGlm<B>) -> Self {
        Self {
            model,
            stream: None,
            blocks: vec![BlockInfluenceSums::default(); model.layers.len()],
            norms: BTreeMap::new(),
            last_norm: ColumnSums::default(),
            failed: None,
        }
    }

    fn check(&mut self) -> Result<(), StudentError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Takes in what the norm `name` is given.
    fn norm(&mut self, name: String, x: &Tensor<B, 2>) -> Result<(), StudentError> {
        let (rows, width) = rows(x);
        self.norms.entry(name.clone()).or_default().add(&name, &rows, width)
    }

    fn see(&mut self, site: Site, value: &Tensor<B, 2>) -> Result<(), StudentError> {
        let of = |layer: usize, norm: &str| format!("model.layers.{layer}.{norm}");
        match site {
            Site::Embed => {
                self.stream = Some(value.clone());
                self.norm(of(0, "input_layernorm"), value)
            }
            Site::SelfAttnOut(layer) => {
                let Some(stream) = self.stream.clone() else { return Ok(()) };
                let branch = value.clone();
                let stream = match &self.model.layers[layer].post_self_attn_layernorm {
                    None => stream + branch,
                    Some(norm) => {
                        let stream = norm.forward_add(branch, stream);
                        self.norm(of(layer, "post_self_attn_layernorm"), value)?;
                        stream
                    }
                };
                self.norm(of(layer, "post_attention_layernorm"), &stream)
            }
            Site::Queries(_) | Site::Keys(_) | Site::Values(_) => Ok(()),
            Site::MlpOut(layer) => match &self.model.layers[layer].post_mlp_layernorm {
                None => Ok(()),
                Some(_) => self.norm(of(layer, "post_mlp_layernorm"), value),
            },
            Site::Layer(layer) => {
                if let Some(stream) = self.stream.replace(value.clone()) {
                    let ((before, width), (after, _)) = (rows(&stream), rows(value));
                    let name = format!("model.layers.{layer}");
                    self.blocks[layer].add(&name, &before, &after, width)?;
                }
                let is_last = layer + 1 == self.model.layers.len();
                let next = of(layer + 1, "input_layernorm");
                self.norm(if is_last { "model.norm".to_owned() } else { next }, value)
            }
            Site::FinalNorm => {
                let (rows, width) = rows(value);
                self.last_norm.add("model.norm", &rows, width)
            }
        }
    }

    fn finish(
        self,
        inputs: &InputSums,
        layers: usize,
        head_dim: usize,
        neurons: Measure,
    ) -> Result<Importance, StudentError> {
        let magnitudes = |sums: &ColumnSums| sums.columns(Measure::MeanMagnitude);
        let mut norms = inputs.of_layers(layers, "self_attn.q_proj", magnitudes)?;
        norms.extend(inputs.of_layers(layers, "mlp.gate_up_proj", magnitudes)?);
        norms.extend(magnitudes(&self.last_norm));
        let count = norms.len() as f64;
        let width = norms.first().map_or(0, Vec::len);
        let channel = |channel| norms.iter().map(|norm| norm[channel]).sum::<f64>() / count;
        let influence = |block: &BlockInfluenceSums| block.influence();
        let blocks = self.blocks.iter().map(influence).collect::<Option<Vec<f64>>>();
        let shares = self.norms.into_iter().filter_map(|(name, sums)| Some((name, sums.shares()?)));
        Ok(Importance {
            layers: blocks.ok_or(StudentError::NothingMeasured)?,
            heads: inputs.of_layers(layers, "self_attn.o_proj", |sums| sums.groups(head_dim))?,
            ffn: inputs.of_layers(layers, "mlp.down_proj", |sums| sums.columns(neurons))?,
            hidden: (0..width).map(channel).collect(),
            norm_shares: shares.collect(),
        })
    }
}

impl<B: LmBackend> ForwardHook<B> for StreamSums<'_, B> {
    fn observe(&mut self, site: Site, value: &Tensor<B, 2>) {
        if self.failed.is_none()
            && let Err(error) = self.see(site, value)
        {
            self.failed = Some(error);
        }
    }
}

/// Row-major, and the width of a row.
fn rows<B: LmBackend>(x: &Tensor<B, 2>) -> (Vec<f32>, usize) {
    let [_, width] = x.dims();
    (x.to_data().convert::<f32>().into_vec().unwrap_or_default(), width)
}
