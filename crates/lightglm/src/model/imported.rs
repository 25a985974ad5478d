//! Checkpoints that other programs quantized: what a `quantization_config` says is read first.

use std::path::{Path, PathBuf};

use lightglm_core::{
    ProjectionLayout, StoredTensor, TensorView, WeightError, WeightSource, python_json,
};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::weights::LlamaCheckpoint;
use lightglm_quant::formats::compressed_tensors::{
    CompressedTensorsCheckpoint, CompressedTensorsConfig,
};
use lightglm_quant::formats::gptq_awq::{GptqAwqCheckpoint, GptqAwqConfig};
use lightglm_quant::formats::{FormatError, ImportedCheckpoint, ImportedLayer};
use lightglm_quant::{QuantizedCheckpoint, QuantizedScheme, Scheme};
use serde_json::Value;

use crate::error::Error;

/// `checkpoint` as another program quantized it, by the decoder's names; `None` where it is dense, in every
/// layer, a GGUF file, or quantized by this project.
///
/// # Errors
/// [`Error::ForeignQuantization`] for what is not read (FP8, bitsandbytes), by its name; [`Error::Weights`]
/// for a folder of the Llama family that is not complete.
pub(crate) fn imported(
    checkpoint: &Checkpoint,
) -> Result<Option<Box<dyn ImportedCheckpoint + '_>>, Error> {
    let (path, weights) = (checkpoint.path(), checkpoint.weights());
    if !path.is_dir() || QuantizedCheckpoint::is_one(weights) {
        return Ok(None);
    }
    let Some((file, config)) = configuration(path, weights)? else { return Ok(None) };
    let layers = as_configured(&config, weights, path)
        .map_err(|source| Error::ForeignQuantization { file, source: source.into() })?;
    match checkpoint.weights_layout() {
        ProjectionLayout::Glm => Ok((!layers.layers().is_empty()).then_some(layers)),
        layout => {
            let weights = LlamaCheckpoint::new(layers, path, checkpoint.config())?;
            Ok(Some(Box::new(ImportedLlama { weights, layout })))
        }
    }
}

/// What says how the folder's weights are quantized, and in which file: `quantization_config` of config.json, or
/// for layers of GPTQ and AWQ the file that AutoGPTQ and AutoAWQ wrote before there was one.
fn configuration(
    folder: &Path,
    weights: &dyn WeightSource,
) -> Result<Option<(PathBuf, Value)>, Error> {
    let read = |file: &Path| {
        std::fs::read(file).map_err(|source| Error::Io { file: file.to_owned(), source })
    };
    let file = folder.join("config.json");
    // Whether it is JSON was found out when the checkpoint was opened.
    let json = python_json(&read(&file)?).unwrap_or_default();
    if let Some(config) = json.get("quantization_config").filter(|value| !value.is_null()) {
        return Ok(Some((file, config.clone())));
    }
    if !weights.names().iter().any(|name| name.ends_with(".qweight")) {
        return Ok(None);
    }
    let unread =
        |file, source: FormatError| Error::ForeignQuantization { file, source: source.into() };
    for (name, method) in [("quantize_config.json", "gptq"), ("quant_config.json", "awq")] {
        let beside = folder.join(name);
        if !beside.exists() {
            continue;
        }
        let json = match python_json(&read(&beside)?) {
            Ok(Value::Object(json)) => json,
            Ok(_) => {
                return Err(unread(
                    beside,
                    FormatError::Json { reason: "it is of another type".to_owned() },
                ));
            }
            Err(error) => {
                return Err(unread(beside, FormatError::Json { reason: error.to_string() }));
            }
        };
        let mut config = Value::Object(json);
        if config["quant_method"].is_null() {
            config["quant_method"] = method.into();
        }
        return Ok(Some((beside, config)));
    }
    let field = "quantization_config".to_owned();
    Err(unread(file, FormatError::MissingField { field }))
}

/// The tensors of `weights` as `quantization_config` says.
fn as_configured<'a>(
    config: &Value,
    weights: &'a dyn WeightSource,
    path: &Path,
) -> Result<Box<dyn ImportedCheckpoint + 'a>, FormatError> {
    match config.get("quant_method").and_then(Value::as_str) {
        Some("gptq" | "awq") => {
            let config = GptqAwqConfig::from_value(config)?;
            Ok(Box::new(GptqAwqCheckpoint::new(weights, config, path)))
        }
        Some("compressed-tensors") | None => {
            let config = CompressedTensorsConfig::from_value(config)?;
            Ok(Box::new(CompressedTensorsCheckpoint::new(weights, config, path)))
        }
        Some(other) => Err(FormatError::Unsupported {
            field: "quantization_config.quant_method".to_owned(),
            value: format!("{other:?}"),
            supported: "compressed-tensors, gptq or awq",
        }),
    }
}

/// Whether another program quantized the checkpoint.
///
/// # Errors
/// As [`imported`].
pub(crate) fn is_imported(checkpoint: &Checkpoint) -> Result<bool, Error> {
    Ok(imported(checkpoint)?.is_some())
}

/// What such weights are called: the scheme of the first layer.
pub(crate) fn imported_scheme(
    layers: &dyn ImportedCheckpoint,
    file: &Path,
) -> Result<String, Error> {
    let first = layers.layers().first().map(|layer| layers.scheme(layer)).transpose();
    let first = first.map_err(|source| {
        let file = file.join("config.json");
        Error::ForeignQuantization { file, source: source.into() }
    })?;
    Ok(first.map_or(Scheme::Dense, Scheme::Quantized).to_string())
}

/// Quantized layers in the layout of Llama, Mistral and Qwen as the decoder has them: rows of q and k in its
/// order, gate and up as one.
struct ImportedLlama<'a> {
    weights: LlamaCheckpoint<Box<dyn ImportedCheckpoint + 'a>>,
    layout: ProjectionLayout,
}

impl ImportedLlama<'_> {
    /// What the file calls the decoder's layer `name`.
    fn in_file(name: &str) -> Vec<String> {
        match name.strip_suffix("gate_up_proj") {
            Some(mlp) => vec![format!("{mlp}gate_proj"), format!("{mlp}up_proj")],
            None => vec![name.to_owned()],
        }
    }
}

impl ImportedCheckpoint for ImportedLlama<'_> {
    fn layers(&self) -> Vec<String> {
        let names = self.weights.names().into_iter();
        let layers = names.filter_map(|name| Some(name.strip_suffix(".weight")?.to_owned()));
        layers.filter(|layer| self.is_quantized(layer)).collect()
    }

    fn is_quantized(&self, name: &str) -> bool {
        Self::in_file(name).iter().any(|layer| self.weights.file().is_quantized(layer))
    }

    fn scheme(&self, name: &str) -> Result<QuantizedScheme, FormatError> {
        let (file, layers) = (self.weights.file(), Self::in_file(name));
        let halves = || FormatError::Halves { name: name.to_owned() };
        if !layers.iter().all(|layer| file.is_quantized(layer)) {
            return Err(halves());
        }
        let schemes: Vec<_> =
            layers.iter().map(|layer| file.scheme(layer)).collect::<Result<_, _>>()?;
        match schemes.windows(2).all(|pair| pair[0] == pair[1]) {
            true => schemes.first().copied().ok_or_else(halves),
            false => Err(halves()),
        }
    }

    fn layer(&self, name: &str) -> Result<ImportedLayer, FormatError> {
        let file = self.weights.file();
        match &Self::in_file(name)[..] {
            [gate, up] => ImportedLayer::stacked(name, file.layer(gate)?, file.layer(up)?),
            _ => {
                let layer = file.layer(name)?;
                Ok(match self.layout.reorders(name) {
                    true => layer.with_rows(|row| self.layout.row_in_file(name, row)),
                    false => layer,
                })
            }
        }
    }
}

impl WeightSource for ImportedLlama<'_> {
    fn names(&self) -> Vec<String> {
        self.weights.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.weights.shape(name)
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        self.weights.tensor(name)
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        self.weights.stored(name)
    }

    fn stored_rows(&self, name: &str) -> Result<Vec<StoredTensor>, WeightError> {
        self.weights.stored_rows(name)
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.weights.metadata(key)
    }
}
