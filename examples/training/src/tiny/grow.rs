//! From a model of two blocks that has learnt to copy, and to note at every token how its sentence begins, to one of six that
//! finds what a question names.
//!
//! Two blocks cannot find it: at a token of the question the note of the same token in the text has to be read, so the note must be
//! there a block earlier. Six blocks taught from the beginning had the note and not found what is named after 1,500 steps. So two are
//! taught first, and grow:
//!
//! 1. the first block;
//! 2. the second once more, its note written in directions of its own, so that it is not taken for the token itself;
//! 3. a block that attends to the same token: queries and keys are the directions in which the states of a token
//!    in a question and of the same token in the text agree best (canonical correlation), values are the note;
//! 4. the second block as it was, and fresh ones.
//!
//! Source: Gong et al. 2019, "Efficient Training of BERT by Progressively Stacking", for growing; Hotelling 1936,
//! "Relations between two sets of variates", for the directions.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lightglm::{Cpu, ModelFolder, write_whole};
use lightglm_core::{LabelledSpan, Tap};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::config::GlmConfig;
use lightglm_model::decoder::{DenseGlm, LoadPrecision};
use lightglm_tiny::corpus::Random;
use nalgebra::DMatrix;

use super::tensors::{self, Tensors};
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

/// Whether a model of this shape is one that grows: where it has fewer blocks it is taught as it is.
///
/// # Errors
/// Where it has the blocks, but not the channels.
pub fn grows(config: &GlmConfig) -> Result<bool> {
    if config.num_hidden_layers <= FINDS + 1 {
        return Ok(false);
    }
    let (width, groups, channels) =
        (config.hidden_size, config.num_key_value_heads, config.head_dim);
    ensure!(
        groups * channels <= width,
        "{groups} heads of keys of {channels} channels do not fit a hidden size of {width}"
    );
    ensure!(config.rotary_dim() < config.head_dim, "every channel of a head is rotated");
    Ok(true)
}

/// Writes to `to` the model of `from`, which has [`FIRST_BLOCKS`], grown to the blocks of `fresh`, of which it takes the rest; the
/// whole of it or nothing.
///
/// # Errors
/// Where a file cannot be read or written, the two are not of one shape, or it is none that [`grows`].
pub fn grow(from: &Path, fresh: &Path, to: &Path, seed: u64) -> Result<()> {
    let checkpoint = Checkpoint::open(fresh)?;
    let config = checkpoint.config();
    ensure!(grows(config)?, "{}: too few blocks to grow to", fresh.display());
    let random = &mut Random::new(seed);
    let rest = tensors::read(&fresh.join("model.safetensors"))?;
    let mut grown = stacked(&tensors::read(&from.join("model.safetensors"))?, &rest, config)?;
    let turn = Turn::new(config.hidden_size, random);
    note_elsewhere(&mut grown, &turn, config.hidden_size)?;
    let (asked, told) = states_of_twins(&grown, config, &Vocabulary::open(fresh)?, random)?;
    find(&mut grown, config, &turn, &directions(&asked, &told)?, random)?;
    let folder = ModelFolder::begin(to, &checkpoint, None)?;
    tensors::write(&folder.weights(), &grown)?;
    Ok(folder.finish()?)
}

/// The blocks in their order, each as it was.
fn stacked(taught: &Tensors, fresh: &Tensors, config: &GlmConfig) -> Result<Tensors> {
    let mut grown = Tensors::new();
    for (name, (shape, _)) in fresh {
        let block = (0..config.num_hidden_layers).find(|&block| name.starts_with(&prefix(block)));
        let (from, as_it_was) = match block {
            // Embeddings and the last norm, too.
            None => (taught, name.clone()),
            Some(0) => (taught, name.clone()),
            Some(block @ (1 | 3)) => {
                (taught, name.replace(&prefix(block), &prefix(FIRST_BLOCKS - 1)))
            }
            Some(_) => (fresh, name.clone()),
        };
        let tensor = from.get(&as_it_was).with_context(|| format!("no tensor {as_it_was}"))?;
        ensure!(tensor.0 == *shape, "{as_it_was}: shape {:?} instead of {shape:?}", tensor.0);
        grown.insert(name.clone(), tensor.clone());
    }
    Ok(grown)
}

/// How the names of a block's tensors begin.
fn prefix(block: usize) -> String {
    format!("model.layers.{block}.")
}

/// The second block's note, in other directions.
fn note_elsewhere(grown: &mut Tensors, turn: &Turn, width: usize) -> Result<()> {
    let weights = tensors::values(grown, "model.layers.1.post_self_attn_layernorm.weight")?.clone();
    let mean = weights.iter().sum::<f32>() / width as f32;
    let output = tensors::values(grown, "model.layers.1.self_attn.o_proj.weight")?;
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
    tensors::values(grown, "model.layers.1.post_self_attn_layernorm.weight")?.fill(NOTE);
    tensors::values(grown, "model.layers.1.post_mlp_layernorm.weight")?.fill(FRESH);
    Ok(())
}

/// The states, as the new block gets them, of tokens of questions and of the same tokens in their texts: `[N, D]` each.
fn states_of_twins(
    grown: &Tensors,
    config: &GlmConfig,
    vocabulary: &Vocabulary,
    random: &mut Random,
) -> Result<(DMatrix<f64>, DMatrix<f64>)> {
    // The decoder opens files: what lies below the new block, as one of them.
    let lower = tempfile::tempdir()?;
    let lower_config = GlmConfig { num_hidden_layers: FINDS, ..config.clone() };
    write_whole(&lower.path().join("config.json"), lower_config.to_json())?;
    let is_above = |name: &str| {
        (FINDS..config.num_hidden_layers).any(|block| name.starts_with(&prefix(block)))
    };
    let below = grown.iter().filter(|(name, _)| !is_above(name));
    let below = below.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    tensors::write(&lower.path().join("model.safetensors"), &below)?;
    let checkpoint = Checkpoint::open(lower.path())?;
    let (weights, file) = (checkpoint.weights(), checkpoint.path());
    let decoder: DenseGlm<Cpu> =
        DenseGlm::load(&lower_config, weights, file, LoadPrecision::Stored, &Default::default())?;
    let width = config.hidden_size;
    let kind = TokenRows { sentences: 4, tokens: 8, asked: 2, same_beginning: 0 };
    let (mut asked, mut told) = (Vec::new(), Vec::new());
    for _ in 0..ROWS {
        let (row, twins) = kind.with_twins(vocabulary, random);
        let span = LabelledSpan::text(&row.tokens, &row.targets);
        let states = decoder.tapped(&[Tap::Hidden(FINDS)], &[span])?;
        let states = states.into_iter().next().context("no states")?;
        let states = states.into_data().convert::<f32>().into_vec::<f32>();
        let states = states.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let normed = |at: usize| {
            let state = &states[at * width..][..width];
            let square = state.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64;
            let scale = 1.0 / (square + config.rms_norm_eps).sqrt();
            state.iter().map(move |x| scale * f64::from(*x)).collect::<Vec<f64>>()
        };
        for Twin { asked: at, told: there } in twins {
            asked.extend(normed(at));
            told.extend(normed(there));
        }
    }
    let rows = asked.len() / width;
    Ok((DMatrix::from_row_slice(rows, width, &asked), DMatrix::from_row_slice(rows, width, &told)))
}

/// The directions of both, `[D, D]`, a row each, in which they agree best; the best first, by the root of their correlation.
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
    let weight = svd.singular_values.map(f64::sqrt);
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

/// Makes the block that attends to the same token and takes its note. Each group of heads has channels without rotation, `still`, and
/// directions of its own; what is rotated counts nothing.
fn find(
    grown: &mut Tensors,
    config: &GlmConfig,
    turn: &Turn,
    directions: &Directions,
    random: &mut Random,
) -> Result<()> {
    let (width, heads, groups) =
        (config.hidden_size, config.num_attention_heads, config.num_key_value_heads);
    let (channels, rotated) = (config.head_dim, config.rotary_dim());
    let still = channels - rotated;
    // Mixed, so that no group has all of the best.
    let mixed = orthogonal(groups * still, random);
    let rows = |all: &DMatrix<f64>| &mixed * all.rows(0, groups * still) * SHARPNESS;
    let (asked, told) = (rows(&directions.asked), rows(&directions.told));
    let group_of = |head: usize| head * groups / heads;
    let projection = |heads: usize, group_of: &dyn Fn(usize) -> usize, rows: &DMatrix<f64>| {
        DMatrix::from_fn(heads * channels, width, |row, column| {
            match (row % channels).checked_sub(rotated) {
                Some(channel) => rows[(group_of(row / channels) * still + channel, column)],
                None => 0.0,
            }
        })
    };
    let queries = projection(heads, &group_of, &asked);
    let keys = projection(groups, &|group| group, &told);
    // Values: the note, turned back; outputs: their transpose.
    let basis = orthogonal(width, random);
    let mut values = DMatrix::zeros(groups * channels, width);
    for channel in 0..width {
        let (to, sign) = turn.of(channel);
        let column = basis.column(channel).rows(0, groups * channels) * f64::from(sign);
        values.set_column(to, &column);
    }
    let outputs = DMatrix::from_fn(width, heads * channels, |row, column| {
        basis[(group_of(column / channels) * channels + column % channels, row)]
    });
    let name = |part: &str| format!("model.layers.{FINDS}.{part}.weight");
    for (part, made) in [
        ("self_attn.q_proj", queries),
        ("self_attn.k_proj", keys),
        ("self_attn.v_proj", values),
        ("self_attn.o_proj", outputs),
    ] {
        let there = tensors::values(grown, &name(part))?;
        ensure!(there.len() == made.len(), "{}: another shape", name(part));
        // Row by row; nalgebra's are column by column.
        *there = made.transpose().iter().map(|&value| value as f32).collect();
    }
    tensors::values(grown, &name("post_self_attn_layernorm"))?.fill(FOUND);
    tensors::values(grown, &name("post_mlp_layernorm"))?.fill(FRESH);
    Ok(())
}

/// A random orthogonal matrix, of about normal numbers: sums of twelve.
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
