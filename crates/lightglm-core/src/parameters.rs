//! A module's trainable parameters, read by name and replaced by identifier: what is trained can be
//! stored, sent and averaged without knowing the module's type.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor};

/// A parameter that requires gradients.
#[derive(Clone, Debug)]
pub struct TrainableParameter<B: Backend> {
    /// burn's identifier, new in each process.
    pub id: ParamId,
    /// Its place in the module: `layers.0.self_attn.q_proj.adapters.0.lora_a`.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its precision.
    pub dtype: DType,
    /// Its elements, `[elements]`.
    pub values: Tensor<B, 1>,
}

/// The parameters of `module` that require gradients, in the module's order.
pub fn trainable_parameters<B: AutodiffBackend, M: Module<B>>(
    module: &M,
) -> Vec<TrainableParameter<B::InnerBackend>> {
    struct List<B: Backend> {
        path: Vec<String>,
        found: Vec<TrainableParameter<B>>,
    }
    impl<B: AutodiffBackend> ModuleVisitor<B> for List<B::InnerBackend> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            if !param.is_require_grad() {
                return;
            }
            let value = param.val().inner();
            self.found.push(TrainableParameter {
                id: param.id,
                name: self.path.join("."),
                shape: value.dims().to_vec(),
                dtype: value.dtype(),
                values: value.clone().reshape([value.shape().num_elements()]),
            });
        }
    }
    let mut list = List { path: Vec::new(), found: Vec::new() };
    module.visit(&mut list);
    list.found
}

/// `module` with other values for some of its parameters: `by_id` has `[elements]` for each, as
/// [`TrainableParameter::values`] does. Parameters that are not in it stay as they are, and so does
/// whether they require gradients; identifiers that the module does not have are ignored.
///
/// # Panics
/// Where a value has not as many elements as its parameter.
pub fn with_values<B: AutodiffBackend, M: Module<B>>(
    module: M,
    by_id: BTreeMap<ParamId, Tensor<B::InnerBackend, 1>>,
) -> M {
    struct Replace<B: Backend>(BTreeMap<ParamId, Tensor<B, 1>>);
    impl<B: AutodiffBackend> ModuleMapper<B> for Replace<B::InnerBackend> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            let Some(values) = self.0.remove(&param.id) else { return param };
            let (id, old, mapper) = param.consume();
            let trained = old.is_require_grad();
            let value = Tensor::from_inner(values.reshape(old.dims())).set_require_grad(trained);
            Param::from_mapped_value(id, value, mapper)
        }
    }
    module.map(&mut Replace(by_id))
}
