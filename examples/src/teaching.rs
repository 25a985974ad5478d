//! What a model answers to the questions of others, and how much of that is right.

use anyhow::Result;
use lightglm_core::{CausalLm, KvDtype, KvShape};
use lightglm_generation::ContiguousKvCache;
use lightglm_generation::RunControl;
use lightglm_generation::batched::{BatchOptions, BatchSubject, Ending, generate};
use lightglm_kernels::LmBackend;
use lightglm_model::checkpoint::Checkpoint;
use lightglm_text::ModelText;
use lightglm_train::data::{Conversation, ConversationTokenizer};

/// Questions that are answered at once: a decode step reads every weight once for all of them.
const SEQUENCES: usize = 32;

/// What came out of asking a model the questions of a file.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Accuracy {
    /// Questions asked.
    pub asked: usize,
    /// Answers that are the wanted one, or contain what is expected where the row says so.
    pub right: usize,
    /// `right / asked`.
    pub accuracy: f64,
}

/// The greedy answers to the conversations' last questions, at most `max_tokens` tokens each; `None`
/// where `control` was told to stop before.
///
/// # Errors
/// Where a question cannot be encoded or the model refuses it.
pub fn answers<B: LmBackend>(
    text: &ModelText,
    model: &dyn CausalLm<B>,
    checkpoint: &Checkpoint,
    conversations: &[&Conversation],
    max_tokens: usize,
    control: &mut RunControl<'_>,
    device: &B::Device,
) -> Result<Vec<Option<String>>> {
    let tokenizer = ConversationTokenizer::new(text);
    let prompts = conversations.iter().map(|conversation| tokenizer.question(conversation));
    let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
    let config = checkpoint.config();
    let mut make_cache = |sequences, positions| {
        let shape = KvShape::of(config);
        Ok(ContiguousKvCache::<B>::new(shape, sequences, positions, KvDtype::F32, device))
    };
    let mut subject = BatchSubject::new(model, &mut make_cache, ContiguousKvCache::truncate);
    let ending = Ending {
        end_tokens: &text.eos_token_ids,
        max_new_tokens: max_tokens,
        is_complete: &|_| false,
    };
    let options = BatchOptions { sequences: SEQUENCES, ..BatchOptions::default() };
    let replies = generate(&mut subject, &prompts, &ending, &options, control)?;
    let decoded = |reply: lightglm_generation::batched::Generation| {
        text.tokenizer.decode(&reply.tokens, true)
    };
    Ok(replies.into_iter().map(|reply| reply.map(decoded)).collect())
}

/// The longest wanted answer in tokens, with some room.
///
/// # Errors
/// Where an answer cannot be encoded.
pub fn longest_answer(text: &ModelText, conversations: &[&Conversation]) -> Result<usize> {
    let mut longest = 0;
    for conversation in conversations {
        longest = longest.max(text.tokenizer.encode_text(conversation.answer())?.len());
    }
    Ok(longest + longest / 4 + 2)
}

/// Compares answers with what the rows want.
pub fn accuracy(conversations: &[&Conversation], answers: &[Option<String>]) -> Accuracy {
    let mut total = Accuracy::default();
    for (conversation, answer) in conversations.iter().zip(answers) {
        let Some(answer) = answer else { continue };
        let same = answer.trim().eq_ignore_ascii_case(conversation.answer().trim());
        total.asked += 1;
        total.right += usize::from(conversation.meets_expectations(answer).unwrap_or(same));
    }
    total.accuracy = total.right as f64 / total.asked.max(1) as f64;
    total
}
