//! From a model of two blocks that has learnt to copy, and to note at every token how its sentence begins, to one of six that
//! finds what a question names.
//!
//! Two blocks cannot find it: at a token of the question the note of the same token in the text has to be read, so the note must be
//! there a block earlier. Six of them, taught from the beginning, make the note in the last ones, where nothing reads it,
//! and stay there for hours. So the two are taught first, and grow:
//!
//! 1. the first block;
//! 2. the second once more, its note written in directions of its own, so that it is not taken for the token itself;
//! 3. a block that attends to the same token: queries and keys are the directions in which the states of a token
//!    in a question and of the same token in the text agree best (canonical correlation), values are the note;
//! 4. the second block as it was, and fresh ones.
//!
//! Source: Gong et al. 2019, "Efficient Training of BERT by Progressively Stacking", for growing; Hotelling 1936,
//! "Relations between two sets of variates", for the directions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lightglm::{Cpu, WeightDtype, write_whole};
use lightglm_core::{LabelledSpan, Tap};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_tiny::corpus::Random;
use nalgebra::{DMatrix, DVector};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

use super::token_rows::{TokenRows, Twin};
use super::vocabulary::Vocabulary;

/// Blocks of the model that grows.
pub const FIRST_BLOCKS: usize = 2;

/// What the second block's note weighs in the residual stream where it is written a second time.
const NOTE: f32 = 0.1;

/// What a block of which nothing is known adds.
const FRESH: f32 = 0.02;

/// What the block that finds adds.
const FOUND: f32 = 0.5;

/// How sharply it looks.
const SHARPNESS: f64 = 3.5;

/// Rows in which states are looked at.
const ROWS: usize = 500;

/// The block that finds, counted from 0.
const FINDS: usize = 2;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Writes to `to` the model of `from`, which has [`FIRST_BLOCKS`], grown to the blocks of `fresh`, of which it takes the rest.
///
/// # Errors
/// Where a file cannot be read or written, or the two are not of one shape.
pub fn grow(from: &Path, fresh: &Path, to: &Path, seed: u64) -> Result<()> {
    let config = GlmConfig::from_json(fs::read_to_string(fresh.join("config.json"))?)?;
    let (taught, rest) = (read(from)?, read(fresh)?);
    let mut random = Random::new(seed);
    let mut grown: Tensors = taught
        .iter()
        .filter(|(name, _)| !name.contains(".layers."))
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect();
    let last = FIRST_BLOCKS - 1;
    for block in 0..config.num_hidden_layers {
        let (source, like) = match block {
            0 => (&taught, 0),
            1 | 3 => (&taught, last),
            _ => (&rest, block),
        };
        let like = format!("model.layers.{like}.");
        for (name, tensor) in source.iter().filter(|(name, _)| name.starts_with(&like)) {
            grown.insert(name.replace(&like, &format!("model.layers.{block}.")), tensor.clone());
        }
    }
    let width = config.hidden_size;
    let turn = Turn::new(width, &mut random);
    note_elsewhere(&mut grown, &turn, width)?;
    let part = to.with_extension("part");
    fs::create_dir_all(&part)?;
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        fs::copy(fresh.join(name), part.join(name)).with_context(|| name.to_owned())?;
    }
    // What its states are like where the new block is to look.
    let mut lower: Value = serde_json::from_slice(&fs::read(fresh.join("config.json"))?)?;
    lower["num_hidden_layers"] = FINDS.into();
    write_whole(&part.join("config.json"), format!("{lower:#}\n"))?;
    let is_lower = |name: &str| {
        !name.contains(".layers.") || (0..FINDS).any(|i| name.contains(&format!(".layers.{i}.")))
    };
    let below = grown.iter().filter(|(name, _)| is_lower(name));
    write(&part, &below.map(|(name, tensor)| (name.clone(), tensor.clone())).collect())?;
    let (asked, told) = states_of_twins(&part, &mut random)?;
    find(&mut grown, &config, &turn, directions(&asked, &told)?, &mut random)?;
    fs::copy(fresh.join("config.json"), part.join("config.json"))?;
    write(&part, &grown)?;
    fs::rename(&part, to)?;
    Ok(())
}

/// The second block's note, in other directions.
fn note_elsewhere(grown: &mut Tensors, turn: &Turn, width: usize) -> Result<()> {
    let weights = tensor(grown, "model.layers.1.post_self_attn_layernorm.weight")?.clone();
    let mean = weights.iter().sum::<f32>() / width as f32;
    let output = tensor(grown, "model.layers.1.self_attn.o_proj.weight")?;
    let columns = output.len() / width;
    let mut turned = vec![0.0; output.len()];
    for channel in 0..width {
        let (to, sign) = turn.of(channel);
        let weight = sign * weights[channel] / mean;
        for column in 0..columns {
            turned[to * columns + column] = weight * output[channel * columns + column];
        }
    }
    *output = turned;
    tensor(grown, "model.layers.1.post_self_attn_layernorm.weight")?.fill(NOTE);
    tensor(grown, "model.layers.1.post_mlp_layernorm.weight")?.fill(FRESH);
    Ok(())
}

/// The states, as the new block gets them, of tokens of questions and of the same tokens in their texts: `[N, D]` each.
fn states_of_twins(lower: &Path, random: &mut Random) -> Result<(DMatrix<f64>, DMatrix<f64>)> {
    let vocabulary = Vocabulary::open(lower)?;
    let checkpoint = Checkpoint::open(lower)?;
    let weights = checkpoint.weights();
    let file = checkpoint.path();
    let precision = LoadPrecision::Convert(WeightDtype::F32);
    let decoder: DenseGlm<Cpu> =
        DenseGlm::load(checkpoint.config(), weights, file, precision, &Default::default())?;
    let kind = TokenRows { sentences: 4, tokens: 8, asked: 2, same_beginning: 0 };
    let (mut asked, mut told) = (Vec::new(), Vec::new());
    let mut width = 0;
    for _ in 0..ROWS {
        let (row, twins) = kind.with_twins(&vocabulary, random);
        let span = LabelledSpan { tokens: &row.tokens, targets: &row.targets };
        let states = decoder.tapped(&[Tap::Hidden(FINDS)], &[span])?;
        let states = states.into_iter().next().context("no states")?;
        width = states.dims()[1];
        let states = states.into_data().convert::<f32>().into_vec::<f32>();
        let states = states.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let normed = |at: usize| {
            let state = &states[at * width..][..width];
            let square = state.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64;
            let scale = 1.0 / (square + 1e-5).sqrt();
            state.iter().map(move |x| scale * f64::from(*x)).collect::<Vec<f64>>()
        };
        for Twin { asked: at, told: there } in twins {
            asked.extend(normed(at));
            told.extend(normed(there));
        }
    }
    let rows = asked.len() / width.max(1);
    Ok((DMatrix::from_row_slice(rows, width, &asked), DMatrix::from_row_slice(rows, width, &told)))
}

/// The directions of both, `[K, D]`, in which they agree best.
struct Directions {
    asked: DMatrix<f64>,
    told: DMatrix<f64>,
}

fn directions(asked: &DMatrix<f64>, told: &DMatrix<f64>) -> Result<Directions> {
    ensure!(asked.nrows() > asked.ncols(), "{} pairs of tokens are too few", asked.nrows());
    let (asked, told) = (centred(asked), centred(told));
    let (from, to) = (whitening(&asked), whitening(&told));
    let common = asked.transpose() * &told / asked.nrows() as f64;
    let svd = (&from * common * &to).svd(true, true);
    let (u, vt) = (svd.u.context("no directions")?, svd.v_t.context("no directions")?);
    let weight = DVector::from_iterator(
        svd.singular_values.len(),
        svd.singular_values.iter().map(|s| s.sqrt()),
    );
    let weighted = |rows: DMatrix<f64>| DMatrix::from_diagonal(&weight) * rows;
    Ok(Directions { asked: weighted(u.transpose() * &from), told: weighted(vt * &to) })
}

fn centred(rows: &DMatrix<f64>) -> DMatrix<f64> {
    let mean = rows.row_mean();
    DMatrix::from_fn(rows.nrows(), rows.ncols(), |i, j| rows[(i, j)] - mean[j])
}

/// The inverse root of a covariance, with a twentieth of its mean added so that what hardly varies is not blown up.
fn whitening(rows: &DMatrix<f64>) -> DMatrix<f64> {
    let covariance = rows.transpose() * rows / rows.nrows() as f64;
    let width = covariance.nrows();
    let ridge = 0.05 * covariance.trace() / width as f64;
    let eigen = (covariance + DMatrix::identity(width, width) * ridge).symmetric_eigen();
    let roots = eigen.eigenvalues.map(|value| 1.0 / value.sqrt());
    &eigen.eigenvectors * DMatrix::from_diagonal(&roots) * eigen.eigenvectors.transpose()
}

/// The block that attends to the same token and takes its note.
fn find(
    grown: &mut Tensors,
    config: &GlmConfig,
    turn: &Turn,
    directions: Directions,
    random: &mut Random,
) -> Result<()> {
    let (width, heads, groups) =
        (config.hidden_size, config.num_attention_heads, config.num_key_value_heads);
    let channels = config.head_dim;
    let rotated = config.rotary_dim();
    let still = channels - rotated;
    let directions_used = groups * still;
    ensure!(directions_used > 0 && directions_used <= width, "no channel without rotation");
    let mixed = orthogonal(directions_used, random);
    let rows = |all: &DMatrix<f64>| &mixed * all.rows(0, directions_used) * SHARPNESS;
    let (asked, told) = (rows(&directions.asked), rows(&directions.told));
    let name = |part: &str| format!("model.layers.{FINDS}.{part}.weight");
    let mut queries = vec![0.0_f32; heads * channels * width];
    let mut keys = vec![0.0_f32; groups * channels * width];
    for group in 0..groups {
        for channel in 0..still {
            let at = (group * channels + rotated + channel) * width;
            let row = group * still + channel;
            for column in 0..width {
                keys[at + column] = told[(row, column)] as f32;
            }
            for head in group * heads / groups..(group + 1) * heads / groups {
                let at = (head * channels + rotated + channel) * width;
                for column in 0..width {
                    queries[at + column] = asked[(row, column)] as f32;
                }
            }
        }
    }
    // Values: the note, turned back; outputs: their transpose.
    let basis = orthogonal(width, random);
    let mut values = vec![0.0_f32; groups * channels * width];
    let mut outputs = vec![0.0_f32; width * heads * channels];
    for row in 0..groups * channels {
        for channel in 0..width {
            let (to, sign) = turn.of(channel);
            values[row * width + to] = sign * basis[(row, channel)] as f32;
        }
    }
    for head in 0..heads {
        let group = head * groups / heads;
        for channel in 0..channels {
            for row in 0..width {
                let value = basis[(group * channels + channel, row)] as f32;
                outputs[row * heads * channels + head * channels + channel] = 0.5 * value;
            }
        }
    }
    for (part, made) in [
        ("self_attn.q_proj", queries),
        ("self_attn.k_proj", keys),
        ("self_attn.v_proj", values),
        ("self_attn.o_proj", outputs),
    ] {
        let there = tensor(grown, &name(part))?;
        ensure!(there.len() == made.len(), "{}: another shape", name(part));
        *there = made;
    }
    tensor(grown, &name("post_self_attn_layernorm"))?.fill(FOUND);
    tensor(grown, &name("post_mlp_layernorm"))?.fill(FRESH);
    Ok(())
}

/// A random orthogonal matrix.
fn orthogonal(size: usize, random: &mut Random) -> DMatrix<f64> {
    let mut number = || (0..12).map(|_| random.below(1 << 20) as f64).sum::<f64>() / 1e6 - 6.3;
    DMatrix::from_fn(size, size, |_, _| number()).qr().q()
}

/// Channels in another order, some with the other sign.
struct Turn(Vec<(usize, f32)>);

impl Turn {
    fn new(width: usize, random: &mut Random) -> Self {
        let mut order: Vec<usize> = (0..width).collect();
        random.shuffle(&mut order);
        let sign = |random: &mut Random| if random.chance(0.5) { 1.0 } else { -1.0 };
        Self(order.into_iter().map(|to| (to, sign(random))).collect())
    }

    fn of(&self, channel: usize) -> (usize, f32) {
        self.0[channel]
    }
}

fn tensor<'t>(tensors: &'t mut Tensors, name: &str) -> Result<&'t mut Vec<f32>> {
    tensors.get_mut(name).map(|(_, values)| values).with_context(|| format!("no tensor {name}"))
}

fn read(folder: &Path) -> Result<Tensors> {
    let file = folder.join("model.safetensors");
    let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let mut read = Tensors::new();
    for (name, tensor) in tensors.tensors() {
        ensure!(tensor.dtype() == Dtype::F32, "{}: {name} is not f32", file.display());
        let values = tensor.data().as_chunks().0.iter().map(|&value| f32::from_le_bytes(value));
        read.insert(name, (tensor.shape().to_vec(), values.collect()));
    }
    Ok(read)
}

fn write(folder: &Path, tensors: &Tensors) -> Result<()> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let mut views = Vec::new();
    for (name, shape, bytes) in &bytes {
        views.push((*name, TensorView::new(Dtype::F32, (*shape).clone(), bytes)?));
    }
    Ok(write_whole(&folder.join("model.safetensors"), safetensors::serialize(views, None)?)?)
}
