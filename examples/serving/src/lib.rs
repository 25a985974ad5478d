//! What the programs that serve share: their options, and the load generator.
//!
//! **Should I use this crate?** No: it is not published. A package of its own, so that who only wants to
//! chat does not compile a web server.

pub mod config_file;
pub mod key_args;
pub mod limit_args;
pub mod listen_args;
pub mod load;
pub mod log_args;
pub mod models_file;
pub mod program_args;
pub mod serve_args;
pub mod served_args;
