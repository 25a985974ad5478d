//! SentencePiece's model file: a protocol buffer of pieces.
//!
//! Of its hundred fields a tokenizer needs a dozen, so they are read by hand instead of by a compiler of
//! protocol buffers.
//! Source: google/sentencepiece, src/sentencepiece_model.proto; protobuf.dev, "Encoding".

use crate::error::TextError;
use crate::sentencepiece::{Piece, PieceKind};
use crate::token_table::MAX_TOKEN_ID;
use crate::tokenizer_file::Normalization;

/// `model_type` of BPE; 1, also where there is none, is a unigram model.
const BPE: u64 = 2;

/// What a model file says.
#[derive(Clone, Debug)]
pub(crate) struct SentencePieceModel {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) bos_id: Option<u32>,
    pub(crate) eos_id: Option<u32>,
    pub(crate) how: Normalization,
}

/// Whether `bytes` begin as a model file does: with the first piece.
pub(crate) fn is_model(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x0A)
}

/// Reads a model file; `origin` names it in errors.
///
/// # Errors
/// [`TextError::Malformed`] for what is no protocol buffer, or none of SentencePiece's;
/// [`TextError::UnsupportedTokenizer`] for other models than BPE and for what it may do to texts beside
/// spaces: `nmt_nfkc`, for one.
pub(crate) fn read(bytes: &[u8], origin: &str) -> Result<SentencePieceModel, TextError> {
    let malformed = |reason: String| TextError::Malformed {
        origin: origin.to_owned(),
        field: "SentencePiece model".to_owned(),
        reason,
    };
    let unsupported = |field, found: &str| TextError::UnsupportedTokenizer {
        origin: origin.to_owned(),
        field,
        found: found.to_owned(),
    };
    let fields = |bytes| Message(bytes).fields().map_err(|reason| malformed(reason.to_owned()));
    let mut pieces = Vec::new();
    let (mut trainer, mut normalizer, mut denormalizer) = (Vec::new(), Vec::new(), Vec::new());
    for (number, value) in fields(bytes)? {
        match (number, value) {
            (1, Wire::Bytes(piece)) => {
                let id = pieces.len();
                let piece = read_piece(fields(piece)?);
                pieces.push(piece.map_err(|reason| malformed(format!("piece {id}: {reason}")))?);
            }
            (2, Wire::Bytes(spec)) => trainer.extend(fields(spec)?),
            (3, Wire::Bytes(spec)) => normalizer.extend(fields(spec)?),
            (5, Wire::Bytes(spec)) => denormalizer.extend(fields(spec)?),
            _ => {}
        }
    }
    if pieces.is_empty() || pieces.len() > MAX_TOKEN_ID as usize {
        return Err(malformed(format!("{} pieces", pieces.len())));
    }
    match number(&trainer, 3) {
        Some(BPE) => {}
        Some(3) => return Err(unsupported("model_type", "word")),
        Some(4) => return Err(unsupported("model_type", "char")),
        _ => return Err(unsupported("model_type", "unigram")),
    }
    let flag = |spec: &[(u64, Wire<'_>)], field: u64, default: bool| {
        number(spec, field).map_or(default, |value| value != 0)
    };
    if flag(&trainer, 24, false) {
        return Err(unsupported("treat_whitespace_as_suffix", "true"));
    }
    if !flag(&normalizer, 5, true) {
        return Err(unsupported("escape_whitespaces", "false"));
    }
    for (spec, field) in [(&normalizer, "normalizer_spec"), (&denormalizer, "denormalizer_spec")] {
        if text(spec, 2).is_some_and(|map| !map.is_empty()) {
            let name = String::from_utf8_lossy(text(spec, 1).unwrap_or_default());
            return Err(unsupported(field, &name));
        }
    }
    let how = Normalization {
        dummy_prefix: flag(&normalizer, 3, true),
        first_only: false,
        remove_extra_whitespaces: flag(&normalizer, 4, true),
    };
    // A negative one, none, is a large number here.
    let id = |field, default| {
        let id = u32::try_from(number(&trainer, field).unwrap_or(default)).ok();
        id.filter(|id| (*id as usize) < pieces.len())
    };
    let (bos_id, eos_id) = (id(41, 1), id(42, 2));
    Ok(SentencePieceModel { bos_id, eos_id, how, pieces })
}

fn read_piece(fields: Vec<(u64, Wire<'_>)>) -> Result<Piece, String> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceKind::Normal };
    for (number, value) in fields {
        match (number, value) {
            (1, Wire::Bytes(text)) => {
                let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
                text.clone_into(&mut piece.text);
            }
            (2, Wire::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Wire::Number(kind)) => {
                let known = i64::try_from(kind).ok().and_then(PieceKind::from_number);
                piece.kind = known.ok_or_else(|| format!("type {kind}, not 1 to 6"))?;
            }
            _ => {}
        }
    }
    Ok(piece)
}

/// The last number of `field`, which is the one that counts.
fn number(fields: &[(u64, Wire<'_>)], field: u64) -> Option<u64> {
    fields.iter().rev().find_map(|(number, value)| match value {
        Wire::Number(value) if *number == field => Some(*value),
        _ => None,
    })
}

fn text<'m>(fields: &[(u64, Wire<'m>)], field: u64) -> Option<&'m [u8]> {
    fields.iter().rev().find_map(|(number, value)| match value {
        Wire::Bytes(bytes) if *number == field => Some(*bytes),
        _ => None,
    })
}

/// A value as the wire has it.
#[derive(Clone, Copy, Debug)]
enum Wire<'m> {
    Number(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'m [u8]),
}

/// The bytes of a message.
struct Message<'m>(&'m [u8]);

impl<'m> Message<'m> {
    /// Its fields by number, in order.
    fn fields(mut self) -> Result<Vec<(u64, Wire<'m>)>, &'static str> {
        const CUT: &str = "cut off";
        let mut fields = Vec::new();
        while !self.0.is_empty() {
            let key = self.varint().ok_or(CUT)?;
            let value = match key & 7 {
                0 => Wire::Number(self.varint().ok_or(CUT)?),
                1 => self.take(8).map(|_| Wire::Fixed64).ok_or(CUT)?,
                2 => {
                    let length = usize::try_from(self.varint().ok_or(CUT)?).map_err(|_| CUT)?;
                    Wire::Bytes(self.take(length).ok_or(CUT)?)
                }
                5 => {
                    let bytes = self.take(4).and_then(|bytes| bytes.try_into().ok()).ok_or(CUT)?;
                    Wire::Fixed32(u32::from_le_bytes(bytes))
                }
                _ => return Err("not a protocol buffer"),
            };
            fields.push((key >> 3, value));
        }
        Ok(fields)
    }

    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}
