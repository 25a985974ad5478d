//! What the seams promise, for the model of one matrix.

use burn::backend::Autodiff;
use burn_flex::{Flex, FlexDevice};
use lightglm_testkit::{BigramLm, check_trainable_lm};
use lightglm_train::objectives::CrossEntropy;

type Train = Autodiff<Flex>;

const TOKENS: [u32; 24] =
    [3, 7, 3, 9, 11, 2, 3, 7, 5, 5, 8, 1, 0, 3, 9, 3, 7, 2, 4, 6, 8, 10, 3, 7];

#[test]
fn a_table_can_be_taught() {
    check_trainable_lm(&BigramLm::<Train>::new(12, 1, &FlexDevice), &CrossEntropy, &TOKENS);
}
