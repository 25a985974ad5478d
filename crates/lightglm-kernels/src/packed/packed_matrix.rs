//! `PackedMatrix`: a quantized matrix in the layout the kernels read, on a burn backend.
//!
//! Shapes: `N` out_features, `K` in_features, `G` groups, `P = ceil(N / 32)` panels, `S` steps of
//! columns (4 columns with 8 bits, 8 columns with 4 bits).
//!
//! ```text
//! codes  [P, S, 2, 16, 4]   panel, step, half of the panel, row of the half, byte (CodeOrder::Panels)
//! scales [P, G, 32]         panel, group, row of the panel
//! ```
//! ([`CodeOrder::Channels`] has an order of its own for both.) Of [`ScaleDtype::Nested`] `scales` and
//! `minimums` hold the units `[P, K / 256, 32]`, and the codes of a panel end with its multipliers
//! `[G, 1 or 2, 32]` in i8: of a group those of its scales, then those of its minimums.
//!
//! With 8 bits byte `j` of a row and step `s` is the code of column `4 s + j`. With 4 bits its low
//! nibble is the code of column `8 s + j`, its high nibble that of column `8 s + 4 + j`. Sixteen rows
//! times four bytes are a register of 64 bytes, whose four-byte dot products with four activations
//! are sixteen outputs. Rows and columns that fill up a panel or a step have the code `offset` (0
//! where there are minimums) and the scale 0.

use burn::module::{Module, Param};
use burn::tensor::{Bytes, DType, Int, Tensor, TensorData, backend::Backend};
use half::f16;
use lightglm_core::SliceError;

use super::channels::{ChannelLayout, pack_channels, unpack_channels};
use super::layout::{gather_panels, gather_rows, pack_codes, unpack_codes};
use super::nested::{pack_nested, unnest};
use super::scales::ScaleLayout;
use super::{ActivationFormat, CodeOrder, PackedFormat, PackingError, QuantizedMatrix, ScaleDtype};

/// Rows of a panel.
pub const PANEL_ROWS: usize = 32;

/// A projection's weight, packed once in the layout the kernels read. Its tensors may be views of a
/// mapped file.
#[derive(Module, Debug)]
pub struct PackedMatrix<B: Backend> {
    /// `[PackedSizes::codes]` of u8.
    pub codes: Param<Tensor<B, 1, Int>>,
    /// `[PackedSizes::scales]` of f16 or f32: scales, or their units.
    pub scales: Param<Tensor<B, 1>>,
    /// As `scales`; `None` for a symmetric matrix.
    pub minimums: Option<Param<Tensor<B, 1>>>,
    #[module(skip)]
    shape: [usize; 2],
    #[module(skip)]
    format: PackedFormat,
}

/// Elements of the parts of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedSizes {
    /// `P`.
    pub panels: usize,
    /// `S`.
    pub steps: usize,
    /// `G`.
    pub groups: usize,
    /// Scales of a row: `G`, or the units of [`ScaleDtype::Nested`].
    pub scales_of_row: usize,
    /// Bytes of a panel: `S * 128`, and the multipliers of [`ScaleDtype::Nested`].
    pub panel_bytes: usize,
    /// Bytes of codes: `P * panel_bytes`, or what [`CodeOrder::Channels`] takes.
    pub codes: usize,
    /// Elements of scales, and of minimums where there are any: `P * scales_of_row * 32`.
    pub scales: usize,
}

impl PackedSizes {
    /// For a matrix of `shape` (`[N, K]`) in `format`.
    pub fn new(shape: [usize; 2], format: &PackedFormat) -> Self {
        let [n, k] = shape;
        let (panels, steps) = (n.div_ceil(PANEL_ROWS), k.div_ceil(format.bits.columns_of_step()));
        let groups = format.groups(k);
        let panel_bytes = steps * PANEL_ROWS * 4 + format.multipliers_of_panel(k);
        let codes = match format.order {
            CodeOrder::Panels => panels * panel_bytes,
            CodeOrder::Channels => ChannelLayout::new(shape, format.bits).len(),
        };
        let scales = ScaleLayout::new(shape, format).len();
        let scales_of_row = format.scales_of_row(k);
        Self { panels, steps, groups, scales_of_row, panel_bytes, codes, scales }
    }
}

impl<B: Backend> PackedMatrix<B> {
    /// Packs `matrix`; scales are rounded to `scale_dtype`.
    ///
    /// # Errors
    /// [`PackingError`] where `matrix` contradicts itself or the activations' groups do not fit.
    pub fn pack(
        matrix: &QuantizedMatrix,
        scale_dtype: ScaleDtype,
        activation: ActivationFormat,
        device: &B::Device,
    ) -> Result<Self, PackingError> {
        matrix.check()?;
        check_range(matrix, scale_dtype)?;
        let format = PackedFormat {
            bits: matrix.bits,
            group_size: matrix.group_size.min(matrix.shape[1].max(1)),
            has_minimums: matrix.minimums.is_some(),
            scale_dtype,
            activation,
            order: CodeOrder::Panels,
        };
        Self::lay_out(matrix, format, device)
    }

    /// Lays out `matrix`, which `format` fits.
    fn lay_out(
        matrix: &QuantizedMatrix,
        format: PackedFormat,
        device: &B::Device,
    ) -> Result<Self, PackingError> {
        let shape = matrix.shape;
        if format.scale_dtype == ScaleDtype::Nested {
            format.check(shape[1])?;
            let (codes, scales, minimums) = pack_nested(matrix, &format)?;
            return Self::from_bytes(shape, format, codes, scales, minimums, device);
        }
        let codes = match format.order {
            CodeOrder::Panels => pack_codes(&matrix.codes, shape, &format).into_bytes(),
            CodeOrder::Channels => pack_channels(&matrix.codes, shape, &format),
        };
        let layout = ScaleLayout::new(shape, &format);
        let pack = |values: &[f32]| match format.scale_dtype {
            ScaleDtype::F16 => Bytes::from_elems(layout.pack(values, f16::from_f32)),
            _ => Bytes::from_elems(layout.pack(values, |value| value)),
        };
        let (scales, minimums) = (pack(&matrix.scales), matrix.minimums.as_deref().map(pack));
        Self::from_bytes(shape, format, codes, scales, minimums, device)
    }

    /// A matrix from parts that are packed already, which may lie in a mapped file.
    ///
    /// # Errors
    /// [`PackingError`] where the parts do not have the sizes that shape and format ask for.
    pub fn from_bytes(
        shape: [usize; 2],
        format: PackedFormat,
        codes: Bytes,
        scales: Bytes,
        minimums: Option<Bytes>,
        device: &B::Device,
    ) -> Result<Self, PackingError> {
        format.check(shape[1])?;
        let sizes = PackedSizes::new(shape, &format);
        let length = |part, expected: usize, actual: usize| match expected == actual {
            true => Ok(()),
            false => Err(PackingError::Length { part, expected, actual }),
        };
        length("codes", sizes.codes, codes.len())?;
        let scale_size = format.scale_dtype.size();
        length("scales", sizes.scales, scales.len() / scale_size)?;
        length("minimums", if format.has_minimums { sizes.scales } else { 0 }, {
            minimums.as_ref().map_or(0, |bytes| bytes.len() / scale_size)
        })?;
        let floats = |bytes: Bytes| {
            let dtype = match format.scale_dtype {
                ScaleDtype::F16 | ScaleDtype::Nested => DType::F16,
                ScaleDtype::F32 => DType::F32,
            };
            let data = TensorData { bytes, shape: [sizes.scales].into(), dtype };
            Param::from_tensor(Tensor::from_data(data, (device, dtype)))
        };
        let data = TensorData { bytes: codes, shape: [sizes.codes].into(), dtype: DType::U8 };
        Ok(Self {
            codes: Param::initialized(
                Default::default(),
                Tensor::from_data(data, (device, DType::U8)),
            ),
            scales: floats(scales),
            minimums: minimums.map(floats),
            shape,
            format,
        })
    }

    /// `[N, K]`: out_features, in_features.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// How the matrix and its activations are quantized.
    pub fn format(&self) -> &PackedFormat {
        &self.format
    }

    /// Bytes of codes, scales and minimums.
    pub fn bytes(&self) -> usize {
        let sizes = PackedSizes::new(self.shape, &self.format);
        sizes.codes + self.format.parts() * sizes.scales * self.format.scale_dtype.size()
    }

    /// The matrix in `order`: itself where it is in that order already. Its parts are read back from
    /// the device and laid out on the host. Nested scales become f32, which holds them exactly, in the
    /// order of channels.
    pub fn with_order(self, order: CodeOrder) -> Self {
        if order == self.format.order {
            return self;
        }
        let scale_dtype = match (self.format.scale_dtype, order) {
            (ScaleDtype::Nested, CodeOrder::Channels) => ScaleDtype::F32,
            (dtype, _) => dtype,
        };
        let device = self.scales.device();
        let format = PackedFormat { order, scale_dtype, ..self.format };
        let plain = self.unpack();
        drop(self);
        // Scales come from the precision that they are rounded to, so that none changes.
        Self::lay_out(&plain, format, &device).expect("the parts are of this shape and format")
    }

    /// The rows `rows`, in that order, with their codes and scales: `[rows.len(), K]`. They are read
    /// back from the device and gathered on the host.
    ///
    /// # Errors
    /// [`SliceError::Index`].
    pub fn select_rows(&self, rows: &[usize]) -> Result<Self, SliceError> {
        let [n, k] = self.shape;
        SliceError::check("output", rows, n)?;
        if self.format.order != CodeOrder::Panels {
            let panels = self.clone().with_order(CodeOrder::Panels).select_rows(rows)?;
            return Ok(panels.with_order(self.format.order));
        }
        let (device, format, shape) = (self.scales.device(), &self.format, [rows.len(), k]);
        let sizes = PackedSizes::new(shape, format);
        let codes = self.codes.val().into_data().convert::<u8>();
        let codes = gather_panels(codes.as_slice().expect("u8"), rows, &sizes, format);
        let floats = |values: &Param<Tensor<B, 1>>| {
            let data = values.val().into_data();
            let bytes = match format.scale_dtype {
                ScaleDtype::F32 => gather_rows::<4>(&data.bytes, rows, sizes.scales_of_row),
                _ => gather_rows::<2>(&data.bytes, rows, sizes.scales_of_row),
            };
            let data = TensorData { bytes, shape: [sizes.scales].into(), dtype: data.dtype };
            let dtype = data.dtype;
            Param::from_tensor(Tensor::from_data(data, (&device, dtype)))
        };
        let data = TensorData { bytes: codes, shape: [sizes.codes].into(), dtype: DType::U8 };
        let codes = Tensor::from_data(data, (&device, DType::U8));
        Ok(Self {
            codes: Param::initialized(Default::default(), codes),
            scales: floats(&self.scales),
            minimums: self.minimums.as_ref().map(floats),
            shape,
            format: self.format,
        })
    }

    /// Codes `[N, K]` of codes in the matrix's order.
    fn plain_codes(&self, codes: &[u8]) -> Vec<u8> {
        match self.format.order {
            CodeOrder::Panels => unpack_codes(codes, self.shape, &self.format),
            CodeOrder::Channels => unpack_channels(codes, self.shape, &self.format),
        }
    }

    /// The matrix in plain order, read back from the device.
    pub fn unpack(&self) -> QuantizedMatrix {
        let packed = self.codes.val().into_data().convert::<u8>();
        let packed = packed.as_slice::<u8>().expect("u8");
        let codes = self.plain_codes(packed);
        let layout = ScaleLayout::new(self.shape, &self.format);
        let floats = |part: usize, values: &Param<Tensor<B, 1>>| {
            let values = values.val().into_data().convert::<f32>();
            let values = layout.unpack(values.as_slice::<f32>().expect("f32"), self.shape[0]);
            match self.format.scale_dtype {
                ScaleDtype::Nested => unnest(&values, packed, part, self.shape, &self.format),
                _ => values,
            }
        };
        QuantizedMatrix {
            shape: self.shape,
            bits: self.format.bits,
            group_size: self.format.group_size,
            codes,
            scales: floats(0, &self.scales),
            minimums: self.minimums.as_ref().map(|values| floats(1, values)),
        }
    }
}

/// Whether scales and minimums stay finite in `dtype`.
fn check_range(matrix: &QuantizedMatrix, dtype: ScaleDtype) -> Result<(), PackingError> {
    if dtype != ScaleDtype::F16 {
        return Ok(());
    }
    let groups = matrix.groups().max(1);
    let parts = [("scales", Some(&matrix.scales)), ("minimums", matrix.minimums.as_ref())];
    for (part, values) in parts {
        let too_large = |value: &f32| f16::from_f32(*value).is_infinite();
        if let Some(at) = values.and_then(|values| values.iter().position(too_large)) {
            return Err(PackingError::NotFinite { part, row: at / groups });
        }
    }
    Ok(())
}
