//! The primitives that threads meet at, by one name: the model checker's test has its own.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
