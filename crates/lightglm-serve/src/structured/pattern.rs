//! Which regular expressions of schemas are followed.

use llguidance::derivre::{ExprRef, RegexAst, RegexBuilder};
use llguidance::regex_to_lark;

/// Longest expression that is looked at; longer ones are refused when the schema is compiled.
const MOST_BYTES: usize = 8192;

/// Expressions that are compared with each other, and the work for each pair.
const MOST_COMPARED: usize = 16;
const COMPARISON_WORK: u64 = 10_000;

/// Whether an automaton can be made of `pattern` as `pattern` and `patternProperties` mean it: without
/// look-around, word boundaries and references to groups, in a syntax that is known.
pub(crate) fn is_followed(pattern: &str) -> bool {
    if pattern.len() > MOST_BYTES {
        return true;
    }
    RegexBuilder::new().mk(&RegexAst::SearchRegex(regex_to_lark(pattern, "dw"))).is_ok()
}

/// Whether no text matches two of `patterns`, each of which [is followed](is_followed): a property has to know what it
/// must be. Too many to compare count as overlapping.
pub(crate) fn exclude_each_other(patterns: &[&str]) -> bool {
    if patterns.len() > MOST_COMPARED {
        return false;
    }
    let mut builder = RegexBuilder::new();
    let search = |pattern: &&str| RegexAst::SearchRegex(regex_to_lark(pattern, "dw"));
    let expressions: Result<Vec<ExprRef>, _> =
        patterns.iter().map(|pattern| builder.mk(&search(pattern))).collect();
    let Ok(expressions) = expressions else { return false };
    expressions.iter().enumerate().all(|(at, a)| {
        expressions[at + 1..].iter().all(|b| {
            let both = RegexAst::And(vec![RegexAst::ExprRef(*a), RegexAst::ExprRef(*b)]);
            let both =
                builder.mk(&both).and_then(|both| builder.to_regex_limited(both, COMPARISON_WORK));
            both.is_ok_and(|mut both| both.always_empty())
        })
    })
}
