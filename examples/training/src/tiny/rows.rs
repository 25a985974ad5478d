//! The rows that it learns.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lightglm::training::Example;
use lightglm::training::data::{Conversation, Role, Turn};
use lightglm_tiny::corpus::{
    CorpusConversation, Domain, FactConversations, FactSettings, Language, LookupConversations,
    Part, PassageConversations, Random, WordSentences, WordSettings,
};
use rayon::prelude::*;

/// Paragraphs of a text at most, so that a long one does not drown the others.
const PARAGRAPHS: usize = 4000;

/// What rows are made of.
pub struct Corpus {
    domains: Vec<Domain>,
    word_sentences: WordSentences,
    passages: PassageConversations,
    texts: Vec<String>,
}

/// How often each kind of row is made, of a hundred.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Lists of keys and values.
    pub lookups: usize,
    /// Sentences of words in no order.
    pub words: usize,
    /// What those are like.
    pub word_sentences: WordSettings,
    /// Sentences of texts.
    pub passages: usize,
    /// What lists are like.
    pub lists: LookupConversations,
    /// What is said and asked of facts.
    pub facts: FactSettings,
}

impl Corpus {
    /// Facts of a folder, and texts, each `en=FILE` or `zh=FILE`.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn read(facts: &Path, texts: &[String]) -> Result<Self> {
        let domains = lightglm_tiny::corpus::read_domains(facts)?;
        let word_sentences = WordSentences::new(&domains);
        let passages = PassageConversations::default();
        let mut corpus = Self { domains, word_sentences, passages, texts: Vec::new() };
        let texts: Vec<_> =
            texts.par_iter().map(|text| read_tagged(text)).collect::<Result<_>>()?;
        for (language, file, text) in texts {
            let fit = corpus.passages.add(language, &text, PARAGRAPHS);
            eprintln!("{file}: {fit} paragraphs");
            corpus.texts.push(text);
        }
        Ok(corpus)
    }

    /// The domains.
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// The conversation of this number: the same each time.
    pub fn conversation(&self, seed: u64, mix: Mix) -> CorpusConversation {
        let mut random = Random::new(seed);
        let language = random.pick(&Language::ALL);
        let kind = random.below(100);
        if kind < mix.lookups {
            return mix.lists.next(language, mix.lists.keys.min(6), &mut random);
        }
        if kind < mix.lookups + mix.words
            && let Some(made) = self.word_sentences.next(language, mix.word_sentences, &mut random)
        {
            return made;
        }
        if kind < mix.lookups + mix.words + mix.passages
            && let Some(passage) = self.passages.next(language, 4, &mut random)
        {
            return passage;
        }
        match FactConversations::new(&self.domains, Part::Training) {
            Some(facts) if random.chance(0.02) => facts.without_context(language, &mut random),
            Some(facts) => facts.with_settings(mix.facts).next(language, &mut random),
            None => LookupConversations::default().next(language, 6, &mut random),
        }
    }

    /// Rows to learn, `count` of them.
    pub fn rows(&self, seed: u64, count: usize, mix: Mix) -> Vec<Example> {
        (0..count as u64)
            .into_par_iter()
            .map(|i| row(&self.conversation(seed << 32 | i, mix), seed << 32 | i))
            .collect()
    }

    /// Text for the tokenizer: rows, and a piece of each text.
    pub fn tokenizer_texts(&self, seed: u64) -> Vec<String> {
        let mix = Mix {
            lookups: 10,
            words: 0,
            word_sentences: WordSettings::default(),
            passages: 0,
            lists: LookupConversations::default(),
            facts: FactSettings::default(),
        };
        let mut texts = Vec::new();
        for i in 0..20_000 {
            let conversation = self.conversation(seed << 32 | i, mix);
            texts.extend(conversation.context);
            for exchange in conversation.exchanges {
                texts.push(exchange.question);
            }
        }
        for text in &self.texts {
            texts.extend(
                text.chars().take(1_500_000).collect::<String>().lines().map(str::to_owned),
            );
        }
        texts
    }
}

/// A conversation as a row.
pub fn row(conversation: &CorpusConversation, seed: u64) -> Example {
    let mut random = Random::new(!seed);
    let turns = conversation.turns(&mut random).into_iter();
    let turns = turns
        .map(|(role, content)| Turn::new(Role::from_name(role).unwrap_or(Role::User), content))
        .collect();
    Example::Conversation(Conversation {
        turns,
        line: seed as u32 as usize + 1,
        extra: Default::default(),
    })
}

/// A text with its language and its file: `en=FILE` or `zh=FILE`.
fn read_tagged(text: &str) -> Result<(Language, &str, String)> {
    let (tag, file) = text.split_once('=').context("--text: en=FILE or zh=FILE")?;
    let language = match tag {
        "en" => Language::English,
        "zh" => Language::Chinese,
        _ => bail!("--text {tag}=...: en or zh"),
    };
    Ok((language, file, read_text(Path::new(file))?))
}

/// A text file, as it is or compressed with zstd.
fn read_text(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let mut text = Vec::new();
    match file.extension().is_some_and(|extension| extension == "zst") {
        true => {
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(&*bytes)
                .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
            decoder.read_to_end(&mut text).with_context(|| file.display().to_string())?;
        }
        false => text = bytes,
    }
    String::from_utf8(text).with_context(|| file.display().to_string())
}
