//! Reading an adapter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use lightglm_core::{ProjectionLayout, TensorView};

use super::CONFIG_FILE;
use super::adapter_config::AdapterConfig;
use super::error::PeftError;
use super::layout::rows_from_file;
use super::names::{Part, part};
use super::places::{self, places};
use super::tensors::{AdapterTensors, read_tensors};
use crate::lora::{EMBEDDING, HEAD, Lora, LowRank, saved_module, to_f32};

/// Reads the adapter in `folder` for a model whose matrix `name` has `shape(name)`, `[N, K]`, `None` where it
/// has no such matrix (the head of a model whose head is its table of embeddings), and is laid out as `layout` by
/// the programs that make adapters for it. It is called `name` and wraps the projections that the file has
/// matrices for; whole weights of the head and of the table stand in place of the base's.
///
/// # Errors
/// [`PeftError`] naming file and tensor, also for matrices that the model has no place for.
pub fn load_adapter(
    folder: &Path,
    name: &str,
    shape: &dyn Fn(&str) -> Option<[usize; 2]>,
    layout: ProjectionLayout,
) -> Result<Lora, PeftError> {
    let file = folder.join(CONFIG_FILE);
    let text = fs::read(&file).map_err(|source| PeftError::Io { file: file.clone(), source })?;
    let config = AdapterConfig::parse(&file, &text)?;
    let (tensors_file, tensors) = read_tensors(folder)?;
    let reader = Reader { file: &tensors_file, config_file: &file, config: &config, shape, layout };
    let (matrices, saved) = reader.read(&tensors)?;
    let last = |name: &String| name.rsplit('.').next().unwrap_or(name).to_owned();
    let modules: BTreeSet<String> = matrices.keys().map(last).collect();
    let whole: BTreeSet<String> = saved.keys().map(last).collect();
    let lora = config.lora(&file, modules.into_iter().collect(), whole.into_iter().collect())?;
    let lora = Lora::with_matrices(name, lora, matrices);
    Ok(lora.map_err(|source| PeftError::Config { file, source })?.with_saved(saved))
}

/// What an adapter's file is read with.
struct Reader<'a> {
    file: &'a Path,
    config_file: &'a Path,
    config: &'a AdapterConfig,
    shape: &'a dyn Fn(&str) -> Option<[usize; 2]>,
    layout: ProjectionLayout,
}

/// Low-rank updates and whole weights, by the decoder's names.
type Read = (BTreeMap<String, LowRank>, BTreeMap<String, TensorView>);

/// The two tensors of an adapter, by the file's names.
type Halves<'t> = [Option<&'t str>; 2];

impl Reader<'_> {
    fn read(&self, tensors: &AdapterTensors) -> Result<Read, PeftError> {
        let mut halves: BTreeMap<&str, Halves<'_>> = BTreeMap::new();
        let (mut of_table, mut whole) = (Halves::default(), BTreeMap::<&str, &str>::new());
        for full in tensors.keys() {
            let first = match part(full).map_err(|reason| self.wrong(full, reason))? {
                Part::Projection(module, half) => {
                    halves.entry(module).or_default()[half as usize].replace(full)
                }
                Part::Embedding(half) => of_table[half as usize].replace(full),
                Part::Whole(module) => whole.insert(module, full),
            };
            if let Some(first) = first {
                let reason = format!("is the same as `{first}`: one file holds one adapter");
                return Err(self.wrong(full, &reason));
            }
        }
        let mut found = BTreeMap::new();
        for (module, both) in halves {
            self.projection(tensors, module, both, &mut found)?;
        }
        if of_table != Halves::default() {
            found.insert(EMBEDDING.to_owned(), self.table(tensors, of_table)?);
        }
        let mut saved = BTreeMap::new();
        for (module, full) in whole {
            saved.insert(module.to_owned(), self.whole(tensors, module, full)?);
        }
        self.tie(&mut saved, &found)?;
        match found.is_empty() && saved.is_empty() {
            true => Err(PeftError::malformed(self.file, "no matrices")),
            false => Ok((found, saved)),
        }
    }

    /// The projection's adapter, put where the decoder has the projection.
    fn projection(
        &self,
        tensors: &AdapterTensors,
        module: &str,
        both: Halves<'_>,
        found: &mut BTreeMap<String, LowRank>,
    ) -> Result<(), PeftError> {
        let (full, other) = self.both(module, both)?;
        // A table is no projection, and a tied head is one in the model that PEFT sees.
        let shape = |name: &str| match name {
            EMBEDDING => None,
            HEAD => self.head_shape(),
            name => (self.shape)(name),
        };
        let places = places(module, &shape)
            .ok_or_else(|| self.wrong(full, "the model has no such projection"))?;
        // All parts read the same inputs, and one of them may be an output's half.
        let k = shape(&places[0].projection).map_or(0, |[_, k]| k);
        let n = places.iter().map(|place| place.rows.len()).sum();
        let (a, b) = (tensors[full].view(self.file, full)?, tensors[other].view(self.file, other)?);
        let &[rank, columns] = &a.shape[..] else {
            return Err(self.wrong(full, "is not a matrix"));
        };
        if columns != k {
            return Err(self.unfit(full, &a.shape, [n, k], &[rank, k]));
        }
        if b.shape != [n, rank] {
            return Err(self.unfit(other, &b.shape, [n, k], &[n, rank]));
        }
        let (lora_a, lora_b) = (to_f32(a.dtype, &a.bytes), to_f32(b.dtype, &b.bytes));
        let scale = self.scale(module, full, rank)?;
        let lora_b = rows_from_file(self.layout, module, rank, lora_b)
            .ok_or_else(|| self.wrong(other, "has rows that make no whole heads"))?;
        let low = LowRank { rank, scale, shape: [n, k], lora_a, lora_b };
        for place in &places {
            let projection = shape(&place.projection).unwrap_or_default();
            places::add(found, place, projection, &low);
        }
        Ok(())
    }

    /// The adapter of the table: of `A: [r, V]` and `B: [D, r]` the update of its rows is `A^T B^T`.
    ///
    /// Source: PEFT, `peft/tuners/lora/layer.py`, `Embedding.forward`.
    fn table(&self, tensors: &AdapterTensors, both: Halves<'_>) -> Result<LowRank, PeftError> {
        let (full, other) = self.both(EMBEDDING, both)?;
        let (a, b) = (tensors[full].view(self.file, full)?, tensors[other].view(self.file, other)?);
        let [v, d] =
            (self.shape)(EMBEDDING).ok_or_else(|| self.wrong(full, "the model has no table"))?;
        let &[rank, columns] = &a.shape[..] else {
            return Err(self.wrong(full, "is not a matrix"));
        };
        if columns != v {
            return Err(self.unfit(full, &a.shape, [v, d], &[rank, v]));
        }
        if b.shape != [d, rank] {
            return Err(self.unfit(other, &b.shape, [v, d], &[d, rank]));
        }
        let scale = self.scale(EMBEDDING, full, rank)?;
        let lora_b = transposed(&to_f32(a.dtype, &a.bytes), v);
        let lora_a = transposed(&to_f32(b.dtype, &b.bytes), rank);
        Ok(LowRank { rank, scale, shape: [v, d], lora_a, lora_b })
    }

    fn whole(
        &self,
        tensors: &AdapterTensors,
        module: &str,
        full: &str,
    ) -> Result<TensorView, PeftError> {
        let view = tensors[full].view(self.file, full)?;
        let shape = if module == HEAD { self.head_shape() } else { (self.shape)(module) };
        let Some(shape) = shape else {
            return Err(self.wrong(full, "the model has no such matrix"));
        };
        match view.shape == shape {
            true => Ok(view),
            false => {
                let reason = format!("{:?} where the model has {shape:?}", view.shape);
                Err(self.wrong(full, &reason))
            }
        }
    }

    /// Checks that everything in `modules_to_save` is there, and gives head and table the same weight where they
    /// are one and stay one.
    ///
    /// That is where PEFT loads the weight into the base's own parameter (it saves tables that it was not told to
    /// train, too), or is told to `ensure_weight_tying`.
    ///
    /// Source: PEFT, `peft/utils/save_and_load.py`; `peft/tuners/tuners_utils.py`, `_check_tied_modules`.
    fn tie(
        &self,
        saved: &mut BTreeMap<String, TensorView>,
        found: &BTreeMap<String, LowRank>,
    ) -> Result<(), PeftError> {
        let is_tied = (self.shape)(HEAD).is_none();
        let ensured = is_tied && self.config.ensures_weight_tying();
        let mut is_listed = false;
        for entry in self.config.modules_to_save() {
            let Some(module) = saved_module(entry) else {
                return Err(self.config.refused(self.config_file, "modules_to_save", entry));
            };
            is_listed = true;
            // The one that there is stands for both where they stay one.
            let is_there = saved.contains_key(module) || ensured && !saved.is_empty();
            if !is_there {
                let file = self.file.file_name().unwrap_or_default().to_string_lossy();
                let reason =
                    format!("`modules_to_save` names `{entry}`, and {file} has no weight of it");
                return Err(PeftError::malformed(self.config_file, reason));
            }
        }
        let adapted = found.contains_key(EMBEDDING) || found.contains_key(HEAD);
        if ensured && adapted {
            let value = "true beside an adapter of the table or the head that are tied";
            return Err(self.config.refused(self.config_file, "ensure_weight_tying", value));
        }
        if is_tied && (ensured || !is_listed) {
            for (there, missing) in [(EMBEDDING, HEAD), (HEAD, EMBEDDING)] {
                if let (Some(weight), false) = (saved.get(there), saved.contains_key(missing)) {
                    let weight = weight.clone();
                    saved.insert(missing.to_owned(), weight);
                }
            }
        }
        Ok(())
    }

    fn head_shape(&self) -> Option<[usize; 2]> {
        (self.shape)(HEAD).or_else(|| (self.shape)(EMBEDDING))
    }

    /// The scale of `module`, whose tensor `full` has the rank `rank`.
    fn scale(&self, module: &str, full: &str, rank: usize) -> Result<f64, PeftError> {
        let (expected, scale) = self.config.of_module(self.config_file, module)?;
        match rank == expected {
            true => Ok(scale),
            false => {
                let reason = format!("rank {rank}, the configuration has {expected}");
                Err(self.wrong(full, &reason))
            }
        }
    }

    fn both<'t>(&self, module: &'t str, both: Halves<'t>) -> Result<(&'t str, &'t str), PeftError> {
        match both {
            [Some(a), Some(b)] => Ok((a, b)),
            [Some(a), None] => Err(self.wrong(a, "has no `lora_B`")),
            [None, b] => Err(self.wrong(b.unwrap_or(module), "has no `lora_A`")),
        }
    }

    fn wrong(&self, name: &str, reason: &str) -> PeftError {
        PeftError::tensor(self.file, name, reason)
    }

    fn unfit(&self, name: &str, found: &[usize], of: [usize; 2], wanted: &[usize]) -> PeftError {
        let reason = format!("{found:?} where the projection {of:?} has {wanted:?}");
        PeftError::tensor(self.file, name, reason)
    }
}

/// `[rows, columns]` as `[columns, rows]`.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns.max(1);
    let of_column = |column| (0..rows).map(move |row| values[row * columns + column]);
    (0..columns).flat_map(of_column).collect()
}
