//! Structured output: whatever is sampled under a constraint follows it.

#[path = "structured/hostile.rs"]
mod hostile;
#[path = "structured/toy.rs"]
mod toy;
#[path = "structured/validator.rs"]
mod validator;
