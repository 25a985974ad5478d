//! `CompressedTensorsConfig`: the `quantization_config` of a config.json.

use lightglm_kernels::{ActivationBits, ActivationFormat, WeightBits};
use serde_json::{Map, Value, json};

use super::{CompressedFormat, Target};
use crate::formats::FormatError;
use crate::formats::fields::Fields;

/// Most columns of a group that are believed.
const LARGEST_GROUP: i64 = 1 << 30;

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightStrategy {
    /// All of them.
    Tensor,
    /// A row.
    Channel,
    /// So many neighbouring columns of a row.
    Group(usize),
}

/// How the weights of a group of layers became codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightArgs {
    /// Bits of a code.
    pub bits: WeightBits,
    /// Which weights share a scale.
    pub strategy: WeightStrategy,
    /// Whether there are no zero points.
    pub symmetric: bool,
}

/// One of the configuration's groups of layers.
#[derive(Clone, Debug)]
pub struct ConfigGroup {
    /// Its key: `group_0`.
    pub name: String,
    /// Which layers.
    pub targets: Vec<Target>,
    /// How their weights are stored.
    pub format: CompressedFormat,
    /// How their weights became codes.
    pub weights: WeightArgs,
    /// How their inputs are quantized, or `None` where they are not.
    pub activation: Option<ActivationFormat>,
}

/// The `quantization_config` of a config.json, checked.
///
/// `kv_cache_scheme` is not looked at: how keys and values are kept is the runtime's choice here.
#[derive(Clone, Debug)]
pub struct CompressedTensorsConfig {
    /// The groups, in the file's order.
    pub groups: Vec<ConfigGroup>,
    /// Layers that are not quantized, whatever the groups say.
    pub ignore: Vec<Target>,
}

impl CompressedTensorsConfig {
    /// The configuration in the text of a config.json; `None` where it has no `quantization_config`.
    ///
    /// # Errors
    /// As [`Self::from_value`], and [`FormatError::Json`].
    pub fn from_config_json(text: &[u8]) -> Result<Option<Self>, FormatError> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| FormatError::Json { reason: error.to_string() })?;
        let Value::Object(map) = &value else {
            return Err(FormatError::Json { reason: "it is of another type".into() });
        };
        match map.get("quantization_config").filter(|value| !value.is_null()) {
            Some(config) => Self::from_value(config).map(Some),
            None => Ok(None),
        }
    }

    /// The configuration in the value of `quantization_config`.
    ///
    /// # Errors
    /// [`FormatError::MissingField`], [`FormatError::Field`] or [`FormatError::Unsupported`] with the
    /// field's path.
    pub fn from_value(value: &Value) -> Result<Self, FormatError> {
        let fields = Fields::new(value, "quantization_config")?;
        fields.require("quant_method")?;
        if fields.text("quant_method")? != Some("compressed-tensors") {
            return Err(fields.unsupported("quant_method", "compressed-tensors"));
        }
        let status = fields.text("quantization_status")?;
        if !matches!(status, None | Some("compressed" | "frozen")) {
            return Err(fields.unsupported("quantization_status", "compressed"));
        }
        for name in ["sparsity_config", "transform_config"] {
            let path = fields.path(name);
            let Some(value) = fields.get(name) else { continue };
            let inner = Fields::new(value, &path)?;
            let dense = name == "sparsity_config" && inner.text("format")? == Some("dense");
            if value.as_object().is_some_and(|map| !map.is_empty()) && !dense {
                return Err(fields.unsupported(name, "an empty one"));
            }
        }
        let format = fields.text("format")?;
        let path = fields.path("config_groups");
        let Value::Object(groups) = fields.require("config_groups")? else {
            return Err(fields.wrong("config_groups", "an object"));
        };
        let groups = groups.iter().map(|(name, group)| read_group(name, group, &path, format));
        let ignore_path = fields.path("ignore");
        let ignore = fields.texts("ignore")?.into_iter();
        Ok(Self {
            groups: groups.collect::<Result<_, _>>()?,
            ignore: ignore
                .map(|text| Target::parse(text, &ignore_path))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The group that the layer `name` (`model.layers.0.mlp.down_proj`) belongs to: by name before
    /// by pattern before by class, the first of those that fit alike.
    pub fn group_of(&self, name: &str) -> Option<&ConfigGroup> {
        if self.ignore.iter().any(|target| target.fit(name).is_some()) {
            return None;
        }
        let fits = |group: &&ConfigGroup| group.targets.iter().filter_map(|t| t.fit(name)).min();
        self.groups
            .iter()
            .filter_map(|group| fits(&group).map(|fit| (fit, group)))
            .min_by_key(|(fit, _)| *fit)
            .map(|(_, group)| group)
    }
}

fn read_group(
    name: &str,
    value: &Value,
    parent: &str,
    model_format: Option<&str>,
) -> Result<ConfigGroup, FormatError> {
    let path = format!("{parent}.{name}");
    if value.is_array() {
        let (field, value) = (path, value.to_string());
        let supported = "a group that spells out its weights";
        return Err(FormatError::Unsupported { field, value, supported });
    }
    let group = Fields::new(value, &path)?;
    let supported = "int-quantized or pack-quantized";
    let format = match group.text("format")?.or(model_format) {
        None => {
            return Err(FormatError::MissingField { field: "quantization_config.format".into() });
        }
        Some(format) => {
            CompressedFormat::from_name(format).ok_or_else(|| match group.get("format") {
                Some(_) => group.unsupported("format", supported),
                None => FormatError::Unsupported {
                    field: "quantization_config.format".into(),
                    value: format!("{format:?}"),
                    supported,
                },
            })?
        }
    };
    let targets_path = group.path("targets");
    group.require("targets")?;
    let targets = group.texts("targets")?.into_iter();
    let (weights_path, input_path) = (group.path("weights"), group.path("input_activations"));
    let weights = read_weights(Fields::new(group.require("weights")?, &weights_path)?)?;
    let input = group.get("input_activations");
    let activation = input.map(|value| read_activation(Fields::new(value, &input_path)?));
    if group.get("output_activations").is_some() {
        return Err(group.unsupported("output_activations", "null"));
    }
    Ok(ConfigGroup {
        name: name.to_owned(),
        targets: targets
            .map(|text| Target::parse(text, &targets_path))
            .collect::<Result<_, _>>()?,
        format,
        weights,
        activation: activation.transpose()?,
    })
}

fn read_weights(args: Fields<'_>) -> Result<WeightArgs, FormatError> {
    integers_only(args)?;
    let bits = match args.integer("num_bits")?.unwrap_or(8) {
        4 => WeightBits::Four,
        8 => WeightBits::Eight,
        _ => return Err(args.unsupported("num_bits", "4 or 8")),
    };
    if args.get("dynamic").is_some_and(|value| value != &Value::Bool(false)) {
        return Err(args.unsupported("dynamic", "false, for weights,"));
    }
    match args.get("actorder") {
        // Only the order in which columns were quantized: the file's columns stand as they are.
        None | Some(Value::Bool(false)) => {}
        Some(Value::String(order)) if matches!(order.as_str(), "weight" | "static") => {}
        Some(_) => return Err(args.unsupported("actorder", "weight or null")),
    }
    let strategy = match strategy(args)? {
        "tensor" => WeightStrategy::Tensor,
        "channel" => WeightStrategy::Channel,
        "group" => WeightStrategy::Group(group_size(args)?),
        _ => return Err(args.unsupported("strategy", "tensor, channel or group")),
    };
    Ok(WeightArgs { bits, strategy, symmetric: args.flag("symmetric")?.unwrap_or(true) })
}

fn read_activation(args: Fields<'_>) -> Result<ActivationFormat, FormatError> {
    integers_only(args)?;
    if args.integer("num_bits")?.unwrap_or(8) != 8 {
        return Err(args.unsupported("num_bits", "8, for activations,"));
    }
    if args.flag("symmetric")? == Some(false) {
        return Err(args.unsupported("symmetric", "true, for activations,"));
    }
    if args.get("dynamic") != Some(&Value::Bool(true)) {
        return Err(args.unsupported("dynamic", "true, for activations,"));
    }
    let group_size = match strategy(args)? {
        "token" => None,
        "group" => Some(group_size(args)?),
        _ => return Err(args.unsupported("strategy", "token or group, for activations,")),
    };
    Ok(ActivationFormat { bits: ActivationBits::Eight, group_size })
}

fn integers_only(args: Fields<'_>) -> Result<(), FormatError> {
    match args.text("type")? {
        None | Some("int") => Ok(()),
        Some(_) => Err(args.unsupported("type", "int")),
    }
}

/// The strategy; where it is left out, what the group size stands for.
fn strategy<'a>(args: Fields<'a>) -> Result<&'a str, FormatError> {
    match (args.text("strategy")?, args.integer("group_size")?) {
        (Some(strategy), _) => Ok(strategy),
        (None, None) => Ok("tensor"),
        (None, Some(-1)) => Ok("channel"),
        (None, Some(_)) => Ok("group"),
    }
}

fn group_size(args: Fields<'_>) -> Result<usize, FormatError> {
    args.require("group_size")?;
    match args.integer("group_size")? {
        Some(size @ 1..=LARGEST_GROUP) => Ok(size as usize),
        _ => Err(args.wrong("group_size", "a positive number of columns")),
    }
}

/// The `quantization_config` of a model whose layers are all stored alike.
pub(super) fn config_value(
    format: CompressedFormat,
    weights: &WeightArgs,
    activation: Option<ActivationFormat>,
    ignore: &[String],
) -> Value {
    let args = |bits: usize, strategy: &str, group_size: Option<usize>, symmetric, dynamic| {
        let mut args = Map::new();
        args.insert("num_bits".into(), json!(bits));
        args.insert("type".into(), json!("int"));
        args.insert("symmetric".into(), json!(symmetric));
        args.insert("strategy".into(), json!(strategy));
        args.insert("group_size".into(), json!(group_size));
        args.insert("dynamic".into(), json!(dynamic));
        args.insert("block_structure".into(), Value::Null);
        args.insert("actorder".into(), Value::Null);
        args
    };
    let (strategy, group_size) = match weights.strategy {
        WeightStrategy::Tensor => ("tensor", None),
        WeightStrategy::Channel => ("channel", None),
        WeightStrategy::Group(size) => ("group", Some(size)),
    };
    let input = activation.map(|activation| match activation.group_size {
        None => args(8, "token", None, true, true),
        Some(size) => args(8, "group", Some(size), true, true),
    });
    let weights = args(weights.bits.count(), strategy, group_size, weights.symmetric, false);
    json!({
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": format.name(),
        "global_compression_ratio": null,
        "kv_cache_scheme": null,
        "ignore": ignore,
        "config_groups": {"group_0": {
            "targets": ["Linear"],
            "weights": weights,
            "input_activations": input,
            "output_activations": null,
        }},
    })
}
