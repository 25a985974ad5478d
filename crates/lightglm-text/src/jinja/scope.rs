//! Variables: one scope inside another.

use std::cell::RefCell;
use std::rc::Rc;

use super::value::Value;

/// The variables of a block, and the block around it.
#[derive(Debug, Default)]
pub(crate) struct Scope<'t> {
    variables: RefCell<Vec<(&'t str, Value)>>,
    parent: Option<Rc<Scope<'t>>>,
}

impl<'t> Scope<'t> {
    pub(crate) fn inside(parent: &Rc<Self>) -> Rc<Self> {
        Rc::new(Self { variables: RefCell::default(), parent: Some(Rc::clone(parent)) })
    }

    pub(crate) fn set(&self, name: &'t str, value: Value) {
        let mut variables = self.variables.borrow_mut();
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => variables.push((name, value)),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Value> {
        let mut scope = Some(self);
        while let Some(here) = scope {
            let variables = here.variables.borrow();
            if let Some((_, value)) = variables.iter().find(|(known, _)| *known == name) {
                return Some(value.clone());
            }
            scope = here.parent.as_deref();
        }
        None
    }
}
