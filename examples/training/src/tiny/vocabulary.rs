//! What the tokens say.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use tokenizers::Tokenizer;

use super::tokenizer::SPECIAL;

/// The tokens of a model, as rows of them are made and read.
pub struct Vocabulary {
    tokenizer: Tokenizer,
    texts: Vec<String>,
    /// The group of each token.
    groups: Vec<Option<usize>>,
    /// The tokens of each group, which spell the same.
    alike: Vec<Vec<u32>>,
    first_special: usize,
}

impl Vocabulary {
    /// The vocabulary of a model's folder.
    ///
    /// # Errors
    /// Where its tokenizer cannot be read or is another's.
    pub fn open(folder: &Path) -> Result<Self> {
        let file = folder.join("tokenizer.json");
        let fault = |error: tokenizers::Error| anyhow!("{}: {error}", file.display());
        let tokenizer = Tokenizer::from_file(&file).map_err(fault)?;
        let first_special = tokenizer
            .token_to_id(SPECIAL[0])
            .with_context(|| format!("{}: no {}", file.display(), SPECIAL[0]))?
            as usize;
        let text = |id: u32| tokenizer.decode(&[id], false).map_err(fault);
        let texts: Vec<String> = (0..first_special as u32).map(text).collect::<Result<_>>()?;
        let mut by_spelling: BTreeMap<String, usize> = BTreeMap::new();
        let mut alike: Vec<Vec<u32>> = Vec::new();
        let groups = texts.iter().enumerate().map(|(id, text)| {
            let group = *by_spelling.entry(spelling(text)?).or_insert_with(|| {
                alike.push(Vec::new());
                alike.len() - 1
            });
            alike[group].push(id as u32);
            Some(group)
        });
        let groups = groups.collect();
        Ok(Self { tokenizer, texts, groups, alike, first_special })
    }

    /// How many there are, special ones left out.
    pub fn size(&self) -> usize {
        self.texts.len()
    }

    /// What a token says; nothing for a special one.
    pub fn text(&self, token: u32) -> &str {
        self.texts.get(token as usize).map_or("", String::as_str)
    }

    /// The special token of this name.
    ///
    /// # Panics
    /// Where it is none of [`SPECIAL`].
    pub fn special(&self, name: &str) -> u32 {
        let place = SPECIAL.iter().position(|other| *other == name).expect("one of SPECIAL");
        (self.first_special + place) as u32
    }

    /// Tokens that spell the same but for a space in front and capitals, the given one among them; none for what has no letter
    /// or digit.
    pub fn alike(&self, token: u32) -> &[u32] {
        match self.group(token) {
            Some(group) => &self.alike[group],
            None => &[],
        }
    }

    /// The number of the tokens that spell the same as this one.
    pub fn group(&self, token: u32) -> Option<usize> {
        *self.groups.get(token as usize)?
    }

    /// The tokens of a text, without special ones in front. A byte-level tokenizer has some for every text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, false).map_or_else(|_| Vec::new(), |it| it.get_ids().to_vec())
    }

    /// The text of tokens.
    pub fn decode(&self, tokens: &[u32]) -> String {
        self.tokenizer.decode(tokens, false).unwrap_or_default()
    }
}

/// The letters of a token, in lower case and without a space in front; `None` for what has no letter or digit, and for bytes that
/// are no whole character.
pub fn spelling(text: &str) -> Option<String> {
    let text = text.trim_start_matches(' ');
    let is_whole = !text.contains(char::REPLACEMENT_CHARACTER);
    (is_whole && text.chars().any(char::is_alphanumeric)).then(|| text.to_lowercase())
}
