//! burn-flex: the CPU backend, with our kernels behind the extension.
//!
//! Tensors are opened as slices; weights and KV pools are read where they lie (the mapped file, the
//! pool), and a pool or a rotated activation that nobody else holds is edited in place.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Bytes, DType, Int, Tensor, TensorData, TensorPrimitive};
use burn_flex::{Flex, FlexDevice, FlexTensor};
use half::{bf16, f16};
use lightglm_core::{FloatKvLayer, Int8KvLayer, KV_BLOCK, KvLayer};

use crate::cpu::{
    self, AttentionShape, AttentionSpan, Int8Pool, Int8PoolMut, KvSlice, KvSliceMut, PackedWeights,
    PageSelection, Scales, Weights,
};
use crate::extension::LmBackend;
use crate::packed::{self, PackedMatrix};
use crate::reference;
use crate::row_loss::RowLoss;

impl LmBackend for Flex {
    fn embed(weight: Tensor<Self, 2>, ids: &[u32]) -> Tensor<Self, 2> {
        let [_, d] = weight.dims();
        let mut out = vec![0.0; ids.len() * d];
        let weight = contiguous(weight);
        match weights(&weight) {
            Some(weight) => cpu::gather_rows(weight, d, ids, &mut out),
            None => return reference::embed(tensor_of(weight), ids),
        }
        from_vec(out, [ids.len(), d])
    }

    fn project(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let ([t, _], [n, k]) = (x.dims(), weight.dims());
        let (x, weight) = (contiguous(x), contiguous(weight));
        let bias = bias.map(contiguous);
        let (Some(rows), Some(matrix)) = (x.as_slice::<f32>(), weights(&weight)) else {
            return reference::project(tensor_of(x), tensor_of(weight), bias.map(tensor_of));
        };
        let mut y = vec![0.0; t * n];
        cpu::linear(rows, matrix, [n, k], bias.as_ref().map(floats), &mut y);
        from_vec(y, [t, n])
    }

    fn project_channels(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 3>,
        out_features: usize,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let ([t, _], [tiles, k, rows]) = (x.dims(), weight.dims());
        let (x, weight) = (contiguous(x), contiguous(weight));
        let bias = bias.map(contiguous);
        let laid_out = rows > 0
            && rows.is_multiple_of(cpu::CHANNEL_TILE_STEP)
            && tiles == out_features.div_ceil(rows);
        let (Some(floats_of_x), Some(matrix), true) =
            (x.as_slice::<f32>(), weights(&weight), laid_out)
        else {
            let (x, weight, bias) = (tensor_of(x), tensor_of(weight), bias.map(tensor_of));
            return reference::project_channels(x, weight, out_features, bias);
        };
        let mut y = vec![0.0; t * out_features];
        let bias = bias.as_ref().map(floats);
        cpu::linear_channels(floats_of_x, matrix, [out_features, k], rows, bias, &mut y);
        from_vec(y, [t, out_features])
    }

    fn embed_packed(weight: &PackedMatrix<Self>, ids: &[u32]) -> Tensor<Self, 2> {
        let [_, d] = weight.shape();
        let mut out = vec![0.0; ids.len() * d];
        let parts = PackedParts::new(weight);
        match parts.view(weight) {
            Some(weight) => cpu::gather_packed_rows(&weight, ids, &mut out),
            None => return packed::reference::embed_packed(weight, ids),
        }
        from_vec(out, [ids.len(), d])
    }

    fn project_packed(
        x: Tensor<Self, 2>,
        weight: &PackedMatrix<Self>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let ([t, _], [n, _]) = (x.dims(), weight.shape());
        let (x, bias) = (contiguous(x), bias.map(contiguous));
        let parts = PackedParts::new(weight);
        let (Some(rows), Some(matrix)) = (x.as_slice::<f32>(), parts.view(weight)) else {
            let (x, bias) = (tensor_of(x), bias.map(tensor_of));
            return packed::reference::project_packed(x, weight, bias);
        };
        let mut y = vec![0.0; t * n];
        cpu::linear_packed(rows, &matrix, bias.as_ref().map(floats), &mut y);
        from_vec(y, [t, n])
    }

    fn rms_norm(x: Tensor<Self, 2>, weight: Tensor<Self, 1>, eps: f32) -> Tensor<Self, 2> {
        let shape = x.dims();
        let (x, weight) = (contiguous(x), contiguous(weight));
        let mut y = vec![0.0; shape[0] * shape[1]];
        cpu::rms_norm(floats(&x), floats(&weight), eps, &mut y);
        from_vec(y, shape)
    }

    fn rms_norm_add(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        eps: f32,
        residual: Tensor<Self, 2>,
    ) -> Tensor<Self, 2> {
        let shape = x.dims();
        let (x, weight, residual) = (contiguous(x), contiguous(weight), contiguous(residual));
        let mut y = vec![0.0; shape[0] * shape[1]];
        cpu::rms_norm_add(floats(&x), floats(&weight), eps, floats(&residual), &mut y);
        from_vec(y, shape)
    }

    fn swiglu(gate_up: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let [t, two_f] = gate_up.dims();
        let gate_up = contiguous(gate_up);
        let mut y = vec![0.0; t * (two_f / 2)];
        cpu::swiglu(floats(&gate_up), two_f / 2, &mut y);
        from_vec(y, [t, two_f / 2])
    }

    fn keep_large(x: Tensor<Self, 2>, threshold: f32) -> Tensor<Self, 2> {
        let shape = x.dims();
        let x = contiguous(x);
        let keep = |&x: &f32| if x.abs() < threshold { 0.0 } else { x };
        from_vec(floats(&x).iter().map(keep).collect(), shape)
    }

    fn rotary(
        x: Tensor<Self, 2>,
        cos: Tensor<Self, 2>,
        sin: Tensor<Self, 2>,
        head_dim: usize,
    ) -> Tensor<Self, 2> {
        let ([_, width], [_, pairs]) = (x.dims(), cos.dims());
        let mut x = contiguous(x).to_contiguous();
        let (cos, sin) = (contiguous(cos), contiguous(sin));
        let heads = width / head_dim;
        let (cos, sin) = (floats(&cos), floats(&sin));
        cpu::rotary(x.storage_mut::<f32>(), heads, head_dim, 2 * pairs, cos, sin);
        tensor_of(x)
    }

    fn attend(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 2>,
        v: Tensor<Self, 2>,
        shape: AttentionShape,
        spans: &[AttentionSpan<'_>],
    ) -> Tensor<Self, 2> {
        // The spans as fresh sequences of a cache that lives for this call.
        let tables = fresh_tables(spans);
        let spans: Vec<_> = spans
            .iter()
            .zip(&tables)
            .map(|(span, table)| AttentionSpan { past: 0, block_table: table, ..*span })
            .collect();
        let (g, d) = (shape.kv_heads, shape.head_dim);
        let blocks = tables.iter().map(Vec::len).sum();
        let layer = FloatKvLayer::zeros([blocks, g, d], DType::F32, &FlexDevice);
        Self::attend_cached(q, k, v, &mut KvLayer::Float(layer), shape, &spans)
    }

    fn attend_segments(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 2>,
        v: Tensor<Self, 2>,
        shape: AttentionShape,
        segments: &[Range<usize>],
    ) -> Tensor<Self, 2> {
        let out_shape = q.dims();
        let (q, k, v) = (contiguous(q), contiguous(k), contiguous(v));
        let out = cpu::attend_segments([floats(&q), floats(&k), floats(&v)], segments, shape);
        from_vec(out, out_shape)
    }

    fn layer_norm(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 1>,
        bias: Tensor<Self, 1>,
        eps: f32,
    ) -> Tensor<Self, 2> {
        let (mut x, weight, bias) =
            (contiguous(x).to_contiguous(), contiguous(weight), contiguous(bias));
        cpu::layer_norm(x.storage_mut::<f32>(), None, floats(&weight), floats(&bias), eps);
        tensor_of(x)
    }

    fn gelu(x: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let mut x = contiguous(x).to_contiguous();
        cpu::activate(x.storage_mut::<f32>(), cpu::Activation::Gelu);
        tensor_of(x)
    }

    fn cross_entropy(logits: Tensor<Self, 2>, targets: &[u32]) -> Tensor<Self, 1> {
        let logits = contiguous(logits);
        let mut losses = vec![0.0; targets.len()];
        cpu::cross_entropy(floats(&logits), targets, &mut losses);
        from_vec(losses, [targets.len()])
    }

    fn row_losses(logits: Tensor<Self, 2>, loss: &Arc<dyn RowLoss>) -> Tensor<Self, 1> {
        let [rows, _] = logits.dims();
        let (logits, mut losses) = (contiguous(logits), vec![0.0; rows]);
        cpu::row_losses(floats(&logits), &**loss, &mut losses);
        from_vec(losses, [rows])
    }

    fn attend_cached(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 2>,
        v: Tensor<Self, 2>,
        layer: &mut KvLayer<Self>,
        shape: AttentionShape,
        spans: &[AttentionSpan<'_>],
    ) -> Tensor<Self, 2> {
        let out_shape = q.dims();
        let (q, k, v) = (contiguous(q), contiguous(k), contiguous(v));
        let mut out = vec![0.0; out_shape[0] * out_shape[1]];
        let (q, k, v) = (floats(&q), floats(&k), floats(&v));
        let all = PageSelection::default();
        attend_pool(q, k, v, layer, shape, spans, &all, &mut out);
        from_vec(out, out_shape)
    }
}

/// Appends to a pool and attends to its pages in `pages`, or to those that its bounds select.
#[expect(clippy::too_many_arguments, reason = "those of attend_cached, and the pages")]
fn attend_pool(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    layer: &mut KvLayer<Flex>,
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
    pages: &PageSelection,
    out: &mut [f32],
) {
    match layer {
        KvLayer::Float(layer) => attend_floats(q, k, v, layer, shape, spans, pages, out),
        KvLayer::Int8(layer) => attend_int8(q, k, v, layer, shape, spans, pages, out),
        KvLayer::Selected(layer) => {
            let mut bounds = take(&mut layer.bounds);
            cpu::extend_bounds(k, shape, spans, bounds.storage_mut());
            let pages = cpu::select_pages(q, shape, spans, bounds.storage(), layer.budget);
            layer.bounds = tensor_of(bounds);
            attend_pool(q, k, v, &mut layer.pool, shape, spans, &pages, out);
        }
    }
}

/// Appends to a pool of numbers and attends to it.
#[expect(clippy::too_many_arguments, reason = "those of attend_cached, and the pages")]
fn attend_floats(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    layer: &mut FloatKvLayer<Flex>,
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
    pages: &PageSelection,
    out: &mut [f32],
) {
    let mut keys = take(&mut layer.keys);
    let mut values = take(&mut layer.values);
    cpu::append_kv(k, v, shape, spans, pool_mut(&mut keys), pool_mut(&mut values));
    let scale = 1.0 / (shape.head_dim as f32).sqrt();
    cpu::attention_pages(q, shape, scale, spans, pages, pool(&keys), pool(&values), out);
    (layer.keys, layer.values) = (tensor_of(keys), tensor_of(values));
}

/// Appends to a pool of codes and attends to it.
#[expect(clippy::too_many_arguments, reason = "those of attend_cached, and the pages")]
fn attend_int8(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    layer: &mut Int8KvLayer<Flex>,
    shape: AttentionShape,
    spans: &[AttentionSpan<'_>],
    pages: &PageSelection,
    out: &mut [f32],
) {
    let rotate_keys = layer.rotate_keys;
    let mut key_codes = take_codes(&mut layer.key_codes);
    let mut value_codes = take_codes(&mut layer.value_codes);
    let mut key_scales = take(&mut layer.key_scales);
    let mut value_scales = take(&mut layer.value_scales);
    let pool = Int8PoolMut {
        key_codes: key_codes.storage_mut(),
        key_scales: key_scales.storage_mut(),
        value_codes: value_codes.storage_mut(),
        value_scales: value_scales.storage_mut(),
        rotate_keys,
    };
    cpu::append_kv_int8(k, v, shape, spans, pool);
    let pool = Int8Pool {
        key_codes: key_codes.storage(),
        key_scales: key_scales.storage(),
        value_codes: value_codes.storage(),
        value_scales: value_scales.storage(),
        rotate_keys,
    };
    let scale = 1.0 / (shape.head_dim as f32).sqrt();
    cpu::attention_int8_pages(q, shape, scale, spans, pages, pool, out);
    *layer = Int8KvLayer {
        key_codes: Tensor::from_primitive(key_codes),
        key_scales: tensor_of(key_scales),
        value_codes: Tensor::from_primitive(value_codes),
        value_scales: tensor_of(value_scales),
        rotate_keys,
    };
}

fn fresh_tables(spans: &[AttentionSpan<'_>]) -> Vec<Vec<u32>> {
    let mut next = 0;
    let table = |span: &AttentionSpan<'_>| {
        let first = next;
        next += span.rows.div_ceil(KV_BLOCK) as u32;
        (first..next).collect()
    };
    spans.iter().map(table).collect()
}

/// The tensor's storage, row-major and without an offset; free where it is so already.
pub(crate) fn contiguous<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    let x = x.into_primitive().tensor();
    if x.is_contiguous() && x.layout().start_offset() == 0 { x } else { x.to_contiguous() }
}

pub(crate) fn tensor_of<const D: usize>(x: FlexTensor) -> Tensor<Flex, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

pub(crate) fn from_vec<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<Flex, D> {
    let data =
        TensorData { bytes: Bytes::from_elems(values), shape: shape.into(), dtype: DType::F32 };
    tensor_of(FlexTensor::from_data(data))
}

/// Leaves an empty tensor behind, so that the taken one has a single owner and is edited in place.
pub(crate) fn take<const D: usize>(x: &mut Tensor<Flex, D>) -> FlexTensor {
    let empty = from_vec(Vec::new(), [0; D]);
    contiguous(std::mem::replace(x, empty)).to_contiguous()
}

/// [`take`] of a pool's codes.
fn take_codes(x: &mut Tensor<Flex, 5, Int>) -> FlexTensor {
    let empty = Tensor::zeros([0; 5], (&FlexDevice, DType::I8));
    let codes = std::mem::replace(x, empty).into_primitive();
    let whole = codes.is_contiguous() && codes.layout().start_offset() == 0;
    if whole { codes } else { codes.to_contiguous() }
}

/// An f32 activation. Activations are f32 by contract; a f64 default backend does not exist here.
pub(crate) fn floats(x: &FlexTensor) -> &[f32] {
    x.as_slice::<f32>().expect("activations, norms and biases are contiguous f32")
}

pub(crate) fn weights(x: &FlexTensor) -> Option<Weights<'_>> {
    match x.dtype() {
        DType::F32 => x.as_slice::<f32>().map(Weights::F32),
        DType::F16 => x.as_slice::<f16>().map(Weights::F16),
        DType::BF16 => x.as_slice::<bf16>().map(Weights::Bf16),
        _ => None,
    }
}

/// The tensors of a packed matrix, held while it is read.
pub(crate) struct PackedParts {
    codes: FlexTensor,
    scales: FlexTensor,
    minimums: Option<FlexTensor>,
}

impl PackedParts {
    pub(crate) fn new(weight: &PackedMatrix<Flex>) -> Self {
        Self {
            codes: weight.codes.val().into_primitive(),
            scales: contiguous(weight.scales.val()),
            minimums: weight.minimums.as_ref().map(|minimums| contiguous(minimums.val())),
        }
    }

    /// `None` where the tensors have been cast to types that the format does not name.
    pub(crate) fn view(&self, weight: &PackedMatrix<Flex>) -> Option<PackedWeights<'_>> {
        Some(PackedWeights {
            shape: weight.shape(),
            format: *weight.format(),
            codes: self.codes.as_slice::<u8>()?,
            scales: scales(&self.scales)?,
            minimums: match &self.minimums {
                None => None,
                Some(minimums) => Some(scales(minimums)?),
            },
        })
    }
}

fn scales(x: &FlexTensor) -> Option<Scales<'_>> {
    match x.dtype() {
        DType::F32 => x.as_slice::<f32>().map(Scales::F32),
        DType::F16 => x.as_slice::<f16>().map(Scales::F16),
        _ => None,
    }
}

fn pool(x: &FlexTensor) -> KvSlice<'_> {
    match x.dtype() {
        DType::F16 => KvSlice::F16(x.storage()),
        DType::BF16 => KvSlice::Bf16(x.storage()),
        _ => KvSlice::F32(x.storage()),
    }
}

fn pool_mut(x: &mut FlexTensor) -> KvSliceMut<'_> {
    match x.dtype() {
        DType::F16 => KvSliceMut::F16(x.storage_mut()),
        DType::BF16 => KvSliceMut::Bf16(x.storage_mut()),
        _ => KvSliceMut::F32(x.storage_mut()),
    }
}
