//! all-MiniLM-L6-v2 against sentence-transformers.

use base64_f32::floats;
use lightglm::embedding::cosine;
use lightglm::{DEFAULT_EMBEDDING_MODEL, Embedder, Error, ProgressSink};
use serde::Deserialize;

/// What tools/encoder_golden.py wrote.
#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    tokens: Vec<usize>,
    /// The bytes of f32, in base64.
    vectors: Vec<String>,
}

/// Of `1 - cosine`.
const TOLERANCE: f64 = 1e-6;

fn embedder() -> Option<Embedder> {
    match Embedder::open(DEFAULT_EMBEDDING_MODEL, &ProgressSink::default()) {
        Ok(embedder) => Some(embedder),
        Err(error) => {
            println!("skipped: the embedding model is out of reach: {error:#}");
            None
        }
    }
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let expected: Expected = serde_json::from_str(include_str!("../data/minilm.json")).unwrap();
    let Some(embedder) = embedder() else { return };
    assert_eq!((embedder.dimensions(), embedder.max_tokens()), (384, 256));
    let vectors = embedder.clone().truncating().embed(&expected.texts).unwrap();
    let mut furthest: f64 = 0.0;
    let mut largest: f32 = 0.0;
    for (index, (ours, theirs)) in vectors.iter().zip(&expected.vectors).enumerate() {
        let theirs = floats(theirs);
        let tokens = embedder.count_tokens(&expected.texts[index]).unwrap();
        assert_eq!(tokens.min(256), expected.tokens[index], "{:?}", expected.texts[index]);
        let dot: f64 = ours.iter().zip(&theirs).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let length = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let off = 1.0 - dot / (length(ours) * length(&theirs));
        assert!(off < TOLERANCE, "{:?}: 1 - cosine is {off}", expected.texts[index]);
        furthest = furthest.max(off);
        let differences = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs());
        largest = differences.fold(largest, f32::max);
    }
    println!("1 - cosine is at most {furthest:e}, an element at most {largest:e} off");
    // The cosines of all pairs, which is what a search looks at.
    let theirs: Vec<Vec<f32>> = expected.vectors.iter().map(|vector| floats(vector)).collect();
    let mut off: f32 = 0.0;
    for a in 0..vectors.len() {
        for b in 0..vectors.len() {
            let pair = cosine(&vectors[a], &vectors[b]) - cosine(&theirs[a], &theirs[b]);
            off = off.max(pair.abs());
        }
    }
    println!("the cosine of a pair is at most {off:e} off");
    assert!(off < 1e-5, "{off}");
}

#[test]
fn near_texts_are_near() {
    let Some(embedder) = embedder() else { return };
    let texts =
        ["How do I return an order?", "I want to send my parcel back.", "It rains in June."];
    let vectors = embedder.embed(&texts).unwrap();
    let (near, far) = (cosine(&vectors[0], &vectors[1]), cosine(&vectors[0], &vectors[2]));
    assert!(near > far + 0.2, "{near} {far}");
    let error = embedder.embed(&["a", &"word ".repeat(400)]).unwrap_err();
    let limits = (1, 402, 256);
    assert!(
        matches!(error, Error::TextTooLong { index, tokens, limit } if (index, tokens, limit) == limits),
        "{error}"
    );
}

mod base64_f32 {
    /// The little-endian f32 behind base64.
    pub(super) fn floats(text: &str) -> Vec<f32> {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let sextets =
            text.bytes().filter_map(|byte| LETTERS.iter().position(|letter| *letter == byte));
        let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
        for sextet in sextets {
            held = held << 6 | sextet as u32;
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                bytes.push((held >> bits) as u8);
            }
        }
        let float = |four: &[u8]| f32::from_le_bytes(four.try_into().unwrap());
        bytes.chunks_exact(4).map(float).collect()
    }
}
