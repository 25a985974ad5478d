//! `ReplyControl`: who follows the replies of a batch, and what ends them early.

use crate::step::Step;

/// Hears a request's index and its step.
pub type OnStep<'a> = &'a mut dyn FnMut(usize, &Step);

/// Whether the reply to a request, its tokens so far, is complete.
pub type IsComplete<'a> = &'a dyn Fn(usize, &[u32]) -> bool;

/// Who follows the replies of a batch, and what ends them early. Requests are named by their index.
///
/// The default follows nothing and lets every request come to its own end.
#[derive(Default)]
pub struct ReplyControl<'a> {
    /// Called with every step as it comes.
    pub on_step: Option<OnStep<'a>>,
    /// Looks at a reply's tokens after every step that does not end it; true where it need not go
    /// on. It then ends with [`FinishReason::Complete`](crate::FinishReason::Complete).
    pub is_complete: Option<IsComplete<'a>>,
    /// Whether the first request that fails ends the batch, and with it all other requests
    /// ([`FinishReason::Cancelled`](crate::FinishReason::Cancelled)).
    pub stop_at_error: bool,
}
