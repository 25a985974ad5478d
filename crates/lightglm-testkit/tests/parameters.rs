//! Trainable parameters are read and replaced without knowing the module.

use std::collections::BTreeMap;

use burn::backend::Autodiff;
use burn::module::Module;
use burn_flex::{Flex, FlexDevice};
use lightglm_core::{trainable_parameters, with_values};
use lightglm_testkit::BigramLm;

type Train = Autodiff<Flex>;

#[test]
fn values_go_out_and_come_back_by_identifier() {
    let model = BigramLm::<Train>::new(5, 1, &FlexDevice);
    let read = trainable_parameters(&model);
    assert_eq!((read.len(), read[0].name.as_str(), &read[0].shape[..]), (1, "table", &[5, 5][..]));
    let doubled = BTreeMap::from([(read[0].id, read[0].values.clone() * 2.0)]);
    let changed = trainable_parameters(&with_values(model.clone(), doubled.clone()));
    assert_eq!((changed[0].id, &changed[0].name), (read[0].id, &read[0].name));
    let values = |values: &burn::tensor::Tensor<Flex, 1>| -> Vec<f32> {
        values.clone().into_data().to_vec().expect("f32")
    };
    let expected: Vec<f32> = values(&read[0].values).iter().map(|value| value * 2.0).collect();
    assert_eq!(values(&changed[0].values), expected);
    // Another module's identifiers change nothing.
    let other = BigramLm::<Train>::new(5, 2, &FlexDevice);
    let same = trainable_parameters(&with_values(other.clone(), doubled.clone()));
    assert_eq!(values(&same[0].values), values(&trainable_parameters(&other)[0].values));
    // What is frozen stays frozen.
    let frozen = with_values(model.no_grad(), doubled);
    assert!(trainable_parameters(&frozen).is_empty());
    assert_eq!(frozen.table.val().into_data().to_vec::<f32>().expect("f32"), expected);
}
