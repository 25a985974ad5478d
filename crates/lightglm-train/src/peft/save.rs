//! Writing an adapter.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Tensor, backend::Backend};
use lightglm_core::{ProjectionLayout, SafetensorsWriter, StoredDtype, TensorSpec, temporary_in};

use super::adapter_config::AdapterConfig;
use super::error::PeftError;
use super::layout::{Tensors, modules, to_file};
use super::{CONFIG_FILE, MODEL_FILE, PREFIX};
use crate::lora::{Lora, LoraConfig};

/// Writes the adapters that `lora` has put into `module`, and the weights that it trains whole, to `folder`,
/// which is made where it is not there, as programs have them that lay out the model's projections as `layout`.
/// `base_model` is what PEFT shall load below them: a name on the hub, or a folder.
///
/// Each file appears whole under its name; the configuration comes last.
///
/// # Errors
/// [`PeftError`].
pub fn save_adapter<B: Backend, M: Module<B>>(
    module: &M,
    lora: &Lora,
    base_model: Option<&str>,
    layout: ProjectionLayout,
    folder: &Path,
) -> Result<(), PeftError> {
    let mut collect = Collect { wanted: BTreeMap::new(), found: Tensors::new() };
    for site in lora.sites() {
        for (half, id) in [("lora_A", site.lora_a), ("lora_B", site.lora_b)] {
            collect.wanted.insert(id, format!("{PREFIX}{}.{half}.weight", site.name));
        }
    }
    for site in lora.saved_sites() {
        collect.wanted.insert(site.weight, format!("{PREFIX}{}.weight", site.name));
    }
    module.visit(&mut collect);
    let tensors = to_file(layout, collect.found).ok_or_else(|| {
        let reason = "rows of q_proj or k_proj make no whole heads";
        PeftError::malformed(&folder.join(MODEL_FILE), reason)
    })?;
    if tensors.is_empty() {
        return Err(PeftError::NoAdapter { name: lora.name().to_owned() });
    }
    let io = |source| PeftError::Io { file: folder.to_path_buf(), source };
    fs::create_dir_all(folder).map_err(io)?;
    let spec = |(name, (shape, _)): (&String, &(Vec<usize>, Vec<f32>))| TensorSpec {
        name: name.clone(),
        dtype: StoredDtype::F32,
        shape: shape.clone(),
    };
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let specs: Vec<_> = tensors.iter().map(spec).collect();
    let mut writer = SafetensorsWriter::create(folder.join(MODEL_FILE), specs, &metadata)?;
    for spec in writer.order().to_vec() {
        let values = &tensors[&spec.name].1;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write(&bytes)?;
    }
    writer.finish()?;
    let modules = modules(layout, &lora.config().listed_targets(&lora.sites()));
    let config = LoraConfig { target_modules: modules, ..lora.config().clone() };
    let config = AdapterConfig::new(&config, base_model);
    let json = serde_json::to_vec_pretty(&config).expect("numbers and strings are JSON");
    let file = folder.join(CONFIG_FILE);
    let io = |source| PeftError::Io { file: file.clone(), source };
    let mut out = temporary_in(folder).map_err(io)?;
    out.write_all(&json).and_then(|()| out.as_file().sync_all()).map_err(io)?;
    out.persist(&file).map_err(|error| io(error.error))?;
    Ok(())
}

/// Takes the wanted parameters out of a module, and no others: the model may be all the memory holds.
struct Collect {
    /// Names by parameter.
    wanted: BTreeMap<ParamId, String>,
    /// Shapes and elements by name.
    found: Tensors,
}

impl<B: Backend> ModuleVisitor<B> for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(name) = self.wanted.remove(&param.id) else { return };
        let value = param.val();
        let shape = value.dims().to_vec();
        let data = value.cast(DType::F32).into_data().to_vec::<f32>();
        self.found.insert(name, (shape, data.expect("cast to f32")));
    }
}
