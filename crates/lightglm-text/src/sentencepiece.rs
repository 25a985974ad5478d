//! SentencePiece's BPE vocabularies as the tokenizer.json that transformers makes of them.

use serde_json::{Value, json};

use crate::affixes::Affixes;
use crate::error::TextError;
use crate::merges;
use crate::tokenizer_file::{Normalization, TokenizerFile};

/// What a piece is for, under the numbers of SentencePiece and of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    /// No text leads to it: padding of the embedding table, mostly.
    Unused,
    Byte,
}

impl PieceKind {
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// One row of a vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// The better of two pieces is made first.
    pub(crate) score: f32,
    pub(crate) kind: PieceKind,
}

/// The tokenizer.json of `pieces`, by id; `added` are tokens that it has beside them, or again.
///
/// # Errors
/// [`TextError::Malformed`] for a piece that is too long.
pub(crate) fn to_json(
    origin: &str,
    pieces: &[Piece],
    added: Vec<Value>,
    affixes: Affixes,
    how: &Normalization,
) -> Result<Value, TextError> {
    let mut file = TokenizerFile { affixes, ..TokenizerFile::default() };
    let mut normal: Vec<(&str, u32, f32)> = Vec::new();
    let mut unknown = None;
    for (piece, id) in pieces.iter().zip(0u32..) {
        let text = piece.text.as_str();
        let special = piece.kind != PieceKind::UserDefined;
        match piece.kind {
            PieceKind::Unused => continue,
            _ if text.is_empty() => continue,
            PieceKind::Control | PieceKind::UserDefined | PieceKind::Unknown => {
                file.added.push(TokenizerFile::added_token(id, text, special));
                if piece.kind == PieceKind::Unknown {
                    unknown = unknown.or(Some(text));
                }
                continue;
            }
            PieceKind::Normal | PieceKind::Byte => {}
        }
        // The first of two pieces of one name is the one that text can reach.
        if file.vocab.contains_key(text) {
            continue;
        }
        file.vocab.insert(text.to_owned(), json!(id));
        if piece.kind == PieceKind::Normal {
            normal.push((text, id, piece.score));
        }
    }
    for token in added {
        let at = file.added.iter().position(|other| other["id"] == token["id"]);
        match at {
            Some(at) => file.added[at] = token,
            None => file.added.push(token),
        }
    }
    // -0 and 0 are one score.
    normal.sort_by(|a, b| (b.2 + 0.0).total_cmp(&(a.2 + 0.0)).then(a.1.cmp(&b.1)));
    let ranked: Vec<(&str, u32)> = normal.iter().map(|&(text, id, _)| (text, id)).collect();
    let name = |id: u32| pieces[id as usize].text.as_str();
    let pairs = merges::from_ranks(origin, &ranked, |piece| {
        piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at)).collect()
    })?;
    file.merges = pairs.into_iter().map(|(left, right)| json!([name(left), name(right)])).collect();
    Ok(file.sentencepiece(unknown, how))
}
