//! Searching: which choice each block of a teacher gets where all of them together may cost only so much.
//!
//! Arithmetic only: what a choice costs and what it loses is measured elsewhere and handed in. Losses of blocks that
//! are replaced alone are added up, which is an approximation: what two replaced blocks lose together may be more or
//! less than the sum.
//!
//! ```
//! use lightglm_distill::search::{Choice, choose};
//!
//! let kept = Choice { cost: 10, score: 0.0, keeps: true };
//! let dropped = |score| Choice { cost: 0, score, keeps: false };
//! let blocks = [vec![kept, dropped(0.4)], vec![kept, dropped(0.1)]];
//! assert_eq!(choose(&blocks, 19, 1000)?.choices, [0, 1]);
//! # Ok::<(), lightglm_distill::search::SearchError>(())
//! ```
//!
//! Source: Bercovich et al. 2024, "Puzzle: Distillation-Based NAS for Inference-Optimized LLMs" (the score of a block
//! by replacing it alone, and the sum over blocks under a budget; there by mixed-integer programming).

mod choice;
mod error;
mod knapsack;

pub use choice::{Choice, cheapest};
pub use error::SearchError;
pub use knapsack::{Chosen, choose};
