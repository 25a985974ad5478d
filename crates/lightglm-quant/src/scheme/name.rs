//! Schemes as text.

use std::fmt;
use std::str::FromStr;

use lightglm_kernels::{ActivationBits, ActivationFormat, ScaleDtype, WeightBits};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Granularity, QuantizedScheme, Scheme, SchemeError, WeightScheme, weight_only_group};

/// Most columns of a group: no matrix has longer rows.
const LARGEST_GROUP: usize = 1 << 24;

impl Scheme {
    /// The scheme with every choice named, so that it means the same when the defaults have moved on:
    /// what files hold. `w8a8-g128-ag128-f16`, `dense`.
    pub fn spelled_out(&self) -> String {
        let Self::Quantized(scheme) = self else { return "dense".to_owned() };
        let (weight, activation) = (scheme.weight, scheme.activation);
        let mut text = format!("w{}a{}", weight.bits.count(), bits(activation.bits));
        if let Granularity::PerGroup(size) = weight.granularity {
            text += &format!("-g{size}");
        }
        match activation.group_size {
            Some(size) => text += &format!("-ag{size}"),
            None => text += "-at",
        }
        if !weight.symmetric {
            text += "-zp";
        }
        text + "-" + float(weight.scale_dtype)
    }
}

impl fmt::Display for Scheme {
    /// The shortest name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match *self {
            Self::Dense => return f.write_str("dense"),
            Self::INT8 => return f.write_str("int8"),
            Self::INT4 => return f.write_str("int4"),
            Self::Quantized(scheme) => scheme,
        };
        let QuantizedScheme { weight, activation } = scheme;
        let group = Some(weight_only_group(weight.granularity));
        let weight_only =
            activation.bits == ActivationBits::Sixteen && activation.group_size == group;
        match weight_only {
            true => write!(f, "int{}wo", weight.bits.count())?,
            false => write!(f, "w{}a{}", weight.bits.count(), bits(activation.bits))?,
        }
        if let Granularity::PerGroup(size) = weight.granularity {
            write!(f, "-g{size}")?;
        }
        match activation.group_size {
            Some(size) if !weight_only => write!(f, "-ag{size}")?,
            _ => {}
        }
        if !weight.symmetric {
            f.write_str("-zp")?;
        }
        match weight.scale_dtype == usual_scale(weight.granularity) {
            true => Ok(()),
            false => write!(f, "-{}", float(weight.scale_dtype)),
        }
    }
}

impl FromStr for Scheme {
    type Err = SchemeError;

    fn from_str(text: &str) -> Result<Self, SchemeError> {
        match text {
            "dense" => return Ok(Self::Dense),
            "int8" => return Ok(Self::INT8),
            "int4" => return Ok(Self::INT4),
            _ => {}
        }
        let mut parts = text.split('-');
        let (eight, sixteen) = (ActivationBits::Eight, ActivationBits::Sixteen);
        let (bits, activation, weight_only) = match parts.next() {
            Some("int8wo") => (WeightBits::Eight, sixteen, true),
            Some("int4wo") => (WeightBits::Four, sixteen, true),
            Some("w8a8") => (WeightBits::Eight, eight, false),
            Some("w4a8") => (WeightBits::Four, eight, false),
            Some("w8a16") => (WeightBits::Eight, sixteen, false),
            Some("w4a16") => (WeightBits::Four, sixteen, false),
            _ => return Err(SchemeError::Unknown { text: text.to_owned() }),
        };
        let (mut group, mut activations, mut zero_point, mut scales) = (None, None, None, None);
        for part in parts {
            let fresh = match part {
                "zp" => zero_point.replace(()).is_none(),
                "at" => activations.replace(None).is_none(),
                "f16" => scales.replace(ScaleDtype::F16).is_none(),
                "f32" => scales.replace(ScaleDtype::F32).is_none(),
                "nested" => scales.replace(ScaleDtype::Nested).is_none(),
                _ => match (size(part, "ag"), size(part, "g")) {
                    (Some(size), _) => activations.replace(Some(size)).is_none(),
                    (None, Some(size)) => group.replace(size).is_none(),
                    (None, None) => false,
                },
            };
            if !fresh {
                let (text, modifier) = (text.to_owned(), part.to_owned());
                return Err(SchemeError::Modifier { text, modifier });
            }
        }
        let granularity = group.map_or(Granularity::PerChannel, Granularity::PerGroup);
        let usual = weight_only.then(|| weight_only_group(granularity));
        Ok(Self::Quantized(QuantizedScheme {
            weight: WeightScheme {
                bits,
                granularity,
                symmetric: zero_point.is_none(),
                scale_dtype: scales.unwrap_or(usual_scale(granularity)),
            },
            activation: ActivationFormat {
                bits: activation,
                group_size: activations.unwrap_or(usual),
            },
        }))
    }
}

impl Serialize for Scheme {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.spelled_out())
    }
}

impl<'de> Deserialize<'de> for Scheme {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The number behind `prefix`, where it is a group's size.
fn size(part: &str, prefix: &str) -> Option<usize> {
    let digits = part.strip_prefix(prefix)?;
    // No `+8`, no `08`: a scheme has one spelling.
    if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().ok()?;
    (size <= LARGEST_GROUP && usize::is_multiple_of(size, 8)).then_some(size)
}

fn usual_scale(granularity: Granularity) -> ScaleDtype {
    match granularity {
        Granularity::PerChannel => ScaleDtype::F32,
        Granularity::PerGroup(_) => ScaleDtype::F16,
    }
}

fn bits(bits: ActivationBits) -> usize {
    match bits {
        ActivationBits::Eight => 8,
        ActivationBits::Sixteen => 16,
    }
}

fn float(dtype: ScaleDtype) -> &'static str {
    match dtype {
        ScaleDtype::F16 => "f16",
        ScaleDtype::F32 => "f32",
        ScaleDtype::Nested => "nested",
    }
}
