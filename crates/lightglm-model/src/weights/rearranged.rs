//! `RearrangedWeights`: another source's tensors under other names, in other shapes and orders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lightglm_core::{StoredTensor, TensorView, WeightError, WeightSource};

use super::joined::joined;

/// How a tensor is made of those of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The file's tensors, one below the other.
    pub from: Vec<String>,
    /// The tensor's shape; as many elements as the file's have together.
    pub shape: Vec<usize>,
    /// Whose rows lie in another order.
    pub order: Option<HeadOrder>,
}

impl Recipe {
    /// One tensor of the file in another shape.
    pub fn reshaped(from: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { from: vec![from.into()], shape: shape.into(), order: None }
    }

    /// Tensors one below the other.
    pub fn stacked(from: impl Into<Vec<String>>, shape: impl Into<Vec<usize>>) -> Self {
        Self { from: from.into(), shape: shape.into(), order: None }
    }
}

/// Rows of heads that the file rotates by halves (element `i` with `i + rotary_dim / 2`) and the kernels by neighbours
/// (`2i` with `2i + 1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadOrder {
    /// Heads that are rotated, from the first row on; rows behind them stay where they are.
    pub heads: usize,
    /// Rows of a head.
    pub head_dim: usize,
    /// Rows of each head that are rotated, from its first on: even.
    pub rotary_dim: usize,
}

impl HeadOrder {
    /// The file's row that stands in ours.
    pub fn row_in_file(self, row: usize) -> usize {
        let (head, at) = (row / self.head_dim, row % self.head_dim);
        match head < self.heads && at < self.rotary_dim {
            true => head * self.head_dim + at % 2 * (self.rotary_dim / 2) + at / 2,
            false => row,
        }
    }
}

/// Tensors made of those of `S`, which errors name by the file's own names. What lies in the file as it is asked for
/// stays a view of it; what is stacked or reordered is copied at each call of `tensor`.
#[derive(Clone, Debug)]
pub struct RearrangedWeights<S> {
    source: S,
    /// What errors call it.
    file: PathBuf,
    recipes: BTreeMap<String, Recipe>,
}

impl<S: WeightSource> RearrangedWeights<S> {
    /// Tensors by their new names. Whether they are there is found out when they are asked for.
    pub fn new(source: S, file: &Path, recipes: BTreeMap<String, Recipe>) -> Self {
        Self { source, file: file.to_owned(), recipes }
    }

    /// The tensors of `source` whose names `rename` has another for, in their shapes.
    pub fn renamed(source: S, file: &Path, rename: impl Fn(&str) -> Option<String>) -> Self {
        let names = source.names().into_iter();
        let recipes = names.filter_map(|name| {
            let (new, shape) = (rename(&name)?, source.shape(&name)?);
            Some((new, Recipe::reshaped(name, shape)))
        });
        let recipes = recipes.collect();
        Self::new(source, file, recipes)
    }

    /// The file with its own names.
    pub fn source(&self) -> &S {
        &self.source
    }

    fn recipe(&self, name: &str) -> Result<&Recipe, WeightError> {
        let missing = || WeightError::Missing { file: self.file.clone(), name: name.to_owned() };
        self.recipes.get(name).ok_or_else(missing)
    }

    /// Checks that the file's tensors are there and have as many elements as the recipe says.
    fn check(&self, recipe: &Recipe) -> Result<(), WeightError> {
        let mut elements = 0usize;
        for name in &recipe.from {
            let missing = || WeightError::missing(&*self.file, name, self.source.names());
            let shape = self.source.shape(name).ok_or_else(missing)?;
            elements = elements.saturating_add(product(&shape));
        }
        if elements != product(&recipe.shape) {
            let name = recipe.from[0].clone();
            let actual = self.source.shape(&name).unwrap_or_default();
            let (file, expected) = (self.file.clone(), recipe.shape.clone());
            return Err(WeightError::ShapeMismatch { file, name, expected, actual });
        }
        Ok(())
    }
}

fn product(shape: &[usize]) -> usize {
    shape.iter().fold(1, |product: usize, &n| product.saturating_mul(n))
}

impl<S: WeightSource> WeightSource for RearrangedWeights<S> {
    fn names(&self) -> Vec<String> {
        self.recipes.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let recipe = self.recipes.get(name)?;
        let is_there = recipe.from.iter().all(|name| self.source.shape(name).is_some());
        is_there.then(|| recipe.shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let recipe = self.recipe(name)?;
        self.check(recipe)?;
        let views = recipe.from.iter().map(|name| self.source.tensor(name));
        let views = views.collect::<Result<Vec<_>, _>>()?;
        if let ([view], None) = (&views[..], recipe.order) {
            return Ok(TensorView { shape: recipe.shape.clone(), ..view.clone() });
        }
        Ok(joined(self.stored(name)?, &views))
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        let recipe = self.recipe(name)?;
        self.check(recipe)?;
        let (mut parts, mut dtype) = (Vec::new(), None::<String>);
        for from in &recipe.from {
            let stored = self.source.stored(from)?;
            match &dtype {
                Some(first) if *first != stored.dtype => {
                    let (file, dtype) =
                        (self.file.clone(), format!("{first} above {}", stored.dtype));
                    return Err(WeightError::UnsupportedDtype { file, name: from.clone(), dtype });
                }
                _ => dtype = Some(stored.dtype),
            }
            parts.extend(stored.parts);
        }
        if let Some(order) = recipe.order {
            parts = reordered(&parts, recipe.shape[0], order);
        }
        Ok(StoredTensor { dtype: dtype.unwrap_or_default(), shape: recipe.shape.clone(), parts })
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.source.metadata(key)
    }
}

/// The rows of `parts`, each a whole number of them, in our order.
fn reordered(parts: &[Bytes], rows: usize, order: HeadOrder) -> Vec<Bytes> {
    let row_bytes = parts.iter().map(Bytes::len).sum::<usize>() / rows.max(1);
    let by_row = |part: &Bytes| {
        let part = part.clone();
        (0..part.len() / row_bytes.max(1))
            .map(move |row| part.slice(row * row_bytes..(row + 1) * row_bytes))
    };
    let in_file: Vec<Bytes> = parts.iter().flat_map(by_row).collect();
    (0..in_file.len()).map(|row| in_file[order.row_in_file(row)].clone()).collect()
}
