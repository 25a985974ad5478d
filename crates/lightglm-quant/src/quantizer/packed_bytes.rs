//! `PackedBytes`: a packed matrix in the host's memory.
//!
//! Panels of 32 rows follow each other in codes and in scales, so blocks of whole panels are packed
//! by themselves and put behind each other.

use std::ops::Range;

use burn::tensor::{Bytes, Tensor, backend::Backend};
use burn_flex::{Flex, FlexDevice};
use lightglm_kernels::{
    CodeOrder, PANEL_ROWS, PackedFormat, PackedMatrix, PackedSizes, PackingError, Pages,
    QuantizedMatrix,
};
use rayon::prelude::*;

use crate::QuantError;

/// Weights of a block: a megabyte of codes, a few of f32.
const BLOCK: usize = 1 << 20;

/// A packed matrix's parts, little-endian, in the layout of [`PackedMatrix`].
#[derive(Clone, Debug, PartialEq)]
pub struct PackedBytes {
    /// `[N, K]`.
    pub shape: [usize; 2],
    /// How it is packed.
    pub format: PackedFormat,
    /// [`PackedSizes::codes`] bytes.
    pub codes: Pages,
    /// [`PackedSizes::scales`] elements of the format's precision.
    pub scales: Pages,
    /// As `scales`.
    pub minimums: Option<Pages>,
}

impl PackedBytes {
    /// Packs `matrix` in `format`, whose bits, groups and minimums it has.
    ///
    /// # Errors
    /// [`PackingError`] where the matrix contradicts itself or the format, or the format's order is not
    /// that of panels.
    pub fn pack(matrix: &QuantizedMatrix, format: PackedFormat) -> Result<Self, PackingError> {
        matrix.check()?;
        let (k, groups) = (matrix.shape[1], matrix.groups());
        let packed = Self::from_rows("", matrix.shape, format, &|rows| {
            let floats =
                |values: &Vec<f32>| values[rows.start * groups..rows.end * groups].to_vec();
            Ok(QuantizedMatrix {
                shape: [rows.len(), k],
                bits: matrix.bits,
                group_size: matrix.group_size,
                codes: matrix.codes[rows.start * k..rows.end * k].to_vec(),
                scales: floats(&matrix.scales),
                minimums: matrix.minimums.as_ref().map(floats),
            })
        });
        packed.map_err(|error| match error {
            QuantError::Layer { source, .. } => source,
            other => unreachable!("rows are copied, which cannot fail: {other}"),
        })
    }

    /// Packs the matrix whose rows `block` makes, a few panels at a time and on several threads.
    ///
    /// # Errors
    /// What `block` returns, that of the first rows where several fail; [`QuantError::Layer`] with
    /// `name`.
    pub(super) fn from_rows(
        name: &str,
        shape: [usize; 2],
        format: PackedFormat,
        block: &(dyn Fn(Range<usize>) -> Result<QuantizedMatrix, QuantError> + Sync),
    ) -> Result<Self, QuantError> {
        let misfit = |source| QuantError::Layer { name: name.to_owned(), source };
        format.check(shape[1]).map_err(misfit)?;
        if format.order != CodeOrder::Panels {
            return Err(misfit(PackingError::Order));
        }
        let sizes = PackedSizes::new(shape, &format);
        let panels = (BLOCK / (PANEL_ROWS * shape[1].max(1))).max(1);
        let codes_of_block = (panels * sizes.panel_bytes).max(1);
        let scale_size = format.scale_dtype.size();
        let scales_of_block = (panels * sizes.scales_of_row * PANEL_ROWS * scale_size).max(1);
        let mut codes = Pages::zeroed(sizes.codes);
        let mut scales = Pages::zeroed(sizes.scales * scale_size);
        let mut minimums = Pages::zeroed(if format.has_minimums { scales.len() } else { 0 });
        let blocks = sizes.panels.div_ceil(panels);
        let mut parts_of_minimums: Vec<&mut [u8]> = match format.has_minimums {
            true => minimums.chunks_mut(scales_of_block).collect(),
            false => (0..blocks).map(|_| <&mut [u8]>::default()).collect(),
        };
        let failures: Vec<Result<(), QuantError>> = codes
            .par_chunks_mut(codes_of_block)
            .zip(scales.par_chunks_mut(scales_of_block))
            .zip(parts_of_minimums.par_iter_mut())
            .enumerate()
            .map(|(index, ((codes, scales), minimums))| {
                let first = index * panels * PANEL_ROWS;
                let matrix = block(first..(first + panels * PANEL_ROWS).min(shape[0]))?;
                let packed = PackedMatrix::<Flex>::pack(
                    &matrix,
                    format.scale_dtype,
                    format.activation,
                    &FlexDevice,
                );
                let packed = packed.map_err(misfit)?;
                codes.copy_from_slice(&packed.codes.val().into_data().bytes);
                scales.copy_from_slice(&floats(packed.scales.val()));
                if let Some(values) = packed.minimums {
                    minimums.copy_from_slice(&floats(values.val()));
                }
                Ok(())
            })
            .collect();
        failures.into_iter().collect::<Result<(), _>>()?;
        let minimums = format.has_minimums.then_some(minimums);
        Ok(Self { shape, format, codes, scales, minimums })
    }

    /// The matrix on `device`; on the CPU without a copy.
    ///
    /// # Errors
    /// [`PackingError`] where the parts do not have the sizes that shape and format ask for.
    pub fn into_matrix<B: Backend>(
        self,
        device: &B::Device,
    ) -> Result<PackedMatrix<B>, PackingError> {
        PackedMatrix::from_bytes(
            self.shape,
            self.format,
            self.codes.into_bytes(),
            self.scales.into_bytes(),
            self.minimums.map(Pages::into_bytes),
            device,
        )
    }
}

/// The elements' bytes as they are stored.
fn floats(values: Tensor<Flex, 1>) -> Bytes {
    values.into_data().bytes
}
