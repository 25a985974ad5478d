//! The layouts of GPTQ and AWQ folders: `quant_method` `gptq` (AutoGPTQ, GPTQModel) and `awq` with
//! `version` `gemm` (AutoAWQ).
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups of a row, `b` bits of a code, `p = 32 / b`.
//!
//! ```text
//! gptq   qweight  I32 [K / p, N]   codes of neighbouring inputs, lowest bits first
//!        qzeros   I32 [G, N / p]   zero points of neighbouring outputs, lowest bits first; from each word is
//!                                  taken off 1 a zero point (checkpoint_format gptq_v2: nothing)
//!        scales       [G, N]
//!        g_idx    I32 [K]          the group of an input, k / group_size unless desc_act put it elsewhere
//! awq    qweight  I32 [K, N / p]   codes of neighbouring outputs in the order 0 2 4 6 1 3 5 7
//!        qzeros   I32 [G, N / p]   likewise
//!        scales       [G, N]
//! w = (code - zero_point) * scale
//! ```
//! Our codes are the file's, row by row. A zero point becomes the minimum `-zero * scale`, which is exact for
//! 16-bit scales, as is `code * scale + minimum`: nothing is rounded, while the programs above round each
//! weight to 16 bits. A symmetric GPTQ layer has no minimums; that its zero points are in the middle is
//! checked.
//!
//! That 1 is added to the word as a whole, as GPTQModel takes it off: where a zero point is 0, one that is added
//! to each by itself, as some kernels do, gives another.
//!
//! Source: AutoGPTQ 0.7.1, `nn_modules/qlinear/qlinear_cuda.py`; GPTQModel 4, `utils/model.py`
//! (`convert_gptq_v1_to_v2_format`); AutoAWQ 0.2.9, `modules/linear/gemm.py` and `utils/packing_utils.py`.

mod checkpoint;
mod config;
mod words;

pub use checkpoint::GptqAwqCheckpoint;
pub use config::{GptqAwqConfig, WordLayout};
