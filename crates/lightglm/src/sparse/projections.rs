//! Projections by name, until the decoder shows them itself.

use lightglm_core::{Embedding, Linear};
use lightglm_kernels::LmBackend;
use lightglm_model::decoder::{Glm, SwiGlu};

use super::griffin::GlmOf;

pub(super) trait Projections<B: LmBackend, L: Linear<B>, E: Embedding<B>> {
    fn for_each_linear(&self, visit: impl FnMut(&str, &L));

    fn try_map_linears<M: Linear<B>, Error>(
        self,
        map: impl FnMut(&str, L) -> Result<M, Error>,
    ) -> Result<GlmOf<B, M, E>, Error>;
}

impl<B: LmBackend, L: Linear<B>, E: Embedding<B>> Projections<B, L, E>
    for Glm<B, L, SwiGlu<B, L>, E>
{
    fn for_each_linear(&self, mut visit: impl FnMut(&str, &L)) {
        self.clone().map_linears(&mut |name: &str, linear: L| {
            visit(name, &linear);
            linear
        });
    }

    fn try_map_linears<M: Linear<B>, Error>(
        self,
        mut map: impl FnMut(&str, L) -> Result<M, Error>,
    ) -> Result<GlmOf<B, M, E>, Error> {
        let mut first = None;
        let mut spare = None;
        let mapped = self.map_linears(&mut |name: &str, linear: L| {
            let mapped: Result<M, Error> = map(name, linear);
            match mapped {
                Err(error) => {
                    first.get_or_insert(error);
                    spare.clone().expect("not the first")
                }
                Ok(mapped) => {
                    spare = Some(mapped.clone());
                    mapped
                }
            }
        });
        first.map_or(Ok(mapped), Err)
    }
}
