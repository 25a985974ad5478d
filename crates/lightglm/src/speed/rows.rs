//! `RowSpeed`: forward passes of so many rows, beside the two roofs of the machine.

use lightglm_kernels::LmBackend;
use lightglm_kernels::cpu::roofs::{ReadStream, f32_fma_gflops, int8_dot_gops};

use super::costs::{kv_bytes_read, prefill_flops};
use super::workload::{Subject, median};
use crate::error::Error;
use crate::progress::ProgressSink;

/// Bytes read after each pass to measure the bandwidth.
const ROOF_BYTES: usize = 128 << 20;
/// Passes of fewer rows than this are repeated until they have as many together.
const ROWS_TOGETHER: usize = 8;

/// How fast a forward pass of some rows is: the tokens of one sequence that has none yet, logits of the
/// last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowSpeed {
    /// Tokens of the pass.
    pub rows: usize,
    /// Tokens that it takes a second.
    pub tokens_per_s: f64,
    /// Of the read bandwidth: every weight once, keys and values.
    pub fraction_of_bandwidth: f64,
    /// Of the peak of the model's multiplications: int8 dot products for models that multiply integers,
    /// f32 multiply-adds for others.
    pub fraction_of_peak: f64,
}

impl<B: LmBackend> Subject<B> {
    /// Times passes of as many rows as each of `rows` says, in turns, with `threads` threads; the median
    /// of `repetitions` turns counts.
    ///
    /// # Errors
    /// [`Error::Option`] for repetitions or rows of 0; as [`Subject::measure`] otherwise.
    pub fn measure_rows(
        &self,
        rows: &[usize],
        repetitions: usize,
        threads: usize,
        progress: &ProgressSink,
    ) -> Result<Vec<RowSpeed>, Error> {
        if repetitions == 0 || rows.contains(&0) {
            let reason = "rows and repetitions must be at least 1".to_owned();
            return Err(Error::Option { option: "rows", reason });
        }
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let stream = ReadStream::new(ROOF_BYTES);
        let mut seconds = vec![Vec::new(); rows.len()];
        let (mut bandwidths, mut peaks) = (Vec::new(), Vec::new());
        for turn in 0..repetitions {
            for (&rows, seconds) in rows.iter().zip(&mut seconds) {
                if turn == 0 {
                    // Once to warm up.
                    self.prefill(rows)?;
                }
                for _ in 0..ROWS_TOGETHER.div_ceil(rows) {
                    seconds.push(self.prefill(rows)?);
                    bandwidths.push(stream.size_in_bytes() as f64 / stream.read());
                }
            }
            peaks.push(match self.loaded.integer {
                true => int8_dot_gops(threads),
                false => f32_fma_gflops(threads),
            });
            progress.working("measuring rows", turn as u64 + 1, repetitions as u64)?;
        }
        let (bandwidth, peak) = (median(bandwidths), median(peaks) * 1e9);
        let speed = |(&rows, seconds)| {
            let (seconds, skipped) =
                (median(seconds), if rows == 1 { self.skipped_bytes } else { 0 });
            // Each weight once, and the keys and values that the last row reads.
            let weights = self.loaded.model.bytes_read(rows) - skipped;
            let kv = kv_bytes_read(&self.config, self.kv_dtype, None, rows);
            RowSpeed {
                rows,
                tokens_per_s: rows as f64 / seconds,
                fraction_of_bandwidth: (weights + kv) as f64 / seconds / bandwidth,
                fraction_of_peak: prefill_flops(&self.config, rows) / seconds / peak,
            }
        };
        Ok(rows.iter().zip(seconds).map(speed).collect())
    }
}
