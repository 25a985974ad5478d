//! Reads through a template once, when it is loaded: what it cannot be run for, and what it looks at.

use std::collections::HashSet;

use minijinja::machinery::ast::{self, BinOpKind, CallArg, Expr, Stmt};

use super::attributes;
use super::error::TemplateError;
use super::filters;
use super::functions::FUNCTIONS;
use super::is_tests;

/// Names a template is given, beside its special tokens.
pub(crate) const VARIABLES: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// What a template's source says about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// Texts in quotation marks.
    pub(crate) literals: HashSet<String>,
    /// Attributes and items it asks for by name.
    pub(crate) attributes: HashSet<String>,
    /// Variables it reads before it has set them, if it does: what a caller may give it.
    pub(crate) variables: HashSet<String>,
}

/// Filters that jinja2 has and that are not run here.
const OTHERS_OF_JINJA2: [&str; 8] = [
    "filesizeformat",
    "pprint",
    "random",
    "striptags",
    "urlencode",
    "urlize",
    "wordwrap",
    "xmlattr",
];

/// A construct that is not run here, and its line.
pub(crate) type Unsupported = (TemplateError, u32);

#[derive(Default)]
struct Reader<'t> {
    survey: Survey,
    /// Everything the template gives a name.
    bound: HashSet<&'t str>,
    called: Vec<(&'t str, u32)>,
    methods: Vec<(&'t str, u32)>,
    /// The variables it reads.
    read: HashSet<&'t str>,
    /// Of these, those that nothing above has given a value.
    free: HashSet<&'t str>,
    /// Branches of an `if` around what is read.
    branches: usize,
    /// Other things around it that may never run: macros, what follows `and` and `or`.
    maybes: usize,
    unsupported: Option<Unsupported>,
}

/// The variables that the body of a macro reads.
pub(crate) fn variables_of<'t>(definition: &'t ast::Macro<'t>) -> HashSet<&'t str> {
    let mut reader = Reader::default();
    reader.statements(&definition.body);
    reader.read
}

/// Surveys a template.
///
/// # Errors
/// The first construct that is not supported.
pub(crate) fn survey(template: &Stmt<'_>) -> Result<Survey, Unsupported> {
    let mut reader = Reader::default();
    reader.statement(template);
    if let Some(unsupported) = reader.unsupported {
        return Err(unsupported);
    }
    let given = |name: &&str| {
        reader.bound.contains(*name) || FUNCTIONS.contains(name) || VARIABLES.contains(name)
    };
    for (name, line) in &reader.called {
        if !given(name) && !["loop", "caller"].contains(name) {
            return Err(unsupported("function", name, *line));
        }
    }
    for (name, line) in &reader.methods {
        if !attributes::is_method(name) && !reader.bound.contains(name) {
            return Err(unsupported("method", name, *line));
        }
    }
    let free = reader.free.iter().filter(|name| !FUNCTIONS.contains(name));
    reader.survey.variables = free.map(|&name| name.to_owned()).collect();
    Ok(reader.survey)
}

fn unsupported(kind: &str, name: &str, line: u32) -> Unsupported {
    (TemplateError::Unsupported { construct: format!("{kind} {name:?}") }, line)
}

impl<'t> Reader<'t> {
    fn refuse(&mut self, kind: &str, name: &str, line: u32) {
        self.unsupported.get_or_insert_with(|| unsupported(kind, name, line));
    }

    /// Reads what only runs on a condition.
    fn in_branch(&mut self, read: impl FnOnce(&mut Self)) {
        self.branches += 1;
        read(self);
        self.branches -= 1;
    }

    /// Refuses a filter or test that is not run here. One that jinja2 does not know either is let through
    /// inside of a branch, as there, because a template may ask first.
    fn check_name(&mut self, kind: &str, name: &str, line: u32) {
        let exists = if kind == "filter" { filters::exists(name) } else { is_tests::exists(name) };
        if !exists && (self.branches == 0 || OTHERS_OF_JINJA2.contains(&name)) {
            self.refuse(kind, name, line);
        }
    }

    fn statements(&mut self, statements: &'t [Stmt<'t>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &'t Stmt<'t>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
            Stmt::ForLoop(for_loop) => {
                self.expression(&for_loop.iter);
                self.target(&for_loop.target);
                self.optional(for_loop.filter_expr.as_ref());
                self.statements(&for_loop.body);
                self.statements(&for_loop.else_body);
            }
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr);
                self.in_branch(|this| {
                    this.statements(&condition.true_body);
                    this.statements(&condition.false_body);
                });
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    self.expression(value);
                    self.target(target);
                }
                self.statements(&with.body);
            }
            Stmt::Set(set) => {
                self.expression(&set.expr);
                self.target(&set.target);
            }
            Stmt::SetBlock(set) => {
                self.target(&set.target);
                self.optional(set.filter.as_ref());
                self.statements(&set.body);
            }
            Stmt::AutoEscape(block) => {
                let line = block.span().start_line.into();
                match &block.enabled {
                    Expr::Const(enabled) if !enabled.value.is_true() => {}
                    _ => self.refuse("tag", "autoescape", line),
                }
                self.statements(&block.body);
            }
            Stmt::FilterBlock(block) => {
                self.expression(&block.filter);
                self.statements(&block.body);
            }
            Stmt::Macro(definition) => {
                self.bound.insert(definition.name);
                definition.args.iter().for_each(|parameter| self.target(parameter));
                definition.defaults.iter().for_each(|default| self.expression(default));
                self.maybes += 1;
                self.statements(&definition.body);
                self.maybes -= 1;
            }
            Stmt::CallBlock(block) => {
                self.call(&block.call.expr, &block.call.args, block.span().start_line.into());
                block.macro_decl.args.iter().for_each(|parameter| self.target(parameter));
                self.statements(&block.macro_decl.body);
            }
            Stmt::Do(statement) => {
                let line = statement.span().start_line.into();
                self.call(&statement.call.expr, &statement.call.args, line);
            }
        }
    }

    fn target(&mut self, target: &'t Expr<'t>) {
        match target {
            Expr::Var(variable) => drop(self.bound.insert(variable.id)),
            Expr::List(targets) => targets.items.iter().for_each(|target| self.target(target)),
            Expr::GetAttr(attribute) => {
                self.bound.insert(attribute.name);
                self.expression(&attribute.expr);
            }
            other => self.expression(other),
        }
    }

    fn variable(&mut self, name: &'t str) {
        self.read.insert(name);
        if !self.bound.contains(name) {
            self.free.insert(name);
        }
    }

    fn optional(&mut self, expression: Option<&'t Expr<'t>>) {
        if let Some(expression) = expression {
            self.expression(expression);
        }
    }

    fn expression(&mut self, expression: &'t Expr<'t>) {
        let line = expression.span().start_line.into();
        match expression {
            Expr::Var(variable) => self.variable(variable.id),
            Expr::Const(constant) => {
                if let Some(text) = constant.value.as_str() {
                    self.survey.literals.insert(text.to_owned());
                }
            }
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                for bound in [&slice.start, &slice.stop, &slice.step] {
                    self.optional(bound.as_ref());
                }
            }
            Expr::UnaryOp(unary) => self.expression(&unary.expr),
            Expr::BinOp(operation) => {
                self.expression(&operation.left);
                let skips = matches!(operation.op, BinOpKind::ScAnd | BinOpKind::ScOr);
                self.maybes += usize::from(skips);
                self.expression(&operation.right);
                self.maybes -= usize::from(skips);
            }
            Expr::Compare(comparison) => {
                self.expression(&comparison.expr);
                comparison.ops.iter().for_each(|step| self.expression(&step.expr));
            }
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr);
                self.in_branch(|this| {
                    this.expression(&choice.true_expr);
                    this.optional(choice.false_expr.as_ref());
                });
            }
            Expr::Filter(filter) => {
                self.check_name("filter", filter.name, line);
                self.named_by_text(filter.name, &filter.args, line);
                self.optional(filter.expr.as_ref());
                self.arguments(&filter.args);
            }
            Expr::Test(test) => {
                self.check_name("test", test.name, line);
                self.expression(&test.expr);
                self.arguments(&test.args);
            }
            Expr::GetAttr(access) => {
                self.survey.attributes.insert(access.name.to_owned());
                self.expression(&access.expr);
            }
            Expr::GetItem(access) => {
                if let Expr::Const(key) = &access.subscript_expr
                    && let Some(name) = key.value.as_str()
                {
                    self.survey.attributes.insert(name.to_owned());
                }
                self.expression(&access.expr);
                self.expression(&access.subscript_expr);
            }
            Expr::Call(call) => self.call(&call.expr, &call.args, line),
            Expr::List(list) => list.items.iter().for_each(|item| self.expression(item)),
            Expr::Map(map) => {
                map.keys.iter().for_each(|key| self.expression(key));
                map.values.iter().for_each(|value| self.expression(value));
            }
        }
    }

    fn call(&mut self, callee: &'t Expr<'t>, arguments: &'t [CallArg<'t>], line: u32) {
        match callee {
            Expr::Var(variable) => {
                if self.branches + self.maybes == 0 {
                    self.called.push((variable.id, line));
                }
                self.variable(variable.id);
                if variable.id == "namespace" {
                    for argument in arguments {
                        if let CallArg::Kwarg(name, _) = argument {
                            self.bound.insert(name);
                        }
                    }
                }
            }
            Expr::GetAttr(access) => {
                let runs = self.branches + self.maybes == 0;
                if runs || attributes::OTHERS_OF_PYTHON.contains(&access.name) {
                    self.methods.push((access.name, line));
                }
                if access.name == "get"
                    && let Some(CallArg::Pos(Expr::Const(key))) = arguments.first()
                    && let Some(name) = key.value.as_str()
                {
                    self.survey.attributes.insert(name.to_owned());
                }
                self.expression(&access.expr);
            }
            other => self.expression(other),
        }
        self.arguments(arguments);
    }

    /// `map("upper")`, `select("defined")`: filters and tests named by texts.
    fn named_by_text(&mut self, filter: &str, arguments: &'t [CallArg<'t>], line: u32) {
        let position = if filter.ends_with("attr") { 1 } else { 0 };
        let Some(CallArg::Pos(Expr::Const(name))) = arguments.get(position) else { return };
        let Some(name) = name.value.as_str() else { return };
        match filter {
            "map" => self.check_name("filter", name, line),
            "select" | "reject" | "selectattr" | "rejectattr" => {
                self.check_name("test", name, line);
            }
            _ => {}
        }
    }

    fn arguments(&mut self, arguments: &'t [CallArg<'t>]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(value)
                | CallArg::Kwarg(_, value)
                | CallArg::PosSplat(value)
                | CallArg::KwargSplat(value) => self.expression(value),
            }
        }
    }
}
