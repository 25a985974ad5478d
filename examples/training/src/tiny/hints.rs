//! What is to be found on the way to an answer, asked for at tokens of which nothing else is: at each of a sentence, how the
//! sentence begins; at each of a question that only one sentence has, how that one begins. From answers alone, of
//! which only the first tokens are uncertain, a model of 6 million parameters had not found out either after 7 million tokens.

use std::ops::Range;

use lightglm::training::TokenizedExample;
use lightglm_tiny::corpus::Language;

use super::vocabulary::Vocabulary;

/// A sentence in a row.
#[derive(Clone, Debug)]
pub struct Sentence {
    /// Its tokens.
    pub at: Range<usize>,
    /// How an answer with it begins.
    pub first: u32,
}

/// What is asked for at a token of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// How the sentence begins that alone has it.
    Found,
    /// How the answer begins, whatever the token says of it.
    Meant,
}

/// Asks at each token of `sentences` how its own begins, and at each of `questions` how the one begins that alone has it, in any
/// spelling. What is asked for already stays.
pub fn give(
    row: &mut TokenizedExample,
    of: &Vocabulary,
    sentences: &[Sentence],
    questions: &[Range<usize>],
) {
    for sentence in sentences {
        for target in &mut row.targets[sentence.at.clone()] {
            *target = target.or(Some(sentence.first));
        }
    }
    for question in questions {
        for i in question.clone() {
            let Some(group) = of.group(row.tokens[i]) else { continue };
            let has = |sentence: &&Sentence| {
                row.tokens[sentence.at.clone()].iter().any(|&token| of.group(token) == Some(group))
            };
            let mut with = sentences.iter().filter(has);
            if let (Some(only), None) = (with.next(), with.next()) {
                row.targets[i] = row.targets[i].or(Some(only.first));
            }
        }
    }
}

/// The hints of a row of a conversation: its sentences are those of what stands before the first answer. Without `told` only
/// those at questions.
pub fn give_conversation(row: &mut TokenizedExample, of: &Vocabulary, hint: Hint, told: bool) {
    let role = |name| of.special(name);
    let (system, user, assistant) = (role("<|system|>"), role("<|user|>"), role("<|assistant|>"));
    let mut turns: Vec<(u32, Range<usize>)> = Vec::new();
    for (i, &token) in row.tokens.iter().enumerate() {
        if [system, user, assistant].contains(&token) {
            if let Some((_, turn)) = turns.last_mut() {
                turn.end = i;
            }
            // Behind the role and its line.
            turns.push((token, (i + 2).min(row.tokens.len())..row.tokens.len()));
        }
    }
    let mut sentences = Vec::new();
    let mut questions = Vec::new();
    for (i, (role, turn)) in turns.iter().enumerate() {
        let turn = turn.start..turn.end.max(turn.start);
        let breaks = |at: &usize| of.text(row.tokens[*at]).contains('\n');
        if *role == system {
            sentences.extend(sentences_of(row, of, turn));
        } else if *role == user && i == 0 {
            // The question is the last line.
            let last = turn.clone().rev().find(breaks).map_or(turn.start, |at| at + 1);
            sentences.extend(sentences_of(row, of, turn.start..last));
            questions.push(last..turn.end);
        } else if *role == user {
            questions.push(turn);
        }
    }
    let targets = row.targets.clone();
    if hint == Hint::Meant {
        let refusals = Language::ALL.map(|language| of.encode(language.refusal()));
        for question in questions.drain(..) {
            // Behind `<|assistant|>` and its line.
            let answer = row.tokens.get(question.end + 2..).unwrap_or_default();
            let Some(&first) = answer.first() else { continue };
            let refused = refusals.iter().any(|refusal| answer.starts_with(refusal));
            // That nothing tells of it is known only at the end.
            let from = if refused { question.end.saturating_sub(2) } else { question.start };
            row.targets[from.max(question.start)..question.end].fill(Some(first));
        }
    }
    give(row, of, &sentences, &questions);
    if !told {
        for at in sentences.into_iter().flat_map(|sentence| sentence.at) {
            row.targets[at] = targets[at];
        }
    }
}

/// Leaves `keep` tokens of each answer, of which the one behind them is still asked for: which sentence is meant is decided by then,
/// and to copy the rest of it teaches little.
pub fn cut_answers(row: &mut TokenizedExample, of: &Vocabulary, keep: usize) {
    let (user, assistant) = (of.special("<|user|>"), of.special("<|assistant|>"));
    // The line behind `<|assistant|>` counts, too.
    let mut left = usize::MAX;
    let kept: Vec<bool> = row
        .tokens
        .iter()
        .map(|&token| {
            if token == assistant {
                left = keep + 2;
            } else if token == user {
                left = usize::MAX;
            }
            let is_kept = left > 0;
            left = if left == usize::MAX { left } else { left.saturating_sub(1) };
            is_kept
        })
        .collect();
    let mut keeps = kept.iter();
    row.tokens.retain(|_| keeps.next().copied().unwrap_or(true));
    let mut keeps = kept.iter();
    row.targets.retain(|_| keeps.next().copied().unwrap_or(true));
}

/// The sentences of a part of a row, by their full stops and lines.
fn sentences_of(row: &TokenizedExample, of: &Vocabulary, within: Range<usize>) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let mut from = within.start;
    for i in within.clone() {
        let text = of.text(row.tokens[i]);
        let next = row.tokens.get(i + 1).map_or("", |&token| of.text(token));
        let next = if i + 1 < within.end { next } else { "" };
        let ends = match text.trim_end_matches(['\n', ' ', '”', '"', '」']).chars().last() {
            Some('。' | '！' | '？') => true,
            Some('.' | '!' | '?') => next.is_empty() || next.starts_with([' ', '\n']),
            _ => false,
        };
        if ends || text.contains('\n') || i + 1 == within.end {
            let said = of.decode(&row.tokens[from..=i]);
            if let Some(&first) = of.encode(said.trim()).first() {
                sentences.push(Sentence { at: from..i + 1, first });
            }
            from = i + 1;
        }
    }
    sentences
}
