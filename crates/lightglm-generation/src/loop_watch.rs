//! `LoopWatch`: notices that a reply goes round in a circle.

/// Longest circle, in tokens: a long sentence.
const LONGEST: usize = 128;

/// Rounds after which it is one.
const ROUNDS: usize = 3;

/// Notices that the last tokens of a reply are the same run, three times over or more.
#[derive(Clone, Debug)]
pub(crate) struct LoopWatch {
    /// Tokens of all rounds together, at least.
    least: usize,
    /// By the circle's length less one: tokens so far that are what stood a circle before.
    repeated: Vec<usize>,
}

impl LoopWatch {
    /// Of at least `least` tokens: shorter repetitions (`ha ha ha`) are a matter of style.
    pub(crate) fn new(least: usize) -> Self {
        Self { least, repeated: vec![0; LONGEST] }
    }

    /// Whether `tokens`, of which all but the last were heard before, end in a circle.
    pub(crate) fn hear(&mut self, tokens: &[u32]) -> bool {
        let Some((last, before)) = tokens.split_last() else { return false };
        let mut found = false;
        for (length, repeated) in (1..).zip(&mut self.repeated) {
            let same = before.len() >= length && before[before.len() - length] == *last;
            *repeated = if same { *repeated + 1 } else { 0 };
            found |= *repeated + length >= (ROUNDS * length).max(self.least);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By looking at the end for each length.
    fn circles(tokens: &[u32], least: usize) -> bool {
        (1..=LONGEST).any(|length| {
            let all = (ROUNDS * length).max(least);
            let Some(from) = tokens.len().checked_sub(all) else { return false };
            let end = &tokens[from..];
            (length..all).all(|at| end[at] == end[at - length])
        })
    }

    proptest! {
        #[test]
        fn it_hears_what_looking_finds(
            start in proptest::collection::vec(0_u32..3, 0..20),
            circle in proptest::collection::vec(0_u32..3, 1..12),
            rounds in 0_usize..6,
            least in 1_usize..30,
        ) {
            let tokens: Vec<u32> = [start, circle.repeat(rounds)].concat();
            let mut watch = LoopWatch::new(least);
            for len in 1..=tokens.len() {
                prop_assert_eq!(watch.hear(&tokens[..len]), circles(&tokens[..len], least), "{:?}", &tokens[..len]);
            }
        }
    }
}
