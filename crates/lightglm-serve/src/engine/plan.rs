//! What the next forward pass runs.

use burn::tensor::backend::Backend;

use super::config::EngineConfig;
use super::pace::Pace;
use super::running_sequence::RunningSequence;
use super::scheduled_span::ScheduledSpan;

/// Rows of one step whose logits score prompts: each is as long as the vocabulary.
const SCORED_ROWS: usize = 64;

/// The spans of one step: everybody who decodes, with guesses where there is room; then short prompts,
/// then long ones at the pace that the replies bear. At least one token of a prompt is run wherever
/// one waits, so that no prompt starves behind many replies.
pub(super) fn plan<B: Backend>(
    running: &[RunningSequence<B>],
    config: &EngineConfig,
    pace: &Pace,
) -> Vec<ScheduledSpan> {
    let decoding: Vec<usize> = (0..running.len()).filter(|&i| running[i].decodes()).collect();
    let mut prompts: Vec<usize> = (0..running.len()).filter(|&i| !running[i].decodes()).collect();
    let speculate = prompts.is_empty()
        && config.speculation.is_some_and(|config| decoding.len() <= config.max_sequences);
    let mut scheduled: Vec<ScheduledSpan> =
        decoding.iter().map(|&i| decode(&running[i], i, speculate)).collect();

    // The shortest first: who has little left is done soon, and a long prompt cannot hold it up.
    prompts.sort_by_key(|&i| (std::cmp::Reverse(running[i].priority), running[i].rest(), i));
    let mut left = config.token_budget.saturating_sub(scheduled.len()).max(1);
    let mut long_left = pace.long_prompt_tokens(decoding.len(), left);
    let has_long = prompts.iter().any(|&i| !pace.is_short(running[i].rest()));
    // Set aside, so that short prompts that keep coming do not keep a long one from its end.
    let aside =
        if has_long { config.pace.min_chunk.min(left / 2).max(usize::from(left > 1)) } else { 0 };
    let mut scored_left = SCORED_ROWS;
    for index in prompts {
        let rest = running[index].rest();
        let scores = running[index].is_scoring();
        let most = if pace.is_short(rest) { left - aside.min(left) } else { left.min(long_left) };
        let count = rest.min(if scores { most.min(scored_left.max(1)) } else { most });
        if count == 0 {
            continue;
        }
        scored_left = scored_left.saturating_sub(if scores { count } else { 0 });
        scheduled.push(prompt(&running[index], index, count));
        left -= count;
        if !pace.is_short(rest) {
            long_left -= count;
        }
    }
    scheduled
}

fn decode<B: Backend>(
    sequence: &RunningSequence<B>,
    index: usize,
    speculate: bool,
) -> ScheduledSpan {
    let mut tokens = sequence.tokens[sequence.held..].to_vec();
    if let (true, Some(lookup)) = (speculate, &sequence.lookup) {
        // After the guesses, one more token has to be allowed; positions are, where tokens are.
        let replies = sequence.reply.params().max_tokens;
        let room = replies.saturating_sub(sequence.usage.completion_tokens + 1);
        tokens.extend(lookup.draft(&sequence.tokens, room));
    }
    let guessed = tokens.len() - 1;
    ScheduledSpan { index, tokens, guessed, last: true, scores: false, decodes: true }
}

fn prompt<B: Backend>(sequence: &RunningSequence<B>, index: usize, count: usize) -> ScheduledSpan {
    let tokens = sequence.tokens[sequence.held..sequence.held + count].to_vec();
    let (last, scores) = (count == sequence.rest(), sequence.is_scoring());
    ScheduledSpan { index, tokens, guessed: 0, last, scores, decodes: false }
}
