//! Jinja as transformers renders it, with the origin of every character.
//!
//! minijinja reads a template; it is run here, because a chat template has to render as Python does
//! (`%`, `rpartition`, `in` on texts, tuples) and because every character of the prompt has to know
//! who wrote it: the template, or which string of the caller's. [`text`] carries that through every
//! operator, filter and method, so that no rendering has to be guessed from another.
//!
//! Source: jinja2 3.1 with the settings of `_compile_jinja_template` in transformers'
//! utils/chat_template_utils.py.

mod args;
mod attributes;
mod error;
mod expression;
mod filters;
mod functions;
mod is_tests;
mod list_filters;
mod operators;
mod printf;
mod render;
mod scope;
mod spell;
mod survey;
mod text;
mod text_methods;
mod value;

use std::collections::BTreeSet;
use std::rc::Rc;

use minijinja::machinery::{Token, WhitespaceConfig, ast, parse, tokenize};
use minijinja::syntax::SyntaxConfig;

pub use error::TemplateError;
pub(crate) use survey::VARIABLES;
pub(crate) use text::{SourceId, TEMPLATE, Text};
pub(crate) use value::Value;

use render::{Flow, Renderer};
use scope::Scope;
use survey::{Survey, survey};

/// The longest source, in bytes.
const MAX_SOURCE: usize = 1 << 20;
/// Tokens in one tag, and `elif`s in a template: the parser nests them without looking how deep.
const MAX_TAG_TOKENS: usize = 2000;
const MAX_ELIFS: usize = 500;

/// Room for [`render::MAX_DEPTH`](render) levels; only what is used is ever touched.
const STACK_BYTES: usize = 64 << 20;

/// An error, and the line of the template it is in.
pub(crate) type Located = (TemplateError, u32);

/// A template that can be run.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    source: String,
    survey: Survey,
}

/// What a template wrote.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// Who wrote what of it: ends in bytes, ascending, and sources.
    pub(crate) runs: Vec<(usize, SourceId)>,
    /// The sources that left something in it, or of which the template cut away what one could see.
    pub(crate) traced: BTreeSet<SourceId>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`]; [`TemplateError::Unsupported`] where it uses what is not run here.
    pub(crate) fn parse(source: &str) -> Result<Self, Located> {
        // As jinja2 does, which knows one line break.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let survey = survey(&syntax_of(&source)?)?;
        Ok(Self { source, survey })
    }

    /// Whether `text` stands in quotation marks.
    pub(crate) fn has_literal(&self, text: &str) -> bool {
        self.survey.literals.contains(text)
    }

    /// Whether it asks anything for its attribute or item `name`.
    pub(crate) fn asks_for_attribute(&self, name: &str) -> bool {
        self.survey.attributes.contains(name)
    }

    /// Whether it reads the variable `name`, and does not set it anywhere.
    pub(crate) fn reads_variable(&self, name: &str) -> bool {
        self.survey.variables.contains(name)
    }

    /// Whether `text` is part of what it writes, or of a text it looks for.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.source.contains(text)
    }

    /// Renders the variables that `variables` makes.
    ///
    /// # Errors
    /// [`TemplateError`], and its line.
    pub(crate) fn render(
        &self,
        unix_seconds: i64,
        variables: impl FnOnce() -> Vec<(String, Value)> + Send,
    ) -> Result<Rendered, Located> {
        std::thread::scope(|threads| {
            // Templates may recurse further than the stacks of a server's threads reach.
            let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
            let run = || self.render_here(unix_seconds, &variables());
            let thread = builder.spawn_scoped(threads, run).map_err(|error| {
                (TemplateError::operation(format!("no thread to render on: {error}")), 0)
            })?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn render_here(
        &self,
        unix_seconds: i64,
        variables: &[(String, Value)],
    ) -> Result<Rendered, Located> {
        let syntax = syntax_of(&self.source)?;
        let mut renderer = Renderer::new(&self.source, unix_seconds);
        let scope = Rc::new(Scope::default());
        for (name, value) in variables {
            scope.set(name, value.clone());
        }
        let text = renderer.captured(|renderer| {
            renderer.statements(std::slice::from_ref(&syntax), &scope).map(|_| Flow::Next)
        });
        match text {
            Ok(text) => Ok(Rendered::of(&text, std::mem::take(&mut renderer.cut_away))),
            Err(error) => Err((error, renderer.line)),
        }
    }
}

impl Rendered {
    fn of(text: &Text, cut_away: BTreeSet<SourceId>) -> Self {
        let mut rendered = Self { traced: cut_away, ..Self::default() };
        let mut last = None;
        for glyph in text.glyphs() {
            rendered.text.push(glyph.character);
            let end = rendered.text.len();
            match rendered.runs.last_mut() {
                Some(run) if last == Some(glyph.source) => run.0 = end,
                _ => {
                    rendered.runs.push((end, glyph.source));
                    rendered.traced.insert(glyph.source);
                }
            }
            last = Some(glyph.source);
        }
        rendered
    }
}

fn whitespace() -> WhitespaceConfig {
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true }
}

fn syntax_of(source: &str) -> Result<ast::Stmt<'_>, Located> {
    let too_long = |limit| (TemplateError::TextTooLong { limit }, 1);
    if source.len() > MAX_SOURCE {
        return Err(too_long(MAX_SOURCE));
    }
    let (mut in_tag, mut elifs) = (0, 0);
    for token in tokenize(source, false, SyntaxConfig, whitespace()) {
        // What cannot be read is the parser's to report.
        let Ok((token, span)) = token else { break };
        in_tag += 1;
        match token {
            Token::VariableStart | Token::BlockStart => in_tag = 0,
            Token::Ident("elif") => elifs += 1,
            _ => {}
        }
        if in_tag > MAX_TAG_TOKENS || elifs > MAX_ELIFS {
            let limit = if elifs > MAX_ELIFS { MAX_ELIFS } else { MAX_TAG_TOKENS };
            return Err((TemplateError::TooDeep { limit }, span.start_line.into()));
        }
    }
    parse(source, "template", SyntaxConfig, whitespace()).map_err(|error| {
        let line = error.line().and_then(|line| u32::try_from(line).ok()).unwrap_or(1);
        let reason = error.detail().map_or_else(|| error.to_string(), str::to_owned);
        let error = match reason.strip_prefix("unknown statement ") {
            Some(tag) => TemplateError::Unsupported { construct: format!("tag {tag:?}") },
            None => TemplateError::Syntax { reason },
        };
        (error, line)
    })
}
