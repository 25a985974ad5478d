//! Which regular expressions of schemas are followed.

use llguidance::derivre::{RegexAst, RegexBuilder};
use llguidance::regex_to_lark;

/// Longest expression that is looked at; longer ones are refused when the schema is compiled.
const MOST_BYTES: usize = 8192;

/// Whether an automaton can be made of `pattern` as `pattern` and `patternProperties` mean it: without
/// look-around, word boundaries and references to groups, in a syntax that is known.
pub(crate) fn is_followed(pattern: &str) -> bool {
    if pattern.len() > MOST_BYTES {
        return true;
    }
    RegexBuilder::new().mk(&RegexAst::SearchRegex(regex_to_lark(pattern, "dw"))).is_ok()
}
