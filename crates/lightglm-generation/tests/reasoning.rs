//! Thoughts and answers, however the reply is cut.

use lightglm_generation::{ReasoningStream, ReplyPart};
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
