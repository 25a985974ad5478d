//! Rows of tokens in no order: sentences of them, and questions for one by a few of its tokens. All that can be learnt from them is
//! to find by the letter what a question names, to go back to where its sentence begins, and to copy; and any
//! token may be asked for.

use std::ops::Range;

use lightglm::training::TokenizedExample;
use lightglm_tiny::corpus::Random;

use super::hints::{self, Sentence};
use super::vocabulary::Vocabulary;

/// What they are like.
#[derive(Clone, Copy, Debug)]
pub struct TokenRows {
    /// Sentences at most.
    pub sentences: usize,
    /// Tokens of a sentence at most; the longest of a row is drawn, so that short ones are common.
    pub tokens: usize,
    /// Tokens of a question at most.
    pub asked: usize,
    /// How many of a hundred sentences begin as another one does.
    pub same_beginning: usize,
}

/// A token of a question, and where the same one stands in the text.
#[derive(Clone, Copy, Debug)]
pub struct Twin {
    /// In the question.
    pub asked: usize,
    /// In the text.
    pub told: usize,
}

/// Questions of a row at most.
const QUESTIONS: usize = 8;

impl TokenRows {
    /// A row; with `hinted`, what is to be found on the way is asked for, too.
    pub fn next(self, of: &Vocabulary, random: &mut Random, hinted: bool) -> TokenizedExample {
        let (mut row, sentences, questions) = self.made(of, random);
        if hinted {
            hints::give(&mut row, of, &sentences, &questions);
        }
        row
    }

    /// A row, and where the tokens of its questions stand in its text.
    pub fn with_twins(self, of: &Vocabulary, random: &mut Random) -> (TokenizedExample, Vec<Twin>) {
        let (row, sentences, questions) = self.made(of, random);
        let context = sentences.first().map_or(0, |first| first.at.start)
            ..sentences.last().map_or(0, |last| last.at.end);
        let twin = |asked: usize| {
            let mut same = context.clone().filter(|&i| row.tokens[i] == row.tokens[asked]);
            match (same.next(), same.next()) {
                (Some(told), None) => Some(Twin { asked, told }),
                _ => None,
            }
        };
        let twins = questions.into_iter().flatten().filter_map(twin).collect();
        (row, twins)
    }

    fn made(
        self,
        of: &Vocabulary,
        random: &mut Random,
    ) -> (TokenizedExample, Vec<Sentence>, Vec<Range<usize>>) {
        let special = |name| of.special(name);
        let line = of.encode("\n");
        let mut tokens = vec![special("[gMASK]"), special("<sop>"), special("<|system|>")];
        tokens.extend(&line);
        let mut learn = vec![false; tokens.len()];
        let (sentences, answers) = self.sentences(of, random);
        let ends = [".", "。", "\n", "."].map(|end| of.encode(end));
        let end = random.pick_ref(&ends);
        let place = tokens.len();
        let mut from = Vec::new();
        for sentence in &sentences {
            from.push(tokens.len());
            tokens.extend(sentence);
            tokens.extend(end);
        }
        learn.resize(tokens.len(), false);
        let context = place..tokens.len();
        let mut keys: Vec<(usize, usize)> = Vec::new();
        for (i, sentence) in sentences.iter().enumerate() {
            keys.extend((1..sentence.len()).map(|j| (i, j)));
        }
        random.shuffle(&mut keys);
        let mut questions = Vec::new();
        for &(i, j) in keys.iter().take(QUESTIONS) {
            tokens.push(special("<|user|>"));
            tokens.extend(&line);
            let at = tokens.len();
            let asked = random.within(1..=self.asked.max(1));
            for &token in sentences[i][j..].iter().take(asked) {
                let alike = of.alike(token);
                let other = !alike.is_empty() && random.chance(0.3);
                tokens.push(if other { random.pick(alike) } else { token });
            }
            questions.push(at..tokens.len());
            tokens.push(special("<|assistant|>"));
            tokens.extend(&line);
            learn.resize(tokens.len(), false);
            tokens.extend(&answers[i]);
            tokens.extend(end);
            learn.resize(tokens.len(), true);
        }
        tokens.push(special("<|user|>"));
        learn.push(true);
        let row = TokenizedExample::new(tokens, &learn, 1);
        let spans = (0..sentences.len()).map(|i| {
            let to = from.get(i + 1).copied().unwrap_or(context.end);
            Sentence { at: from[i]..to, first: answers[i][0] }
        });
        (row, spans.collect(), questions)
    }

    /// Sentences as they stand in the context, and as they are answered: there the first token has no space in front.
    fn sentences(self, of: &Vocabulary, random: &mut Random) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
        let mut used = Vec::new();
        let mut fresh = |random: &mut Random| {
            // A bound, so that no vocabulary is too small.
            for _ in 0..1000 {
                let token = random.below(of.size()) as u32;
                let group = of.group(token).map_or(token as usize, |group| of.size() + group);
                if !used.contains(&group) && !of.text(token).trim().is_empty() {
                    used.push(group);
                    return token;
                }
            }
            random.below(of.size()) as u32
        };
        let count = random.within(2..=self.sentences.max(2));
        let longest = random.within(3..=self.tokens.max(3));
        let mut sentences: Vec<Vec<u32>> = Vec::new();
        for i in 0..count {
            let length = random.within(3..=longest);
            let mut sentence: Vec<u32> = (0..length).map(|_| fresh(random)).collect();
            if i > 0 && random.below(100) < self.same_beginning {
                let like = random.below(i);
                let same = random.within(1..=2).min(length - 2);
                sentence[..same].copy_from_slice(&sentences[like][..same]);
            }
            sentences.push(sentence);
        }
        let answers = sentences.iter().enumerate().map(|(i, sentence)| {
            let mut answer = sentence.clone();
            let text = of.text(sentence[0]);
            if i > 0
                && let Some(bare) = text.strip_prefix(' ')
            {
                let bare = of.encode(bare);
                if bare.len() == 1 {
                    answer[0] = bare[0];
                }
            }
            answer
        });
        let answers = answers.collect();
        (sentences, answers)
    }
}
