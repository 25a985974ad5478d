//! `VisionTower`: a vision transformer over the patches of a picture.
//!
//! Shapes: `N` patches of one picture in merge-block order, `K` values of a patch, `D` hidden_size, `H` heads, `d` head_dim,
//! `m` patches of a side that become one row, `O` out_hidden_size.

use std::convert::Infallible;
use std::ops::ControlFlow;

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use lightglm_core::{FeedForward, Linear};
use lightglm_kernels::{AttentionShape, LmBackend};
use lightglm_model::decoder::{DenseLinear, LayerNorm, RmsNorm, SwiGlu};

use crate::position_table::{self, Grid};

/// A tower with projections `L`.
///
/// ```text
/// x = norm(embed(patches)) + table(position)      GLM-4.1V; GLM-OCR has neither norm nor table
/// x = x + proj(attention(rotate(qkv(norm1(x)))));  x = x + mlp(norm2(x))               block after block
/// y = merger(downsample(m x m rows of norm(x)))
/// ```
///
/// Source: transformers 5.23.0, `modeling_glm4v.py` `Glm4vVisionModel`, `modeling_glm_ocr.py` `GlmOcrVisionModel`.
#[derive(Module, Debug)]
pub struct VisionTower<B: Backend, L: Module<B>> {
    /// `[D, K]`.
    pub patch_embed: L,
    /// Behind the embedding of patches (GLM-4.1V).
    pub post_conv_layernorm: Option<RmsNorm<B>>,
    /// Of a square of positions, `[side side, D]` (GLM-4.1V).
    pub position_embedding: Option<Param<Tensor<B, 2>>>,
    /// The blocks.
    pub blocks: Vec<TowerBlock<B, L>>,
    /// Behind the last one.
    pub post_layernorm: RmsNorm<B>,
    /// `[O, D m m]`.
    pub downsample: L,
    /// From what comes out of it to the decoder.
    pub merger: Merger<B, L>,
    /// `m`.
    pub spatial_merge_size: usize,
    /// The base of the rotary embedding.
    pub rope_theta: f64,
}

/// A tower with weights in their stored precision.
pub type DenseTower<B> = VisionTower<B, DenseLinear<B>>;

/// One block of a tower.
#[derive(Module, Debug)]
pub struct TowerBlock<B: Backend, L: Module<B>> {
    /// Before attention.
    pub norm1: RmsNorm<B>,
    /// Of all patches to all.
    pub attn: VisionAttention<B, L>,
    /// Before the feed-forward part.
    pub norm2: RmsNorm<B>,
    /// The feed-forward part.
    pub mlp: SwiGlu<B, L>,
}

/// Projections around attention.
#[derive(Module, Debug)]
pub struct VisionAttention<B: Backend, L: Module<B>> {
    /// `[3 D, D]`: q's rows, k's, v's.
    pub qkv: L,
    /// `[D, D]`.
    pub proj: L,
    /// Of each head of q, `[d]` (GLM-OCR).
    pub q_norm: Option<RmsNorm<B>>,
    /// Of each head of k.
    pub k_norm: Option<RmsNorm<B>>,
    /// `H`.
    pub num_heads: usize,
    /// `d`.
    pub head_dim: usize,
}

/// From the tower's rows to the decoder's.
#[derive(Module, Debug)]
pub struct Merger<B: Backend, L: Module<B>> {
    /// `[O, O]`.
    pub proj: L,
    /// Behind it, and before a GELU.
    pub post_projection_norm: LayerNorm<B>,
    /// The feed-forward part.
    pub mlp: SwiGlu<B, L>,
}

/// A place in the tower, for [`VisionTower::forward_with_hook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Site {
    /// Embedded patches, `[N, D]`.
    PatchEmbed,
    /// Behind their norm.
    PostConvNorm,
    /// What enters the first block.
    Positioned,
    /// Behind a block.
    Block(usize),
    /// Behind the last norm.
    PostNorm,
    /// Merged rows, `[N / m m, O]`.
    Downsample,
}

impl<B: LmBackend, L: Linear<B>> VisionTower<B, L> {
    /// The rows of one picture: `patches: [N, K] -> [N / m m, O]`; `rows` and `columns` of patches make `N`. `None`
    /// where `between`, which is called between blocks, breaks off.
    pub fn forward(
        &self,
        patches: Tensor<B, 2>,
        grid: (usize, usize),
        between: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Option<Tensor<B, 2>> {
        self.forward_with_hook(patches, grid, between, &mut |_, _| {})
    }

    /// [`Self::forward`], with every [`Site`] shown to `hook`.
    pub fn forward_with_hook(
        &self,
        patches: Tensor<B, 2>,
        (rows, columns): (usize, usize),
        between: &mut dyn FnMut() -> ControlFlow<()>,
        hook: &mut dyn FnMut(Site, &Tensor<B, 2>),
    ) -> Option<Tensor<B, 2>> {
        let m = self.spatial_merge_size;
        let grid = Grid { rows, columns, merge: m };
        let device = patches.device();
        let mut x = self.patch_embed.forward(patches);
        hook(Site::PatchEmbed, &x);
        if let Some(norm) = &self.post_conv_layernorm {
            x = norm.forward(x);
            hook(Site::PostConvNorm, &x);
        }
        if let Some(table) = &self.position_embedding {
            x = x + position_table::sample(table.val(), grid);
        }
        hook(Site::Positioned, &x);
        let (cos, sin) = self.rotary(grid, &device);
        for (index, block) in self.blocks.iter().enumerate() {
            if between().is_break() {
                return None;
            }
            x = block.forward(x, &cos, &sin);
            hook(Site::Block(index), &x);
        }
        let x = self.post_layernorm.forward(x);
        hook(Site::PostNorm, &x);
        // A convolution's kernel has the colours first.
        let [n, d] = x.dims();
        let x = x.reshape([n / (m * m), m * m, d]).swap_dims(1, 2);
        let x = self.downsample.forward(x.reshape([n / (m * m), d * m * m]));
        hook(Site::Downsample, &x);
        Some(self.merger.forward(x))
    }

    /// `(cos, sin)`, each `[N, d / 2]`: the first half of the frequencies turns by a patch's row, the other by its
    /// column.
    fn rotary(&self, grid: Grid, device: &B::Device) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let head_dim = self.blocks.first().map_or(4, |block| block.attn.head_dim);
        let quarter = head_dim / 4;
        let frequency = |i: usize| {
            let exponent = (2 * i) as f32 / (head_dim / 2) as f32;
            1.0 / (self.rope_theta.powf(f64::from(exponent)) as f32)
        };
        let frequencies: Vec<f32> = (0..quarter).map(frequency).collect();
        let angles = grid.places().flat_map(|(row, column)| {
            let of = |at: usize| frequencies.iter().map(move |frequency| at as f32 * frequency);
            of(row).chain(of(column)).collect::<Vec<_>>()
        });
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(f32::sin_cos).unzip();
        let shape = [grid.rows * grid.columns, 2 * quarter];
        let tensor = |values| Tensor::from_data(TensorData::new(values, shape), device);
        (tensor(cos), tensor(sin))
    }

    /// Replaces every projection, given its name in a checkpoint without `.weight`: `model.visual.blocks.3.attn.qkv`.
    /// Gate and up are one projection, `gate_up_proj`.
    pub fn map_linears<M: Linear<B>>(self, mut map: impl FnMut(&str, L) -> M) -> VisionTower<B, M> {
        let Ok(tower) = self.try_map_linears(|name, linear| Ok::<M, Infallible>(map(name, linear)));
        tower
    }

    /// [`Self::map_linears`] with what may fail.
    ///
    /// # Errors
    /// The first that `map` returns.
    pub fn try_map_linears<M: Linear<B>, Error>(
        self,
        mut map: impl FnMut(&str, L) -> Result<M, Error>,
    ) -> Result<VisionTower<B, M>, Error> {
        let mut map =
            |part: String, linear| map(&format!("{}.{part}", crate::weights::PREFIX), linear);
        let patch_embed = map("patch_embed.proj".into(), self.patch_embed)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (i, TowerBlock { norm1, attn, norm2, mlp }) in self.blocks.into_iter().enumerate() {
            let VisionAttention { qkv, proj, q_norm, k_norm, num_heads, head_dim } = attn;
            let (qkv, proj) = (
                map(format!("blocks.{i}.attn.qkv"), qkv)?,
                map(format!("blocks.{i}.attn.proj"), proj)?,
            );
            let attn = VisionAttention { qkv, proj, q_norm, k_norm, num_heads, head_dim };
            let gate_up = map(format!("blocks.{i}.mlp.gate_up_proj"), mlp.gate_up_proj)?;
            let down = map(format!("blocks.{i}.mlp.down_proj"), mlp.down_proj)?;
            blocks.push(TowerBlock { norm1, attn, norm2, mlp: SwiGlu::new(gate_up, down) });
        }
        let Merger { proj, post_projection_norm, mlp } = self.merger;
        Ok(VisionTower {
            patch_embed,
            post_conv_layernorm: self.post_conv_layernorm,
            position_embedding: self.position_embedding,
            blocks,
            post_layernorm: self.post_layernorm,
            downsample: map("downsample".into(), self.downsample)?,
            merger: Merger {
                proj: map("merger.proj".into(), proj)?,
                post_projection_norm,
                mlp: SwiGlu::new(
                    map("merger.gate_up_proj".into(), mlp.gate_up_proj)?,
                    map("merger.down_proj".into(), mlp.down_proj)?,
                ),
            },
            spatial_merge_size: self.spatial_merge_size,
            rope_theta: self.rope_theta,
        })
    }
}

impl<B: LmBackend, L: Linear<B>> TowerBlock<B, L> {
    fn forward(&self, x: Tensor<B, 2>, cos: &Tensor<B, 2>, sin: &Tensor<B, 2>) -> Tensor<B, 2> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x), cos, sin);
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }
}

impl<B: LmBackend, L: Linear<B>> VisionAttention<B, L> {
    /// `x: [N, D] -> [N, D]`.
    fn forward(&self, x: Tensor<B, 2>, cos: &Tensor<B, 2>, sin: &Tensor<B, 2>) -> Tensor<B, 2> {
        let [n, d] = x.dims();
        let qkv = self.qkv.forward(x);
        let [q, k, v] = [0, 1, 2].map(|part| qkv.clone().narrow(1, part * d, d));
        let rotate = |norm: &Option<RmsNorm<B>>, x| {
            let x = match norm {
                Some(norm) => norm.forward_heads(x),
                None => x,
            };
            B::rotary(x, cos.clone(), sin.clone(), self.head_dim)
        };
        let (heads, head_dim) = (self.num_heads, self.head_dim);
        let shape = AttentionShape { heads, kv_heads: heads, head_dim };
        let (q, k) = (rotate(&self.q_norm, q), rotate(&self.k_norm, k));
        #[expect(clippy::single_range_in_vec_init, reason = "one picture is one segment")]
        self.proj.forward(B::attend_segments(q, k, v, shape, &[0..n]))
    }
}

impl<B: LmBackend, L: Linear<B>> Merger<B, L> {
    /// `x: [R, O] -> [R, O]`.
    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let x = self.post_projection_norm.forward(self.proj.forward(x));
        self.mlp.forward(<B as LmBackend>::gelu(x))
    }
}
