//! `CheckpointFolder`: the checkpoints of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor, TensorData};
use lightglm_core::{
    SafetensorsWriter, StoredDtype, TensorSpec, TrainableParameter, trainable_parameters,
    with_values,
};
use lightglm_kernels::LmGradients;
use safetensors::{Dtype, SafeTensors};

use super::error::TrainCheckpointError;
use super::state::{FORMAT_VERSION, RunState};
use crate::optimizer::{AdamW, AdamWConfig, Moments};

const PARAMETERS: &str = "parameters.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const RUN: &str = "run.json";
const BEST: &str = "best.safetensors";
const FIRST: &str = ".exp_avg";
const SECOND: &str = ".exp_avg_sq";

/// Where a run keeps its checkpoints.
#[derive(Clone, Debug)]
pub struct CheckpointFolder {
    path: PathBuf,
    keep: usize,
}

impl CheckpointFolder {
    /// The folder `path`, made where it is not there; the last `keep` checkpoints stay (at least one).
    ///
    /// What an interrupted run left half-written is removed.
    ///
    /// # Errors
    /// [`TrainCheckpointError::Io`].
    pub fn open(path: &Path, keep: usize) -> Result<Self, TrainCheckpointError> {
        fs::create_dir_all(path).map_err(TrainCheckpointError::io(path))?;
        let folder = Self { path: path.to_path_buf(), keep: keep.max(1) };
        for entry in fs::read_dir(path).map_err(TrainCheckpointError::io(path))?.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name.starts_with(".step-") {
                fs::remove_dir_all(&path).map_err(TrainCheckpointError::io(&path))?;
            } else if name.starts_with('.') && name.ends_with(".partial") {
                // What `temporary_in` began for the best parameters.
                fs::remove_file(&path).map_err(TrainCheckpointError::io(&path))?;
            }
        }
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The steps that there are checkpoints of, ascending.
    ///
    /// # Errors
    /// [`TrainCheckpointError::Io`].
    pub fn steps(&self) -> Result<Vec<u64>, TrainCheckpointError> {
        let entries = fs::read_dir(&self.path).map_err(TrainCheckpointError::io(&self.path))?;
        let step = |name: &str| {
            let step = name.strip_prefix("step-")?.parse().ok()?;
            (folder_name(step) == name).then_some(step)
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut steps: Vec<u64> = names.filter_map(|name| step(name.to_str()?)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The folder of a step's checkpoint.
    pub fn of_step(&self, step: u64) -> PathBuf {
        self.path.join(folder_name(step))
    }

    /// Writes the checkpoint of `state.step` and removes those that are one too many.
    ///
    /// # Errors
    /// [`TrainCheckpointError`]; the checkpoints that were there stay.
    pub fn save<B, M>(
        &self,
        module: &M,
        optimizer: &AdamW<B>,
        state: &RunState,
    ) -> Result<PathBuf, TrainCheckpointError>
    where
        B: AutodiffBackend<InnerBackend: LmGradients>,
        M: Module<B>,
    {
        let target = self.of_step(state.step);
        if target.exists() {
            // The same run has been here before: the same bits.
            return Ok(target);
        }
        let name = format!(".step-{:08}-", state.step);
        let partial =
            partial_folder(&name, &self.path).map_err(TrainCheckpointError::io(&self.path))?;
        let parameters = trainable_parameters(module);
        write_values(&partial.path().join(PARAMETERS), &parameters)?;
        write_moments(&partial.path().join(OPTIMIZER), &parameters, optimizer)?;
        let json = serde_json::to_vec_pretty(state).expect("numbers and strings are JSON");
        write_whole(&partial.path().join(RUN), &json)?;
        sync_folder(partial.path())?;
        fs::rename(partial.path(), &target).map_err(TrainCheckpointError::io(&target))?;
        // Its old name is nobody's now, and nothing is to be removed.
        let _ = partial.keep();
        sync_folder(&self.path)?;
        let steps = self.steps()?;
        for step in &steps[..steps.len().saturating_sub(self.keep)] {
            let old = self.of_step(*step);
            // Renamed first, so that what is left of an interrupted removal is not taken for whole.
            let going = self.path.join(format!(".step-{step:08}-old"));
            fs::rename(&old, &going).map_err(TrainCheckpointError::io(&old))?;
            fs::remove_dir_all(&going).map_err(TrainCheckpointError::io(&going))?;
        }
        Ok(target)
    }

    /// Puts the checkpoint of `step` into `module`; returns it with the optimizer and the state.
    ///
    /// # Errors
    /// [`TrainCheckpointError`] naming file and tensor.
    pub fn load<B, M>(
        &self,
        step: u64,
        module: M,
        config: AdamWConfig,
    ) -> Result<(M, AdamW<B>, RunState), TrainCheckpointError>
    where
        B: AutodiffBackend<InnerBackend: LmGradients>,
        M: Module<B>,
    {
        let folder = self.of_step(step);
        let state = read_state(&folder.join(RUN))?;
        if state.step != step {
            let reason = format!("is of step {}, the folder of step {step}", state.step);
            return Err(TrainCheckpointError::malformed(&folder.join(RUN), reason));
        }
        let module = load_values(&folder.join(PARAMETERS), module)?;
        let moments = read_moments(&folder.join(OPTIMIZER), &trainable_parameters(&module))?;
        Ok((module, AdamW::restore(config, state.step, moments), state))
    }

    /// Keeps the parameters as the best so far.
    ///
    /// # Errors
    /// [`TrainCheckpointError`]; what was the best before stays.
    pub fn save_best<B: AutodiffBackend, M: Module<B>>(
        &self,
        module: &M,
    ) -> Result<(), TrainCheckpointError> {
        write_values(&self.path.join(BEST), &trainable_parameters(module))
    }

    /// Puts the best parameters into `module`.
    ///
    /// # Errors
    /// [`TrainCheckpointError`].
    pub fn load_best<B: AutodiffBackend, M: Module<B>>(
        &self,
        module: M,
    ) -> Result<M, TrainCheckpointError> {
        load_values(&self.path.join(BEST), module)
    }
}

fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// A folder for what is not whole yet, with the permissions that an ordinary new folder would have.
fn partial_folder(prefix: &str, parent: &Path) -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Cut down by the umask, where tempfile's own default is for its owner alone.
        builder.permissions(fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(parent)
}

fn write_values<B: Backend>(
    file: &Path,
    parameters: &[TrainableParameter<B>],
) -> Result<(), TrainCheckpointError> {
    let specs = parameters.iter().map(|p| spec(&p.name, &p.shape));
    let mut writer = SafetensorsWriter::create(file, specs, &BTreeMap::new())?;
    let by_name: BTreeMap<_, _> = parameters.iter().map(|p| (p.name.as_str(), p)).collect();
    for spec in writer.order().to_vec() {
        writer.write(&bytes(&by_name[spec.name.as_str()].values))?;
    }
    Ok(writer.finish()?)
}

fn write_moments<B: AutodiffBackend<InnerBackend: LmGradients>>(
    file: &Path,
    parameters: &[TrainableParameter<B::InnerBackend>],
    optimizer: &AdamW<B>,
) -> Result<(), TrainCheckpointError> {
    let mut tensors = BTreeMap::new();
    for parameter in parameters {
        if let Some(Moments { first, second }) = optimizer.moments(parameter.id) {
            tensors.insert(format!("{}{FIRST}", parameter.name), (&parameter.shape, first));
            tensors.insert(format!("{}{SECOND}", parameter.name), (&parameter.shape, second));
        }
    }
    let specs = tensors.iter().map(|(name, (shape, _))| spec(name, shape));
    let mut writer = SafetensorsWriter::create(file, specs, &BTreeMap::new())?;
    for spec in writer.order().to_vec() {
        writer.write(&bytes(tensors[&spec.name].1))?;
    }
    Ok(writer.finish()?)
}

fn spec(name: &str, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype: StoredDtype::F32, shape: shape.to_vec() }
}

/// The elements as little-endian f32, to the bit.
fn bytes<B: Backend>(values: &Tensor<B, 1>) -> Vec<u8> {
    let data = values.clone().cast(DType::F32).into_data();
    let values = data.to_vec::<f32>().expect("cast to f32 above");
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn load_values<B: AutodiffBackend, M: Module<B>>(
    file: &Path,
    module: M,
) -> Result<M, TrainCheckpointError> {
    let buffer = fs::read(file).map_err(TrainCheckpointError::io(file))?;
    let tensors = Tensors::parse(file, &buffer)?;
    let parameters = trainable_parameters(&module);
    tensors.check_names(parameters.iter().map(|p| p.name.clone()).collect())?;
    let mut values = BTreeMap::new();
    for p in &parameters {
        values.insert(p.id, tensors.get(&p.name, &p.shape, &p.values.device())?);
    }
    Ok(with_values(module, values))
}

fn read_moments<B: Backend>(
    file: &Path,
    parameters: &[TrainableParameter<B>],
) -> Result<BTreeMap<burn::module::ParamId, Moments<B>>, TrainCheckpointError> {
    let buffer = fs::read(file).map_err(TrainCheckpointError::io(file))?;
    let tensors = Tensors::parse(file, &buffer)?;
    let mut moments = BTreeMap::new();
    let mut known = BTreeSet::new();
    for p in parameters {
        let (first, second) = (format!("{}{FIRST}", p.name), format!("{}{SECOND}", p.name));
        if tensors.has(&first) || tensors.has(&second) {
            let device = p.values.device();
            let first_values = tensors.get(&first, &p.shape, &device)?;
            let second_values = tensors.get(&second, &p.shape, &device)?;
            moments.insert(p.id, Moments { first: first_values, second: second_values });
            known.extend([first, second]);
        }
    }
    tensors.check_names(known)?;
    Ok(moments)
}

fn read_state(file: &Path) -> Result<RunState, TrainCheckpointError> {
    let text = fs::read(file).map_err(TrainCheckpointError::io(file))?;
    let malformed = |error| TrainCheckpointError::malformed(file, error);
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(malformed)?;
    let found = value["version"].as_u64().unwrap_or(0);
    if found != u64::from(FORMAT_VERSION) {
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        return Err(TrainCheckpointError::Version {
            file: file.to_path_buf(),
            found,
            known: FORMAT_VERSION,
        });
    }
    serde_path_to_error::deserialize(value)
        .map_err(|error| TrainCheckpointError::malformed(file, error))
}

/// A safetensors file in memory, with errors that name it.
struct Tensors<'a> {
    file: &'a Path,
    tensors: SafeTensors<'a>,
}

impl<'a> Tensors<'a> {
    fn parse(file: &'a Path, buffer: &'a [u8]) -> Result<Self, TrainCheckpointError> {
        let tensors = SafeTensors::deserialize(buffer);
        let tensors = tensors.map_err(|error| TrainCheckpointError::malformed(file, error))?;
        Ok(Self { file, tensors })
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// No tensor may be there that nobody asks for: it would be lost silently.
    fn check_names(&self, known: BTreeSet<String>) -> Result<(), TrainCheckpointError> {
        match self.tensors.names().into_iter().find(|name| !known.contains(*name)) {
            Some(name) => Err(self.wrong(name, "the model has no such parameter".into())),
            None => Ok(()),
        }
    }

    fn get<B: Backend>(
        &self,
        name: &str,
        shape: &[usize],
        device: &B::Device,
    ) -> Result<Tensor<B, 1>, TrainCheckpointError> {
        let tensor =
            self.tensors.tensor(name).map_err(|error| self.wrong(name, error.to_string()))?;
        if tensor.shape() != shape || tensor.dtype() != Dtype::F32 {
            let (found, dtype) = (tensor.shape(), tensor.dtype());
            return Err(self.wrong(name, format!("{dtype:?} {found:?}, expected F32 {shape:?}")));
        }
        let values: Vec<f32> = tensor
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
            .collect();
        let n = values.len();
        Ok(Tensor::from_data(TensorData::new(values, [n]), device))
    }

    fn wrong(&self, name: &str, reason: String) -> TrainCheckpointError {
        TrainCheckpointError::Tensor {
            file: self.file.to_path_buf(),
            name: name.to_owned(),
            reason,
        }
    }
}

/// Writes a file and waits until the disk has it.
fn write_whole(file: &Path, bytes: &[u8]) -> Result<(), TrainCheckpointError> {
    use std::io::Write;
    let mut out = fs::File::create(file).map_err(TrainCheckpointError::io(file))?;
    out.write_all(bytes).and_then(|()| out.sync_all()).map_err(TrainCheckpointError::io(file))
}

/// Waits until the disk has a folder's entries, where the system can say so.
fn sync_folder(folder: &Path) -> Result<(), TrainCheckpointError> {
    if cfg!(unix) {
        let open = fs::File::open(folder).and_then(|folder| folder.sync_all());
        open.map_err(TrainCheckpointError::io(folder))?;
    }
    Ok(())
}
