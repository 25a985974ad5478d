//! Backward passes of the decoder's operations, and the optimizer's step.
//!
//! Shapes: `T` tokens, `D` hidden_size, `F` intermediate_size, `H` query heads, `Kh` kv heads, `d`
//! head_dim, `R` labelled rows, `V` vocab_size. Sums over rows have an order of their own, which does
//! not depend on the number of threads.

mod adamw;
mod attention;
mod cross_entropy;
mod norm;
mod row_losses;
mod swiglu;

pub use adamw::{adamw, sum_of_squares};
pub use attention::attention_backward;
pub use cross_entropy::{cross_entropy, cross_entropy_backward};
pub use norm::rms_norm_backward;
pub use row_losses::{row_losses, row_losses_backward};
pub use swiglu::swiglu_backward;

use super::scratch::Shared;

/// `len` elements from `start` on of what `out` points to.
///
/// # Safety
/// They lie inside of the slice that the pointer was made from, and nobody else touches them while
/// the result lives.
unsafe fn piece<'a>(out: Shared<f32>, start: usize, len: usize) -> &'a mut [f32] {
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts_mut(out.get().add(start), len) }
}
