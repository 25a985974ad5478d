//! A dense folder in Hugging Face's layout, file by file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lightglm_core::{
    ProjectionLayout, SafetensorsWriter, StoredDtype, TensorSpec, WeightError, WeightSource,
    python_json,
};
use lightglm_model::checkpoint::Checkpoint;
use lightglm_model::weights::SafetensorsCheckpoint;
use lightglm_train::lora::{HEAD, Lora, MergedWeights};
use serde_json::{Value, json};

use super::{DOING, MergeOptions, MergeReport, count, unties};
use crate::adapted::TIED_KEY;
use crate::error::Error;
use crate::new_folder::{NewFolder, at};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Files beside the weights that [`Checkpoint::text_files`] does not name, as no decoder here reads them.
const OTHERS: [&str; 5] =
    ["tokenizer.model", "vocab.json", "merges.txt", "chat_template.json", "configuration.json"];

pub(super) fn merge(
    checkpoint: &Checkpoint,
    layout: ProjectionLayout,
    lora: &Lora,
    options: &MergeOptions,
    folder: &Path,
) -> Result<MergeReport, Error> {
    let path = checkpoint.path();
    let file = SafetensorsCheckpoint::open(path)?;
    let untied = unties(checkpoint, lora);
    let tied = checkpoint.config().tie_word_embeddings;
    let merged = MergedWeights::new(&file, lora, tied).with_layout(layout);
    let names = merged.names();
    let changed = count(&merged, &names, lora)?;
    let mut shards = shards(path, &file)?;
    // A head that there was none of.
    let head = format!("{HEAD}.weight");
    if untied
        && !shards.iter().any(|(_, names)| names.contains(&head))
        && let Some((_, names)) = shards.last_mut()
    {
        names.push(head);
    }
    let elements =
        |name: &String| merged.shape(name).unwrap_or_default().iter().product::<usize>() as u64;
    let total = names.iter().map(elements).sum();
    let mut output = NewFolder::begin(folder)?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let (mut done, mut bytes) = (0, 0);
    for (shard, names) in &shards {
        let specs = names.iter().map(|name| {
            let (dtype, shape) = merged.stored_type(name)?;
            spec(path, name, dtype, shape)
        });
        let specs = specs.collect::<Result<Vec<_>, Error>>()?;
        let mut writer = SafetensorsWriter::create(output.weights(shard), specs, &metadata)?;
        for spec in writer.order().to_vec() {
            options.progress.working(DOING, done, total)?;
            for part in merged.stored(&spec.name)?.parts {
                writer.write(&part)?;
                lightglm_kernels::page_out(&part);
            }
            done += elements(&spec.name);
            bytes += spec.bytes() as u64;
        }
        writer.finish()?;
    }
    options.progress.working(DOING, done, total)?;
    let mut files = checkpoint.text_files()?;
    for name in OTHERS {
        match fs::read(path.join(name)) {
            Ok(bytes) => files.push((name.to_owned(), bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(at(&path.join(name), source)),
        }
    }
    if shards.len() > 1 || shards.iter().any(|(shard, _)| shard != SINGLE) {
        files.push((INDEX.to_owned(), index(&shards, bytes)));
    }
    output.finish(&files, &config_json(path, untied)?)?;
    Ok(MergeReport { merged: changed, bytes, untied, requantized: None })
}

/// The folder's files of weights, and the tensors in each.
fn shards(path: &Path, file: &SafetensorsCheckpoint) -> Result<Vec<(String, Vec<String>)>, Error> {
    if path.join(SINGLE).exists() {
        return Ok(vec![(SINGLE.to_owned(), file.names())]);
    }
    let index = path.join(INDEX);
    let text = fs::read(&index).map_err(|source| at(&index, source))?;
    // What it says was checked when the weights were opened.
    let json: Value = serde_json::from_slice(&text).map_err(|error| at(&index, error.into()))?;
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in file.names() {
        if let Some(shard) = json["weight_map"][&name].as_str() {
            shards.entry(shard.to_owned()).or_default().push(name);
        }
    }
    Ok(shards.into_iter().collect())
}

/// The tensor `name` of `file` as it will be written: in the type that it has.
pub(super) fn spec(
    file: &Path,
    name: &str,
    dtype: String,
    shape: Vec<usize>,
) -> Result<TensorSpec, Error> {
    let known = [
        StoredDtype::F32,
        StoredDtype::F16,
        StoredDtype::Bf16,
        StoredDtype::U8,
        StoredDtype::I8,
        StoredDtype::I32,
        StoredDtype::I64,
    ];
    let name = name.to_owned();
    match known.into_iter().find(|known| known.name() == dtype) {
        Some(dtype) => Ok(TensorSpec { name, dtype, shape }),
        None => Err(WeightError::UnsupportedDtype { file: file.to_owned(), name, dtype }.into()),
    }
}

fn index(shards: &[(String, Vec<String>)], bytes: u64) -> Vec<u8> {
    let entries =
        shards.iter().flat_map(|(shard, names)| names.iter().map(move |name| (name, shard)));
    let map: BTreeMap<&String, &String> = entries.collect();
    let index = json!({"metadata": {"total_size": bytes}, "weight_map": map});
    format!("{index:#}\n").into_bytes()
}

/// The folder's own, which says that the head is one of its own where it is so now.
fn config_json(path: &Path, untied: bool) -> Result<Vec<u8>, Error> {
    let file = path.join("config.json");
    let text = fs::read(&file).map_err(|source| at(&file, source))?;
    if !untied {
        return Ok(text);
    }
    let mut json = python_json(&text).map_err(|error| at(&file, error.into()))?;
    json[TIED_KEY] = false.into();
    Ok(format!("{json:#}\n").into_bytes())
}
