//! Orders, splits and packing: what holds for all lengths and seeds.

use std::collections::BTreeMap;

use lightglm_train::data::{
    PackError, PackOrder, SplitError, ValidationSize, epoch_order, pack, shuffle, split,
    take_evenly, take_per_label,
};
use proptest::prelude::*;

const ORDERS: [PackOrder; 2] = [PackOrder::Given, PackOrder::Decreasing];

proptest! {
    #[test]
    fn every_index_once_and_no_batch_above_the_budget(
        lengths in prop::collection::vec(0_usize..100, 0..200),
        room in 0_usize..300,
    ) {
        let budget = lengths.iter().copied().max().unwrap_or(0) + room;
        for order in ORDERS {
            let batches = pack(&lengths, budget, order).expect("nothing is above the budget");
            let mut indices: Vec<usize> = batches.concat();
            indices.sort_unstable();
            prop_assert_eq!(indices, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                prop_assert!(batch.iter().map(|index| lengths[*index]).sum::<usize>() <= budget);
                prop_assert!(batch.is_sorted() && !batch.is_empty());
            }
            prop_assert!(batches.is_sorted());
            prop_assert_eq!(&batches, &pack(&lengths, budget, order).expect("as before"));
        }
    }

    #[test]
    fn the_tree_packs_as_the_plain_search_does(
        lengths in prop::collection::vec(0_usize..60, 0..100),
        budget in 60_usize..130,
    ) {
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let total = |batch: &[usize]| batch.iter().map(|index| lengths[*index]).sum::<usize>();
        for (index, length) in lengths.iter().enumerate() {
            let fits = |batch: &Vec<usize>| total(batch) + length <= budget;
            match batches.iter().position(fits) {
                Some(first) => batches[first].push(index),
                None => batches.push(vec![index]),
            }
        }
        prop_assert_eq!(batches, pack(&lengths, budget, PackOrder::Given).expect("all fit"));
    }

    #[test]
    fn at_most_one_batch_is_half_empty(
        lengths in prop::collection::vec(1_usize..50, 1..200),
        budget in 50_usize..120,
    ) {
        for order in ORDERS {
            let batches = pack(&lengths, budget, order).expect("all fit");
            let half = |batch: &&Vec<usize>| {
                2 * batch.iter().map(|index| lengths[*index]).sum::<usize>() <= budget
            };
            prop_assert!(batches.iter().filter(half).count() <= 1);
        }
    }

    #[test]
    fn an_epoch_has_every_example_once(len in 0_usize..300, seed: u64, epoch: u64) {
        let order = epoch_order(len, seed, epoch);
        prop_assert_eq!(&order, &epoch_order(len, seed, epoch));
        let mut sorted = order;
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..len).collect::<Vec<_>>());
    }

    #[test]
    fn a_split_loses_nothing(len in 2_usize..200, share in 0.0..0.9_f64, seed: u64) {
        let examples: Vec<usize> = (0..len).collect();
        let size = ValidationSize::Share(share);
        let parts = match split(examples.clone(), size, seed) {
            Ok(parts) => parts,
            Err(error) => {
                let small = matches!(error, SplitError::NothingLeft { .. }) && len <= 5;
                prop_assert!(small, "{}", error);
                return Ok(());
            }
        };
        prop_assert_eq!(&parts, &split(examples.clone(), size, seed).expect("as before"));
        prop_assert!(parts.train.is_sorted() && parts.validation.is_sorted());
        let expected = len as f64 * share;
        prop_assert!((parts.validation.len() as f64 - expected).abs() <= 1.0);
        let mut all = [parts.train, parts.validation].concat();
        all.sort_unstable();
        prop_assert_eq!(all, examples);
    }

    #[test]
    fn labels_are_drawn_evenly(
        labels in prop::collection::vec(0_u8..6, 0..120),
        count in 0_usize..130,
        seed: u64,
    ) {
        let examples: Vec<(usize, u8)> = labels.iter().copied().enumerate().collect();
        let drawn = take_evenly(examples.clone(), count, seed, |(_, label)| *label);
        prop_assert_eq!(drawn.len(), count.min(examples.len()));
        prop_assert!(drawn.is_sorted());
        let counts = |examples: &[(usize, u8)]| {
            let mut counts = BTreeMap::new();
            examples.iter().for_each(|(_, label)| *counts.entry(*label).or_insert(0) += 1);
            counts
        };
        let (drawn, there) = (counts(&drawn), counts(&examples));
        let most = drawn.values().copied().max().unwrap_or(0);
        for (label, there) in &there {
            let drawn = drawn.get(label).copied().unwrap_or(0);
            prop_assert!(drawn + 1 >= most || drawn == *there);
        }
        let few = take_per_label(examples, count, seed, |(_, label)| *label);
        for (label, there) in &there {
            let kept = few.iter().filter(|(_, other)| other == label).count();
            prop_assert_eq!(kept, count.min(*there));
        }
    }
}

#[test]
fn packing_by_hand() {
    let lengths = [5, 6, 4, 3, 2, 10, 1];
    let given = pack(&lengths, 10, PackOrder::Given).expect("all fit");
    assert_eq!(given, [vec![0, 2, 6], vec![1, 3], vec![4], vec![5]]);
    let decreasing = pack(&lengths, 10, PackOrder::Decreasing).expect("all fit");
    assert_eq!(decreasing, [vec![0, 3, 4], vec![1, 2], vec![5], vec![6]]);
    assert_eq!(pack(&[], 0, PackOrder::Given), Ok(vec![]));
    assert_eq!(pack(&[0, 0], 0, PackOrder::Given), Ok(vec![vec![0, 1]]));
}

#[test]
fn what_fits_no_batch_is_refused() {
    let error = PackError::TooLong { index: 1, length: 11, budget: 10 };
    assert_eq!(error.to_string(), "sequence 1 has 11 tokens, a batch 10");
    for order in ORDERS {
        assert_eq!(pack(&[1, 11, usize::MAX], 10, order), Err(error.clone()));
    }
}

#[test]
fn packing_does_not_take_quadratic_time() {
    let lengths: Vec<usize> = (0..200_000).map(|index| 500 + index * 7_919 % 1_000).collect();
    let batches = pack(&lengths, 2_000, PackOrder::Given).expect("all fit");
    assert!(batches.len() < 120_000, "{}", batches.len());
}

#[test]
fn seeds_epochs_and_purposes_differ() {
    let orders = [epoch_order(50, 1, 0), epoch_order(50, 1, 1), epoch_order(50, 2, 0)];
    let mut shuffled: Vec<usize> = (0..50).collect();
    shuffle(&mut shuffled, 1);
    for (index, order) in orders.iter().enumerate() {
        assert!(!orders[..index].contains(order));
        assert_ne!(order, &shuffled);
    }
    let validation = |seed| {
        split((0..50).collect(), ValidationSize::Count(10), seed).expect("possible").validation
    };
    assert_ne!(validation(1), validation(2));
}

#[test]
fn sizes_of_validation_sets() {
    let parse = |text: &str| text.parse::<ValidationSize>();
    assert_eq!(parse("200"), Ok(ValidationSize::Count(200)));
    assert_eq!(parse("0.25"), Ok(ValidationSize::Share(0.25)));
    assert_eq!(parse("1.0"), Err(SplitError::Share { share: 1.0 }));
    for text in ["", "-1", "NaN", "1e9", "ten", "10%", "inf"] {
        assert!(parse(text).is_err(), "{text}");
    }
    for size in [ValidationSize::Count(1), ValidationSize::Share(0.5), ValidationSize::Share(0.0)] {
        assert_eq!(parse(&size.to_string()), Ok(size));
    }
    let size = |len: usize, size| split(vec![(); len], size, 1).map(|parts| parts.validation.len());
    assert_eq!(size(10, ValidationSize::Count(0)), Ok(0));
    assert_eq!(size(0, ValidationSize::Count(0)), Ok(0));
    assert_eq!(size(1_000, ValidationSize::Share(0.0001)), Ok(1));
    assert_eq!(size(77, ValidationSize::Share(0.5)), Ok(39));
    let nothing_left = SplitError::NothingLeft { validation: 10, examples: 10 };
    assert_eq!(size(10, ValidationSize::Count(10)), Err(nothing_left));
    assert!(size(10, ValidationSize::Share(-0.1)).is_err());
    assert!(size(10, ValidationSize::Share(f64::NAN)).is_err());
}
