//! Thoughts and answers, however the reply is cut.

use lightglm_generation::{
    LogitsProcessor, ProcessorError, ReasoningStream, ReplyPart, ThinkingControl, TokenHistory,
};
use lightglm_text::Thinking;

/// The thoughts and the answer, however the reply is cut.
fn split(thinking: Thinking, reply: &str) -> (String, String) {
    let mut results: Vec<(String, String)> = Vec::new();
    for size in 1..=reply.chars().count().max(1) {
        let characters: Vec<char> = reply.chars().collect();
        let mut stream = ReasoningStream::new(thinking);
        let mut parts = Vec::new();
        for piece in characters.chunks(size) {
            stream.push(&piece.iter().collect::<String>(), &mut parts);
        }
        stream.finish(&mut parts);
        let (mut thoughts, mut answer) = (String::new(), String::new());
        for part in parts {
            match part {
                ReplyPart::Reasoning(text) => {
                    assert!(answer.is_empty(), "thoughts behind the answer");
                    thoughts += &text;
                }
                ReplyPart::Content(text) => answer += &text,
            }
        }
        results.push((thoughts, answer));
    }
    results.dedup();
    assert_eq!(results.len(), 1, "{reply:?}");
    results.remove(0)
}

#[test]
fn thoughts_end_where_their_tag_says() {
    for (thinking, reply, thoughts, answer) in [
        (Thinking::Opened, "\n想一想 </thin </think>\n\n答案", "想一想 </thin", "答案"),
        (Thinking::Opened, "a</think>b</think>c", "a", "b</think>c"),
        (Thinking::Opened, " never ends </th", "never ends </th", ""),
        (Thinking::Opened, "", "", ""),
        (Thinking::Opened, "</think>a", "", "a"),
        (Thinking::MayOpen, "\n<think>\na\n\nb\n</think>\n c ", "a\n\nb", "c "),
        (Thinking::MayOpen, "<thin", "", "<thin"),
        (Thinking::MayOpen, " a <think>b</think>", "", " a <think>b</think>"),
        (Thinking::MayOpen, "<think></think>", "", ""),
        (Thinking::Never, "<think>a</think>b", "", "<think>a</think>b"),
    ] {
        let expected = (thoughts.to_owned(), answer.to_owned());
        assert_eq!(split(thinking, reply), expected, "{reply:?}");
    }
}

/// What a model that wants these tokens says under `control`, in a vocabulary of bytes.
fn said(mut control: ThinkingControl, wanted: &str) -> Vec<u8> {
    let mut generated: Vec<u32> = Vec::new();
    for byte in wanted.bytes() {
        loop {
            let mut logits = vec![0.0; 256];
            logits[usize::from(byte)] = 1.0;
            let history = TokenHistory { prompt: &[], generated: &generated };
            control.process(history, &mut logits).unwrap();
            let best = (0..256).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            generated.push(best as u32);
            if best == usize::from(byte) {
                break;
            }
        }
    }
    generated.into_iter().map(|token| token as u8).collect()
}

fn control(thinking: Thinking) -> ThinkingControl {
    let mut held = Vec::new();
    let detokenizer = move |token: u32| {
        held.push(token as u8);
        let text = String::from_utf8(held.clone()).ok()?;
        held.clear();
        Some(text)
    };
    ThinkingControl::new(thinking, Box::new(detokenizer), b"|</think>|".map(u32::from).to_vec())
}

#[test]
fn a_budget_ends_thoughts() {
    for (thinking, budget, wanted, expected) in [
        (Thinking::Opened, 3, "abcdef", "abc|</think>|def"),
        (Thinking::Opened, 0, "abcdef", "|</think>|abcdef"),
        (Thinking::Opened, 9, "abc</think>def", "abc</think>def"),
        (Thinking::MayOpen, 3, "abcdef", "abcdef"),
        (Thinking::MayOpen, 1, "<think>abcdef", "<think>a|</think>|bcdef"),
        (Thinking::MayOpen, 0, "<think>abcdef", "<think>|</think>|abcdef"),
        (Thinking::Never, 1, "<think>abcdef", "<think>abcdef"),
        // Not within a character.
        (Thinking::Opened, 4, "想一想", "想一|</think>|想"),
    ] {
        let told = said(control(thinking).with_budget(budget), wanted);
        assert_eq!(String::from_utf8(told).unwrap(), expected, "{thinking:?} {budget}");
    }
    // Bytes that never become a character are not waited for without end.
    let mut broken = control(Thinking::Opened).with_budget(1);
    let mut logits = vec![0.0; 256];
    let generated = [0xe6; 9];
    broken.process(TokenHistory { prompt: &[], generated: &generated }, &mut logits).unwrap();
    assert_eq!(logits[usize::from(b'|')], 0.0);
    assert_eq!(logits[usize::from(b'a')], f32::NEG_INFINITY);
}

/// Allows the bytes of its text, one after the other.
struct Spells(&'static [u8]);

impl LogitsProcessor for Spells {
    fn process(
        &mut self,
        history: TokenHistory<'_>,
        logits: &mut [f32],
    ) -> Result<(), ProcessorError> {
        logits.fill(f32::NEG_INFINITY);
        logits[usize::from(self.0[history.generated.len()])] = 0.0;
        Ok(())
    }
}

#[test]
fn a_constraint_sees_the_answer_alone() {
    let of = |thinking| control(thinking).with_answer(Box::new(Spells(b"{}.")), vec![0]);
    assert_eq!(said(of(Thinking::Opened), "ab</think>{}."), b"ab</think>{}.");
    assert_eq!(said(of(Thinking::Never), "{}."), b"{}.");
    assert_eq!(said(of(Thinking::Opened).with_budget(1), "a{}."), b"a|</think>|{}.");
    // What would end the reply is no thought.
    let mut logits = vec![1.0; 256];
    let history = TokenHistory { prompt: &[], generated: &[97] };
    of(Thinking::Opened).process(history, &mut logits).unwrap();
    assert_eq!((logits[0], logits[1]), (f32::NEG_INFINITY, 1.0));
}
