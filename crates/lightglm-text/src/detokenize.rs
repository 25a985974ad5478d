//! `Detokenize`: token ids in, text out, one at a time.

/// Turns a stream of token ids into text.
///
/// A token may end in the middle of a UTF-8 character, so an implementation holds bytes back until
/// the character is whole.
pub trait Detokenize {
    /// The text that `token` completes; `None` where it completes nothing yet.
    fn push(&mut self, token: u32) -> Option<String>;

    /// The text still held back, now that no token follows.
    fn finish(&mut self) -> Option<String> {
        None
    }
}

impl<F: FnMut(u32) -> Option<String>> Detokenize for F {
    fn push(&mut self, token: u32) -> Option<String> {
        self(token)
    }
}

impl Detokenize for Box<dyn Detokenize + Send> {
    fn push(&mut self, token: u32) -> Option<String> {
        (**self).push(token)
    }

    fn finish(&mut self) -> Option<String> {
        (**self).finish()
    }
}
