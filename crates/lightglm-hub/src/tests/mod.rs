//! Fetching, against hubs on this machine.

mod embedding_model;
mod fake_hub;
mod hugging_face;
mod model_scope;
mod progress;
mod small_model;
