//! `Importance`: what a text says of a model's parts, and the slice that follows from it.
//!
//! Shapes: `D` hidden_size, `F` intermediate_size, `H` heads.

use std::collections::BTreeMap;

use super::keep::strongest;
use super::{Slice, StudentError, StudentShape, Wanted};

/// How important the parts of a model are on a text: more is more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Importance {
    /// Block influence of each layer.
    pub layers: Vec<f64>,
    /// `[H]` of each layer: L2 norms of what the heads hand to `o_proj`.
    pub heads: Vec<Vec<f64>>,
    /// `[F]` of each layer: what neurons hand to `down_proj`, by a [`Measure`](super::Measure).
    pub ffn: Vec<Vec<f64>>,
    /// `[D]`: mean magnitudes of what the norms in front of projections and of the head give each channel, all
    /// norms together.
    pub hidden: Vec<f64>,
    /// `[D]` of each norm of the residual stream's width, by its name in the checkpoint without `.weight`: the
    /// shares of the channels in what it is given ([`EnergyShares`](super::EnergyShares)).
    pub norm_shares: BTreeMap<String, Vec<f64>>,
}

impl Importance {
    /// The most important parts of `teacher`, as many as are wanted: layers by block influence; key and value heads
    /// by the root of the sum of squares of their query heads, of these the largest of each group; neurons and
    /// channels by their numbers.
    ///
    /// # Errors
    /// [`StudentError::Count`], [`StudentError::HeadGroups`]; [`StudentError::OtherModel`] where what decides was
    /// not measured, or on another model.
    pub fn slice(&self, teacher: &StudentShape, wanted: &Wanted) -> Result<Slice, StudentError> {
        let student = wanted.shape(teacher)?;
        let layers = (teacher.num_hidden_layers, student.num_hidden_layers);
        let layers = chosen("num_hidden_layers", &self.layers, layers)?;
        let neurons = (teacher.intermediate_size, student.intermediate_size);
        let neurons =
            |&layer: &usize| chosen("intermediate_size", of_layer(&self.ffn, layer), neurons);
        let heads = |&layer: &usize| heads(of_layer(&self.heads, layer), teacher, &student);
        let hidden = (teacher.hidden_size, student.hidden_size);
        Ok(Slice {
            ffn: layers.iter().map(neurons).collect::<Result<_, StudentError>>()?,
            heads: layers.iter().map(heads).collect::<Result<_, StudentError>>()?,
            layers,
            hidden: chosen("hidden_size", &self.hidden, hidden)?,
            vocabulary: (0..teacher.vocab_size).collect(),
        })
    }

    /// What the weights of each norm are multiplied by where only the channels `hidden` are left, so that those get
    /// what they got before: `sqrt(sum(s[kept]) D / D')`, by the norm's name without `.weight`.
    pub fn norm_scales(&self, hidden: &[usize]) -> BTreeMap<String, f64> {
        let scale = |(name, shares): (&String, &Vec<f64>)| {
            let kept: f64 = hidden.iter().filter_map(|&channel| shares.get(channel)).sum();
            let wider = shares.len() as f64 / hidden.len().max(1) as f64;
            (name.clone(), (kept * wider).sqrt())
        };
        match self.norm_shares.values().all(|shares| shares.len() == hidden.len()) {
            true => BTreeMap::new(),
            false => self.norm_shares.iter().map(scale).collect(),
        }
    }
}

/// What was measured of `layer`; nothing where nothing was.
fn of_layer(scores: &[Vec<f64>], layer: usize) -> &[f64] {
    scores.get(layer).map_or(&[], Vec::as_slice)
}

/// The strongest of so many units; all of them where as many are wanted, whatever was measured.
fn chosen(
    what: &'static str,
    scores: &[f64],
    (available, wanted): (usize, usize),
) -> Result<Vec<usize>, StudentError> {
    match scores.len() {
        _ if wanted == available => Ok((0..available).collect()),
        measured if measured == available => Ok(strongest(scores, wanted)),
        measured => Err(StudentError::OtherModel { what, measured, expected: available }),
    }
}

/// The strongest key and value heads, and of each the strongest of the query heads that share it.
fn heads(
    scores: &[f64],
    teacher: &StudentShape,
    student: &StudentShape,
) -> Result<Vec<usize>, StudentError> {
    let all = teacher.num_attention_heads;
    let size = teacher.heads_per_group();
    if student.num_attention_heads == all || scores.len() != all {
        return chosen("num_attention_heads", scores, (all, student.num_attention_heads));
    }
    let groups: Vec<f64> = scores
        .chunks(size)
        .map(|group| group.iter().map(|score| score * score).sum::<f64>().sqrt())
        .collect();
    let of_group = |group: usize| {
        let heads = &scores[group * size..(group + 1) * size];
        let heads = strongest(heads, student.heads_per_group());
        heads.into_iter().map(move |head| group * size + head)
    };
    Ok(strongest(&groups, student.num_key_value_heads).into_iter().flat_map(of_group).collect())
}
