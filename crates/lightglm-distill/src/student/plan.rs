//! `Plan`: what a model costs before there is one.
//!
//! Shapes: `L` layers, `D` hidden_size, `H` heads, `d` head_dim, `V` vocab, `T` tokens.

use super::{StudentError, StudentShape};

/// A machine that trains: its speed on paper, and the share of it that training is taken to reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Multiplications and additions a second at most, in the precision of the products.
    pub peak_flops: f64,
    /// The share of them that a training run reaches, above 0 and at most 1.
    pub utilisation: f64,
}

impl Machine {
    /// A machine called `name`.
    ///
    /// # Errors
    /// [`StudentError::Machine`].
    pub fn new(
        name: impl Into<String>,
        peak_flops: f64,
        utilisation: f64,
    ) -> Result<Self, StudentError> {
        let machine = name.into();
        if !(peak_flops > 0.0 && peak_flops.is_finite()) {
            let (field, expected) = ("peak_flops", "above 0");
            return Err(StudentError::Machine { machine, field, value: peak_flops, expected });
        }
        if !(utilisation > 0.0 && utilisation <= 1.0) {
            let (field, expected) = ("utilisation", "above 0 and at most 1");
            return Err(StudentError::Machine { machine, field, value: utilisation, expected });
        }
        Ok(Self { name: machine, peak_flops, utilisation })
    }

    /// NVIDIA's T4: 65 TFLOP/s of f16 with f32 sums on tensor cores, of which 30 % are assumed.
    ///
    /// Source: NVIDIA, "T4 Tensor Core GPU" data sheet.
    pub fn t4() -> Self {
        Self { name: "T4".to_owned(), peak_flops: 65e12, utilisation: 0.3 }
    }

    /// NVIDIA's H100 SXM: 989 TFLOP/s of dense bf16, of which 40 % are assumed.
    ///
    /// Source: NVIDIA, "H100 Tensor Core GPU" data sheet (1979 with sparsity).
    pub fn h100() -> Self {
        Self { name: "H100 SXM".to_owned(), peak_flops: 989e12, utilisation: 0.4 }
    }

    /// Hours for `flops`.
    pub fn hours(&self, flops: f64) -> f64 {
        flops / (self.peak_flops * self.utilisation) / 3600.0
    }
}

/// What a model costs before there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The model.
    pub student: StudentShape,
    /// Whom it asks about each token while it is trained, if anybody.
    pub teacher: Option<StudentShape>,
    /// Tokens of a training row, `T`.
    pub context: usize,
}

impl Plan {
    /// Multiplications and additions that running a token costs, the mean over a row of `T`.
    ///
    /// ```text
    /// 2 (L weights_of_a_block + V D) + L 4 H d (T + 1) / 2
    /// ```
    /// The head counts for every token, as in training; norms, rotations and softmax do not count.
    pub fn forward_flops(&self) -> f64 {
        forward_flops(&self.student, self.context)
    }

    /// Those of a training step, a token: forward, and twice that for the gradients of inputs and of weights.
    pub fn training_flops(&self) -> f64 {
        3.0 * self.forward_flops()
    }

    /// Those of a training step in which the teacher is asked, too; `None` without one.
    pub fn distillation_flops(&self) -> Option<f64> {
        let teacher = forward_flops(self.teacher.as_ref()?, self.context);
        Some(self.training_flops() + teacher)
    }

    /// Keys and values that a token adds to the cache, all layers together, in elements.
    pub fn kv_elements(&self) -> u64 {
        2 * self.student.num_hidden_layers as u64 * self.student.key_value_size()
    }
}

fn forward_flops(shape: &StudentShape, context: usize) -> f64 {
    let layers = shape.num_hidden_layers as f64;
    let blocks = layers * shape.block_matrix_weights() as f64;
    let attention = layers * 4.0 * shape.query_size() as f64 * (context as f64 + 1.0) / 2.0;
    2.0 * (blocks + shape.table_weights() as f64) + attention
}
