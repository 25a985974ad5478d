//! From a checkpoint to a decoder.
//!
//! On the CPU backend a tensor in its stored precision stays a view of the mapped file, so loading
//! is mapping; anything else is converted one tensor at a time.

use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{AllocationProperty, Bytes, DType, Tensor, TensorData};
use bytemuck::{AnyBitPattern, NoUninit};
use half::{bf16, f16};
use lightglm_core::{
    Embedding, Linear, QUANTIZATION_KEY, TensorView, WeightDtype, WeightError, WeightSource,
};
use lightglm_kernels::{LmBackend, page_out};

use super::block::Block;
use super::dense_embedding::DenseEmbedding;
use super::dense_linear::DenseLinear;
use super::glm::{DenseGlm, Glm};
use super::norm::RmsNorm;
use super::rotary::RotaryEmbedding;
use super::self_attention::SelfAttention;
use super::swiglu::SwiGlu;
use crate::config::GlmConfig;
use crate::weights::check_tensors;

/// In which precision the weights are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadPrecision {
    /// As the checkpoint stores them; block-quantized tensors become f32.
    #[default]
    Stored,
    /// Converted to this precision where stored otherwise. Norms and biases stay as they are.
    Convert(WeightDtype),
}

/// A part that [`Glm::load_parts`] asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPart {
    /// The name without `.weight`: `model.layers.3.mlp.down_proj`, `lm_head`, `model.embed_tokens`.
    pub name: String,
    /// `[out_features, in_features]`, or `[vocab_size, hidden_size]`.
    pub shape: [usize; 2],
    /// Whether the configuration gives the projection a bias (`{name}.bias`).
    pub bias: bool,
}

/// Why a decoder could not be loaded from parts: the norms' reason, or that of the maker of a part.
#[derive(Debug, thiserror::Error)]
pub enum LoadError<E: std::error::Error + 'static> {
    /// A norm is missing or malformed.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// A projection or the embedding table could not be made.
    #[error(transparent)]
    Part(E),
}

impl<B: LmBackend, L: Linear<B>, E: Embedding<B>> Glm<B, L, SwiGlu<B, L>, E> {
    /// Loads a decoder whose projections come from `linear` and whose embedding table comes from
    /// `embedding`; only the norms are read from `source`, which `file` names in errors.
    ///
    /// What quantized checkpoints are loaded with: no dense weight is ever made.
    ///
    /// # Errors
    /// [`LoadError`].
    ///
    /// # Panics
    /// Where a part has another shape than it was asked for.
    pub fn load_parts<Error: std::error::Error + 'static>(
        config: &GlmConfig,
        source: &dyn WeightSource,
        file: &Path,
        device: &B::Device,
        embedding: impl FnOnce(&LoadPart) -> Result<E, Error>,
        mut linear: impl FnMut(&LoadPart) -> Result<L, Error>,
    ) -> Result<Self, LoadError<Error>> {
        let precision = LoadPrecision::Stored;
        let loader = Loader::<B> { source, file: file.to_path_buf(), precision, device };
        let mut part = |name: &str, bias: bool| {
            let part = load_part(config, name, bias)?;
            let made = linear(&part).map_err(LoadError::Part)?;
            assert_eq!(made.shape(), part.shape, "`{name}` was made in another shape");
            Ok::<L, LoadError<Error>>(made)
        };
        let layers = (0..config.num_hidden_layers)
            .map(|i| loader.block(config, i, &mut part))
            .collect::<Result<_, _>>()?;
        let lm_head = match config.tie_word_embeddings {
            true => None,
            false => Some(part("lm_head", false)?),
        };
        let table = load_part(config, "model.embed_tokens", false)?;
        let embed_tokens = embedding(&table).map_err(LoadError::Part)?;
        assert_eq!(embed_tokens.shape(), table.shape, "the embedding was made in another shape");
        Ok(Glm {
            embed_tokens,
            layers,
            norm: loader.norm("model.norm", config)?,
            lm_head,
            max_position_embeddings: config.max_position_embeddings,
            rotary: RotaryEmbedding::new(config),
        })
    }
}

/// What the configuration says of a matrix.
fn load_part(config: &GlmConfig, name: &str, bias: bool) -> Result<LoadPart, WeightError> {
    let shape = config.tensor_shape(&format!("{name}.weight"));
    let shape = shape.and_then(|shape| shape.try_into().ok());
    let shape = shape.expect("the configuration knows the decoder's matrices");
    Ok(LoadPart { name: name.to_owned(), shape, bias })
}

impl<B: LmBackend> DenseGlm<B> {
    /// Loads the checkpoint `source`, which `file` names in errors, after checking that it has
    /// exactly the tensors that `config` describes.
    ///
    /// # Errors
    /// [`WeightError`] naming file and tensor; [`WeightError::Quantized`] for a checkpoint whose
    /// layers are packed, which [`Glm::load_parts`] loads with parts from `lightglm-quant`.
    pub fn load(
        config: &GlmConfig,
        source: &dyn WeightSource,
        file: &Path,
        precision: LoadPrecision,
        device: &B::Device,
    ) -> Result<Self, WeightError> {
        if source.metadata(QUANTIZATION_KEY).is_some() {
            return Err(WeightError::Quantized { file: file.to_path_buf() });
        }
        check_tensors(source, config, file)?;
        let loader = Loader::<B> { source, file: file.to_path_buf(), precision, device };
        let loaded = Self::load_parts(
            config,
            source,
            file,
            device,
            |part| {
                let weight = loader.matrix(&format!("{}.weight", part.name))?;
                Ok(DenseEmbedding { weight: Param::from_tensor(weight) })
            },
            |part| loader.linear(&part.name, part.bias),
        );
        loaded.map_err(|error| match error {
            LoadError::Weights(error) | LoadError::Part(error) => error,
        })
    }
}

struct Loader<'a, B: LmBackend> {
    source: &'a dyn WeightSource,
    file: PathBuf,
    precision: LoadPrecision,
    device: &'a B::Device,
}

impl<B: LmBackend> Loader<'_, B> {
    fn block<L: Linear<B>, E: From<WeightError>>(
        &self,
        config: &GlmConfig,
        index: usize,
        linear: &mut impl FnMut(&str, bool) -> Result<L, E>,
    ) -> Result<Block<B, L, SwiGlu<B, L>>, E> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let bias = config.attention_bias;
        let post_norm = |part: &str| match config.has_post_norms() {
            true => self.norm(&name(part), config).map(Some),
            false => Ok(None),
        };
        Ok(Block {
            input_layernorm: self.norm(&name("input_layernorm"), config)?,
            self_attn: SelfAttention {
                q_proj: linear(&name("self_attn.q_proj"), bias)?,
                k_proj: linear(&name("self_attn.k_proj"), bias)?,
                v_proj: linear(&name("self_attn.v_proj"), bias)?,
                o_proj: linear(&name("self_attn.o_proj"), false)?,
                num_attention_heads: config.num_attention_heads,
                num_key_value_heads: config.num_key_value_heads,
                head_dim: config.head_dim,
                backend: Default::default(),
            },
            post_self_attn_layernorm: post_norm("post_self_attn_layernorm")?,
            post_attention_layernorm: self.norm(&name("post_attention_layernorm"), config)?,
            mlp: SwiGlu {
                gate_up_proj: linear(&name("mlp.gate_up_proj"), false)?,
                down_proj: linear(&name("mlp.down_proj"), false)?,
                backend: Default::default(),
            },
            post_mlp_layernorm: post_norm("post_mlp_layernorm")?,
        })
    }

    fn linear(&self, name: &str, bias: bool) -> Result<DenseLinear<B>, WeightError> {
        let bias = match bias {
            true => Some(Param::from_tensor(self.vector(&format!("{name}.bias"))?)),
            false => None,
        };
        let weight = Param::from_tensor(self.matrix(&format!("{name}.weight"))?);
        Ok(DenseLinear { weight, bias })
    }

    fn norm(&self, name: &str, config: &GlmConfig) -> Result<RmsNorm<B>, WeightError> {
        let weight = Param::from_tensor(self.vector(&format!("{name}.weight"))?);
        Ok(RmsNorm { weight, eps: config.rms_norm_eps })
    }

    /// A matrix in the precision asked for.
    fn matrix(&self, name: &str) -> Result<Tensor<B, 2>, WeightError> {
        let view = self.tensor(name, 2)?;
        let target = match self.precision {
            LoadPrecision::Stored => view.dtype,
            LoadPrecision::Convert(dtype) => dtype,
        };
        // A GPU without 16-bit arithmetic holds the weights in f32.
        let target = match B::supports_dtype(self.device, burn_dtype(target)) {
            true => target,
            false => WeightDtype::F32,
        };
        Ok(self.place(convert(view, target)))
    }

    /// A norm's weight or a bias: small, and held in f32 so that no kernel converts it per call.
    fn vector(&self, name: &str) -> Result<Tensor<B, 1>, WeightError> {
        Ok(self.place(convert(self.tensor(name, 1)?, WeightDtype::F32)))
    }

    fn tensor(&self, name: &str, dims: usize) -> Result<TensorView, WeightError> {
        let view = self.source.tensor(name)?;
        let elements = view.shape.iter().product::<usize>();
        if view.shape.len() != dims || view.bytes.len() != elements * view.dtype.size() {
            return Err(WeightError::Malformed {
                file: self.file.clone(),
                format: "tensor view",
                reason: format!(
                    "`{name}` has shape {:?} and {} bytes",
                    view.shape,
                    view.bytes.len()
                ),
            });
        }
        Ok(view)
    }

    fn place<const D: usize>(&self, view: TensorView) -> Tensor<B, D> {
        let dtype = burn_dtype(view.dtype);
        let bytes = Bytes::from_shared(aligned(view.bytes, view.dtype), AllocationProperty::File);
        let data = TensorData { bytes, shape: view.shape.into(), dtype };
        Tensor::from_data(data, (self.device, dtype))
    }
}

fn burn_dtype(dtype: WeightDtype) -> DType {
    match dtype {
        WeightDtype::F32 => DType::F32,
        WeightDtype::F16 => DType::F16,
        WeightDtype::Bf16 => DType::BF16,
    }
}

/// The same bytes where an element can be read; a copy where the file's header has an odd length.
fn aligned(bytes: bytes::Bytes, dtype: WeightDtype) -> bytes::Bytes {
    match (bytes.as_ptr().align_offset(dtype.size()), dtype) {
        (0, _) => bytes,
        (_, WeightDtype::F32) => own::<f32>(bytemuck::pod_collect_to_vec(&bytes)),
        (_, WeightDtype::F16 | WeightDtype::Bf16) => {
            own::<u16>(bytemuck::pod_collect_to_vec(&bytes))
        }
    }
}

/// The view in precision `target`; the same view where it is in it already.
fn convert(view: TensorView, target: WeightDtype) -> TensorView {
    use WeightDtype::{Bf16, F16, F32};
    let source = &view.bytes;
    let bytes = match (view.dtype, target) {
        (F32, F16) => map(source, |x: f32| f16::from_f32(x)),
        (F32, Bf16) => map(source, |x: f32| bf16::from_f32(x)),
        (F16, F32) => map(source, |x: f16| x.to_f32()),
        (F16, Bf16) => map(source, |x: f16| bf16::from_f32(x.to_f32())),
        (Bf16, F32) => map(source, |x: bf16| x.to_f32()),
        (Bf16, F16) => map(source, |x: bf16| f16::from_f32(x.to_f32())),
        (F32, F32) | (F16, F16) | (Bf16, Bf16) => return view,
    };
    TensorView { dtype: target, shape: view.shape, bytes }
}

/// Element by element, without a second buffer; `source` need not be aligned. What has been read
/// of a mapped file is given back piece by piece, so that it does not count beside the copy.
fn map<S: AnyBitPattern, T: NoUninit + Send>(source: &[u8], f: impl Fn(S) -> T) -> bytes::Bytes {
    const PIECE: usize = 16 << 20;
    let mut values = Vec::with_capacity(source.len() / size_of::<S>());
    for piece in source.chunks(PIECE) {
        let elements = piece.chunks_exact(size_of::<S>());
        values.extend(elements.map(|x| f(bytemuck::pod_read_unaligned(x))));
        page_out(piece);
    }
    own(values)
}

/// Bytes that own a vector of elements, aligned as they are.
fn own<T: NoUninit + Send>(values: Vec<T>) -> bytes::Bytes {
    struct Owner<T>(Vec<T>);
    impl<T: NoUninit> AsRef<[u8]> for Owner<T> {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    bytes::Bytes::from_owner(Owner(values))
}
