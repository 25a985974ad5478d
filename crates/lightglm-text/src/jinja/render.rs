//! Runs the statements of a template.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use minijinja::machinery::ast::{self, Expr, Stmt};

use super::error::TemplateError;
use super::scope::Scope;
use super::text::{SourceId, Text, TextBuilder};
use super::value::{Dict, LoopState, Value};

/// Steps a rendering may take: one for each character it makes, [`EXPRESSION_COST`] for each expression.
/// A conversation of ten thousand messages takes a tenth.
const FUEL: u64 = 400_000_000;
pub(crate) const EXPRESSION_COST: u64 = 20;

/// Nesting of statements, expressions and macros.
const MAX_DEPTH: usize = 1500;
/// Nesting of lists and dicts.
const MAX_VALUE_DEPTH: usize = 200;

/// What follows a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

/// A macro, or the body of a `call` block, and where it was defined.
#[derive(Clone)]
pub(super) struct Macro<'t> {
    pub(super) definition: &'t ast::Macro<'t>,
    pub(super) scope: Rc<Scope<'t>>,
    /// Whether its body reads `varargs`, `kwargs` and `caller`: others are refused what these hold.
    pub(super) reads: [bool; 3],
}

/// A `for ... recursive`, and where it stands.
#[derive(Clone)]
pub(super) struct RecursiveLoop<'t> {
    pub(super) definition: &'t ast::ForLoop<'t>,
    pub(super) scope: Rc<Scope<'t>>,
}

/// One rendering.
pub(super) struct Renderer<'t> {
    pub(super) source: &'t str,
    pub(super) unix_seconds: i64,
    pub(super) macros: Vec<Macro<'t>>,
    pub(super) loops: Vec<RecursiveLoop<'t>>,
    pub(super) namespaces: Vec<Rc<RefCell<Dict>>>,
    /// Sources that the template cut away.
    pub(super) cut_away: BTreeSet<SourceId>,
    /// Line of the statement that runs, from 1.
    pub(super) line: u32,
    outputs: Vec<TextBuilder>,
    fuel: u64,
    depth: usize,
}

impl Drop for Renderer<'_> {
    /// Namespaces may hold each other, and themselves.
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            drop(namespace.take());
        }
    }
}

impl<'t> Renderer<'t> {
    pub(super) fn new(source: &'t str, unix_seconds: i64) -> Self {
        Self {
            source,
            unix_seconds,
            macros: Vec::new(),
            loops: Vec::new(),
            namespaces: Vec::new(),
            cut_away: BTreeSet::new(),
            line: 1,
            outputs: Vec::new(),
            fuel: FUEL,
            depth: 0,
        }
    }

    pub(super) fn spend(&mut self, steps: u64) -> Result<(), TemplateError> {
        let left = self.fuel.checked_sub(steps);
        self.fuel = left.ok_or(TemplateError::OutOfFuel { limit: FUEL })?;
        Ok(())
    }

    /// Pays for a value just made.
    pub(super) fn pay(&mut self, value: &Value) -> Result<(), TemplateError> {
        if value.depth() > MAX_VALUE_DEPTH {
            return Err(TemplateError::TooDeep { limit: MAX_VALUE_DEPTH });
        }
        let size = match value {
            Value::Text(text) => text.len(),
            Value::List(items) | Value::Tuple(items) => items.len(),
            Value::Dict(dict) => dict.entries().len(),
            _ => 0,
        };
        self.spend(size as u64 + EXPRESSION_COST)
    }

    /// Remembers of which texts nothing was left.
    pub(super) fn notice(&mut self, value: &Value) {
        if let Value::Text(text) = value {
            self.cut_away.extend(text.cut_away());
        }
    }

    /// One level deeper.
    pub(super) fn deeper<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        if self.depth >= MAX_DEPTH {
            return Err(TemplateError::TooDeep { limit: MAX_DEPTH });
        }
        self.depth += 1;
        let outcome = run(self);
        self.depth -= 1;
        outcome
    }

    /// What `run` writes.
    pub(super) fn captured(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<Flow, TemplateError>,
    ) -> Result<Text, TemplateError> {
        self.outputs.push(TextBuilder::default());
        let outcome = run(self);
        let output = self.outputs.pop().unwrap_or_default();
        outcome?;
        let text = output.finish()?;
        self.spend(text.len() as u64)?;
        Ok(text)
    }

    fn write(&mut self, text: &Text) -> Result<(), TemplateError> {
        self.spend(text.len() as u64)?;
        if let Some(output) = self.outputs.last_mut() {
            output.text(text);
        }
        Ok(())
    }

    pub(super) fn statements(
        &mut self,
        statements: &'t [Stmt<'t>],
        scope: &Rc<Scope<'t>>,
    ) -> Result<Flow, TemplateError> {
        for statement in statements {
            let flow = self.deeper(|this| this.statement(statement, scope))?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn statement(
        &mut self,
        statement: &'t Stmt<'t>,
        scope: &Rc<Scope<'t>>,
    ) -> Result<Flow, TemplateError> {
        self.spend(EXPRESSION_COST)?;
        match statement {
            Stmt::Template(template) => return self.statements(&template.children, scope),
            Stmt::EmitRaw(raw) => self.write(&Text::template(raw.raw))?,
            Stmt::EmitExpr(emit) => {
                self.line = emit.span().start_line.into();
                let value = self.evaluate(&emit.expr, scope)?;
                self.write(&super::spell::str_of(&value)?)?;
            }
            Stmt::ForLoop(for_loop) => {
                self.line = for_loop.span().start_line.into();
                let items = self.evaluate(&for_loop.iter, scope)?;
                return self.for_loop(for_loop, &items, scope, 0);
            }
            Stmt::IfCond(condition) => return self.condition(condition, scope),
            Stmt::WithBlock(with) => {
                let inner = Scope::inside(scope);
                for (target, value) in &with.assignments {
                    let value = self.evaluate(value, scope)?;
                    self.assign(target, value, &inner)?;
                }
                return self.statements(&with.body, &inner);
            }
            Stmt::Set(set) => {
                self.line = set.span().start_line.into();
                let value = self.evaluate(&set.expr, scope)?;
                self.assign(&set.target, value, scope)?;
            }
            Stmt::SetBlock(set) => {
                let inner = Scope::inside(scope);
                let text = self.captured(|this| this.statements(&set.body, &inner))?;
                let value = self.filtered(set.filter.as_ref(), text, scope)?;
                self.assign(&set.target, value, scope)?;
            }
            Stmt::FilterBlock(block) => {
                let inner = Scope::inside(scope);
                let text = self.captured(|this| this.statements(&block.body, &inner))?;
                let value = self.filtered(Some(&block.filter), text, scope)?;
                self.write(&super::spell::str_of(&value)?)?;
            }
            // Only `{% autoescape false %}` is let through when the template is loaded.
            Stmt::AutoEscape(block) => return self.statements(&block.body, &Scope::inside(scope)),
            Stmt::Macro(definition) => {
                let value = self.define(definition, scope);
                scope.set(definition.name, value);
            }
            Stmt::CallBlock(block) => {
                self.line = block.span().start_line.into();
                let caller = self.define(&block.macro_decl, scope);
                let value = self.call_with(&block.call, scope, Some(caller))?;
                self.write(&super::spell::str_of(&value)?)?;
            }
            Stmt::Do(statement) => drop(self.call_with(&statement.call, scope, None)?),
            Stmt::Continue(_) => return Ok(Flow::Continue),
            Stmt::Break(_) => return Ok(Flow::Break),
        }
        Ok(Flow::Next)
    }

    fn define(&mut self, definition: &'t ast::Macro<'t>, scope: &Rc<Scope<'t>>) -> Value {
        let read = super::survey::variables_of(definition);
        let reads = ["varargs", "kwargs", "caller"].map(|name| read.contains(name));
        self.macros.push(Macro { definition, scope: Rc::clone(scope), reads });
        Value::Macro(self.macros.len() - 1)
    }

    fn condition(
        &mut self,
        condition: &'t ast::Spanned<ast::IfCond<'t>>,
        scope: &Rc<Scope<'t>>,
    ) -> Result<Flow, TemplateError> {
        let mut condition = condition;
        loop {
            self.line = condition.span().start_line.into();
            if self.evaluate(&condition.expr, scope)?.is_true() {
                return self.statements(&condition.true_body, scope);
            }
            match &condition.false_body[..] {
                // `elif`, as often as one likes.
                [Stmt::IfCond(next)] => condition = next,
                body => return self.statements(body, scope),
            }
        }
    }

    /// Runs `for_loop` over `items`; `depth0` counts the recursions.
    pub(super) fn for_loop(
        &mut self,
        for_loop: &'t ast::ForLoop<'t>,
        items: &Value,
        scope: &Rc<Scope<'t>>,
        depth0: usize,
    ) -> Result<Flow, TemplateError> {
        let mut items = items.items()?;
        if let Some(filter) = &for_loop.filter_expr {
            let mut kept = Vec::new();
            for item in items.iter() {
                self.spend(EXPRESSION_COST)?;
                let inner = Scope::inside(scope);
                self.assign(&for_loop.target, item.clone(), &inner)?;
                if self.evaluate(filter, &inner)?.is_true() {
                    kept.push(item.clone());
                }
            }
            items = Rc::new(kept.into());
        }
        if items.is_empty() {
            return self.statements(&for_loop.else_body, &Scope::inside(scope));
        }
        let recursive = for_loop.recursive.then(|| {
            let scope = Rc::clone(scope);
            self.loops.push(RecursiveLoop { definition: for_loop, scope });
            self.loops.len() - 1
        });
        let changed = Rc::default();
        for (index0, item) in items.iter().enumerate() {
            self.spend(EXPRESSION_COST)?;
            let inner = Scope::inside(scope);
            let state = LoopState {
                index0,
                items: Rc::clone(&items),
                depth0,
                recursive,
                changed: Rc::clone(&changed),
            };
            inner.set("loop", Value::Loop(Rc::new(state)));
            self.assign(&for_loop.target, item.clone(), &inner)?;
            if self.statements(&for_loop.body, &inner)? == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    pub(super) fn assign(
        &mut self,
        target: &'t Expr<'t>,
        value: Value,
        scope: &Rc<Scope<'t>>,
    ) -> Result<(), TemplateError> {
        match target {
            Expr::Var(variable) => scope.set(variable.id, value),
            Expr::List(targets) => {
                let items = value.items()?;
                if items.len() != targets.items.len() {
                    let reason =
                        format!("{} values for {} variables", items.len(), targets.items.len());
                    return Err(TemplateError::operation(reason));
                }
                for (target, item) in targets.items.iter().zip(items.iter()) {
                    self.notice(item);
                    self.deeper(|this| this.assign(target, item.clone(), scope))?;
                }
            }
            Expr::GetAttr(attribute) => match self.evaluate(&attribute.expr, scope)? {
                Value::Namespace(names) => {
                    names.borrow_mut().insert(Value::str(attribute.name), value);
                }
                _ => {
                    let reason = "cannot assign attribute on non-namespace object";
                    return Err(TemplateError::operation(reason));
                }
            },
            _ => return Err(TemplateError::operation("this cannot be assigned to")),
        }
        Ok(())
    }
}
