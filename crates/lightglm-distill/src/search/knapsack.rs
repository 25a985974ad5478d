//! `choose`: one choice for each block under a budget, by dynamic programming.

use super::choice::total_cost;
use super::{Choice, SearchError, cheapest};

/// One choice for each block.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Which of each block's choices.
    pub choices: Vec<usize>,
    /// What they cost together; within the budget.
    pub cost: u64,
    /// Their scores, added up.
    pub score: f64,
    /// Whether nothing within the budget has a smaller sum; else costs were rounded up to a step of the budget.
    pub is_exact: bool,
}

/// The choices with the smallest sum of scores whose costs are within `budget`, at least one block kept: a
/// multiple-choice knapsack.
///
/// What a choice costs beyond the cheapest one of its block is counted in units of the greatest common divisor of all
/// such costs. Where the budget has more than `steps` of them, a unit is a `steps`-th of what the budget leaves above the
/// cheapest choices, and costs are rounded up: the result then is at least as good as the best within a budget that is smaller
/// by a unit for each block. Takes `O(blocks * choices * steps)`. Of equal sums the cheaper one is taken, as far as units tell.
///
/// # Errors
/// [`SearchError`]; with [`SearchError::Budget`], what the least costs.
pub fn choose(blocks: &[Vec<Choice>], budget: u64, steps: usize) -> Result<Chosen, SearchError> {
    check(blocks)?;
    if steps == 0 {
        return Err(SearchError::Steps);
    }
    let (cheapest, smallest) = cheapest(blocks)?;
    if smallest > budget {
        return Err(SearchError::Budget { budget, smallest });
    }
    let floors: Vec<u64> =
        blocks.iter().map(|all| all.iter().map(|choice| choice.cost).min().unwrap_or(0)).collect();
    let extra = |block: usize, choice: &Choice| choice.cost - floors[block];
    let (mut unit, mut most) = (0, 0_u64);
    for (block, all) in blocks.iter().enumerate() {
        let extras = all.iter().map(|choice| extra(block, choice));
        unit = extras.clone().fold(unit, gcd);
        most = most.saturating_add(extras.max().unwrap_or(0));
    }
    let floor = floors.iter().fold(0, |sum: u64, &floor| sum.saturating_add(floor));
    let room = budget.saturating_sub(floor);
    // Not more than all choices could use.
    let (unit, used) = (unit.max(1), room.min(most));
    let has_unit = used / unit <= steps as u64;
    // Where all choices fit, rounding is to leave none out.
    let all_fit = most <= room;
    let is_exact = has_unit || all_fit;
    let unit = if has_unit { unit } else { used.div_ceil(steps as u64) };
    let units = |block: usize, choice: &Choice| extra(block, choice).div_ceil(unit);
    let most_of = |(block, all): (usize, &Vec<Choice>)| {
        all.iter().map(|choice| units(block, choice)).max().unwrap_or(0)
    };
    let most = blocks.iter().enumerate().map(most_of).fold(0, u64::saturating_add);
    let capacity = if all_fit { most } else { most.min(room / unit) };

    let mut table = Table::new(capacity as usize);
    for (block, all) in blocks.iter().enumerate() {
        table.add(all, |choice| units(block, choice));
    }
    // Rounding up can leave nothing but what fits without it.
    let choices = table.best().unwrap_or(cheapest);
    let scores = blocks.iter().zip(&choices).map(|(all, &choice)| all[choice].score);
    let (cost, score) = (total_cost(blocks, &choices), scores.sum());
    Ok(Chosen { choices, cost, score, is_exact })
}

fn check(blocks: &[Vec<Choice>]) -> Result<(), SearchError> {
    for (block, all) in blocks.iter().enumerate() {
        for (choice, Choice { score, .. }) in all.iter().enumerate() {
            if !score.is_finite() {
                return Err(SearchError::NotFinite { block, choice, score: *score });
            }
        }
    }
    Ok(())
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The best sums of scores for each number of units that is used, without and with a block that is kept.
struct Table {
    capacity: usize,
    /// `[2, capacity + 1]`; infinite where nothing uses so many units.
    sums: Vec<f64>,
    /// For each block the choice that led to each sum, and whether a block was kept before it.
    steps: Vec<Vec<Step>>,
    /// For each block the units of its choices.
    units: Vec<Vec<u64>>,
}

#[derive(Clone, Copy, Default)]
struct Step {
    choice: u32,
    was_kept: bool,
}

impl Table {
    fn new(capacity: usize) -> Self {
        let mut sums = vec![f64::INFINITY; 2 * (capacity + 1)];
        sums[0] = 0.0;
        Self { capacity, sums, steps: Vec::new(), units: Vec::new() }
    }

    fn at(&self, is_kept: bool, used: usize) -> usize {
        usize::from(is_kept) * (self.capacity + 1) + used
    }

    /// Takes in the block behind all others.
    fn add(&mut self, choices: &[Choice], units: impl Fn(&Choice) -> u64) {
        let units: Vec<u64> = choices.iter().map(units).collect();
        let mut sums = vec![f64::INFINITY; self.sums.len()];
        let mut steps = vec![Step::default(); self.sums.len()];
        for (index, (choice, &units)) in choices.iter().zip(&units).enumerate() {
            let Some(last) = (self.capacity as u64).checked_sub(units) else { continue };
            for was_kept in [false, true] {
                for used in 0..=last as usize {
                    let sum = self.sums[self.at(was_kept, used)] + choice.score;
                    let to = self.at(was_kept || choice.keeps, used + units as usize);
                    if sum < sums[to] {
                        sums[to] = sum;
                        steps[to] = Step { choice: index as u32, was_kept };
                    }
                }
            }
        }
        self.sums = sums;
        self.steps.push(steps);
        self.units.push(units);
    }

    /// The choices of the smallest sum with a block that is kept; of equal ones that of the fewest units.
    fn best(&self) -> Option<Vec<usize>> {
        let sum = |used: &usize| self.sums[self.at(true, *used)];
        let mut used = (0..=self.capacity)
            .filter(|used| sum(used).is_finite())
            .min_by(|a, b| sum(a).total_cmp(&sum(b)))?;
        let mut is_kept = true;
        let mut choices = Vec::with_capacity(self.steps.len());
        for (steps, units) in self.steps.iter().zip(&self.units).rev() {
            let Step { choice, was_kept } = steps[self.at(is_kept, used)];
            used -= units[choice as usize] as usize;
            is_kept = was_kept;
            choices.push(choice as usize);
        }
        choices.reverse();
        Some(choices)
    }
}
