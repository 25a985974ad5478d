//! `WithoutOpening`: the text of a reply, without what a chat template writes in front of an answer.

use crate::detokenize::Detokenize;

/// Takes an opening off a reply while it arrives, once: text that may yet be it is held back.
pub(crate) struct WithoutOpening {
    inner: Box<dyn Detokenize + Send>,
    /// Empty once it has been taken off, or did not come.
    opening: String,
    held: String,
}

impl WithoutOpening {
    pub(crate) fn boxed(
        inner: Box<dyn Detokenize + Send>,
        opening: &str,
    ) -> Box<dyn Detokenize + Send> {
        match opening {
            "" => inner,
            opening => Box::new(Self { inner, opening: opening.to_owned(), held: String::new() }),
        }
    }

    fn take(&mut self, text: String) -> Option<String> {
        if self.opening.is_empty() {
            return Some(text);
        }
        self.held += &text;
        if self.held.len() < self.opening.len() && self.opening.starts_with(&self.held) {
            return None;
        }
        let opening = std::mem::take(&mut self.opening);
        let held = std::mem::take(&mut self.held);
        let rest = held.strip_prefix(&opening).unwrap_or(&held).to_owned();
        (!rest.is_empty()).then_some(rest)
    }
}

impl Detokenize for WithoutOpening {
    fn push(&mut self, token: u32) -> Option<String> {
        let text = self.inner.push(token)?;
        self.take(text)
    }

    fn finish(&mut self) -> Option<String> {
        let last = self.inner.finish().and_then(|text| self.take(text)).unwrap_or_default();
        let text = std::mem::take(&mut self.held) + &last;
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of pieces, the end among them.
    fn told(opening: &str, pieces: &[&str]) -> Vec<String> {
        let pieces: Vec<String> = pieces.iter().map(|&piece| piece.to_owned()).collect();
        let inner = move |token: u32| pieces.get(token as usize).cloned();
        let mut stream = WithoutOpening::boxed(Box::new(inner), opening);
        let mut told: Vec<String> = (0..8).filter_map(|token| stream.push(token)).collect();
        told.extend(stream.finish());
        told
    }

    #[test]
    fn an_opening_is_taken_off_once_however_it_is_cut() {
        assert_eq!(told("\n", &["\n", "Hi", "\n"]), ["Hi", "\n"]);
        assert_eq!(told("\n", &["\n\nHi"]), ["\nHi"]);
        assert_eq!(told("\n", &["\n", "\n", "Hi"]), ["\n", "Hi"]);
        assert_eq!(told("ab\n", &["a", "b", "\nc", "d"]), ["c", "d"]);
        assert!(told("\n", &["\n"]).is_empty());
    }

    #[test]
    fn what_is_no_opening_stays() {
        assert_eq!(told("\n", &["Hi", "\n"]), ["Hi", "\n"]);
        assert_eq!(told("ab\n", &["a", "bc"]), ["abc"]);
        // A reply that ends before it is one.
        assert_eq!(told("ab\n", &["a", "b"]), ["ab"]);
        assert_eq!(told("", &["\n", "Hi"]), ["\n", "Hi"]);
    }
}
