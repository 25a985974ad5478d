//! `--shape`.

use lightglm_model::config::GlmConfig;

/// A named shape of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// 0.1 M parameters: is the program alive?
    Tiny,
    /// 376 M parameters: hidden 1024, 24 layers, 16/2 heads of 64, FFN 3424, vocab 32768.
    Mid,
    /// GLM-4-9B-0414: 9.4 B parameters, 19 GB in bf16.
    #[value(name = "9b")]
    NineB,
}

impl Shape {
    /// The shape's configuration.
    pub fn config(self) -> GlmConfig {
        match self {
            Self::Tiny => GlmConfig::tiny(),
            Self::Mid => GlmConfig::mid(),
            Self::NineB => GlmConfig::glm4_9b_0414(),
        }
    }
}
