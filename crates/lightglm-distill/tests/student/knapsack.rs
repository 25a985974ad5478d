//! One choice for each block under a budget, against all combinations.

use lightglm_distill::search::{Choice, Chosen, SearchError, cheapest, choose};
use proptest::prelude::*;

const KEPT: Choice = Choice { cost: 10, score: 0.0, keeps: true };

fn dropped(score: f64) -> Choice {
    Choice { cost: 0, score, keeps: false }
}

/// Every combination that keeps a block: what it costs, and its sum.
fn combinations(blocks: &[Vec<Choice>]) -> Vec<(u64, f64)> {
    let mut all = vec![(0, 0.0, false)];
    for choices in blocks {
        let with = |&(cost, score, kept): &(u64, f64, bool)| {
            let one = move |c: &Choice| (cost + c.cost, score + c.score, kept || c.keeps);
            choices.iter().map(one).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(with).collect();
    }
    all.into_iter().filter(|all| all.2).map(|(cost, score, _)| (cost, score)).collect()
}

/// The best sum within a budget.
fn best(all: &[(u64, f64)], budget: u64) -> Option<f64> {
    let fitting = all.iter().filter(|(cost, _)| *cost <= budget);
    fitting.map(|(_, score)| *score).min_by(f64::total_cmp)
}

fn consistent(blocks: &[Vec<Choice>], chosen: &Chosen) -> bool {
    let choices = || blocks.iter().zip(&chosen.choices).map(|(all, &choice)| all[choice]);
    choices().map(|choice| choice.cost).sum::<u64>() == chosen.cost
        && (choices().map(|choice| choice.score).sum::<f64>() - chosen.score).abs() < 1e-9
        && choices().any(|choice| choice.keeps)
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Choice>>> {
    // Scores in eighths: sums are exact, and some are equal.
    let choice = (0..60_u64, 0..40_u32, any::<bool>());
    let choice = choice.prop_map(|(cost, score, keeps)| Choice {
        cost,
        score: f64::from(score) / 8.0,
        keeps,
    });
    prop::collection::vec(prop::collection::vec(choice, 1..5), 1..6)
}

proptest! {
    /// With steps enough nothing is better, and of what is as good nothing is cheaper.
    #[test]
    fn nothing_is_better(blocks in blocks(), budget in 0..250_u64) {
        let all = combinations(&blocks);
        let smallest = all.iter().map(|(cost, _)| *cost).min();
        match choose(&blocks, budget, 1 << 12) {
            Ok(chosen) => {
                prop_assert!(chosen.is_exact && chosen.cost <= budget);
                prop_assert!(consistent(&blocks, &chosen));
                let best = best(&all, budget).unwrap();
                prop_assert_eq!(chosen.score, best);
                let cheaper = all.iter().any(|&(cost, score)| score == best && cost < chosen.cost);
                prop_assert!(!cheaper);
            }
            Err(SearchError::Budget { budget: told, smallest: least }) => {
                prop_assert_eq!((told, Some(least)), (budget, smallest));
                prop_assert!(least > budget);
            }
            Err(error) => prop_assert_eq!((error, smallest), (SearchError::NothingKept, None)),
        }
    }

    /// With few steps it is as good as the best of a budget that is smaller by a unit for each block.
    #[test]
    fn few_steps_cost_little(blocks in blocks(), budget in 0..250_u64, steps in 1..20_usize) {
        let Ok(chosen) = choose(&blocks, budget, steps) else { return Ok(()) };
        let all = combinations(&blocks);
        prop_assert!(chosen.cost <= budget);
        prop_assert!(consistent(&blocks, &chosen));
        prop_assert!(chosen.score >= best(&all, budget).unwrap());
        let unit = budget.div_ceil(steps as u64);
        let smaller = budget.saturating_sub(unit * blocks.len() as u64);
        if let Some(within) = best(&all, smaller) {
            prop_assert!(chosen.score <= within, "{} > {within}", chosen.score);
        }
    }

    #[test]
    fn the_cheapest_is(blocks in blocks()) {
        let smallest = combinations(&blocks).into_iter().map(|(cost, _)| cost).min();
        match cheapest(&blocks) {
            Ok((choices, cost)) => {
                prop_assert_eq!(Some(cost), smallest);
                prop_assert_eq!(choices.len(), blocks.len());
            }
            Err(error) => prop_assert_eq!((error, smallest), (SearchError::NothingKept, None)),
        }
    }
}

/// Costs of gigabytes have a common unit, so nothing is rounded.
#[test]
fn large_costs_are_exact() {
    let scale = 1 << 28;
    let scaled = |cost: u64| Choice { cost: cost * scale + 17, ..KEPT };
    let block = |score| vec![scaled(4), Choice { score, ..scaled(1) }];
    let chosen = choose(&[block(0.3), block(0.2), block(0.1)], 9 * scale + 60, 100).unwrap();
    assert!(chosen.is_exact);
    assert_eq!((chosen.choices, chosen.cost), (vec![0, 0, 1], 9 * scale + 51));
}

/// Costs without a common unit are rounded up, and still everything fits a budget of everything.
#[test]
fn what_fits_is_not_rounded_out() {
    let block = |cost| vec![Choice { cost, ..KEPT }, dropped(1.0)];
    let blocks = [block(245_835), block(137_103), block(121_240)];
    let all = 245_835 + 137_103 + 121_240;
    let chosen = choose(&blocks, all, 100).unwrap();
    assert!(chosen.is_exact);
    assert_eq!((chosen.choices, chosen.cost), (vec![0, 0, 0], all));
}

#[test]
fn one_block_stays() {
    let blocks = [vec![KEPT, dropped(0.0)], vec![KEPT, dropped(0.5)]];
    assert_eq!(choose(&blocks, 10, 8).unwrap().choices, [1, 0]);
    assert_eq!(choose(&blocks, 20, 8).unwrap().choices, [1, 0], "the cheaper of equals");
    let error = SearchError::Budget { budget: 9, smallest: 10 };
    assert_eq!(choose(&blocks, 9, 8), Err(error));
}

#[test]
fn what_cannot_be_is_told() {
    let nan = vec![KEPT, dropped(f64::NAN)];
    let error = choose(&[vec![KEPT], nan], 99, 8).unwrap_err();
    assert!(matches!(error, SearchError::NotFinite { block: 1, choice: 1, .. }), "{error}");
    assert_eq!(choose(&[vec![]], 99, 8), Err(SearchError::NoChoice { block: 0 }));
    assert_eq!(choose(&[vec![dropped(0.0)]], 99, 8), Err(SearchError::NothingKept));
    assert_eq!(choose(&[], 99, 8), Err(SearchError::NothingKept));
    assert_eq!(choose(&[vec![KEPT]], 99, 0), Err(SearchError::Steps));
}
