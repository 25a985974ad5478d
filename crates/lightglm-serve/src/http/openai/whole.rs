//! `Whole`: whole numbers as JSON's writers write them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::http::error::ApiError;

/// A whole number: `12`, or `12.0`, as languages write it that have but one kind of number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Whole(pub(in crate::http) i128);

/// Floats are exact up to here.
const EXACT: f64 = (1u64 << 53) as f64;

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Whole, E> {
                Ok(Whole(value.into()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Whole, E> {
                Ok(Whole(value.into()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Whole, E> {
                match value.fract() == 0.0 && value.abs() <= EXACT {
                    true => Ok(Whole(value as i128)),
                    false => Err(E::invalid_value(serde::de::Unexpected::Float(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl Whole {
    /// Whether it is -1, by which clients mean that there is no limit.
    pub(super) fn is_no_limit(self) -> bool {
        self.0 == -1
    }
}

/// A whole number within its bounds.
///
/// # Errors
/// [`ApiError::Field`].
pub(super) fn whole(
    field: &str,
    value: Option<Whole>,
    least: usize,
    most: usize,
) -> Result<Option<usize>, ApiError> {
    let Some(Whole(value)) = value else { return Ok(None) };
    match usize::try_from(value) {
        Ok(value) if (least..=most).contains(&value) => Ok(Some(value)),
        _ if most == usize::MAX => {
            Err(ApiError::field(field, format!("it must be at least {least}")))
        }
        _ => Err(ApiError::field(field, format!("it must be {least} to {most}"))),
    }
}
