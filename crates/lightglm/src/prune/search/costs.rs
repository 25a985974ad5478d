//! What each choice of each block costs, and everything else.

use std::path::Path;

use lightglm_distill::search::{Choice, SearchError, cheapest};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_quant::Scheme;

use super::super::PruneError;
use super::block_variant::BlockVariant;
use super::latency_table::LatencyTable;
use super::options::{BlockChoice, Budget, SearchOptions};
use crate::error::Error;

/// Costs in whole units: bytes, or nanoseconds.
#[derive(Debug)]
pub(super) struct Costs {
    /// Of everything but the blocks.
    pub(super) fixed: u64,
    /// By width, block and choice.
    pub(super) blocks: Vec<Vec<Vec<u64>>>,
    /// Which choices leave something of a block.
    keeps: Vec<bool>,
}

impl Costs {
    /// Bytes of tensors.
    ///
    /// # Errors
    /// Where a scheme does not fit a matrix, or the checkpoint is at fault.
    pub(super) fn of_bytes(
        checkpoint: &Checkpoint,
        options: &SearchOptions,
    ) -> Result<Self, Error> {
        let block = |layer: usize, width: usize| -> Result<Vec<u64>, Error> {
            // Which neurons they are makes no difference.
            let neurons: Vec<usize> = (0..width).collect();
            let tensors = BlockVariant::new(checkpoint, layer, &neurons)?.tensors()?;
            of_choices(options, |scheme| tensors.block_bytes(scheme))
        };
        let layers = checkpoint.config().num_hidden_layers;
        let of_width = |width: usize| -> Result<Vec<Vec<u64>>, Error> {
            (0..layers).map(|layer| block(layer, width)).collect()
        };
        let widths = options.widths(checkpoint).into_iter();
        Ok(Self {
            fixed: BlockVariant::tables(checkpoint)?.tensors()?.other_bytes(options.tables)?,
            blocks: widths.map(of_width).collect::<Result<_, Error>>()?,
            keeps: keeps(options),
        })
    }

    /// Nanoseconds of a decode step, from the table in `file`, which is measured where it is not there or `may_grow`.
    ///
    /// # Errors
    /// [`PruneError::LatencyMachine`], [`PruneError::LatencyMissing`], [`Error::Interrupted`]; where the file cannot be
    /// read or written.
    pub(super) fn of_time(
        checkpoint: &Checkpoint,
        options: &SearchOptions,
        file: &Path,
        may_grow: bool,
    ) -> Result<Self, Error> {
        let dense = checkpoint.stored_dtype()?;
        let widths = options.widths(checkpoint);
        let table = LatencyTable::for_search(file, may_grow, checkpoint.config(), dense, options)?;
        let nanoseconds = |milliseconds: f64| (milliseconds * 1e6) as u64;
        let mut blocks = Vec::new();
        for width in widths {
            let block = of_choices(options, |scheme| {
                let shape = LatencyTable::shape(checkpoint.config(), width);
                Ok(nanoseconds(table.block(&shape, dense, scheme, file)?))
            })?;
            blocks.push(vec![block; checkpoint.config().num_hidden_layers]);
        }
        let fixed = table.tables(checkpoint.config(), dense, options.tables, file)?;
        Ok(Self { fixed: nanoseconds(fixed), blocks, keeps: keeps(options) })
    }

    /// Choices of width `width` with `scores` by block and choice.
    pub(super) fn choices(&self, width: usize, scores: &[Vec<f64>]) -> Vec<Vec<Choice>> {
        let block = |(costs, scores): (&Vec<u64>, &Vec<f64>)| {
            let all = costs.iter().zip(scores).zip(&self.keeps);
            all.map(|((&cost, &score), &keeps)| Choice { cost, score, keeps }).collect()
        };
        self.blocks[width].iter().zip(scores).map(block).collect()
    }

    /// Refuses a budget that nothing fits.
    pub(super) fn check(&self, budget: Budget) -> Result<(), Error> {
        let mut smallest = u64::MAX;
        for (width, blocks) in self.blocks.iter().enumerate() {
            let scores: Vec<Vec<f64>> = blocks.iter().map(|all| vec![0.0; all.len()]).collect();
            let (_, cost) = cheapest(&self.choices(width, &scores)).map_err(Error::Search)?;
            smallest = smallest.min(self.fixed.saturating_add(cost));
        }
        match smallest <= budget.in_units() {
            true => Ok(()),
            false => Err(PruneError::Budget {
                unit: budget.unit(),
                budget: budget.of_units(budget.in_units()),
                smallest: budget.of_units(smallest),
            }
            .into()),
        }
    }

    /// What `budget` leaves for the blocks.
    pub(super) fn room(&self, budget: Budget) -> Result<u64, SearchError> {
        let (budget, smallest) = (budget.in_units(), self.fixed);
        budget.checked_sub(smallest).ok_or(SearchError::Budget { budget, smallest })
    }
}

fn keeps(options: &SearchOptions) -> Vec<bool> {
    options.choices().iter().map(|choice| *choice != BlockChoice::Dropped).collect()
}

/// What `cost` says of each choice; what is left out costs nothing.
fn of_choices(
    options: &SearchOptions,
    mut cost: impl FnMut(Scheme) -> Result<u64, Error>,
) -> Result<Vec<u64>, Error> {
    let of_choice = |choice: BlockChoice| match choice {
        BlockChoice::Kept(scheme) => cost(scheme),
        BlockChoice::Dropped => Ok(0),
    };
    options.choices().into_iter().map(of_choice).collect()
}
