//! Evaluates the expressions of a template.

use std::rc::Rc;

use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, UnaryOpKind};
use minijinja::value::ValueKind;

use super::args::Args;
use super::attributes;
use super::error::TemplateError;
use super::filters;
use super::functions::{self, FUNCTIONS};
use super::is_tests;
use super::operators;
use super::render::Renderer;
use super::scope::Scope;
use super::text::Text;
use super::value::Value;

type Outcome = Result<Value, TemplateError>;

/// Namespaces one rendering may make.
const MAX_NAMESPACES: usize = 10_000;

impl<'t> Renderer<'t> {
    pub(super) fn evaluate(&mut self, expression: &'t Expr<'t>, scope: &Rc<Scope<'t>>) -> Outcome {
        let value = self.deeper(|this| this.expression(expression, scope))?;
        self.notice(&value);
        self.pay_for(expression, &value)?;
        Ok(value)
    }

    fn pay_for(&mut self, expression: &Expr<'_>, value: &Value) -> Result<(), TemplateError> {
        match expression {
            // What was there before costs a look, not its length.
            Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) => {
                self.spend(super::render::EXPRESSION_COST)
            }
            _ => self.pay(value),
        }
    }

    fn expression(&mut self, expression: &'t Expr<'t>, scope: &Rc<Scope<'t>>) -> Outcome {
        match expression {
            Expr::Var(variable) => Ok(lookup(variable.id, scope)),
            Expr::Const(constant) => constant_of(&constant.value),
            Expr::UnaryOp(unary) => {
                let value = self.evaluate(&unary.expr, scope)?;
                match unary.op {
                    UnaryOpKind::Not => Ok(Value::Bool(!value.is_true())),
                    UnaryOpKind::Neg => operators::negate(&value),
                }
            }
            Expr::BinOp(operation) => self.operation(operation, scope),
            Expr::Compare(comparison) => self.comparison(comparison, scope),
            Expr::IfExpr(choice) => {
                if self.evaluate(&choice.test_expr, scope)?.is_true() {
                    self.evaluate(&choice.true_expr, scope)
                } else if let Some(otherwise) = &choice.false_expr {
                    self.evaluate(otherwise, scope)
                } else {
                    Ok(Value::undefined("the inline if-expression"))
                }
            }
            Expr::Filter(filter) => {
                let value = match &filter.expr {
                    Some(value) => self.evaluate(value, scope)?,
                    None => Value::undefined("filter"),
                };
                let args = self.arguments(&filter.args, scope)?;
                filters::call(filter.name, &value, args)
            }
            Expr::Test(test) => {
                let value = self.evaluate(&test.expr, scope)?;
                let args = self.arguments(&test.args, scope)?;
                is_tests::call(test.name, &value, args).map(Value::Bool)
            }
            Expr::GetAttr(_) | Expr::GetItem(_) | Expr::Slice(_) | Expr::Call(_) => {
                let (value, is_negative) = self.postfix(expression, scope)?;
                if is_negative { operators::negate(&value) } else { Ok(value) }
            }
            Expr::List(list) => {
                let mut items = Vec::with_capacity(list.items.len());
                for item in &list.items {
                    items.push(self.evaluate(item, scope)?);
                }
                let begin = self.source.as_bytes().get(list.span().start_offset as usize);
                // The parser reads tuples as lists.
                Ok(if begin == Some(&b'[') { Value::list(items) } else { Value::tuple(items) })
            }
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.keys.len());
                for (key, value) in map.keys.iter().zip(&map.values) {
                    entries.push((self.evaluate(key, scope)?, self.evaluate(value, scope)?));
                }
                Ok(Value::dict(entries))
            }
        }
    }

    /// Attributes, items, slices and calls, and whether the whole is to be negated: the parser binds a minus
    /// tighter than these (`-a.b` as `(-a).b`), jinja2 does not.
    fn postfix(
        &mut self,
        expression: &'t Expr<'t>,
        scope: &Rc<Scope<'t>>,
    ) -> Result<(Value, bool), TemplateError> {
        Ok(match expression {
            Expr::GetAttr(access) => {
                let (value, minus) = self.base(&access.expr, scope)?;
                (attributes::attribute(&value, access.name)?, minus)
            }
            Expr::GetItem(access) => {
                let (value, minus) = self.base(&access.expr, scope)?;
                let key = self.evaluate(&access.subscript_expr, scope)?;
                (attributes::item(&value, &key)?, minus)
            }
            Expr::Slice(slice) => {
                let (value, minus) = self.base(&slice.expr, scope)?;
                (self.slice(slice, &value, scope)?, minus)
            }
            Expr::Call(call) => {
                let (callee, minus) = self.base(&call.expr, scope)?;
                let args = self.arguments(&call.args, scope)?;
                (self.call(callee, args, None)?, minus)
            }
            other => (self.evaluate(other, scope)?, false),
        })
    }

    /// What an attribute, item, slice or call is of, without its minus.
    fn base(
        &mut self,
        expression: &'t Expr<'t>,
        scope: &Rc<Scope<'t>>,
    ) -> Result<(Value, bool), TemplateError> {
        match expression {
            Expr::UnaryOp(unary) if matches!(unary.op, UnaryOpKind::Neg) => {
                Ok((self.evaluate(&unary.expr, scope)?, true))
            }
            Expr::GetAttr(_) | Expr::GetItem(_) | Expr::Slice(_) | Expr::Call(_) => {
                let (value, minus) = self.deeper(|this| this.postfix(expression, scope))?;
                self.notice(&value);
                self.pay_for(expression, &value)?;
                Ok((value, minus))
            }
            other => Ok((self.evaluate(other, scope)?, false)),
        }
    }

    fn operation(&mut self, operation: &'t ast::BinOp<'t>, scope: &Rc<Scope<'t>>) -> Outcome {
        let left = self.evaluate(&operation.left, scope)?;
        match operation.op {
            BinOpKind::ScAnd if !left.is_true() => Ok(left),
            BinOpKind::ScOr if left.is_true() => Ok(left),
            BinOpKind::ScAnd | BinOpKind::ScOr => self.evaluate(&operation.right, scope),
            op => {
                let right = self.evaluate(&operation.right, scope)?;
                operators::binary(op, &left, &right)
            }
        }
    }

    fn comparison(&mut self, comparison: &'t ast::Compare<'t>, scope: &Rc<Scope<'t>>) -> Outcome {
        let mut left = self.evaluate(&comparison.expr, scope)?;
        for step in &comparison.ops {
            let right = self.evaluate(&step.expr, scope)?;
            let (op, wanted) = match step.op {
                CompareOpKind::Eq => (BinOpKind::Eq, true),
                CompareOpKind::Ne => (BinOpKind::Ne, true),
                CompareOpKind::Lt => (BinOpKind::Lt, true),
                CompareOpKind::Lte => (BinOpKind::Lte, true),
                CompareOpKind::Gt => (BinOpKind::Gt, true),
                CompareOpKind::Gte => (BinOpKind::Gte, true),
                CompareOpKind::In => (BinOpKind::In, true),
                CompareOpKind::NotIn => (BinOpKind::In, false),
            };
            if operators::binary(op, &left, &right)?.is_true() != wanted {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    fn slice(
        &mut self,
        slice: &'t ast::Slice<'t>,
        value: &Value,
        scope: &Rc<Scope<'t>>,
    ) -> Outcome {
        let mut bounds = [None; 3];
        for (bound, expression) in bounds.iter_mut().zip([&slice.start, &slice.stop, &slice.step]) {
            let Some(expression) = expression else { continue };
            let given = self.evaluate(expression, scope)?;
            *bound = match given.as_int() {
                None if given.is_none() => None,
                None => {
                    return Err(TemplateError::operation("slice indices must be integers or None"));
                }
                number => number,
            };
        }
        operators::slice(value, bounds)
    }

    fn arguments(
        &mut self,
        arguments: &'t [CallArg<'t>],
        scope: &Rc<Scope<'t>>,
    ) -> Result<Args, TemplateError> {
        let mut args = Args::default();
        for argument in arguments {
            match argument {
                CallArg::Pos(value) => args.positional.push(self.evaluate(value, scope)?),
                CallArg::Kwarg(name, value) => {
                    args.named.push((Text::template(name), self.evaluate(value, scope)?));
                }
                CallArg::PosSplat(values) => {
                    let values = self.evaluate(values, scope)?.items()?;
                    args.positional.extend(values.iter().cloned());
                }
                CallArg::KwargSplat(values) => {
                    let values = self.evaluate(values, scope)?;
                    for (name, value) in
                        values.as_dict().map(|dict| dict.entries()).into_iter().flatten()
                    {
                        let name = name.as_text().cloned().unwrap_or_default();
                        args.named.push((name, value.clone()));
                    }
                }
            }
        }
        Ok(args)
    }

    /// A call, with the body of a `call` block where there is one.
    pub(super) fn call_with(
        &mut self,
        call: &'t ast::Call<'t>,
        scope: &Rc<Scope<'t>>,
        caller: Option<Value>,
    ) -> Outcome {
        let callee = self.evaluate(&call.expr, scope)?;
        let args = self.arguments(&call.args, scope)?;
        self.call(callee, args, caller)
    }

    fn call(&mut self, callee: Value, args: Args, caller: Option<Value>) -> Outcome {
        match callee {
            Value::Macro(index) => self.call_macro(index, args, caller),
            Value::Function(name) => {
                let made = functions::call(name, args, self.unix_seconds)?;
                if let Value::Namespace(namespace) = &made {
                    self.namespaces.push(Rc::clone(namespace));
                    if self.namespaces.len() > MAX_NAMESPACES {
                        return Err(TemplateError::TooDeep { limit: MAX_NAMESPACES });
                    }
                }
                Ok(made)
            }
            Value::Method(receiver, name) => attributes::call_method(&receiver, &name, args),
            Value::Joiner(separator, asked) => {
                let is_later = std::mem::replace(&mut *asked.borrow_mut(), true);
                Ok(if is_later { Value::Text(separator) } else { Value::str("") })
            }
            Value::Loop(state) => {
                let Some(index) = state.recursive else {
                    return Err(TemplateError::operation("this loop is not recursive"));
                };
                let target = self.loops[index].clone();
                let items = args.bind("loop", &["iterable"])?;
                let items = items.required(0)?.clone();
                let text = self.captured(|this| {
                    this.for_loop(target.definition, &items, &target.scope, state.depth0 + 1)
                })?;
                Ok(Value::Text(text))
            }
            Value::Undefined(name) => Err(TemplateError::Undefined { what: name.to_string() }),
            other => {
                Err(TemplateError::operation(format!("{} is not callable", other.type_name())))
            }
        }
    }

    fn call_macro(&mut self, index: usize, args: Args, caller: Option<Value>) -> Outcome {
        let target = self.macros[index].clone();
        let definition = target.definition;
        let scope = Scope::inside(&target.scope);
        let refuse = |what: &str| {
            Err(TemplateError::operation(format!("macro {:?}: {what}", definition.name)))
        };
        let mut named = args.named;
        let mut positional = args.positional.into_iter();
        let without_default = definition.args.len() - definition.defaults.len();
        for (at, parameter) in definition.args.iter().enumerate() {
            let Expr::Var(parameter) = parameter else { return refuse("a parameter is no name") };
            let by_name = named.iter().position(|(name, _)| name.is(parameter.id));
            let value = match (positional.next(), by_name) {
                (Some(_), Some(_)) => return refuse("two values for one argument"),
                (Some(value), None) => value,
                (None, Some(index)) => named.remove(index).1,
                (None, None) if at >= without_default => {
                    self.evaluate(&definition.defaults[at - without_default], &scope)?
                }
                (None, None) => Value::undefined(parameter.id),
            };
            scope.set(parameter.id, value);
        }
        let [takes_positional, takes_named, takes_caller] = target.reads;
        let varargs: Vec<Value> = positional.collect();
        named.extend(caller.map(|caller| (Text::template("caller"), caller)));
        let caller = named.iter().position(|(name, _)| name.is("caller"));
        if let Some(index) = caller.filter(|_| takes_caller) {
            scope.set("caller", named.remove(index).1);
        }
        if (!varargs.is_empty() && !takes_positional) || (!named.is_empty() && !takes_named) {
            return refuse("an argument too many");
        }
        scope.set("varargs", Value::tuple(varargs));
        let named = named.into_iter().map(|(name, value)| (Value::Text(name), value));
        scope.set("kwargs", Value::dict(named));
        let text = self.captured(|this| this.statements(&definition.body, &scope))?;
        Ok(Value::Text(text))
    }

    /// A text through the filters of a block.
    pub(super) fn filtered(
        &mut self,
        filter: Option<&'t Expr<'t>>,
        text: Text,
        scope: &Rc<Scope<'t>>,
    ) -> Outcome {
        let Some(Expr::Filter(filter)) = filter else { return Ok(Value::Text(text)) };
        let value = match &filter.expr {
            None => Value::Text(text),
            inner => self.deeper(|this| this.filtered(inner.as_ref(), text, scope))?,
        };
        let args = self.arguments(&filter.args, scope)?;
        filters::call(filter.name, &value, args)
    }
}

fn lookup(name: &str, scope: &Scope<'_>) -> Value {
    scope.get(name).unwrap_or_else(|| {
        let function = FUNCTIONS.iter().find(|known| **known == name);
        function.map_or_else(|| Value::undefined(name), |name| Value::Function(name))
    })
}

/// A literal of the template.
fn constant_of(constant: &minijinja::Value) -> Outcome {
    if let Some(text) = constant.as_str() {
        return Ok(Value::str(text));
    }
    match constant.kind() {
        ValueKind::None => Ok(Value::None),
        ValueKind::Bool => Ok(Value::Bool(constant.is_true())),
        ValueKind::Number if constant.is_integer() => i128::try_from(constant.clone())
            .map(Value::Int)
            .map_err(|_| TemplateError::operation("a number is too large")),
        ValueKind::Number => f64::try_from(constant.clone())
            .map(Value::Float)
            .map_err(|_| TemplateError::operation("a number is too large")),
        kind => Err(TemplateError::operation(format!("a literal of the kind {kind}"))),
    }
}
