//! `made_up_tokens`: a vocabulary as large as a real one, without its file.

use std::collections::HashSet;

use crate::SplitMix;

/// The bytes of `count` different tokens: each byte first, by its value, then numbers, punctuation, and
/// pieces of words in three scripts with and without a space before them. Always the same.
///
/// # Panics
/// Where `count` is so small (below about 3,000) that there is no room for words.
pub fn made_up_tokens(count: usize) -> Vec<Vec<u8>> {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    tokens.extend((10..1000).map(|number: u32| number.to_string().into_bytes()));
    let marks = ["{", "}", "[", "]", "\"", ":", ",", " ", "\n", "\\", ".", "-"];
    for a in marks {
        for b in marks {
            tokens.push(format!("{a}{b}").into_bytes());
            tokens.extend(marks.iter().map(|c| format!("{a}{b}{c}").into_bytes()));
        }
    }
    assert!(tokens.len() < count, "{count} tokens leave no room for words");
    let mut random = SplitMix::new(1);
    let mut seen: HashSet<Vec<u8>> = tokens.iter().cloned().collect();
    while tokens.len() < count {
        let word = made_up_word(&mut random).into_bytes();
        if seen.insert(word.clone()) {
            tokens.push(word);
        }
    }
    tokens
}

fn made_up_word(random: &mut SplitMix) -> String {
    const SYLLABLES: [&str; 14] =
        ["ing", "er", "a", "con", "tion", "th", "e", "s", "re", "ly", "un", "o", "ст", "на"];
    let mut word = String::from(["", " ", " "][random.below(3)]);
    if random.below(4) == 0 {
        for _ in 0..1 + random.below(3) {
            word.extend(char::from_u32(0x4E00 + random.below(3000) as u32));
        }
    } else {
        for _ in 0..1 + random.below(4) {
            word.push_str(SYLLABLES[random.below(SYLLABLES.len())]);
        }
        word.push(char::from(b'a' + random.below(26) as u8));
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_is_there_twice() {
        let tokens = made_up_tokens(20_000);
        assert_eq!(tokens.len(), 20_000);
        assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), 20_000);
        assert!((0..=255).all(|byte| tokens[usize::from(byte)] == [byte]));
        assert_eq!(tokens, made_up_tokens(20_000));
    }
}
