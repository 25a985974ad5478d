//! `Student`: a decoder in training, whatever its projections are.
//!
//! The price of not naming its type is one virtual call a run.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module};
use burn::tensor::backend::AutodiffBackend;
use lightglm_core::{
    EffectiveWeight, Embedding, MasterWeight, ProjectionLayout, TrainableLm, WeightDtype,
    trainable_parameters,
};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::decoder::{DecoderWeights, DenseGlm, Glm, LoadPrecision, SwiGlu};
use lightglm_quant::qat::Prepare;
use lightglm_train::lora::{Lora, LoraEmbedding, LoraLinear};
use lightglm_train::peft::save_adapter;
use lightglm_train::trainer::{TokenizedExample, TrainEvent, TrainOutcome, Trainer};

use super::method::{Method, QatConfig};
use super::own_answers::OwnAnswers;
use crate::device::Cpu;
use crate::error::Error;
use crate::model::{EMBEDDING, LanguageModel, Weights, is_packed, load_quantized};
use crate::progress::ProgressSink;

/// The backend of training.
pub(super) type Train = Autodiff<Cpu>;

/// Whom a run tells what happens.
pub(super) type Watch<'a> = &'a mut dyn FnMut(&TrainEvent) -> ControlFlow<()>;

/// A decoder in training.
pub(super) trait Student: Send {
    /// Trains it, with answers of its own in the place of the rows' where `own` says so. What a run can be refused for at once leaves it as it is; a run that fails later
    /// costs it.
    fn train(
        &mut self,
        trainer: &Trainer<'_, Train>,
        rows: &[TokenizedExample],
        own: Option<&OwnAnswers<'_>>,
        watch: Watch<'_>,
    ) -> Result<TrainOutcome, Error>;

    /// Elements of the parameters that are trained.
    fn trainable_parameters(&self) -> Result<usize, Error>;

    /// The decoder without gradients; tensors are shared.
    fn inference(&self) -> Result<Arc<dyn LanguageModel<Cpu>>, Error>;

    /// Its weights in f32, with adapters added, before any rounding: a copy.
    fn weights(&self) -> Result<DecoderWeights, Error>;

    /// Writes the adapters that `lora` made, for the programs that lay out the model as `layout`.
    fn save_adapter(
        &self,
        lora: &Lora,
        base: &str,
        layout: ProjectionLayout,
        folder: &Path,
    ) -> Result<(), Error>;
}

/// What [`open`] makes of a checkpoint.
pub(super) struct Opened {
    pub(super) student: Box<dyn Student>,
    /// What made the adapters.
    pub(super) lora: Option<Lora>,
    /// How its weights are held: `f32`, or how they are stored.
    pub(super) scheme: String,
    /// Whether projections multiply integers.
    pub(super) integer: bool,
    /// The model before quantization.
    pub(super) teacher: Option<DenseGlm<Cpu>>,
}

/// Loads a checkpoint prepared for `method`: in f32, or packed as it is stored where adapters are all that
/// learns.
pub(super) fn open(
    checkpoint: &Checkpoint,
    method: &Method,
    seed: u64,
    progress: &ProgressSink,
) -> Result<Opened, Error> {
    if let Method::Lora(config) = method
        && is_packed(checkpoint, &Weights::Stored)?
    {
        let lora = Lora::new("default", config.clone(), seed)?;
        let device = Default::default();
        let base = load_quantized::<Train>(checkpoint, &Weights::Stored, progress, &device)?;
        let student = InTraining::boxed(adapted(base.model, &lora)?);
        let (scheme, integer) = (base.scheme, base.integer);
        return Ok(Opened { student, lora: Some(lora), scheme, integer, teacher: None });
    }
    let f32 = LoadPrecision::Convert(WeightDtype::F32);
    let model = checkpoint.load::<Train>(f32, &Default::default())?;
    let new_lora = |config| Lora::new("default", config, seed);
    let lora = method.lora().cloned().map(new_lora).transpose()?;
    let (student, teacher): (Box<dyn Student>, _) = match (method, &lora) {
        (Method::Qat(config), _) => {
            let teacher = model.valid();
            (simulated(model, config, lora.as_ref(), checkpoint)?, Some(teacher))
        }
        (_, Some(lora)) => (InTraining::boxed(adapted(model, lora)?), None),
        (_, None) => (InTraining::boxed(model), None),
    };
    Ok(Opened { student, lora, scheme: "f32".to_owned(), integer: false, teacher })
}

/// A decoder of `L` and `E` with adapters.
type Adapted<L, E> = Decoder<LoraLinear<Train, L>, LoraEmbedding<Train, E>>;

/// `model` with adapters, and with copies of what is trained whole.
fn adapted<L, E>(model: Decoder<L, E>, lora: &Lora) -> Result<Adapted<L, E>, Error>
where
    L: EffectiveWeight<Train>,
    E: Embedding<Train> + MasterWeight<Train>,
{
    let tied = model.lm_head.is_none();
    let model = model.no_grad();
    let model = model.try_map_linears(|name, linear| lora.wrap_in_training(name, linear))?;
    Ok(model.map_embedding(|table| lora.wrap_embedding_in_training(table, tied)))
}

/// `model` with its quantization simulated.
fn simulated(
    model: DenseGlm<Train>,
    config: &QatConfig,
    lora: Option<&Lora>,
    checkpoint: &Checkpoint,
) -> Result<Box<dyn Student>, Error> {
    let mut prepare = Prepare::new(&config.policy);
    if config.int8_kv {
        prepare = prepare.with_int8_kv(checkpoint.config().head_dim);
    }
    Ok(match lora {
        None => {
            let model = model
                .try_map_linears(|name, linear| prepare.linear(name, linear))?
                .try_map_embedding(|table| prepare.embedding(EMBEDDING, table.weight))?;
            prepare.finish()?;
            InTraining::boxed(model)
        }
        Some(lora) => {
            let model = model
                .no_grad()
                .try_map_linears(|name, linear| prepare.linear(name, lora.wrap(name, linear)))?
                .try_map_embedding(|table| prepare.embedding(EMBEDDING, table.weight))?;
            prepare.finish()?;
            InTraining::boxed(model)
        }
    })
}

type Decoder<L, E> = Glm<Train, L, SwiGlu<Train, L>, E>;

/// A decoder whose type is known; `None` once a run has failed halfway.
struct InTraining<M>(Option<M>);

impl<M> InTraining<M> {
    fn boxed(decoder: M) -> Box<dyn Student>
    where
        Self: Student + 'static,
    {
        Box::new(Self(Some(decoder)))
    }

    fn decoder(&self) -> Result<&M, Error> {
        self.0.as_ref().ok_or(Error::TrainingFailed)
    }
}

impl<L, E> Student for InTraining<Decoder<L, E>>
where
    L: EffectiveWeight<Train> + MasterWeight<Train> + Send,
    E: Embedding<Train> + MasterWeight<Train> + Send,
    Decoder<L, E>: TrainableLm<Train>,
    <Decoder<L, E> as AutodiffModule<Train>>::InnerModule:
        LanguageModel<<Train as AutodiffBackend>::InnerBackend> + 'static,
{
    fn train(
        &mut self,
        trainer: &Trainer<'_, Train>,
        rows: &[TokenizedExample],
        own: Option<&OwnAnswers<'_>>,
        watch: Watch<'_>,
    ) -> Result<TrainOutcome, Error> {
        trainer.check(self.decoder()?, rows)?;
        let decoder = self.0.take().ok_or(Error::TrainingFailed)?;
        let rows_of_step = |step, decoder: &Decoder<L, E>, planned: &[&TokenizedExample]| match own
        {
            Some(own) if own.are_due(step) => own.rows(step, &decoder.valid(), planned).map(Some),
            _ => Ok(None),
        };
        let (decoder, outcome) = trainer.run_on(decoder, rows, &rows_of_step, watch)?;
        self.0 = Some(decoder);
        Ok(outcome)
    }

    fn trainable_parameters(&self) -> Result<usize, Error> {
        let parameters = trainable_parameters(self.decoder()?);
        Ok(parameters.iter().map(|parameter| parameter.values.dims()[0]).sum())
    }

    fn inference(&self) -> Result<Arc<dyn LanguageModel<Cpu>>, Error> {
        Ok(Arc::new(self.decoder()?.valid()))
    }

    fn weights(&self) -> Result<DecoderWeights, Error> {
        Ok(self.decoder()?.weights())
    }

    fn save_adapter(
        &self,
        lora: &Lora,
        base: &str,
        layout: ProjectionLayout,
        folder: &Path,
    ) -> Result<(), Error> {
        Ok(save_adapter::<Train, _>(self.decoder()?, lora, Some(base), layout, folder)?)
    }
}
