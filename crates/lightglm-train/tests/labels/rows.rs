//! What of a row is learnt, what is left out, and what is refused.

use lightglm_text::{ChatTemplate, ChatText, ModelText};
use lightglm_train::data::{
    Conversation, ConversationTokenizer, DropReason, DropReport, Example, Role, Text,
    TokenizeError, Turn,
};
use lightglm_train::trainer::TokenizedExample;
use serde_json::json;

use crate::{glm, glm4_0414, glm4_2024, smollm2};
use Role::{Assistant, System, Tool, User};

pub(crate) fn conversation(turns: &[(Role, &str)]) -> Conversation {
    let turns = turns.iter().map(|(role, content)| Turn::new(*role, *content)).collect();
    Conversation { turns, line: 7, extra: serde_json::Map::new() }
}

/// The whole text, and what is learnt of it, each run by itself.
pub(crate) fn learnt(text: &ModelText, conversation: &Conversation) -> (String, Vec<String>) {
    let mut pieces = learnt_pieces(text, conversation);
    assert_eq!(pieces.len(), 1, "{pieces:?}");
    pieces.remove(0)
}

/// As [`learnt`], of each example that the conversation makes.
pub(crate) fn learnt_pieces(
    text: &ModelText,
    conversation: &Conversation,
) -> Vec<(String, Vec<String>)> {
    let pieces = ConversationTokenizer::new(text).conversation(conversation).unwrap();
    pieces.iter().map(|piece| runs_of(text, piece)).collect()
}

fn runs_of(text: &ModelText, whole: &TokenizedExample) -> (String, Vec<String>) {
    assert_eq!(whole.line, 7);
    let (mut runs, mut run) = (Vec::new(), Vec::new());
    for target in whole.targets.iter().chain([&None]) {
        match target {
            Some(token) => run.push(*token),
            None if run.is_empty() => {}
            None => runs.push(text.tokenizer.decode(&std::mem::take(&mut run), false)),
        }
    }
    (text.tokenizer.decode(&whole.tokens, false), runs)
}

fn refusal(template: &str, conversation: &Conversation) -> TokenizeError {
    let text = glm(ChatTemplate::from_source(template).unwrap());
    ConversationTokenizer::new(&text).conversation(conversation).unwrap_err()
}

#[test]
fn answers_are_learnt_with_the_token_that_ends_them() {
    let glm = glm4_0414();
    let one = conversation(&[(System, "Be brief."), (User, "Hi"), (Assistant, "Hello 您好")]);
    let (text, runs) = learnt(&glm, &one);
    assert_eq!(runs, ["\nHello 您好<|user|>"], "{text}");
    assert!(text.ends_with("<|user|>\nHi<|assistant|>\nHello 您好<|user|>"), "{text}");

    let mut two = conversation(&[(User, "a"), (Assistant, "b"), (User, "c"), (Assistant, "d")]);
    let (text, runs) = learnt(&glm, &two);
    assert_eq!(runs, ["\nb<|user|>", "\nd<|user|>"], "{text}");
    assert_eq!(learnt(&smollm2(), &two).1, ["b<|im_end|>", "d<|im_end|>"]);
    two.turns[1].learn = false;
    let (text, runs) = learnt(&glm, &two);
    assert_eq!(runs, ["\nd<|user|>"], "{text}");
    // A mark on what the user says is no label.
    two.turns[2].learn = true;
    assert_eq!(learnt(&glm, &two).1, ["\nd<|user|>"]);
}

#[test]
fn what_a_tool_returned_is_called_as_the_template_calls_it() {
    let turns = [(User, "a"), (Assistant, "call"), (Tool, "r"), (Assistant, "b")];
    let row = conversation(&turns);
    for glm in [glm4_0414(), glm4_2024()] {
        let (text, runs) = learnt(&glm, &row);
        assert!(text.contains("<|observation|>\nr<|assistant|>"), "{text}");
        assert_eq!(runs, ["\ncall<|observation|>", "\nb<|user|>"]);
    }
    let (text, runs) = learnt(&smollm2(), &row);
    assert!(text.contains("<|im_start|>tool\nr<|im_end|>"), "{text}");
    assert_eq!(runs, ["call<|im_end|>", "b<|im_end|>"]);
}

/// Who goes on with another turn of its own opens it; who is told something does not.
#[test]
fn an_answer_ends_where_the_model_ends_it() {
    let glm = glm4_2024();
    let on = conversation(&[(User, "a"), (Assistant, "b"), (Assistant, "c")]);
    assert_eq!(learnt(&glm, &on).1, ["\nb<|assistant|>\nc<|user|>"]);
    let told = [(User, "a"), (Assistant, "b"), (System, "s"), (User, "c"), (Assistant, "d")];
    let told = conversation(&told);
    assert_eq!(learnt(&glm, &told).1, ["\nb", "\nd<|user|>"]);
    // This template has the system's turns in front of all others.
    assert_eq!(learnt(&glm4_0414(), &told).1, ["\nb<|user|>", "\nd<|user|>"]);
    let both = [(User, "a"), (Assistant, "b"), (Assistant, "c"), (System, "s"), (User, "d")];
    let both = conversation(&[&both[..], &[(Assistant, "e")]].concat());
    assert_eq!(learnt(&glm4_0414(), &both).1, ["\nb<|assistant|>\nc<|user|>", "\ne<|user|>"]);
}

#[test]
fn tools_reach_the_template() {
    let mut row = conversation(&[(User, "a"), (Assistant, "b")]);
    row.extra.insert("tools".into(), json!([{"type": "function", "function": {"name": "f"}}]));
    let (text, runs) = learnt(&glm4_0414(), &row);
    assert!(text.contains("## f"), "{text}");
    assert_eq!(runs, ["\nb<|user|>"]);
    row.extra.insert("tools".into(), json!("f"));
    let error = ConversationTokenizer::new(&glm4_0414()).conversation(&row).unwrap_err();
    assert_eq!(error, TokenizeError::Tools { line: 7 });
}

/// What a user writes is never a special token, in training as little as in serving.
#[test]
fn special_tokens_in_contents_stay_text() {
    let glm = glm4_0414();
    let row = conversation(&[(User, "<|assistant|>"), (Assistant, "<|user|>ok")]);
    let whole = ConversationTokenizer::new(&glm).conversation(&row).unwrap().remove(0);
    let id = |token| glm.tokenizer.token_to_id(token).unwrap();
    let count = |token| whole.tokens.iter().filter(|&&t| t == id(token)).count();
    // The template's own, and the one that ends the answer.
    assert_eq!((count("<|user|>"), count("<|assistant|>")), (2, 1));
    assert_eq!(whole.targets.iter().flatten().last(), Some(&id("<|user|>")));
}

#[test]
fn texts_are_cut_and_long_conversations_left_out() {
    let glm = glm4_0414();
    let text = Example::Text(Text { text: "abc ".repeat(40), line: 7 });
    let long = Example::Conversation(conversation(&[(User, "a"), (Assistant, &"b ".repeat(40))]));
    let mut report = DropReport::default();
    let tokenizer = ConversationTokenizer::new(&glm).with_dropped_allowed(true);
    let all = tokenizer.tokenize(&[text, long.clone()], 16, &mut report).unwrap();
    assert_eq!((report.total_dropped(), report.count(DropReason::TooLong)), (1, 1));
    assert!(all.len() > 2 && all.iter().all(|piece| piece.tokens.len() <= 16));
    let tokens: Vec<u32> = all.iter().flat_map(|piece| piece.tokens.clone()).collect();
    assert_eq!(glm.tokenizer.decode(&tokens, true), "abc ".repeat(40));
    assert_eq!(tokens.last(), glm.eos_token_ids.first());
    // It begins as it does where it is continued; that is not learnt, all behind it is.
    let served = glm.encode_prompt(&"abc ".repeat(40)).unwrap();
    assert_eq!(tokens[..tokens.len() - 1], served);
    assert_eq!(glm.tokenizer.decode(&tokens[..2], false), "[gMASK]<sop>");
    assert_eq!((all[0].targets[0], all[0].targets[1]), (None, Some(tokens[2])));
    // The limit is the longest that is kept.
    let length = tokenizer.conversation(long.conversation().unwrap()).unwrap()[0].tokens.len();
    for (limit, kept) in [(length, 1), (length - 1, 0)] {
        let all = tokenizer.tokenize(std::slice::from_ref(&long), limit, &mut report).unwrap();
        assert_eq!(all.len(), kept);
    }
}

#[test]
fn a_question_is_the_prompt_for_the_last_answer() {
    let glm = glm4_0414();
    let row = conversation(&[(User, "a"), (Assistant, "b"), (User, "c"), (Assistant, "d")]);
    let prompt = ConversationTokenizer::new(&glm).question(&row).unwrap();
    let shown = "[gMASK]<sop><|user|>\na<|assistant|>\nb<|user|>\nc<|assistant|>";
    assert_eq!(glm.tokenizer.decode(&prompt, false), shown);
}

#[test]
fn refusals_name_line_and_turn() {
    let row = conversation(&[(User, "a"), (Assistant, "b"), (User, "c"), (Assistant, "d")]);
    assert_eq!(refusal("", &conversation(&[])), TokenizeError::NoTurns { line: 7 });

    let picky = "{% for m in messages %}{% if loop.index == 3 %}{{ raise_exception('no') }}\
                 {% endif %}{{ m.content }}{% endfor %}";
    let error = refusal(picky, &row);
    assert!(matches!(error, TokenizeError::Conversation { line: 7, turn: 3, .. }), "{error:?}");

    // It writes no answer.
    let deaf = "{% for m in messages %}<|{{ m.role }}|>{% endfor %}";
    let error = refusal(deaf, &row);
    let is_named = |error| match error {
        TokenizeError::NotWritten { line: 7, turn: 2, field } => field == "its content",
        // Where the text side has noticed it.
        TokenizeError::Conversation { line: 7, .. } => true,
        _ => false,
    };
    assert!(is_named(error));
    // The last turn first.
    let upside_down =
        "{% for m in messages | reverse %}<|{{ m.role }}|>{{ m.content }}{% endfor %}";
    let error = refusal(upside_down, &row);
    assert_eq!(error, TokenizeError::Rewritten { line: 7, turn: 2, turns: 2 });

    let endless = ModelText { eos_token_ids: Vec::new(), ..glm4_0414() };
    let error = ConversationTokenizer::new(&endless).conversation(&row).unwrap_err();
    assert_eq!(error, TokenizeError::NoEndToken { line: 7, turn: 4 });
}
