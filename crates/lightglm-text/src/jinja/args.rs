//! Arguments of calls, bound to parameters as Python binds them.

use super::error::TemplateError;
use super::text::Text;
use super::value::Value;

/// What a call is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Args {
    pub(crate) positional: Vec<Value>,
    /// The names are texts, for those of `**values` are the caller's.
    pub(crate) named: Vec<(Text, Value)>,
}

/// Arguments by parameter.
pub(crate) struct Bound {
    callee: String,
    names: Vec<&'static str>,
    values: Vec<Option<Value>>,
}

impl Args {
    /// Binds the arguments to the parameters called `names`.
    ///
    /// # Errors
    /// [`TemplateError::Operation`] for an argument too many, unknown or given twice.
    pub(crate) fn bind(self, callee: &str, names: &[&'static str]) -> Result<Bound, TemplateError> {
        let refuse = |what: &str| Err(TemplateError::operation(format!("{callee}: {what}")));
        if self.positional.len() > names.len() {
            return refuse("too many arguments");
        }
        let mut values: Vec<Option<Value>> = self.positional.into_iter().map(Some).collect();
        values.resize(names.len(), None);
        for (name, value) in self.named {
            let Some(index) = names.iter().position(|known| name.is(known)) else {
                return refuse(&format!("unknown argument {:?}", name.plain()));
            };
            if values[index].replace(value).is_some() {
                return refuse(&format!("two values for argument {:?}", name.plain()));
            }
        }
        Ok(Bound { callee: callee.to_owned(), names: names.to_vec(), values })
    }
}

impl Bound {
    fn refuse<T>(&self, index: usize, expected: &str) -> Result<T, TemplateError> {
        let name = self.names.get(index).copied().unwrap_or_default();
        Err(TemplateError::operation(format!("{}: {name} has to be {expected}", self.callee)))
    }

    /// An argument as it is; `None` where there is none.
    pub(crate) fn value(&self, index: usize) -> Option<&Value> {
        self.values.get(index).and_then(Option::as_ref)
    }

    /// An argument that may be left out or `none`.
    pub(crate) fn present(&self, index: usize) -> Option<&Value> {
        self.value(index).filter(|value| !value.is_none() && !value.is_undefined())
    }

    /// # Errors
    /// [`TemplateError::Operation`] where it is left out.
    pub(crate) fn required(&self, index: usize) -> Result<&Value, TemplateError> {
        match self.value(index) {
            Some(value) => Ok(value),
            None => self.refuse(index, "given"),
        }
    }

    /// A text that has to be given.
    ///
    /// # Errors
    /// [`TemplateError::Operation`] where it is none.
    pub(crate) fn text(&self, index: usize) -> Result<&Text, TemplateError> {
        match self.value(index) {
            Some(Value::Text(text)) => Ok(text),
            _ => self.refuse(index, "a text"),
        }
    }

    /// A text that may be left out or `none`.
    ///
    /// # Errors
    /// [`TemplateError::Operation`] where it is something else.
    pub(crate) fn optional_text(&self, index: usize) -> Result<Option<&Text>, TemplateError> {
        match self.present(index) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => self.refuse(index, "a text"),
        }
    }

    /// A number that may be left out or `none`.
    ///
    /// # Errors
    /// [`TemplateError::Operation`] where it is something else.
    pub(crate) fn optional_int(&self, index: usize) -> Result<Option<i128>, TemplateError> {
        match self.present(index) {
            None => Ok(None),
            Some(value) => match value.as_int() {
                Some(number) => Ok(Some(number)),
                None => self.refuse(index, "a whole number"),
            },
        }
    }

    /// A count that may be left out; below zero is zero.
    ///
    /// # Errors
    /// [`TemplateError::Operation`] where it is something else.
    pub(crate) fn count(&self, index: usize, default: usize) -> Result<usize, TemplateError> {
        let number = self.optional_int(index)?;
        Ok(number.map_or(default, |number| usize::try_from(number.max(0)).unwrap_or(usize::MAX)))
    }

    /// Whether an argument is given and true.
    pub(crate) fn flag(&self, index: usize) -> bool {
        self.value(index).is_some_and(Value::is_true)
    }
}
