//! Metadata values.

use super::cursor::{Cursor, Reason};

/// Arrays inside of arrays that are followed; no known key nests at all.
const MAX_DEPTH: usize = 4;

/// A value's type, by its number in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names say all")]
pub enum GgufValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl GgufValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Reason> {
        let number = cursor.u32()?;
        let at = cursor.position() - 4;
        Self::ALL
            .get(number as usize)
            .copied()
            .ok_or_else(|| format!("unknown value type {number} at {at}"))
    }

    /// Bytes of the shortest value: a string has its length, an array its type and its length.
    fn least_bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say all")]
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(GgufArray),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of values of one type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say all")]
pub enum GgufArray {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<GgufArray>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl GgufValue {
    /// An integer of any width that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => value.try_into().ok(),
            Self::I16(value) => value.try_into().ok(),
            Self::I32(value) => value.try_into().ok(),
            Self::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// A floating-point number, as the shortest decimal that stands for it: the f32 nearest to
    /// 0.00001 is 0.00001, as in the `config.json` it was converted from.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(value) if value.is_finite() => value.to_string().parse().ok(),
            Self::F32(value) => Some(value.into()),
            Self::F64(value) => Some(value),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// A string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(value) = self { Some(value) } else { None }
    }

    /// An array.
    pub fn as_array(&self) -> Option<&GgufArray> {
        if let Self::Array(value) = self { Some(value) } else { None }
    }

    /// Type and value, as they stand in the file.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Reason> {
        Ok(match GgufValueType::read(cursor)? {
            GgufValueType::U8 => Self::U8(u8::from_le_bytes(cursor.array()?)),
            GgufValueType::I8 => Self::I8(i8::from_le_bytes(cursor.array()?)),
            GgufValueType::U16 => Self::U16(u16::from_le_bytes(cursor.array()?)),
            GgufValueType::I16 => Self::I16(i16::from_le_bytes(cursor.array()?)),
            GgufValueType::U32 => Self::U32(u32::from_le_bytes(cursor.array()?)),
            GgufValueType::I32 => Self::I32(i32::from_le_bytes(cursor.array()?)),
            GgufValueType::F32 => Self::F32(f32::from_le_bytes(cursor.array()?)),
            GgufValueType::Bool => Self::Bool(read_bool(cursor)?),
            GgufValueType::String => Self::String(cursor.string()?.to_owned()),
            GgufValueType::Array => Self::Array(GgufArray::read(cursor, 1)?),
            GgufValueType::U64 => Self::U64(u64::from_le_bytes(cursor.array()?)),
            GgufValueType::I64 => Self::I64(i64::from_le_bytes(cursor.array()?)),
            GgufValueType::F64 => Self::F64(f64::from_le_bytes(cursor.array()?)),
        })
    }
}

impl GgufArray {
    /// Values in the array.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::String(values) => values.len(),
            Self::Array(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }

    /// Whether the array has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The strings of an array of strings.
    pub fn as_strings(&self) -> Option<&[String]> {
        if let Self::String(values) = self { Some(values) } else { None }
    }

    /// The integers of an array of integers that fit into 32 bits with a sign.
    pub fn to_i32s(&self) -> Option<Vec<i32>> {
        match self {
            Self::I32(values) => Some(values.clone()),
            Self::U8(values) => Some(values.iter().map(|&value| value.into()).collect()),
            Self::I8(values) => Some(values.iter().map(|&value| value.into()).collect()),
            Self::U16(values) => Some(values.iter().map(|&value| value.into()).collect()),
            Self::I16(values) => Some(values.iter().map(|&value| value.into()).collect()),
            Self::U32(values) => values.iter().map(|&value| value.try_into().ok()).collect(),
            Self::U64(values) => values.iter().map(|&value| value.try_into().ok()).collect(),
            Self::I64(values) => values.iter().map(|&value| value.try_into().ok()).collect(),
            _ => None,
        }
    }

    /// The numbers of an array of numbers.
    pub fn to_f32s(&self) -> Option<Vec<f32>> {
        match self {
            Self::F32(values) => Some(values.clone()),
            Self::F64(values) => Some(values.iter().map(|&value| value as f32).collect()),
            _ => Some(self.to_i32s()?.into_iter().map(|value| value as f32).collect()),
        }
    }

    fn read(cursor: &mut Cursor<'_>, depth: usize) -> Result<Self, Reason> {
        if depth > MAX_DEPTH {
            return Err(format!("arrays nested over {MAX_DEPTH} deep at {}", cursor.position()));
        }
        let element = GgufValueType::read(cursor)?;
        let n = cursor.count("array elements", element.least_bytes())?;
        Ok(match element {
            GgufValueType::U8 => Self::U8(cursor.take(n)?.to_vec()),
            GgufValueType::I8 => Self::I8(fixed(cursor, n, i8::from_le_bytes)?),
            GgufValueType::U16 => Self::U16(fixed(cursor, n, u16::from_le_bytes)?),
            GgufValueType::I16 => Self::I16(fixed(cursor, n, i16::from_le_bytes)?),
            GgufValueType::U32 => Self::U32(fixed(cursor, n, u32::from_le_bytes)?),
            GgufValueType::I32 => Self::I32(fixed(cursor, n, i32::from_le_bytes)?),
            GgufValueType::F32 => Self::F32(fixed(cursor, n, f32::from_le_bytes)?),
            GgufValueType::U64 => Self::U64(fixed(cursor, n, u64::from_le_bytes)?),
            GgufValueType::I64 => Self::I64(fixed(cursor, n, i64::from_le_bytes)?),
            GgufValueType::F64 => Self::F64(fixed(cursor, n, f64::from_le_bytes)?),
            GgufValueType::Bool => {
                Self::Bool((0..n).map(|_| read_bool(cursor)).collect::<Result<_, _>>()?)
            }
            GgufValueType::String => {
                let strings = (0..n).map(|_| cursor.string().map(str::to_owned));
                Self::String(strings.collect::<Result<_, _>>()?)
            }
            GgufValueType::Array => {
                let arrays = (0..n).map(|_| Self::read(cursor, depth + 1));
                Self::Array(arrays.collect::<Result<_, _>>()?)
            }
        })
    }
}

fn fixed<T, const N: usize>(
    cursor: &mut Cursor<'_>,
    n: usize,
    from_le_bytes: fn([u8; N]) -> T,
) -> Result<Vec<T>, Reason> {
    (0..n).map(|_| cursor.array().map(from_le_bytes)).collect()
}

fn read_bool(cursor: &mut Cursor<'_>) -> Result<bool, Reason> {
    match cursor.array::<1>()?[0] {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("boolean {other} at {}", cursor.position() - 1)),
    }
}
