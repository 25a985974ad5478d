//! A student on paper.

use lightglm_core::KvDtype;
use lightglm_core::KvShape;
use lightglm_distill::student::{Machine, Plan, StudentShape};
use lightglm_kernels::cpu::{roofs, team};
use lightglm_model::config::GlmConfig;
use lightglm_quant::{Policy, Scheme, footprint};
use serde::Serialize;

use crate::error::Error;
use crate::model::matrices;

/// The share of its multiply-add peak that training reaches on a CPU, as far as it was measured (LoRA on the middle
/// shape of the benchmarks: 57 %).
const CPU_UTILISATION: f64 = 0.5;

/// Schemes that a plan has bytes for, by their names.
const SCHEMES: [&str; 5] = ["int8", "int8wo", "int4", "int4wo-g32", "int4wo-g128"];

/// What a plan is for.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Whom the student asks about each token, if anybody.
    pub teacher: Option<GlmConfig>,
    /// Tokens to learn from, by default a billion.
    pub tokens: f64,
    /// Tokens of a training row, by default 2048.
    pub context: usize,
    /// Where it could be trained; by default a T4 and an H100.
    pub machines: Vec<Machine>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        let machines = vec![Machine::t4(), Machine::h100()];
        Self { teacher: None, tokens: 1e9, context: 2048, machines }
    }
}

/// What a model costs before there is one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanReport {
    /// Parameters; a tied head counts once.
    pub parameters: u64,
    /// Of the blocks and of the final norm, without tables.
    pub parameters_of_blocks: u64,
    /// Bytes in each scheme, `f32` and `bf16` first.
    pub schemes: Vec<SchemeBytes>,
    /// Multiplications and additions that running a token costs.
    pub forward_flops: f64,
    /// Those of training on one.
    pub training_flops: f64,
    /// Those of training on one whose teacher is asked about it.
    pub distillation_flops: Option<f64>,
    /// Bytes that a token adds to the keys and values in 16 bits.
    pub kv_bytes_16_bit: u64,
    /// The same in 8 bits, scales included.
    pub kv_bytes_8_bit: u64,
    /// Tokens to learn from.
    pub tokens: f64,
    /// How long that takes.
    pub hours: Vec<PlannedHours>,
}

/// A model's bytes in a scheme.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SchemeBytes {
    /// The scheme's name.
    pub scheme: String,
    /// Bytes of all tensors: matrices by the scheme, scales included, norms and biases in f32; `None` where its groups
    /// do not fit the sizes.
    pub bytes: Option<u64>,
    /// Bits of a matrix's weight, all matrices together.
    pub bits_per_weight: Option<f64>,
}

/// How long training takes on a machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedHours {
    /// The machine's name.
    pub machine: String,
    /// Multiplications and additions a second at most.
    pub peak_flops: f64,
    /// The share of them that is assumed.
    pub utilisation: f64,
    /// Hours of the student alone.
    pub training: f64,
    /// Hours with a teacher that is asked about each token; `None` without one.
    pub distillation: Option<f64>,
}

/// What a model of `config` costs: sizes are exact, hours are what the machines' assumed speeds make of the
/// multiplications.
///
/// # Errors
/// [`Error::Checkpoint`] for an impossible configuration, [`Error::Scheme`] never.
pub fn plan(config: &GlmConfig, options: &PlanOptions) -> Result<PlanReport, Error> {
    config.check().map_err(|error| Error::Checkpoint(error.into()))?;
    let student = shape_of(config);
    let teacher = options.teacher.as_ref().map(shape_of);
    let plan = Plan { student, teacher, context: options.context };
    let (training, distillation) = (plan.training_flops(), plan.distillation_flops());
    let hours = |machine: &Machine| PlannedHours {
        machine: machine.name.clone(),
        peak_flops: machine.peak_flops,
        utilisation: machine.utilisation,
        training: machine.hours(training * options.tokens),
        distillation: distillation.map(|flops| machine.hours(flops * options.tokens)),
    };
    let kv = KvShape::of(config);
    let tables = student.matrix_weights()
        - student.num_hidden_layers as u64 * student.block_matrix_weights();
    Ok(PlanReport {
        parameters: student.parameters(),
        parameters_of_blocks: student.parameters() - tables,
        schemes: schemes(config, &student)?,
        forward_flops: plan.forward_flops(),
        training_flops: training,
        distillation_flops: distillation,
        kv_bytes_16_bit: kv.bytes_per_position(KvDtype::F16) as u64,
        kv_bytes_8_bit: kv.bytes_per_position(KvDtype::Int8) as u64,
        tokens: options.tokens,
        hours: options.machines.iter().map(hours).collect(),
    })
}

fn schemes(config: &GlmConfig, shape: &StudentShape) -> Result<Vec<SchemeBytes>, Error> {
    let dense = [("f32", 4), ("bf16", 2)].map(|(name, size)| SchemeBytes {
        scheme: name.to_owned(),
        bytes: Some(shape.parameters() * size),
        bits_per_weight: Some(8.0 * size as f64),
    });
    let matrices = matrices(config);
    let mut schemes = Vec::from(dense);
    for name in SCHEMES {
        let policy = Policy::uniform(name.parse::<Scheme>()?);
        let named = matrices.iter().map(|(name, shape)| (name.as_str(), *shape));
        let size = footprint(&policy, named, 32).ok();
        schemes.push(SchemeBytes {
            scheme: name.to_owned(),
            bytes: size.map(|size| size.bytes + 4 * shape.vector_parameters()),
            bits_per_weight: size.map(|size| size.bits_per_weight()),
        });
    }
    Ok(schemes)
}

/// This machine: its f32 multiply-add peak, measured with all threads of the kernels' team in a few tenths of a second,
/// or `gflops`, of which half are assumed.
///
/// # Errors
/// [`Error::Student`] for `gflops` that are not above 0.
pub fn this_machine(gflops: Option<f64>) -> Result<Machine, Error> {
    let gflops = gflops.unwrap_or_else(|| roofs::f32_fma_gflops(team::num_threads()));
    Ok(Machine::new("this machine", gflops * 1e9, CPU_UTILISATION)?)
}

/// The sizes of the decoder of `config`.
pub fn shape_of(config: &GlmConfig) -> StudentShape {
    StudentShape {
        hidden_size: config.hidden_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        num_key_value_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        intermediate_size: config.intermediate_size,
        vocab_size: config.vocab_size,
        attention_bias: config.attention_bias,
        tie_word_embeddings: config.tie_word_embeddings,
        norms_per_block: if config.has_post_norms() { 4 } else { 2 },
        has_qk_norms: config.has_qk_norms(),
    }
}

/// The configuration of a student of `teacher` whose sizes are those of `shape`.
pub fn config_of(teacher: &GlmConfig, shape: &StudentShape) -> GlmConfig {
    GlmConfig {
        hidden_size: shape.hidden_size,
        num_hidden_layers: shape.num_hidden_layers,
        num_attention_heads: shape.num_attention_heads,
        num_key_value_heads: shape.num_key_value_heads,
        head_dim: shape.head_dim,
        intermediate_size: shape.intermediate_size,
        vocab_size: shape.vocab_size,
        ..teacher.clone()
    }
}
