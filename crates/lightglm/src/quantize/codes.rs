//! `Codes`: how the codes of a quantized matrix are chosen.

use std::str::FromStr;

use crate::error::Error;

/// How codes are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codes {
    /// Each weight rounded to nearest: no text is needed, and it suits 8 bits.
    #[default]
    Nearest,
    /// On a text that is run through the model.
    Calibrated {
        /// How.
        method: CalibratedMethod,
        /// The text: token ids of real text of the kind the model will see; some thousands do.
        tokens: Vec<u32>,
    },
}

/// How codes are chosen on a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CalibratedMethod {
    /// Scales that lose least on what reaches each layer.
    Clip,
    /// GPTQ: what a column loses is made good by the columns after it.
    Gptq,
    /// GPTQ on weights moved to where the quantized model gives the original's outputs.
    GptqMatched,
}

impl CalibratedMethod {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Clip, Self::Gptq, Self::GptqMatched];

    /// `clip`, `gptq` or `gptq-matched`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::Gptq => "gptq",
            Self::GptqMatched => "gptq-matched",
        }
    }
}

impl FromStr for CalibratedMethod {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|method| method.name() == name);
        found.ok_or_else(|| {
            let reason = format!("`{name}` is none of clip, gptq, gptq-matched");
            Error::Option { option: "method", reason }
        })
    }
}
