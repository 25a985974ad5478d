//! `StructuredLimits`: how much work a constraint may cause.

use llguidance::api::ParserLimits;

/// How much work a constraint may cause.
///
/// The first group bounds what is looked at before any work is done, the second what an accepted
/// constraint may cost. The defaults let through what applications send. With them the worst of the
/// hostile constraints in this crate's tests compiles in less than two seconds and has no step of more
/// than half a second; ordinary ones take milliseconds and microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructuredLimits {
    /// Bytes of a schema as JSON text; of all tools' schemas together.
    pub schema_bytes: usize,
    /// Levels of nesting in a schema.
    pub schema_depth: usize,
    /// Properties of one object in a schema: the grammar grows with their square.
    pub schema_properties: usize,
    /// Alternatives under `oneOf` in a schema, all together: every pair is compared.
    pub schema_one_of: usize,
    /// Expressions under `patternProperties` in a schema, all together.
    pub schema_patterns: usize,
    /// Expressions (`pattern`, `format`, a constant) that one string may have to match at once, through
    /// `allOf`, a `$ref` or whatever else brings them together: each doubles the work of finding out
    /// whether anything matches them all.
    pub schema_all_of: usize,
    /// Expressions that are read for a schema; of all tools' schemas together. Those of alternatives
    /// that are combined with others count in every combination, and long ones several times.
    pub schema_expressions: usize,
    /// Comparisons of expressions under `patternProperties`, which are repeated wherever their object
    /// is brought together with another; of all tools' schemas together.
    pub schema_comparisons: usize,
    /// Bytes of a regular expression, a schema's `pattern` included.
    pub regex_bytes: usize,
    /// Bytes of a Lark grammar.
    pub lark_bytes: usize,
    /// Intersections (`&`) in a Lark grammar, for the same reason.
    pub lark_intersections: usize,
    /// Bytes of all choices together.
    pub choice_bytes: usize,
    /// Tools in a constraint.
    pub tools: usize,
    /// Bytes of a tool's name.
    pub tool_name_bytes: usize,
    /// Levels of nesting in the JSON that is written; at most 100, which is where
    /// [`parse_tool_calls`](lightglm_generation::parse_tool_calls) stops.
    pub output_depth: usize,

    /// Work on regular expressions while the constraint is compiled: 50,000 units take a millisecond
    /// where expressions are small, and one second where they are large.
    pub compile_fuel: u64,
    /// Symbols of the compiled grammar.
    pub grammar_size: usize,
    /// Work on regular expressions in one step: 14,000 units take a millisecond, or ten where
    /// expressions are large.
    pub step_fuel: u64,
    /// Items of the Earley parser in one step: about 20,000 take a millisecond.
    pub step_items: usize,
    /// Items of the Earley parser after one symbol: how ambiguous a grammar may be.
    pub row_items: usize,
    /// States of the lexer over the whole reply, 1 to 2 KB each.
    pub lexer_states: usize,
}

impl Default for StructuredLimits {
    fn default() -> Self {
        Self {
            schema_bytes: 128 << 10,
            schema_depth: 64,
            schema_properties: 1_000,
            schema_one_of: 512,
            schema_patterns: 32,
            schema_all_of: 8,
            schema_expressions: 600,
            schema_comparisons: 2_000,
            regex_bytes: 4 << 10,
            lark_bytes: 64 << 10,
            lark_intersections: 8,
            choice_bytes: 64 << 10,
            tools: 128,
            tool_name_bytes: 256,
            output_depth: 64,
            compile_fuel: 500_000,
            grammar_size: 500_000,
            step_fuel: 50_000,
            step_items: 50_000,
            row_items: 2_000,
            lexer_states: 20_000,
        }
    }
}

impl StructuredLimits {
    pub(crate) fn parser(&self) -> ParserLimits {
        ParserLimits {
            max_items_in_row: self.row_items,
            initial_lexer_fuel: self.compile_fuel,
            step_lexer_fuel: self.step_fuel,
            step_max_items: self.step_items,
            max_lexer_states: self.lexer_states,
            max_grammar_size: self.grammar_size,
            precompute_large_lexemes: true,
            verbose_errors: false,
        }
    }
}
