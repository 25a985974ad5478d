//! `Choice`: what may become of a block.

use super::SearchError;

/// What may become of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// What it costs, in whole units of whatever the budget is of.
    pub cost: u64,
    /// What is lost by it: less is better.
    pub score: f64,
    /// Whether something of the block is left. One block at least is kept.
    pub keeps: bool,
}

/// The cheapest choice of each block, so that one block at least is kept, and what they cost together.
///
/// # Errors
/// [`SearchError::NoChoice`], [`SearchError::NothingKept`].
pub fn cheapest(blocks: &[Vec<Choice>]) -> Result<(Vec<usize>, u64), SearchError> {
    let mut choices = Vec::with_capacity(blocks.len());
    // The block that is kept for the least more, what that is, and its choice.
    let mut kept: Option<(u64, usize, usize)> = None;
    for (block, all) in blocks.iter().enumerate() {
        let any = least(all, |_| true).ok_or(SearchError::NoChoice { block })?;
        if let Some(choice) = least(all, |choice| choice.keeps) {
            let more = all[choice].cost - all[any].cost;
            if kept.is_none_or(|(before, ..)| more < before) {
                kept = Some((more, block, choice));
            }
        }
        choices.push(any);
    }
    let (_, block, choice) = kept.ok_or(SearchError::NothingKept)?;
    let is_kept = |(block, &choice): (usize, &usize)| blocks[block][choice].keeps;
    if !choices.iter().enumerate().any(is_kept) {
        choices[block] = choice;
    }
    let cost = total_cost(blocks, &choices);
    Ok((choices, cost))
}

/// What `choices` of `blocks` cost together.
pub(super) fn total_cost(blocks: &[Vec<Choice>], choices: &[usize]) -> u64 {
    let costs = blocks.iter().zip(choices).map(|(all, &choice)| all[choice].cost);
    costs.fold(0, u64::saturating_add)
}

/// The cheapest of those that `is_meant`; of equal ones that with the best score.
fn least(choices: &[Choice], is_meant: impl Fn(&Choice) -> bool) -> Option<usize> {
    let meant = choices.iter().enumerate().filter(|(_, choice)| is_meant(choice));
    let order = |(_, a): &(usize, &Choice), (_, b): &(usize, &Choice)| {
        a.cost.cmp(&b.cost).then(a.score.total_cmp(&b.score))
    };
    meant.min_by(order).map(|(index, _)| index)
}
