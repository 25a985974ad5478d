//! A checkpoint in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use lightglm_core::{StoredTensor, TensorView, WeightDtype, WeightError, WeightSource};

#[derive(Default)]
pub(crate) struct MemorySource(pub(crate) BTreeMap<String, StoredTensor>);

impl MemorySource {
    #[allow(dead_code, reason = "each test crate uses its own part")]
    pub(crate) fn of_safetensors(file: &[u8]) -> Self {
        let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
        let mut source = Self::default();
        for (name, view) in tensors.tensors() {
            let bytes = view.data().to_vec();
            source.put(&name, &format!("{:?}", view.dtype()), view.shape(), [bytes]);
        }
        source
    }

    pub(crate) fn put(
        &mut self,
        name: &str,
        dtype: &str,
        shape: &[usize],
        parts: impl IntoIterator<Item = Vec<u8>>,
    ) {
        let parts = parts.into_iter().map(Bytes::from).collect();
        let tensor = StoredTensor { dtype: dtype.into(), shape: shape.into(), parts };
        self.0.insert(name.into(), tensor);
    }

    #[allow(dead_code, reason = "each test crate uses its own part")]
    pub(crate) fn f32s(&self, name: &str) -> Vec<f32> {
        let tensor = &self.0[name];
        assert_eq!(tensor.dtype, "F32");
        let bytes: Vec<u8> = tensor.parts.iter().flatten().copied().collect();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }
}

impl WeightSource for MemorySource {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).map(|tensor| tensor.shape.clone())
    }

    fn tensor(&self, name: &str) -> Result<TensorView, WeightError> {
        let StoredTensor { dtype, shape, parts } = self.stored(name)?;
        let known = [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16];
        match known.into_iter().find(|known| known.name() == dtype) {
            Some(dtype) => Ok(TensorView { dtype, shape, bytes: parts[0].clone() }),
            None => {
                let (file, name) = ("memory".into(), name.into());
                Err(WeightError::UnsupportedDtype { file, name, dtype })
            }
        }
    }

    fn stored(&self, name: &str) -> Result<StoredTensor, WeightError> {
        let missing = || WeightError::Missing { file: "memory".into(), name: name.into() };
        self.0.get(name).cloned().ok_or_else(missing)
    }
}
