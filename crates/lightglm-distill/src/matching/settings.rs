//! `Matching`: what of a student is compared with what of a teacher, and what it counts.

use std::sync::Arc;

use lightglm_core::Tap;

use crate::error::DistillError;
use crate::matching::hidden::{StateDistance, check_weight};
use crate::matching::layer_map::LayerMap;
use crate::matching::positions::Positions;
use crate::matching::relations::{Relation, Relations};
use crate::matching::states::TeacherStates;

/// What has to be known of a model whose states are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// Its blocks.
    pub blocks: usize,
    /// `hidden_size`.
    pub width: usize,
}

/// How a student's hidden states get to the teacher's width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Widths {
    /// Each pair of blocks has a projection `[D_teacher, D_student]` without a bias, which is learnt with the student
    /// and left behind with the teacher.
    #[default]
    Learned,
    /// They are compared as they are, which takes models of one width.
    Equal,
}

/// Hidden states of a student towards those of a teacher; summed over the pairs of blocks, a mean over the positions.
#[derive(Clone, Debug, PartialEq)]
pub struct HiddenMatching {
    /// Which blocks.
    pub layers: LayerMap,
    /// What a pair counts beside the objective of the logits. 0 is as if there were no matching.
    pub weight: f64,
    /// How far two states are apart.
    pub distance: StateDistance,
    /// How widths meet.
    pub widths: Widths,
    /// At which tokens.
    pub positions: Positions,
}

/// The last block's states, through a learned projection, by their mean squared error.
impl Default for HiddenMatching {
    fn default() -> Self {
        Self {
            layers: LayerMap::Last,
            weight: 1.0,
            distance: StateDistance::default(),
            widths: Widths::Learned,
            positions: Positions::Labelled,
        }
    }
}

/// What attention relates in a student towards what it relates in a teacher; summed over the pairs of blocks and the
/// kinds, a mean over the positions.
#[derive(Clone, Debug, PartialEq)]
pub struct RelationMatching {
    /// Which blocks; the embedded tokens have no attention.
    pub layers: LayerMap,
    /// What a kind of a pair counts beside the objective of the logits. 0 is as if there were no matching.
    pub weight: f64,
    /// Of what.
    pub of: Vec<Relation>,
    /// In how many heads.
    pub relations: Relations,
    /// At which tokens.
    pub positions: Positions,
}

/// Queries, keys and values of the last block at all tokens, in one head.
impl Default for RelationMatching {
    fn default() -> Self {
        Self {
            layers: LayerMap::Last,
            weight: 1.0,
            of: vec![Relation::Queries, Relation::Keys, Relation::Values],
            relations: Relations { heads: 1 },
            positions: Positions::All,
        }
    }
}

/// What of a student is compared with what of a teacher.
#[derive(Clone, Debug)]
pub struct Matching {
    pub(super) teacher: Arc<dyn TeacherStates>,
    pub(super) of_student: ModelShape,
    pub(super) of_teacher: ModelShape,
    pub(super) hidden: Option<Pairs<HiddenMatching>>,
    pub(super) relations: Option<Pairs<RelationMatching>>,
}

/// Settings, and the pairs of blocks that they name.
#[derive(Clone, Debug)]
pub(super) struct Pairs<S> {
    pub(super) settings: S,
    pub(super) blocks: Vec<(usize, usize)>,
}

impl Matching {
    /// Nothing yet, of a student and a teacher of these shapes.
    pub fn new(
        teacher: Arc<dyn TeacherStates>,
        of_student: ModelShape,
        of_teacher: ModelShape,
    ) -> Self {
        Self { teacher, of_student, of_teacher, hidden: None, relations: None }
    }

    /// With hidden states.
    ///
    /// # Errors
    /// [`DistillError`] for settings that name no block, or widths that differ where they have to be equal.
    pub fn with_hidden(mut self, settings: HiddenMatching) -> Result<Self, DistillError> {
        check_weight("hidden weight", settings.weight)?;
        settings.distance.check()?;
        let (student, teacher) = (self.of_student.width, self.of_teacher.width);
        if settings.widths == Widths::Equal && student != teacher {
            return Err(DistillError::Width { teacher, student });
        }
        let blocks = self.pairs(&settings.layers)?;
        self.hidden = Some(Pairs { settings, blocks });
        Ok(self)
    }

    /// With what attention relates.
    ///
    /// # Errors
    /// [`DistillError`] for settings that name no block, or no heads.
    pub fn with_relations(mut self, settings: RelationMatching) -> Result<Self, DistillError> {
        check_weight("relation weight", settings.weight)?;
        let heads = settings.relations.heads;
        // What they have to divide is known once there are values.
        settings.relations.check(heads)?;
        if settings.of.is_empty() {
            let expected = "queries, keys or values must be named";
            return Err(DistillError::Setting { setting: "relations", value: 0.0, expected });
        }
        let blocks = self.pairs(&settings.layers)?;
        if blocks.iter().any(|(student, teacher)| *student == 0 || *teacher == 0) {
            let expected = "embedded tokens have no attention; blocks are counted from 1";
            return Err(DistillError::Setting { setting: "layers", value: 0.0, expected });
        }
        self.relations = Some(Pairs { settings, blocks });
        Ok(self)
    }

    fn pairs(&self, layers: &LayerMap) -> Result<Vec<(usize, usize)>, DistillError> {
        layers.pairs(self.of_student.blocks, self.of_teacher.blocks)
    }

    /// The hidden states that count.
    pub(super) fn active_hidden(&self) -> Option<&Pairs<HiddenMatching>> {
        self.hidden.as_ref().filter(|hidden| hidden.settings.weight > 0.0)
    }

    /// The relations that count.
    pub(super) fn active_relations(&self) -> Option<&Pairs<RelationMatching>> {
        self.relations.as_ref().filter(|relations| relations.settings.weight > 0.0)
    }

    /// Whether anything counts.
    pub(super) fn is_active(&self) -> bool {
        self.active_hidden().is_some() || self.active_relations().is_some()
    }

    /// Where the student is looked at, and where the teacher: hidden states pair after pair, then relations.
    pub(super) fn taps(&self) -> (Vec<Tap>, Vec<Tap>) {
        let hidden = self.active_hidden().into_iter().flat_map(|hidden| &hidden.blocks);
        let hidden = hidden.map(|&(s, t)| (Tap::Hidden(s), Tap::Hidden(t)));
        let relations = self.active_relations().into_iter().flat_map(|relations| {
            let of = &relations.settings.of;
            let each = move |&(s, t)| of.iter().map(move |of| (of.tap(s), of.tap(t)));
            relations.blocks.iter().flat_map(each)
        });
        hidden.chain(relations).unzip()
    }
}

impl Relation {
    fn tap(self, block: usize) -> Tap {
        match self {
            Self::Queries => Tap::Queries(block),
            Self::Keys => Tap::Keys(block),
            Self::Values => Tap::Values(block),
        }
    }
}
