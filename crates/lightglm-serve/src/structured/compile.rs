//! From a constraint to processors.

use std::time::{Duration, Instant};

use lightglm_generation::LogitsProcessor;
use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Logger, Matcher, TokenParser};

use crate::constraint::Constraint;
use crate::structured::error::{StructuredError, message};
use crate::structured::grammar::{arguments_grammar, grammar, parameters_field};
use crate::structured::json_guard::JsonGuard;
use crate::structured::limits::StructuredLimits;
use crate::structured::processor::GrammarProcessor;
use crate::structured::vocabulary::GrammarVocabulary;

/// Deepest arguments that `parse_tool_calls` reads.
const MAX_OUTPUT_DEPTH: usize = 100;

/// Stack for a chain of as many rules or references as fits into a constraint. Only what is used of
/// it takes memory.
const STACK_BYTES: usize = 128 << 20;

/// How long a constraint of tools is worked on before nobody looks for the one that is at fault.
const SEARCH: Duration = Duration::from_secs(1);

/// A constraint that replies can follow.
pub struct Compiled {
    /// At its beginning, the first tokens found.
    processor: GrammarProcessor,
}

impl Compiled {
    /// A processor for one reply. Takes no longer than copying what was compiled.
    pub fn processor(&self) -> Box<dyn LogitsProcessor> {
        Box::new(self.processor.clone())
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled").finish_non_exhaustive()
    }
}

/// Compiles a constraint, once for however many replies.
///
/// Milliseconds for what applications send and bounded by `limits` for everything else, but work all
/// the same: to be done on the request's thread and not on the engine's.
///
/// # Errors
/// [`StructuredError`], which names the field.
pub fn compile(
    constraint: &Constraint,
    vocabulary: &GrammarVocabulary,
    limits: &StructuredLimits,
) -> Result<Compiled, StructuredError> {
    // Rules and references are compiled by recursion.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let compile = || compile_here(constraint, vocabulary, limits);
        match thread.spawn_scoped(scope, compile).map(|thread| thread.join()) {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) => Err(not_compiled("the compiler failed")),
            Err(error) => Err(not_compiled(error)),
        }
    })
}

fn not_compiled(reason: impl std::fmt::Display) -> StructuredError {
    StructuredError::Refused { field: "constraint".to_owned(), reason: reason.to_string() }
}

fn compile_here(
    constraint: &Constraint,
    vocabulary: &GrammarVocabulary,
    limits: &StructuredLimits,
) -> Result<Compiled, StructuredError> {
    let started = Instant::now();
    let (grammar, field) = grammar(constraint, limits)?;
    let parser = parser(grammar, vocabulary, limits)
        .map_err(|reason| at_fault(constraint, vocabulary, limits, (field, reason), started))?;
    let depth = limits.output_depth.min(MAX_OUTPUT_DEPTH);
    let guard = match constraint {
        Constraint::JsonSchema(_) | Constraint::JsonObject => Some(JsonGuard::new(depth, false)),
        Constraint::ToolCall { .. } | Constraint::ToolCallOrJson { .. } => {
            Some(JsonGuard::new(depth, true))
        }
        Constraint::Regex(_) | Constraint::Lark(_) | Constraint::Choice(_) => None,
    };
    let mut processor =
        GrammarProcessor::new(Matcher::new(Ok(parser)), vocabulary.tokens.clone(), guard);
    // A grammar can be well formed and derive nothing, or need more than a step's fuel at once.
    processor
        .begin()
        .map_err(|reason| StructuredError::Refused { field: field.to_owned(), reason })?;
    Ok(Compiled { processor })
}

fn parser(
    grammar: TopLevelGrammar,
    vocabulary: &GrammarVocabulary,
    limits: &StructuredLimits,
) -> Result<TokenParser, String> {
    let parser = vocabulary.factory.create_parser_from_init_ext(
        GrammarInit::Serialized(grammar),
        Logger::new(0, 0),
        InferenceCapabilities::default(),
        limits.parser(),
    );
    parser.map_err(message)
}

/// The error with the field that caused it: of several tools, the first that does not compile alone,
/// if it is found soon.
fn at_fault(
    constraint: &Constraint,
    vocabulary: &GrammarVocabulary,
    limits: &StructuredLimits,
    (field, reason): (&str, String),
    started: Instant,
) -> StructuredError {
    if let Constraint::ToolCallOrJson { schema, .. } = constraint {
        let alone = Constraint::JsonSchema(schema.clone());
        let alone = grammar(&alone, limits).and_then(|(grammar, field)| {
            let refused = |reason| StructuredError::Refused { field: field.to_owned(), reason };
            parser(grammar, vocabulary, limits).map_err(refused)
        });
        if let Err(error) = alone {
            return error;
        }
    }
    if let Constraint::ToolCall { tools, .. } | Constraint::ToolCallOrJson { tools, .. } =
        constraint
    {
        for (index, tool) in tools.iter().enumerate() {
            if started.elapsed() > SEARCH {
                break;
            }
            let field = parameters_field(index);
            let alone = arguments_grammar(tool, &field).and_then(|grammar| {
                parser(grammar, vocabulary, limits)
                    .map_err(|reason| StructuredError::Refused { field, reason })
            });
            if let Err(error) = alone {
                return error;
            }
        }
    }
    StructuredError::Refused { field: field.to_owned(), reason }
}
