//! A vocabulary's tokens with what they are made of.

use lightglm_distill::student::{KeptTokens, close_under_merges};

#[test]
fn both_halves_are_kept_all_the_way_down() {
    // 4 = 0 1; 5 = 4 2, and 0 7; 6 = 3 3; 7 = 1 2.
    let merges = [[0, 1, 4], [4, 2, 5], [3, 3, 6], [1, 2, 7], [0, 7, 5]];
    assert_eq!(close_under_merges([5], &merges).ids(), [0, 1, 2, 4, 5, 7]);
    assert_eq!(close_under_merges([6, 9, 9], &merges).ids(), [3, 6, 9]);
    assert!(close_under_merges([], &merges).is_empty());
    // A merge that makes its own half ends, too.
    assert_eq!(close_under_merges([1], &[[1, 1, 1]]).ids(), [1]);
}

#[test]
fn numbers_are_dense_and_in_order() {
    let kept = KeptTokens::new([9, 2, 5, 2]);
    assert_eq!((kept.ids(), kept.len()), (&[2, 5, 9][..], 3));
    assert_eq!([2, 5, 9, 3].map(|id| kept.number(id)), [Some(0), Some(1), Some(2), None]);
}
