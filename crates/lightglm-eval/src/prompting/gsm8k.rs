//! GSM8K as prompts: solutions that end in `#### ` and the answer.

use super::prompt::{Prompt, Shot};
use crate::data::Problem;
use crate::metrics::final_answer;

/// The prompt that asks `problem` after the solved `shots`.
pub fn problem_prompt(problem: &Problem, shots: &[Problem]) -> Prompt {
    let shot = |shot: &Problem| Shot {
        question: question(shot),
        answer: without_annotations(&shot.solution),
    };
    Prompt {
        instruction:
            "Solve the problem step by step. End with a line that says #### and the final \
                      number, for example: #### 42"
                .to_owned(),
        shots: shots.iter().map(shot).collect(),
        question: question(problem),
        cue: "Answer:",
    }
}

fn question(problem: &Problem) -> String {
    format!("Question: {}", problem.question.trim())
}

/// Whether a reply need not go on: its final answer is complete, or the model asks itself the next
/// question.
pub fn is_solved(reply: &str) -> bool {
    let answered = reply.match_indices("#### ").any(|(at, _)| {
        let line = reply[at..].lines().next().unwrap_or_default();
        reply[at..].contains('\n') && final_answer(line).is_some()
    });
    answered || reply.contains("\nQuestion:")
}

/// A solution without its calculator annotations: `48/2 = <<48/2=24>>24` as `48/2 = 24`.
pub fn without_annotations(solution: &str) -> String {
    let mut text = String::with_capacity(solution.len());
    let mut rest = solution;
    while let Some((before, from)) = rest.split_once("<<") {
        let Some((_, after)) = from.split_once(">>") else { break };
        text.push_str(before);
        rest = after;
    }
    text + rest
}
