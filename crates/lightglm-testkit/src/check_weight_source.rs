//! The promises of [`WeightSource`].

use lightglm_core::{WeightError, WeightSource};

/// Checks that `source` lists its tensors sorted and once, that shapes, bytes and dtypes agree, that
/// reading twice gives the same bytes, and that an unknown name is an error and not a panic.
///
/// Every tensor is read: use a small checkpoint.
///
/// # Panics
/// Where a promise is broken.
pub fn check_weight_source(source: &dyn WeightSource) {
    let names = source.names();
    assert!(!names.is_empty(), "the source has no tensors: nothing would be checked");
    for pair in names.windows(2) {
        assert!(pair[0] < pair[1], "names are not sorted, or not unique: {pair:?}");
    }
    for name in &names {
        let shape =
            source.shape(name).unwrap_or_else(|| panic!("`{name}` is listed without shape"));
        let view = source.tensor(name).unwrap_or_else(|error| panic!("`{name}`: {error}"));
        assert_eq!(view.shape, shape, "`{name}`: shape() and tensor() disagree");
        let expected = shape.iter().product::<usize>() * view.dtype.size();
        assert_eq!(view.bytes.len(), expected, "`{name}`: bytes do not match shape and dtype");
        let again = source.tensor(name).unwrap_or_else(|error| panic!("`{name}`: {error}"));
        assert_eq!(view.bytes, again.bytes, "`{name}`: reading twice gives other bytes");
        assert_eq!(view.dtype, again.dtype, "`{name}`: reading twice gives another dtype");
    }
    for unknown in ["", "no.such.tensor", &format!("{}.", names[0])] {
        assert!(source.shape(unknown).is_none(), "`{unknown}` has a shape");
        match source.tensor(unknown) {
            Err(WeightError::Missing { name, .. }) => assert_eq!(name, unknown),
            Err(other) => panic!("`{unknown}` must be reported as missing, not: {other}"),
            Ok(_) => panic!("`{unknown}` is not listed and was handed out"),
        }
    }
}
